//! What every guest stands on: entry, exceptions, console, devices, CPUs.

pub mod code;
pub mod console;
pub mod cpu;
pub mod gic;
pub mod machine;
pub mod mmio;
pub mod mmu;
pub mod percpu;
pub mod probe;
pub mod random;
pub mod smccc;
pub mod smp;
mod start;
pub mod timer;
mod vectors;
pub mod verdict;
pub mod virtio;
