//! What a device is to its transport.

use vm_contract::{DeviceContext, GuestMemory, IrqLine};

use crate::{DriverFault, Queues};

/// The kind of a device, as drivers look for it (VirtIO 1.2, clause 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u32)]
pub enum DeviceId {
    /// A network card.
    Network = 1,
    /// A block device.
    Block = 2,
    /// A console.
    Console = 3,
    /// A source of entropy.
    Entropy = 4,
}

/// Whether a device has done all that it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "work that is left waits for somebody to go on with it"]
pub enum Work {
    /// Nothing can be done now: the driver, or the world, will tell of more.
    Done,
    /// The device stopped because the call went on for long.
    Left,
}

/// What a device may reach when the call is no access of its guest.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// The memory of the VM.
    pub memory: &'a dyn GuestMemory,
    /// The device's interrupt output.
    pub line: &'a dyn IrqLine,
}

impl<'a> From<&DeviceContext<'a>> for Surroundings<'a> {
    fn from(context: &DeviceContext<'a>) -> Self {
        Self {
            memory: context.memory,
            line: context.line,
        }
    }
}

/// A virtio device without its transport.
///
/// The transport negotiates, keeps the queues and raises interrupts. It calls
/// [`process`](Self::process) only between DRIVER_OK and the next reset or
/// fault.
pub trait VirtioDevice: Send {
    /// Returns what the device is.
    fn device_id(&self) -> DeviceId;

    /// Returns the features that the device offers. Those of
    /// [`features::TRANSPORT`](crate::features::TRANSPORT) are added to them.
    fn features(&self) -> u64;

    /// Returns the largest size of each queue: powers of two up to
    /// [`LARGEST_QUEUE`](crate::LARGEST_QUEUE), at most 64 of them. Asked once.
    fn queue_sizes(&self) -> &[u16];

    /// Returns the configuration space, as it is now. What lies beyond it reads
    /// as zero.
    fn config(&self) -> &[u8];

    /// Takes a write to the configuration space at `offset`. The offset and the
    /// length (1, 2, 4 or 8) are the driver's.
    fn write_config(&mut self, offset: u64, bytes: &[u8]) {
        let _ = (offset, bytes);
    }

    /// Tells whether the device works with these features, a subset of those
    /// offered that has VERSION_1.
    fn accepts(&self, features: u64) -> bool {
        let _ = features;
        true
    }

    /// The driver is ready (DRIVER_OK), and these are the features in force.
    /// After this, every queue that is ready is processed once.
    fn start(&mut self, features: u64);

    /// Handles what is available in queue `queue`, which may be nothing, and
    /// whatever waits for other reasons. A notification about nothing, of a queue
    /// that was found empty before, does not come here.
    ///
    /// # Errors
    /// What the driver did wrong, if there is no request to answer with it.
    fn process(&mut self, queue: u16, queues: &mut Queues<'_>) -> Result<Work, DriverFault>;

    /// Queue `queue` is no longer there: forgets the requests from it.
    fn reset_queue(&mut self, queue: u16);

    /// Returns to the state after construction, and forgets all requests. The
    /// driver has reset the device, or was at fault.
    fn reset(&mut self);
}
