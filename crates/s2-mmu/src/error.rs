//! What can be wrong with a request to change the map.

use thiserror::Error;
use vm_contract::GuestPhysAddr;

/// A request that was refused. The map is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MapError {
    /// The size is zero.
    #[error("the range is empty")]
    Empty,
    /// An address or the size is not a multiple of 4 KiB.
    #[error("an address or the size is not a multiple of 4 KiB")]
    Misaligned,
    /// The range reaches beyond the guest physical address space.
    #[error("the range leaves the guest physical address space")]
    OutsideIpaSpace,
    /// The range reaches beyond the machine's physical address space.
    #[error("the range leaves the physical address space")]
    OutsidePaSpace,
    /// Something is mapped at this address of the range already.
    #[error("{0:?} is mapped already")]
    AlreadyMapped(GuestPhysAddr),
    /// Nothing is mapped at this address of the range.
    #[error("{0:?} is not mapped")]
    NotMapped(GuestPhysAddr),
    /// No frame is left for a translation table.
    #[error("no frame is left for a translation table")]
    OutOfTables,
    /// The VMID does not fit the size that the configuration says.
    #[error("the VMID is wider than the configuration allows")]
    VmidTooWide,
}
