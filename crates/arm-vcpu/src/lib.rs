#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! An exit travels through the modules in this order:
//! [`AxVCpuHal::enter`] runs the guest and returns a [`RawExit`];
//! [`exit::decode`] reads it, without effects; [`AxArchVCpu::run`] delivers
//! what the guest simply does not have ([`exception`]) and hands out the rest.
//! The caller answers by one of the vCPU's `complete_…`, `inject_…` or
//! `skip_instruction`, each of which steps the PC once or moves it to a vector.
//! Where the syndrome leaves an access undescribed, [`stage1`] finds the
//! instruction and [`instruction`] reads it.
#![no_std]

#[cfg(feature = "fakes")]
extern crate alloc;

mod arch_vcpu;
mod context;
mod controls;
mod debug;
#[cfg(target_os = "none")]
pub mod el2;
pub mod exception;
pub mod exit;
#[cfg(feature = "fakes")]
pub mod fakes;
mod features;
mod frame;
mod hal;
pub mod id_registers;
pub mod instruction;
mod interrupt_set;
mod percpu;
pub mod stage1;
pub mod sysreg;
mod vcpu;

pub use arch_vcpu::{AxArchVCpu, VcpuError};
pub use context::{
    FpRegisters, GuestSystemRegisters, LiveRegister, PauthKey, PauthKeys, SCTLR_EL1_RESET,
    TimerState, VcpuControls,
};
pub use debug::{DebugPoint, DebugRegisters};
pub use exit::{
    AxVCpuExitReason, MmioRead, MmioWrite, RawExit, Syndrome, SystemRegisterRead,
    SystemRegisterWrite, UndecodedAccess,
};
pub use features::CpuFeatures;
pub use frame::TrapFrame;
pub use hal::{AxPerCpuHal, AxVCpuHal, El2Register};
pub use id_registers::IdRegisters;
pub use percpu::Aarch64PerCpu;
pub use sysreg::SystemRegister;
pub use vcpu::{Aarch64VCpu, CreateConfig, Running, SetupConfig};
