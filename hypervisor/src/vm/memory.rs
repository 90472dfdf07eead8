//! A VM's memory: which frames lie at which guest physical address.
#![expect(unsafe_code, reason = "copies from and to guest memory")]

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use s2_mmu::Permissions;
use vm_contract::{AccessError, GuestMemory, GuestPhysAddr, HostPhysAddrRange};

use crate::cpu::Machine;
use crate::frames::{FRAME_BYTES, FramePool, FrameRange};

/// The largest piece in which memory is taken from the pool: one stage-2 block
/// of level 1.
const LARGEST_PIECE_BYTES: usize = 1 << 30;

/// Frames backing one range of guest physical addresses.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Where the guest sees it.
    pub start: GuestPhysAddr,
    /// What lies there.
    pub frames: FrameRange,
    /// What the guest may do with it; its devices may write if it may.
    pub permissions: Permissions,
}

/// A doubleword of guest memory, found once to be written often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Which of the segments holds it.
    segment: usize,
    doubleword: usize,
}

/// All memory of a VM. Shape and backing never change while the VM exists.
pub struct GuestRam {
    pool: Arc<FramePool>,
    /// In ascending order of address.
    segments: Vec<Segment>,
    /// It is known to be zero, as nobody has used it yet.
    is_zero: AtomicBool,
}

impl Segment {
    /// Returns where it lies in the machine.
    #[must_use]
    pub fn host_range(&self) -> HostPhysAddrRange {
        HostPhysAddrRange::from_start_size(self.frames.start, self.frames.size_bytes)
    }
}

/// The pool has too little memory left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not enough free memory on this machine")]
pub struct OutOfMemory;

impl GuestRam {
    /// Starts with no memory at all.
    #[must_use]
    pub const fn new(pool: Arc<FramePool>) -> Self {
        Self {
            pool,
            segments: Vec::new(),
            is_zero: AtomicBool::new(true),
        }
    }

    /// Backs `size_bytes` (a multiple of 4 KiB) at `start` in pieces as large and
    /// as aligned as can be had. They have to be [`clear`](Self::clear)ed before
    /// the guest sees them.
    ///
    /// # Errors
    /// [`OutOfMemory`]; what was allocated until then is freed with `self`.
    pub fn add(
        &mut self,
        start: GuestPhysAddr,
        size_bytes: usize,
        permissions: Permissions,
    ) -> Result<(), OutOfMemory> {
        let mut at = usize::from(start);
        let end = at + size_bytes;
        while at < end {
            // The largest power of two that divides the address and still fits.
            let aligned = 1usize << at.trailing_zeros().min(usize::BITS - 2);
            let fits = 1usize << (end - at).ilog2();
            let mut piece = aligned.min(fits).min(LARGEST_PIECE_BYTES);
            let (frames, is_zero) = loop {
                match self.pool.allocate_dirty(piece) {
                    Some(found) => break found,
                    None if piece > FRAME_BYTES => piece /= 2,
                    None => return Err(OutOfMemory),
                }
            };
            *self.is_zero.get_mut() &= is_zero;
            self.segments.push(Segment {
                start: GuestPhysAddr::from(at),
                frames,
                permissions,
            });
            at += frames.size_bytes;
        }
        self.segments.sort_unstable_by_key(|segment| segment.start);
        Ok(())
    }

    /// Returns all segments, by ascending address.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Tells whether `address` lies in memory.
    #[must_use]
    pub fn contains(&self, address: GuestPhysAddr) -> bool {
        self.segment(address).is_some()
    }

    /// Tells whether the guest can execute what lies at `address`.
    #[must_use]
    pub fn is_executable(&self, address: GuestPhysAddr) -> bool {
        self.segment(address)
            .is_some_and(|segment| segment.permissions.contains(Permissions::EXECUTE))
    }

    /// Copies `bytes` into memory, read-only memory included: how images get there.
    ///
    /// # Errors
    /// [`AccessError::OutsideMemory`] unless all of it is backed.
    pub fn load(&self, address: GuestPhysAddr, bytes: &[u8]) -> Result<(), AccessError> {
        self.check(address, bytes.len(), |_| true)?;
        self.copy_in(address, bytes);
        Ok(())
    }

