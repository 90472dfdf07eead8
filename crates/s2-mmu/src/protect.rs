//! Changing what existing mappings allow.

use vm_contract::GuestPhysAddr;

use crate::attributes::Attributes;
use crate::debt::{Changed, FlushDebt};
use crate::descriptor::Descriptor;
use crate::error::MapError;
use crate::table::Stage2;
use crate::table_mem::TableMem;
use crate::tlb::Stage2Tlb;

impl<M: TableMem> Stage2<M> {
    /// Gives `size_bytes` at `ipa` other attributes; output addresses stay.
    /// Blocks that reach beyond the range are split, as
    /// [`unmap`](Self::unmap) describes.
    ///
    /// New permissions and owner bits are written over the old ones. A new
    /// memory type goes break-before-make: other CPUs may for a moment find
    /// nothing mapped in the range. Owner bits alone leave nothing to flush.
    ///
    /// # Errors
    /// As for [`unmap`](Self::unmap).
    pub fn protect(
        &mut self,
        tlb: &mut impl Stage2Tlb,
        ipa: GuestPhysAddr,
        size_bytes: u64,
        attributes: Attributes,
    ) -> Result<FlushDebt<'_, M>, MapError> {
        let range = self.checked_range(ipa, size_bytes)?;
        self.isolate(tlb, &range)?;

        let mut broken = Changed::default();
        let mut at = range.start;
        while at < range.end {
            let slot = self.locate(at);
            let wanted = Descriptor::leaf(slot.level, slot.entry.address(), attributes);
            if slot.entry.differs_in_memory(wanted) {
                self.store(&slot, slot.entry.broken());
                broken.add(slot.range(), slot.leaf_size());
            }
            at = slot.end();
        }
        broken.invalidate(tlb, self.vttbr());

        let mut at = range.start;
        while at < range.end {
            let slot = self.locate(at);
            let wanted = Descriptor::leaf(slot.level, slot.entry.address(), attributes);
            self.store(&slot, wanted);
            if slot.entry.is_valid() && slot.entry.differs_for_hardware(wanted) {
                self.account.changed(slot.range(), slot.leaf_size());
            }
            at = slot.end();
        }
        tlb.publish();
        Ok(FlushDebt::new(self))
    }
}
