//! Doubles for tests: guest memory that can change while it is read, an
//! interrupt line that remembers, the driver's side of a virtqueue, and a device
//! joined to all of them.

mod driver;
pub mod fuzz;
mod line;
mod memory;
mod rig;
mod slow_disk;

pub use driver::{Buffer, DriverQueue};
pub use line::IrqLog;
pub use memory::SimMemory;
pub use rig::Rig;
pub use slow_disk::SlowDisk;
