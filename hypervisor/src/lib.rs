//! The reference hypervisor, as far as it can be driven on a host: VMs, the
//! scheduler, the dispatch of exits and the adapters between the crates. What
//! needs EL2 is in the binary.
//!
//! A value from a guest goes trap frame → exit → bus → device; an interrupt goes
//! line → vGIC → list register. [`run`] is the loop, [`dispatch`] the one match
//! over the reasons of an exit, [`vm`] what the vCPUs of a VM share.
#![no_std]

extern crate alloc;
#[cfg(not(target_os = "none"))]
extern crate std;

pub mod console;
pub mod cpu;
pub mod devices;
pub mod dispatch;
pub mod frames;
pub mod history;
pub mod loader;
pub mod lock;
pub mod machine;
pub mod monitor;
pub mod net;
pub mod physical_timer;
mod psci;
pub mod ranges;
pub mod run;
pub mod sched;
pub mod smccc;
pub mod storage;
pub mod telemetry;
pub mod vcpu;
pub mod vm;

#[cfg(test)]
mod testing;
