//! Split virtqueues (VirtIO 1.2, 2.7), seen from the device.
//!
//! The rings belong to the guest, which may write anything into them at any
//! time. Each index and each descriptor is therefore read once, into a private
//! copy, and checked there. How much one call can do is bounded: the driver may
//! only have as many chains under way as its queue is long, each of them no
//! longer than the queue, and what was used becomes visible to it at the end of
//! the call.

mod chain;
mod live;
mod queues;

pub use chain::Chain;
use live::Live;
pub use queues::Queues;
use vm_contract::GuestMemory;

use crate::DriverFault;

/// The largest queue that this crate offers.
pub const LARGEST_QUEUE: u16 = 1024;

/// One virtqueue: what the driver has programmed, and, once it is ready, its
/// rings.
#[derive(Debug)]
pub(crate) struct Queue {
    largest: u16,
    pub(crate) setup: Setup,
    live: Option<Live>,
}

/// What the driver says about a queue before it makes it ready: not checked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Setup {
    /// The number of descriptors.
    pub(crate) size: u32,
    /// Where the descriptor table lies.
    pub(crate) descriptors: u64,
    /// Where the available ring lies.
    pub(crate) driver: u64,
    /// Where the used ring lies.
    pub(crate) device: u64,
}

impl Queue {
    /// Makes a queue of at most `largest` descriptors: a power of two up to
    /// [`LARGEST_QUEUE`], or less if it is none.
    pub(crate) fn new(largest: u16) -> Self {
        let largest = largest.min(LARGEST_QUEUE);
        Self {
            largest: largest.checked_ilog2().map_or(0, |log| 1 << log),
            setup: Setup::default(),
            live: None,
        }
    }

    pub(crate) const fn largest(&self) -> u16 {
        self.largest
    }

    pub(crate) const fn is_ready(&self) -> bool {
        self.live.is_some()
    }

    /// Checks what was programmed and starts to use it.
    pub(crate) fn enable(
        &mut self,
        memory: &dyn GuestMemory,
        features: u64,
    ) -> Result<(), DriverFault> {
        self.live = Some(Live::new(memory, &self.setup, self.largest, features)?);
        Ok(())
    }

    /// Tells whether a notification of the driver is about nothing.
    #[inline]
    pub(crate) fn is_idle(&mut self, memory: &dyn GuestMemory) -> Result<bool, DriverFault> {
        match &mut self.live {
            Some(live) => live.is_idle(memory),
            None => Ok(true),
        }
    }

    /// Forgets the rings; what is programmed stays.
    pub(crate) fn disable(&mut self) {
        self.live = None;
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self) {
        self.live = None;
        self.setup = Setup::default();
    }
}