    /// Zeroes memory from `done` bytes on, counted through all segments, at most
    /// `most` bytes. Returns how many bytes are done then; `None` if all were
    /// already. Nothing is to be done the first time if it is known to be zero.
    pub fn clear(&self, machine: &dyn Machine, done: usize, most: usize) -> Option<usize> {
        if self.is_zero.swap(false, Ordering::Relaxed) {
            return None;
        }
        let mut before = 0;
        for segment in &self.segments {
            let offset = done.checked_sub(before)?;
            if let Some(left) = segment
                .frames
                .size_bytes
                .checked_sub(offset)
                .filter(|left| *left > 0)
            {
                let length = left.min(most);
                let start = segment.frames.start + offset;
                let range = HostPhysAddrRange::from_start_size(start, length);
                // SAFETY: these are frames that this VM owns, and no Rust reference
                // ever covers them.
                unsafe { machine.clear(range) };
                return Some(done + length);
            }
            before += segment.frames.size_bytes;
        }
        None
    }

    /// Returns where the machine has the `length` bytes at `address`, piece by
    /// piece.
    pub fn host_ranges(
        &self,
        address: GuestPhysAddr,
        length: usize,
        mut each: impl FnMut(HostPhysAddrRange),
    ) {
        self.pieces(address, length, |host, _, length| {
            each(HostPhysAddrRange::from_start_size(
                host.addr().into(),
                length,
            ));
        });
    }

    /// Finds the doubleword at `address`, to be [`publish`](Self::publish)ed in.
    ///
    /// # Errors
    /// [`AccessError::OutsideMemory`] unless it is backed, and
    /// [`AccessError::Misaligned`] unless `address` is a multiple of its size.
    pub fn notice(&self, address: GuestPhysAddr) -> Result<Notice, AccessError> {
        if !usize::from(address).is_multiple_of(size_of::<u64>()) {
            return Err(AccessError::Misaligned);
        }
        let holds = |segment: &Segment| {
            let offset = usize::from(address).checked_sub(segment.start.into())?;
            (offset < segment.frames.size_bytes).then_some(offset)
        };
        let mut found = self.segments.iter().map(holds).enumerate();
        found
            .find_map(|(segment, offset)| {
                let doubleword = offset? / size_of::<u64>();
                Some(Notice {
                    segment,
                    doubleword,
                })
            })
            .ok_or(AccessError::OutsideMemory)
    }

    /// Stores a doubleword so that a guest that reads it sees the old value or the
    /// new one.
    #[inline]
    pub fn publish(&self, notice: Notice, value: u64) {
        let Some(segment) = self.segments.get(notice.segment) else {
            return;
        };
        if notice.doubleword < segment.frames.size_bytes / size_of::<u64>() {
            let host = usize::from(segment.frames.start) + notice.doubleword * size_of::<u64>();
            let host = ptr::with_exposed_provenance_mut(host);
            // SAFETY: eight bytes of this VM's own frames, which no Rust reference
            // ever covers, aligned as frames are.
            unsafe { AtomicU64::from_ptr(host) }.store(value.to_le(), Ordering::Relaxed);
        }
    }

    fn segment(&self, address: GuestPhysAddr) -> Option<&Segment> {
        let after = self
            .segments
            .partition_point(|segment| segment.start <= address);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        (usize::from(address) - usize::from(segment.start) < segment.frames.size_bytes)
            .then_some(segment)
    }

    /// Checks that `length` bytes at `address` are backed by segments that
    /// `allowed` accepts.
    fn check(
        &self,
        address: GuestPhysAddr,
        length: usize,
        allowed: impl Fn(&Segment) -> bool,
    ) -> Result<(), AccessError> {
        let start = usize::from(address);
        let end = start
            .checked_add(length)
            .ok_or(AccessError::OutsideMemory)?;
        let mut at = start;
        while at < end {
            let segment = self
                .segment(GuestPhysAddr::from(at))
                .ok_or(AccessError::OutsideMemory)?;
            if !allowed(segment) {
                return Err(AccessError::ReadOnly);
            }
            at = usize::from(segment.start) + segment.frames.size_bytes;
        }
        Ok(())
    }

    /// Calls `each(host pointer, offset from address, length)` for every
    /// contiguous piece of a range that has been checked.
    fn pieces(
        &self,
        address: GuestPhysAddr,
        length: usize,
        mut each: impl FnMut(*mut u8, usize, usize),
    ) {
        let mut done = 0;
        while done < length {
            let at = usize::from(address) + done;
            let Some(segment) = self.segment(GuestPhysAddr::from(at)) else {
                return;
            };
            let offset = at - usize::from(segment.start);
            let piece = (segment.frames.size_bytes - offset).min(length - done);
            let host = usize::from(segment.frames.start) + offset;
            each(ptr::with_exposed_provenance_mut(host), done, piece);
            done += piece;
        }
    }

