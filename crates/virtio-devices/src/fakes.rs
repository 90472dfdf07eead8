//! Doubles for tests: guest memory that can change while it is read, an
//! interrupt line that remembers, the driver's side of a virtqueue, and a device
//! joined to all of them.

mod cable;
mod driver;
pub mod fuzz;
mod line;
mod memory;
mod rig;
mod slow_disk;
mod terminal;

pub use cable::{FakeCable, FakeFrame};
pub use driver::{Buffer, DriverQueue};
pub use line::IrqLog;
pub use memory::SimMemory;
pub use rig::Rig;
pub use slow_disk::SlowDisk;
pub use terminal::FakeTerminal;
