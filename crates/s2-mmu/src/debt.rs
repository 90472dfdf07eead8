//! What is owed to the TLBs after entries were changed.
//!
//! A changed entry may live on in a TLB, and a table taken out of the tree may
//! still be walked, until both are invalidated. So an operation ends with a
//! debt, and what it took away becomes reusable when the debt is settled.

use core::ops::Range;

use vm_contract::{GuestPhysAddr, GuestPhysAddrRange, HostPhysAddr};

use crate::level::LeafSize;
use crate::table::Stage2;
use crate::table_mem::{TableChain, TableMem};
use crate::tlb::Stage2Tlb;

/// The duty to invalidate what an operation changed.
///
/// Until it is settled, CPUs may use what was unmapped or protected: its
/// frames must not be given to anybody else. The debt borrows the stage 2, so
/// nothing else happens to it in between.
#[must_use = "the TLBs still hold what was changed: settle the debt before reusing any frame"]
#[derive(Debug)]
pub struct FlushDebt<'a, M: TableMem> {
    stage2: &'a mut Stage2<M>,
}

impl<'a, M: TableMem> FlushDebt<'a, M> {
    pub(crate) const fn new(stage2: &'a mut Stage2<M>) -> Self {
        Self { stage2 }
    }

    /// Invalidates what was changed, by this operation and by those whose debts
    /// were deferred, and frees the tables that fell out of the tree.
    pub fn settle(self, tlb: &mut impl Stage2Tlb) {
        self.stage2.settle(tlb);
    }

    /// Leaves the debt on the account of the stage 2, to be settled together
    /// with the next one: one invalidation for several operations. What the
    /// operation took away stays unusable until then.
    pub fn defer(self) {}

    /// Tells whether nothing is owed: the TLBs could not see a difference.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.stage2.account.is_empty()
    }
}

/// The running total of what a stage 2 owes.
#[derive(Debug, Default)]
pub(crate) struct Account {
    changed: Changed,
    retired: TableChain,
}

impl Account {
    const fn is_empty(&self) -> bool {
        self.changed.0.is_none()
    }

    /// Notes that a leaf of `size`, which spanned `range`, was changed.
    pub(crate) fn changed(&mut self, range: Range<usize>, size: LeafSize) {
        self.changed.add(range, size);
    }

    /// Gives back the retired tables; no TLB refers to them any more.
    pub(crate) fn release(&mut self, memory: &mut impl TableMem) {
        self.retired.release(memory);
    }
}

/// The hull of the leaves that were changed and the smallest of their sizes.
#[derive(Debug, Default)]
pub(crate) struct Changed(Option<(Range<usize>, LeafSize)>);

impl Changed {
    pub(crate) fn add(&mut self, range: Range<usize>, size: LeafSize) {
        self.0 = Some(match self.0.take() {
            None => (range, size),
            Some((hull, stride)) => (
                hull.start.min(range.start)..hull.end.max(range.end),
                stride.min(size),
            ),
        });
    }

    /// Invalidates what was noted, if anything was.
    pub(crate) fn invalidate(self, tlb: &mut impl Stage2Tlb, vttbr: u64) {
        if let Some((range, stride)) = self.0 {
            let range = GuestPhysAddrRange {
                start: GuestPhysAddr::from_usize(range.start),
                end: GuestPhysAddr::from_usize(range.end),
            };
            tlb.invalidate(vttbr, range, stride);
        }
    }
}

impl<M: TableMem> Stage2<M> {
    /// Pays everything that is owed. Tables are retired only together with a
    /// leaf that changed, so an account without changes holds none.
    pub(crate) fn settle(&mut self, tlb: &mut impl Stage2Tlb) {
        let vttbr = self.vttbr();
        core::mem::take(&mut self.account.changed).invalidate(tlb, vttbr);
        self.account.release(&mut self.memory);
    }

    /// Keeps a table that was taken out of the tree until the debt is settled.
    pub(crate) fn retire(&mut self, table: HostPhysAddr) {
        self.account.retired.push(&mut self.memory, table);
        self.tables -= 1;
    }
}