    /// Returns where the machine has the halfword at `address`, in a segment that
    /// `allowed` accepts. Aligned it lies in one.
    fn u16_at(
        &self,
        address: GuestPhysAddr,
        allowed: impl Fn(&Segment) -> bool,
    ) -> Result<*mut u16, AccessError> {
        if !usize::from(address).is_multiple_of(size_of::<u16>()) {
            return Err(AccessError::Misaligned);
        }
        let segment = self.segment(address).ok_or(AccessError::OutsideMemory)?;
        if !allowed(segment) {
            return Err(AccessError::ReadOnly);
        }
        let offset = usize::from(address) - usize::from(segment.start);
        let host = usize::from(segment.frames.start) + offset;
        Ok(ptr::with_exposed_provenance_mut(host))
    }

    fn copy_in(&self, address: GuestPhysAddr, bytes: &[u8]) {
        self.pieces(address, bytes.len(), |host, done, length| {
            let Some(source) = bytes.get(done..done + length) else {
                return;
            };
            // SAFETY: `pieces` yields `length` bytes of this VM's own frames,
            // which no Rust reference ever covers; `source` is as long.
            unsafe { ptr::copy_nonoverlapping(source.as_ptr(), host, length) };
        });
    }
}

impl GuestMemory for GuestRam {
    fn read(&self, address: GuestPhysAddr, buffer: &mut [u8]) -> Result<(), AccessError> {
        self.check(address, buffer.len(), |_| true)?;
        self.pieces(address, buffer.len(), |host, done, length| {
            let Some(target) = buffer.get_mut(done..done + length) else {
                return;
            };
            // SAFETY: as in `copy_in`. The guest may write at the same time;
            // bytes are copied once and whatever was there is an allegation.
            unsafe { ptr::copy_nonoverlapping(host, target.as_mut_ptr(), length) };
        });
        Ok(())
    }

    fn write(&self, address: GuestPhysAddr, bytes: &[u8]) -> Result<(), AccessError> {
        self.check(address, bytes.len(), |segment| {
            segment.permissions.contains(Permissions::WRITE)
        })?;
        self.copy_in(address, bytes);
        Ok(())
    }

    fn load_u16(&self, address: GuestPhysAddr) -> Result<u16, AccessError> {
        let place = self.u16_at(address, |_| true)?;
        // SAFETY: two aligned bytes of this VM's own frames, which no Rust reference
        // ever covers.
        let value = unsafe { AtomicU16::from_ptr(place) }.load(Ordering::Relaxed);
        Ok(u16::from_le(value))
    }

