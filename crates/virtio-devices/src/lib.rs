#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod block;
mod buffers;
mod config;
pub mod console;
mod device;
#[cfg(any(test, feature = "fakes"))]
pub mod fakes;
mod fault;
pub mod features;
mod mmio;
pub mod net;
mod placeholder;
mod queue;
pub mod rng;

pub use block::{Block, BlockBackend, BlockOptions, MemoryDisk};
pub use buffers::{DataBuffers, Segment};
pub use console::{Console, ConsoleBackend};
pub use device::{DeviceId, Surroundings, VirtioDevice, Work};
pub use fault::DriverFault;
pub use mmio::{Interrupt, Status, VirtioMmio};
pub use net::{Net, NetBackend};
pub use placeholder::Placeholder;
pub use queue::{Chain, LARGEST_QUEUE, Queues};
pub use rng::{EntropySource, Rng};
use vm_contract::{GuestPhysAddr, GuestPhysAddrRange};

/// Returns the range of `windows` register windows at `base`, cut off at the end
/// of the address space.
fn window(base: GuestPhysAddr, windows: u32) -> GuestPhysAddrRange {
    let bytes = u64::from(windows).saturating_mul(mmio::registers::WINDOW_BYTES);
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    GuestPhysAddrRange {
        start: base,
        end: usize::from(base).saturating_add(bytes).into(),
    }
}
