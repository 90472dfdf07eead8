//! What a driver can do wrong so that its device stops.

use thiserror::Error;
use vm_contract::AccessError;

/// The driver broke a rule of the specification in a way that leaves no request
/// to answer. The device then sets DEVICE_NEEDS_RESET and does nothing more
/// until the driver resets it (VirtIO 1.2, 2.1.2). Nobody but the guest is to
/// blame, and nobody but this device suffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DriverFault {
    /// A queue was made ready with a size that is no power of two, or above the
    /// queue's largest size.
    #[error("the queue size is not a power of two up to the largest size")]
    QueueSize,
    /// A queue was made ready with a misaligned ring, or one that wraps around
    /// the address space.
    #[error("a ring of the queue is misaligned or wraps around")]
    RingAddress,
    /// More chains were made available than a queue holds, or some were taken back.
    #[error("the available index moved by more than the size of the queue, or back")]
    AvailableIndex,
    /// A descriptor index lies outside its table.
    #[error("a descriptor index lies outside its table")]
    DescriptorIndex,
    /// A chain loops, or is longer than its queue or its device allow.
    #[error("a chain loops or is too long")]
    ChainTooLong,
    /// A buffer for the device to read comes after one for it to write.
    #[error("a readable buffer follows a writable one")]
    ChainOrder,
    /// A buffer wraps around the address space.
    #[error("a buffer wraps around the address space")]
    BufferAddress,
    /// An indirect descriptor was not negotiated, is not the last of its chain,
    /// lies within another table, or its table has no valid size.
    #[error("an indirect descriptor where none may be, or with no valid table")]
    Indirect,
    /// A request lacks what every request of its device has.
    #[error("a request lacks a part that each must have")]
    Request,
    /// Rings, descriptors or the fixed parts of a request lie where the guest
    /// has no memory.
    #[error("rings or requests outside the guest's memory: {0}")]
    Memory(#[from] AccessError),
}
