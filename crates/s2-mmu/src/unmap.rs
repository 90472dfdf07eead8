//! Taking mappings away.

use vm_contract::GuestPhysAddr;

use crate::debt::FlushDebt;
use crate::descriptor::Descriptor;
use crate::error::MapError;
use crate::level::{ENTRIES, span};
use crate::table::Stage2;
use crate::table_mem::TableMem;
use crate::tlb::Stage2Tlb;

impl<M: TableMem> Stage2<M> {
    /// Takes away the mapping of `size_bytes` at `ipa`, splitting the blocks
    /// that reach beyond the range.
    ///
    /// Where a block is split, another CPU may for a moment find nothing mapped
    /// in the whole block: a stage-2 fault for an address that
    /// [`translate`](Self::translate) then knows is to be retried.
    ///
    /// # Errors
    /// Changes nothing if the range is empty, misaligned or outside the address
    /// space, if any part of it is not mapped, or if memory for splitting a
    /// block runs out.
    pub fn unmap(
        &mut self,
        tlb: &mut impl Stage2Tlb,
        ipa: GuestPhysAddr,
        size_bytes: u64,
    ) -> Result<FlushDebt<'_, M>, MapError> {
        let range = self.checked_range(ipa, size_bytes)?;
        self.isolate(tlb, &range)?;
        let mut at = range.start;
        while at < range.end {
            let slot = self.locate(at);
            self.store(&slot, Descriptor::INVALID);
            self.account.changed(slot.range(), slot.leaf_size());
            let next = slot.end();
            // Look for emptied tables when done with one.
            if next >= range.end || next.is_multiple_of(span(slot.level) * ENTRIES) {
                self.prune(at);
            }
            at = next;
        }
        Ok(FlushDebt::new(self))
    }

    /// Takes out the tables towards `ipa` that hold nothing any more.
    fn prune(&mut self, ipa: usize) {
        while let (slot, Some(parent)) = self.locate_with_parent(ipa) {
            if (0..ENTRIES).any(|index| self.entry(slot.table, index).is_valid()) {
                return;
            }
            self.store(&parent, Descriptor::INVALID);
            self.retire(slot.table);
        }
    }
}