    fn store_u16(&self, address: GuestPhysAddr, value: u16) -> Result<(), AccessError> {
        let place = self.u16_at(address, |segment| {
            segment.permissions.contains(Permissions::WRITE)
        })?;
        // SAFETY: as in `load_u16`.
        unsafe { AtomicU16::from_ptr(place) }.store(value.to_le(), Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for GuestRam {
    fn drop(&mut self) {
        for segment in &self.segments {
            self.pool.free(segment.frames);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, FakeBoard};

    const RAM: Permissions = Permissions::all();

    fn ram() -> GuestRam {
        let mut ram = GuestRam::new(testing::frame_pool(8 << 20));
        ram.add(GuestPhysAddr::from(0x4000_0000), 0x30_3000, RAM)
            .expect("it fits");
        ram.add(GuestPhysAddr::from(0), 0x2000, Permissions::READ)
            .expect("it fits");
        ram
    }

    #[test]
    fn memory_is_read_back_across_segments() {
        let ram = ram();
        let across = GuestPhysAddr::from(0x4020_0000 - 3);
        ram.write(across, b"across").expect("all in RAM");
        let mut back = [0; 6];
        ram.read(across, &mut back).expect("all in RAM");
        assert_eq!(&back, b"across");
        assert!(ram.segments().len() >= 3, "several pieces");
    }

    #[test]
    fn the_last_byte_is_in_and_the_next_is_out() {
        let ram = ram();
        let end = 0x4030_3000;
        assert_eq!(ram.write(GuestPhysAddr::from(end - 1), b"x"), Ok(()));
        assert_eq!(
            ram.write(GuestPhysAddr::from(end - 1), b"xy"),
            Err(AccessError::OutsideMemory)
        );
        assert_eq!(
            ram.read(GuestPhysAddr::from(usize::MAX), &mut [0; 2]),
            Err(AccessError::OutsideMemory)
        );
        assert!(!ram.contains(GuestPhysAddr::from(end)));
    }

    #[test]
    fn firmware_can_be_loaded_but_not_written() {
        let ram = ram();
        let start = GuestPhysAddr::from(0);
        assert_eq!(ram.write(start, b"x"), Err(AccessError::ReadOnly));
        assert_eq!(ram.load(start, b"x"), Ok(()));
        let mut byte = [0];
        ram.read(start, &mut byte).expect("backed");
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn clearing_goes_through_all_memory_in_small_steps() {
        let ram = ram();
        let bytes = 0x30_3000 + 0x2000;
        let places = [0usize, 0x1fff, 0x4000_0000, 0x4020_0000, 0x4030_2fff];
        for place in places {
            ram.load(GuestPhysAddr::from(place), b"x").expect("backed");
        }
        let board = FakeBoard::new(1, 4, 0);
        let mut done = 0;
        while let Some(next) = ram.clear(&board, done, 0x1_5000) {
            assert!((1..=0x1_5000).contains(&(next - done)));
            done = next;
        }
        assert_eq!(done, bytes);
        for place in places {
            let mut byte = [1];
            ram.read(GuestPhysAddr::from(place), &mut byte)
                .expect("backed");
            assert_eq!(byte, [0], "{place:#x}");
        }
    }

    #[test]
    fn memory_that_was_zero_at_the_start_is_cleared_from_the_second_time_on() {
        let pool = testing::frame_pool(1 << 20);
        pool.vouch_zero();
        let board = FakeBoard::new(1, 4, 0);
        let build = || {
            let mut ram = GuestRam::new(Arc::clone(&pool));
            ram.add(GuestPhysAddr::from(0), 0x2000, RAM)
                .expect("enough memory");
            ram
        };
        let ram = build();
        assert_eq!(ram.clear(&board, 0, 0x1000), None, "it is zero");
        assert_eq!(ram.clear(&board, 0, 0x1000), Some(0x1000), "it was used");
        drop(ram);
        assert_eq!(build().clear(&board, 0, 0x1000), Some(0x1000), "by others");
    }

    #[test]
    fn a_doubleword_is_published_whole_and_nowhere_else() {
        let ram = ram();
        let rom = GuestPhysAddr::from(0x1ff8);
        let notice = ram.notice(rom).expect("backed");
        ram.publish(notice, 0x0102_0304_0506_0708);
        let mut bytes = [0; 8];
        ram.read(rom, &mut bytes).expect("backed");
        assert_eq!(bytes, [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(ram.notice(rom + 4), Err(AccessError::Misaligned));
        assert_eq!(
            ram.notice(rom + FRAME_BYTES),
            Err(AccessError::OutsideMemory)
        );
    }

    #[test]
    fn a_halfword_is_loaded_and_stored_in_one_piece() {
        let ram = ram();
        let end = GuestPhysAddr::from(0x4030_3000);
        assert_eq!(ram.store_u16(end - 2, 0x0102), Ok(()));
        let mut bytes = [0; 2];
        ram.read(end - 2, &mut bytes).expect("backed");
        assert_eq!(bytes, [2, 1]);
        assert_eq!(ram.load_u16(end - 2), Ok(0x0102));
        assert_eq!(ram.load_u16(end - 1), Err(AccessError::Misaligned));
        assert_eq!(ram.load_u16(end), Err(AccessError::OutsideMemory));
        let rom = GuestPhysAddr::from(0);
        assert!(ram.load_u16(rom).is_ok());
        assert_eq!(ram.store_u16(rom, 1), Err(AccessError::ReadOnly));
    }

    #[test]
    fn all_frames_go_back_to_the_pool() {
        let pool = testing::frame_pool(8 << 20);
        for _ in 0..100 {
            let mut ram = GuestRam::new(Arc::clone(&pool));
            ram.add(GuestPhysAddr::from(0x4000_0000), 4 << 20, RAM)
                .expect("it fits each time");
        }
        let mut greedy = GuestRam::new(pool);
        assert_eq!(
            greedy.add(GuestPhysAddr::from(0x4000_0000), 64 << 20, RAM),
            Err(OutOfMemory)
        );
    }
}
