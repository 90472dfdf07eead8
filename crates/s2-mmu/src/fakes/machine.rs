//! A machine whose TLB caches at random, between any two writes to the tables,
//! and which fails the test where a real one would go wrong.
//!
//! Found are: a table linked before its contents are published; a valid entry
//! replaced by a conflicting one while it is cached (break-before-make); a
//! table freed while a walk may still pass through it; a write left
//! unpublished; and, after the debts are settled, any cached translation that
//! the tables no longer give.

use alloc::collections::BTreeSet;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::Range;

use vm_contract::{GuestPhysAddr, GuestPhysAddrRange, HostPhysAddr};

use super::VecTables;
use crate::level::{LeafSize, PAGE_BYTES};
use crate::table_mem::TableMem;
use crate::tlb::Stage2Tlb;
use crate::walker::{Walk, walk};

/// Bits of a leaf that may change without a break: S2AP, XN and the software
/// bits.
const CHANGEABLE: u64 = 0b11 << 6 | 0b11 << 53 | 0b1111 << 55;

/// Bits of a leaf that the hardware does not look at.
const SOFTWARE: u64 = 0b1111 << 55;

/// A translation in the model's TLB, and how it was come by.
#[derive(Debug, PartialEq, Eq)]
struct Cached {
    ipa: u64,
    walk: Walk,
}

impl Cached {
    fn passes(&self, table: HostPhysAddr, index: Option<usize>) -> bool {
        let mut steps = self.walk.trail.iter().flatten();
        steps.any(|&(at, step)| at == table && index.is_none_or(|index| index == step))
    }

    /// Returns the size of the cached leaf.
    fn bytes(&self) -> u64 {
        1 << (12 + 9 * (3 - self.walk.level))
    }

    /// Tells whether an invalidation of `range`, one address in each `stride`,
    /// names an address of the cached leaf.
    fn is_hit(&self, range: &Range<u64>, stride: u64) -> bool {
        let first = self.ipa & !(self.bytes() - 1);
        let steps = first.saturating_sub(range.start).div_ceil(stride);
        let named = range.start + steps * stride;
        named < range.end && named < first + self.bytes()
    }
}

#[derive(Debug)]
struct State {
    tables: VecTables,
    /// Tables with writes that no walker need have seen yet.
    unpublished: BTreeSet<usize>,
    cached: Vec<Cached>,
    vtcr: u64,
    vttbr: u64,
    /// The pages that the imaginary guest touches.
    pages: Vec<u64>,
    random: u64,
}

impl State {
    /// Returns a pseudo-random number below `bound` (xorshift64*).
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let high = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap_or(0) % bound.max(1)
    }

    /// Lets the guest touch some page, so that its translation is cached.
    fn speculate(&mut self) {
        let choice = self.below(self.pages.len());
        let Some(&ipa) = self.pages.get(choice) else {
            return;
        };
        if self.vttbr != 0
            && let Ok(walk) = walk(&self.tables, self.vtcr, self.vttbr, ipa)
        {
            let entry = Cached { ipa, walk };
            if !self.cached.contains(&entry) {
                self.cached.push(entry);
            }
        }
    }

    fn write(&mut self, table: HostPhysAddr, index: usize, entry: u64) {
        let old = self.tables.read(table, index);
        let links = entry & 0b11 == 0b11;
        let target = usize::try_from(entry & 0x0000_FFFF_FFFF_F000).unwrap_or(0);
        if links && self.tables.is_allocated(target.into()) {
            assert!(
                !self.unpublished.contains(&target),
                "a table is linked before its contents are published"
            );
        }
        if entry & 1 == 1 && (old ^ entry) & !CHANGEABLE != 0 {
            let conflict = self
                .cached
                .iter()
                .find(|cached| cached.passes(table, Some(index)));
            assert!(
                conflict.is_none(),
                "an entry is remade while its old form is cached: {conflict:x?}"
            );
        }
        self.tables.write(table, index, entry);
        self.unpublished.insert(table.into());
        // Not at every write: whole tables are written, and most of them are
        // not reachable yet.
        if self.below(16) == 0 || old & 1 == 1 {
            self.speculate();
        }
    }

    fn free(&mut self, table: HostPhysAddr, frames: usize) {
        let user = self.cached.iter().find(|cached| cached.passes(table, None));
        assert!(
            user.is_none(),
            "a table is freed while a walk may pass through it: {user:x?}"
        );
        self.tables.free(table, frames);
        self.unpublished.remove(&table.into());
    }
}

/// A machine with tables, a TLB and a guest that touches `pages` at random.
/// What a test maps must not show the tables themselves.
#[derive(Clone, Debug)]
pub struct ModelMachine(Rc<RefCell<State>>);

