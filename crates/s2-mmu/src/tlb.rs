//! What stage 2 asks of the machine's TLBs.

use vm_contract::GuestPhysAddrRange;

use crate::level::LeafSize;

/// The TLBs of every CPU that may run the guest.
///
/// `vttbr` names the guest: the value of VTTBR_EL2, VMID and root, under which
/// its entries were cached.
pub trait Stage2Tlb {
    /// Makes every earlier write to the tables visible to the table walkers
    /// before any later write.
    fn publish(&mut self);

    /// Removes everything cached for the addresses in `range`: stage-2
    /// entries, the walk towards them, and the guest's combined entries, which
    /// the hardware tags with a virtual address and which therefore go for the
    /// whole VMID. `stride` is the size of the smallest leaf that may be
    /// cached: one address in each suffices.
    ///
    /// Earlier writes to the tables are published first. On return the removal
    /// has completed on all CPUs.
    fn invalidate(&mut self, vttbr: u64, range: GuestPhysAddrRange, stride: LeafSize);

    /// Removes everything cached for the guest, as
    /// [`invalidate`](Self::invalidate) does for a range.
    fn invalidate_all(&mut self, vttbr: u64);
}
