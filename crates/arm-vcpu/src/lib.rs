//! AArch64 vCPU: exit decode, guest context, exception injection and the EL2 world switch.
#![no_std]

mod frame;

pub use frame::TrapFrame;
