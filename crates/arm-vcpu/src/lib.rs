//! AArch64 vCPU: exit decode, guest context, exception injection and the EL2 world switch.
#![no_std]

pub mod exception;
pub mod exit;
mod features;
mod frame;
pub mod id_registers;
pub mod instruction;
pub mod stage1;
pub mod sysreg;

pub use features::CpuFeatures;
pub use frame::TrapFrame;
pub use sysreg::SystemRegister;
