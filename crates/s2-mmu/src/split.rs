//! Blocks into tables and tables into blocks, always break-before-make
//! (Arm DDI 0487, "Using break-before-make when updating translation table
//! entries").

use core::ops::Range;

use vm_contract::{GuestPhysAddr, HostPhysAddr};

use crate::debt::Changed;
use crate::descriptor::Descriptor;
use crate::error::MapError;
use crate::level::{ENTRIES, FIRST_BLOCK_LEVEL, LAST_LEVEL, LeafSize, span};
use crate::table::{Slot, Stage2};
use crate::table_mem::TableMem;
use crate::tlb::Stage2Tlb;

impl<M: TableMem> Stage2<M> {
    /// Checks that `range` is mapped, then splits the blocks that reach beyond
    /// it, so that it consists of whole leaves. Changes nothing on failure.
    pub(crate) fn isolate(
        &mut self,
        tlb: &mut impl Stage2Tlb,
        range: &Range<usize>,
    ) -> Result<(), MapError> {
        self.check_mapped(range)?;
        // Both edges may lie in one block and share tables; what is left over
        // goes back.
        let needed = self.splits_at(range.start) + self.splits_at(range.end);
        let mut reserve = self.reserve(needed)?;
        for edge in [range.start, range.end] {
            for _ in 0..self.splits_at(edge) {
                let Some(table) = reserve.pop(&mut self.memory) else {
                    unreachable!("the tables were counted before");
                };
                let slot = self.locate(edge);
                self.split(tlb, &slot, table);
            }
        }
        reserve.release(&mut self.memory);
        Ok(())
    }

    /// Counts how often the leaf around `edge` must be split to make `edge` a
    /// boundary between leaves: at most twice.
    fn splits_at(&self, edge: usize) -> usize {
        if edge >= self.config().ipa_end() {
            return 0;
        }
        let slot = self.locate(edge);
        if !slot.is_leaf() {
            return 0;
        }
        (slot.level..LAST_LEVEL)
            .take_while(|&level| !edge.is_multiple_of(span(level)))
            .count()
    }

    /// Replaces the block in `slot` by `table`, filled with the same mapping.
    fn split(&mut self, tlb: &mut impl Stage2Tlb, slot: &Slot, table: HostPhysAddr) {
        for index in 0..ENTRIES {
            let part = slot.entry.part(slot.level, index);
            self.memory.write(table, index, part.raw());
        }
        self.remake(tlb, slot, slot.leaf_size(), Descriptor::table(table));
        self.tables += 1;
    }

    /// Replaces the entry in `slot`, under which nothing smaller than `stride`
    /// is cached, by `entry`. On return the old one is gone from all TLBs.
    fn remake(
        &mut self,
        tlb: &mut impl Stage2Tlb,
        slot: &Slot,
        stride: LeafSize,
        entry: Descriptor,
    ) {
        self.store(slot, Descriptor::INVALID);
        let mut broken = Changed::default();
        broken.add(slot.range(), stride);
        broken.invalidate(tlb, self.vttbr());
        self.store(slot, entry);
        tlb.publish();
    }

    /// Makes blocks of the tables within `size_bytes` at `ipa` whose entries
    /// map one contiguous, aligned piece of memory with the same attributes.
    /// Returns how many tables became unnecessary; they are free already.
    ///
    /// As with a split, another CPU may for a moment find nothing mapped in a
    /// block that is being made. Deferred debts are settled first.
    ///
    /// # Errors
    /// Changes nothing if the range is empty, misaligned or outside the address
    /// space. What is not mapped is passed over.
    pub fn merge(
        &mut self,
        tlb: &mut impl Stage2Tlb,
        ipa: GuestPhysAddr,
        size_bytes: u64,
    ) -> Result<usize, MapError> {
        let range = self.checked_range(ipa, size_bytes)?;
        self.settle(tlb);
        let before = self.tables;
        // Small blocks first: they may be parts of larger ones.
        for level in (FIRST_BLOCK_LEVEL..LAST_LEVEL).rev() {
            let mut at = range.start.next_multiple_of(span(level));
            while at < range.end && range.end - at >= span(level) {
                let (slot, parent) = self.locate_with_parent(at);
                if let Some(parent) = parent
                    && parent.level == level
                    && let Some(block) = self.mergeable(&parent, &slot)
                {
                    self.remake(tlb, &parent, slot.leaf_size(), block);
                    self.memory.free(slot.table, 1);
                    self.tables -= 1;
                }
                // The entry at `level`, or a larger invalid one or block.
                at = slot.end().max(at + span(level));
            }
        }
        Ok(before - self.tables)
    }

    /// Returns the block that says the same as the table to which `parent`
    /// points and whose first entry is `first`, if there is one.
    fn mergeable(&self, parent: &Slot, first: &Slot) -> Option<Descriptor> {
        let pa = first.entry.address();
        if !first.is_leaf() || !usize::from(pa).is_multiple_of(span(parent.level)) {
            return None;
        }
        let block = Descriptor::leaf(parent.level, pa, first.entry.attributes());
        (0..ENTRIES)
            .all(|index| self.entry(first.table, index) == block.part(parent.level, index))
            .then_some(block)
    }
}
