//! AArch64 vCPU: exit decode, guest context, exception injection and the EL2 world switch.
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
pub use vcpu::{Aarch64VCpu, CreateConfig, SetupConfig};
