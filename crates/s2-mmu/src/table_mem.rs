//! Where translation tables lie, and chains of frames kept for later.

use vm_contract::HostPhysAddr;

/// The memory that holds translation tables.
///
/// Frames have 4 KiB and 512 entries; several allocated together are
/// contiguous, and their entries are numbered through. The crate only passes
/// addresses that [`allocate`](Self::allocate) returned and were not freed
/// since, and indices within them.
pub trait TableMem {
    /// Returns `frames` contiguous frames, all zero, aligned to their common
    /// size (`frames` is 1, 2, 4, 8 or 16), below the end of the machine's
    /// physical address space; or `None` if there are none.
    fn allocate(&mut self, frames: usize) -> Option<HostPhysAddr>;

    /// Takes back what one call of [`allocate`](Self::allocate) returned. No
    /// TLB refers to it any more.
    fn free(&mut self, table: HostPhysAddr, frames: usize);

    /// Loads one entry with a single 64-bit access.
    fn read(&self, table: HostPhysAddr, index: usize) -> u64;

    /// Stores one entry with a single 64-bit access: the hardware may be
    /// walking the table. Ordering is the business of
    /// [`Stage2Tlb`](crate::Stage2Tlb).
    fn write(&mut self, table: HostPhysAddr, index: usize, entry: u64);
}

/// Frames of one table each, threaded through their own entry 0.
///
/// A link is an invalid descriptor (bit 0 clear, since frames are aligned), so
/// a frame may be chained while a walker can still reach it.
#[derive(Debug, Default)]
pub(crate) struct TableChain {
    head: Option<HostPhysAddr>,
}

/// Tells a link to a next frame from the end of the chain.
const LINKED: u64 = 1 << 1;

impl TableChain {
    /// Takes in `table`, whose entries must be of no further use.
    pub(crate) fn push(&mut self, memory: &mut impl TableMem, table: HostPhysAddr) {
        let link = self
            .head
            .map_or(0, |next| usize::from(next) as u64 | LINKED);
        memory.write(table, 0, link);
        self.head = Some(table);
    }

    /// Takes out the frame that was put in last; its entry 0 is zero again.
    pub(crate) fn pop(&mut self, memory: &mut impl TableMem) -> Option<HostPhysAddr> {
        let table = self.head?;
        let link = memory.read(table, 0);
        memory.write(table, 0, 0);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "usize has 64 bits, as asserted in level.rs"
        )]
        let next = || HostPhysAddr::from_usize((link & !LINKED) as usize);
        self.head = (link & LINKED != 0).then(next);
        Some(table)
    }

    /// Gives every frame back to `memory`.
    pub(crate) fn release(&mut self, memory: &mut impl TableMem) {
        while let Some(table) = self.pop(memory) {
            memory.free(table, 1);
        }
    }

    /// Tells whether the chain holds no frame.
    pub(crate) const fn is_empty(&self) -> bool {
        self.head.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::VecTables;

    #[test]
    fn a_chain_returns_zeroed_frames_last_in_first_out() {
        let mut memory = VecTables::new();
        let frames = [(); 3].map(|()| memory.allocate(1).unwrap());
        let mut chain = TableChain::default();
        for frame in frames {
            chain.push(&mut memory, frame);
            assert_eq!(memory.read(frame, 0) & 1, 0, "links translate nothing");
        }
        assert_eq!(chain.pop(&mut memory), Some(frames[2]));
        assert_eq!(memory.read(frames[2], 0), 0);
        memory.free(frames[2], 1);
        chain.release(&mut memory);
        assert!(chain.is_empty());
        assert_eq!(memory.frames_in_use(), 0);
    }
}
