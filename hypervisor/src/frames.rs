//! The machine's free memory, in 4 KiB frames.
//!
//! EL2 maps all memory at its physical address, so a frame's address is also
//! its pointer. Host tests give the pool memory of their own.
#![expect(unsafe_code, reason = "frames are raw memory")]

use alloc::sync::Arc;
use core::alloc::Layout;
use core::sync::atomic::{AtomicU64, Ordering};

use buddy_system_allocator::FrameAllocator;
use s2_mmu::TableMem;
use vm_contract::{HostPhysAddr, HostPhysAddrRange};

use crate::lock::{RankedLock, rank};

/// Bytes in a frame.
pub const FRAME_BYTES: usize = 4096;

/// A contiguous piece of host memory that its holder alone may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRange {
    /// Where it starts.
    pub start: HostPhysAddr,
    /// How long it is: a multiple of [`FRAME_BYTES`].
    pub size_bytes: usize,
}

/// All free memory.
pub struct FramePool {
    free: RankedLock<FrameAllocator<33>, { rank::FRAMES }>,
}

impl Default for FramePool {
    fn default() -> Self {
        Self {
            free: RankedLock::new(FrameAllocator::new()),
        }
    }
}

impl FramePool {
    /// Adds memory to the pool; partial frames at both ends are left out.
    ///
    /// # Safety
    /// The range is memory that is mapped writable at its own address and that
    /// nothing else uses, now or later.
    pub unsafe fn insert(&self, range: HostPhysAddrRange) {
        let first = usize::from(range.start).div_ceil(FRAME_BYTES);
        let end = usize::from(range.end) / FRAME_BYTES;
        if first < end {
            self.free.lock().insert(first..end);
        }
    }

    /// Allocates `size_bytes` (a power of two, at least a frame) of zeroed
    /// memory aligned to its size.
    #[must_use]
    pub fn allocate(&self, size_bytes: usize) -> Option<FrameRange> {
        let frames = size_bytes.div_ceil(FRAME_BYTES);
        let layout = Layout::from_size_align(frames, frames.next_power_of_two()).ok()?;
        let frame = self.free.lock().alloc_aligned(layout)?;
        let range = FrameRange {
            start: HostPhysAddr::from(frame * FRAME_BYTES),
            size_bytes: frames * FRAME_BYTES,
        };
        let pointer = core::ptr::with_exposed_provenance_mut::<u8>(frame * FRAME_BYTES);
        // SAFETY: the range is ours: `insert`'s caller vouched for the memory,
        // and the allocator hands out each frame once.
        unsafe { pointer.write_bytes(0, range.size_bytes) };
        Some(range)
    }

    /// Takes back what [`allocate`](Self::allocate) gave out. The caller no
    /// longer uses it, and no translation leads to it.
    pub fn free(&self, range: FrameRange) {
        let frames = range.size_bytes / FRAME_BYTES;
        if let Ok(layout) = Layout::from_size_align(frames, frames.next_power_of_two()) {
            self.free
                .lock()
                .dealloc_aligned(usize::from(range.start) / FRAME_BYTES, layout);
        }
    }
}

/// Stage-2 tables made of frames of the pool.
pub struct TableFrames {
    pool: Arc<FramePool>,
}

impl TableFrames {
    /// Draws tables from `pool`.
    #[must_use]
    pub const fn new(pool: Arc<FramePool>) -> Self {
        Self { pool }
    }

    fn entry<'a>(table: HostPhysAddr, index: usize) -> &'a AtomicU64 {
        let address = usize::from(table) + index * size_of::<u64>();
        // SAFETY: s2-mmu passes only tables that `allocate` gave it and that it
        // has not freed, and indices below 512 per frame; entries are shared
        // with the table walker, hence atomic.
        unsafe { &*core::ptr::with_exposed_provenance::<AtomicU64>(address) }
    }
}

impl TableMem for TableFrames {
    fn allocate(&mut self, frames: usize) -> Option<HostPhysAddr> {
        self.pool
            .allocate(frames * FRAME_BYTES)
            .map(|range| range.start)
    }

    fn free(&mut self, table: HostPhysAddr, frames: usize) {
        self.pool.free(FrameRange {
            start: table,
            size_bytes: frames * FRAME_BYTES,
        });
    }

    fn read(&self, table: HostPhysAddr, index: usize) -> u64 {
        Self::entry(table, index).load(Ordering::Relaxed)
    }

    fn write(&mut self, table: HostPhysAddr, index: usize, entry: u64) {
        Self::entry(table, index).store(entry, Ordering::Relaxed);
    }
}
