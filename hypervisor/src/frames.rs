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
    inner: RankedLock<Frames, { rank::FRAMES }>,
}

struct Frames {
    allocator: FrameAllocator<33>,
    free: usize,
    total: usize,
    /// All that is free is zero: it was at the start, and nothing has come back.
    is_zero: bool,
}

impl Default for FramePool {
    fn default() -> Self {
        Self {
            inner: RankedLock::new(Frames {
                allocator: FrameAllocator::new(),
                free: 0,
                total: 0,
                is_zero: false,
            }),
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
            let mut inner = self.inner.lock();
            inner.allocator.insert(first..end);
            inner.free += end - first;
            inner.total += end - first;
        }
    }

    /// Says that all of the pool's memory is zero, also where it bypasses the
    /// caches. That holds until some of it is used and comes back.
    pub fn vouch_zero(&self) {
        self.inner.lock().is_zero = true;
    }

    /// Allocates `size_bytes` (a power of two, at least a frame) of memory
    /// aligned to its size. Whatever was there is there still: nobody else may
    /// see it before it is overwritten. Tells as well whether it is known to be
    /// zero.
    #[must_use]
    pub fn allocate_dirty(&self, size_bytes: usize) -> Option<(FrameRange, bool)> {
        let frames = size_bytes.div_ceil(FRAME_BYTES).next_power_of_two();
        let layout = Layout::from_size_align(frames, frames).ok()?;
        let mut inner = self.inner.lock();
        let frame = inner.allocator.alloc_aligned(layout)?;
        inner.free -= frames;
        let range = FrameRange {
            start: HostPhysAddr::from(frame * FRAME_BYTES),
            size_bytes: frames * FRAME_BYTES,
        };
        Some((range, inner.is_zero))
    }

    /// Allocates as [`allocate_dirty`](Self::allocate_dirty) does, and zeroes the
    /// memory.
    #[must_use]
    pub fn allocate(&self, size_bytes: usize) -> Option<FrameRange> {
        let (range, _) = self.allocate_dirty(size_bytes)?;
        let pointer = core::ptr::with_exposed_provenance_mut::<u8>(range.start.into());
        // SAFETY: the range is ours: `insert`'s caller vouched for the memory,
        // and the allocator hands out each frame once.
        unsafe { pointer.write_bytes(0, range.size_bytes) };
        Some(range)
    }

    /// Takes back what one of the `allocate` functions gave out. The caller no
    /// longer uses it, and no translation leads to it.
    pub fn free(&self, range: FrameRange) {
        let frames = range.size_bytes / FRAME_BYTES;
        if let Ok(layout) = Layout::from_size_align(frames, frames.next_power_of_two()) {
            let mut inner = self.inner.lock();
            inner
                .allocator
                .dealloc_aligned(usize::from(range.start) / FRAME_BYTES, layout);
            inner.free += frames;
            inner.is_zero = false;
        }
    }

    /// Returns how many frames are free.
    #[must_use]
    pub fn free_frames(&self) -> usize {
        self.inner.lock().free
    }

    /// Returns how many frames there are, free or not.
    #[must_use]
    pub fn total_frames(&self) -> usize {
        self.inner.lock().total
    }
}

/// Stage-2 tables made of frames of the pool, up to a budget: a VM's tables take
/// no more, whatever happens to them.
pub struct TableFrames {
    pool: Arc<FramePool>,
    used: usize,
    budget: usize,
}

impl TableFrames {
    /// Draws at most `budget` frames at a time from `pool`.
    #[must_use]
    pub const fn new(pool: Arc<FramePool>, budget: usize) -> Self {
        Self {
            pool,
            used: 0,
            budget,
        }
    }

    /// Returns how many frames are in use.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.used
    }

    /// Returns how many frames may be in use.
    #[must_use]
    pub const fn budget(&self) -> usize {
        self.budget
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
        let range = self.pool.allocate(frames * FRAME_BYTES)?;
        let used = self.used + range.size_bytes / FRAME_BYTES;
        if used > self.budget {
            self.pool.free(range);
            return None;
        }
        self.used = used;
        Some(range.start)
    }

    fn free(&mut self, table: HostPhysAddr, frames: usize) {
        let frames = frames.next_power_of_two();
        self.used -= frames;
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