impl ModelMachine {
    /// Returns a machine whose guest touches the pages at `pages`; `seed`
    /// decides when.
    #[must_use]
    pub fn new(seed: u64, pages: impl IntoIterator<Item = GuestPhysAddr>) -> Self {
        Self(Rc::new(RefCell::new(State {
            tables: VecTables::new(),
            unpublished: BTreeSet::new(),
            cached: Vec::new(),
            vtcr: 0,
            vttbr: 0,
            pages: pages
                .into_iter()
                .map(|ipa| usize::from(ipa) as u64)
                .collect(),
            // Zero is the one state that the generator cannot leave.
            random: seed | 1 << 63,
        })))
    }

    /// Sets VTCR_EL2 and VTTBR_EL2: the guest starts to run.
    pub fn run(&self, vtcr: u64, vttbr: u64) {
        let mut state = self.0.borrow_mut();
        state.vtcr = vtcr;
        state.vttbr = vttbr;
    }

    /// Sets VTTBR_EL2 to no guest at all: nothing is cached any more.
    pub fn stop(&self) {
        self.0.borrow_mut().vttbr = 0;
    }

    /// Returns the tables of this machine.
    #[must_use]
    pub fn tables(&self) -> ModelTables {
        ModelTables(self.clone())
    }

    /// Returns the TLB of this machine.
    #[must_use]
    pub fn tlb(&self) -> ModelTlb {
        ModelTlb(self.clone())
    }

    /// Lets the guest touch `count` pages.
    pub fn touch(&self, count: usize) {
        let mut state = self.0.borrow_mut();
        for _ in 0..count {
            state.speculate();
        }
    }

    /// Limits allocations as [`VecTables::limit_allocations`] does.
    pub fn limit_allocations(&self, count: Option<usize>) {
        self.0.borrow_mut().tables.limit_allocations(count);
    }

    /// Returns how many frames hold tables.
    #[must_use]
    pub fn frames_in_use(&self) -> usize {
        self.0.borrow().tables.frames_in_use()
    }

    /// Checks that every write is published and that every cached translation
    /// is still what the tables say.
    ///
    /// # Panics
    /// If one is not: the guest would use what was taken from it.
    pub fn assert_nothing_stale(&self) {
        let state = self.0.borrow();
        assert!(state.unpublished.is_empty(), "a write is left unpublished");
        for cached in &state.cached {
            let now = walk(&state.tables, state.vtcr, state.vttbr, cached.ipa);
            let same = now.as_ref().is_ok_and(|now| {
                now.pa == cached.walk.pa
                    && now.level == cached.walk.level
                    && (now.descriptor ^ cached.walk.descriptor) & !SOFTWARE == 0
            });
            assert!(same, "stale in the TLB: {cached:x?}, now {now:x?}");
        }
    }
}

/// The tables of a [`ModelMachine`].
#[derive(Debug)]
pub struct ModelTables(ModelMachine);

impl TableMem for ModelTables {
    fn allocate(&mut self, frames: usize) -> Option<HostPhysAddr> {
        let mut state = self.0.0.borrow_mut();
        let table = state.tables.allocate(frames)?;
        for frame in 0..frames {
            state
                .unpublished
                .insert(usize::from(table) + frame * PAGE_BYTES);
        }
        Some(table)
    }

    fn free(&mut self, table: HostPhysAddr, frames: usize) {
        self.0.0.borrow_mut().free(table, frames);
    }

    fn read(&self, table: HostPhysAddr, index: usize) -> u64 {
        self.0.0.borrow().tables.read(table, index)
    }

    fn write(&mut self, table: HostPhysAddr, index: usize, entry: u64) {
        self.0.0.borrow_mut().write(table, index, entry);
    }
}

/// The TLB of a [`ModelMachine`].
#[derive(Debug)]
pub struct ModelTlb(ModelMachine);

impl Stage2Tlb for ModelTlb {
    fn publish(&mut self) {
        self.0.0.borrow_mut().unpublished.clear();
    }

    fn invalidate(&mut self, vttbr: u64, range: GuestPhysAddrRange, stride: LeafSize) {
        let mut state = self.0.0.borrow_mut();
        state.speculate();
        state.unpublished.clear();
        if vttbr == state.vttbr {
            let range = usize::from(range.start) as u64..usize::from(range.end) as u64;
            let stride = stride.bytes() as u64;
            state.cached.retain(|cached| !cached.is_hit(&range, stride));
        }
        // What can be cached again at once is what the tables now say.
        state.speculate();
    }

    fn invalidate_all(&mut self, vttbr: u64) {
        let mut state = self.0.0.borrow_mut();
        state.unpublished.clear();
        if vttbr == state.vttbr || state.vttbr == 0 {
            state.cached.clear();
        }
    }
}
