//! Adding mappings.

use vm_contract::{GuestPhysAddr, HostPhysAddr};

use crate::attributes::Attributes;
use crate::descriptor::Descriptor;
use crate::error::MapError;
use crate::level::{ENTRIES, FIRST_BLOCK_LEVEL, LAST_LEVEL, span};
use crate::table::{Slot, Stage2};
use crate::table_mem::{TableChain, TableMem};
use crate::tlb::Stage2Tlb;

/// What is left to be mapped: `ipa` up to `end`, onto `pa` and following.
#[derive(Clone, Copy)]
struct Run {
    ipa: usize,
    pa: usize,
    end: usize,
}

impl Run {
    const fn is_empty(self) -> bool {
        self.ipa >= self.end
    }

    /// Tells whether a leaf at `level` may come next.
    const fn fits(self, level: u8) -> bool {
        level >= FIRST_BLOCK_LEVEL
            && self.end - self.ipa >= span(level)
            && (self.ipa | self.pa).is_multiple_of(span(level))
    }

    const fn advance(&mut self, bytes: usize) {
        self.ipa += bytes;
        self.pa += bytes;
    }

    /// Splits off what lies before `boundary`.
    fn take_until(&mut self, boundary: usize) -> Self {
        let head = Self {
            end: self.end.min(boundary),
            ..*self
        };
        self.advance(head.end - head.ipa);
        head
    }

    /// Counts the tables needed below an invalid entry at `level` that spans
    /// the whole run.
    fn tables_below(mut self, level: u8) -> usize {
        if level == LAST_LEVEL || self.fits(level) {
            return 0;
        }
        let mut tables = 1;
        // A table of the last level needs nothing below it.
        while level + 1 < LAST_LEVEL && !self.is_empty() {
            let boundary = (self.ipa | (span(level + 1) - 1)) + 1;
            tables += self.take_until(boundary).tables_below(level + 1);
        }
        tables
    }
}

impl<M: TableMem> Stage2<M> {
    /// Maps `size_bytes` at `ipa` onto `pa`, in the largest blocks that both
    /// addresses and the size allow.
    ///
    /// A debt that was deferred is settled first.
    ///
    /// # Errors
    /// Changes nothing if the range is empty, misaligned or outside one of the
    /// address spaces, if any part of it is mapped already, or if memory for
    /// the tables runs out.
    pub fn map(
        &mut self,
        tlb: &mut impl Stage2Tlb,
        ipa: GuestPhysAddr,
        pa: HostPhysAddr,
        size_bytes: u64,
        attributes: Attributes,
    ) -> Result<(), MapError> {
        let range = self.checked_range(ipa, size_bytes)?;
        let mut run = Run {
            ipa: range.start,
            pa: self.checked_output(pa, size_bytes)?,
            end: range.end,
        };
        let needed = self.tables_to_map(run)?;
        // An entry that was taken away and is not yet flushed must not come
        // back with another meaning.
        self.settle(tlb);
        let mut reserve = self.reserve(needed)?;
        while !run.is_empty() {
            let slot = self.grow(tlb, &mut reserve, run);
            self.fill(slot, &mut run, attributes);
        }
        debug_assert!(reserve.is_empty(), "the count of tables was exact");
        tlb.publish();
        Ok(())
    }

    /// Checks that the run meets no mapping and counts the tables it needs.
    fn tables_to_map(&self, mut run: Run) -> Result<usize, MapError> {
        let mut tables = 0;
        while !run.is_empty() {
            let slot = self.locate(run.ipa);
            if slot.is_leaf() {
                return Err(MapError::AlreadyMapped(run.ipa.into()));
            }
            tables += run.take_until(slot.end()).tables_below(slot.level);
        }
        Ok(tables)
    }

    /// Adds tables towards the start of `run` until a leaf fits, and returns
    /// its slot.
    fn grow(&mut self, tlb: &mut impl Stage2Tlb, reserve: &mut TableChain, run: Run) -> Slot {
        let mut slot = self.locate(run.ipa);
        while !run.fits(slot.level) {
            let Some(table) = reserve.pop(&mut self.memory) else {
                unreachable!("the tables were counted before");
            };
            // A walker that finds the table must find it empty.
            tlb.publish();
            self.store(&slot, Descriptor::table(table));
            self.tables += 1;
            slot = self.locate(run.ipa);
        }
        slot
    }

    /// Writes leaves from `slot` on, as many of the same size as the run and
    /// the table hold.
    fn fill(&mut self, slot: Slot, run: &mut Run, attributes: Attributes) {
        let mut index = slot.index;
        loop {
            let leaf = Descriptor::leaf(slot.level, run.pa.into(), attributes);
            self.memory.write(slot.table, index, leaf.raw());
            run.advance(span(slot.level));
            index += 1;
            if index.is_multiple_of(ENTRIES) || run.is_empty() || !run.fits(slot.level) {
                return;
            }
        }
    }
}
