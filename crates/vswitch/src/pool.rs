//! The frames of a switch, allocated once.
//!
//! A frame's number is handed about; its bytes stay. Two things are counted. Each
//! frame counts its holders: whoever gives up the last hold puts the frame back on the
//! list of free ones. And each hold is charged to one *account*, of which every port
//! has two, one as a sender and one as a receiver, each with a share that bounds it.
//! There are never more frames in use than holds, so a pool as large as all shares
//! together cannot run out, whatever any port does or leaves undone.
//!
//! The bytes lie behind a lock for many readers or one writer, because safe code needs
//! one. Nobody ever waits for it: there is a writer only while a frame has one holder,
//! and when it has several they all read. It costs one atomic operation per copy, and
//! copying is plain `memcpy`, which bytes in atomic cells would not allow.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use spin::RwLock;

use crate::DropReason;
use crate::checksum::Offload;
use crate::vlan::TAG_BYTES;

/// The end of the list of free frames.
const NONE: u32 = u32::MAX;

/// The bytes of a frame and what is known of them.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// Room for the longest frame with a tag.
    pub(crate) bytes: Box<[u8]>,
    /// Where the frame begins: behind the start if a tag has been taken out.
    pub(crate) start: usize,
    /// Where it ends.
    pub(crate) end: usize,
    pub(crate) offload: Offload,
}

impl Buffer {
    pub(crate) const fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }
}

#[derive(Debug)]
struct Slot {
    holders: AtomicU32,
    /// The next free frame while this one is free.
    next_free: AtomicU32,
    buffer: RwLock<Buffer>,
}

#[derive(Debug)]
struct Account {
    holds: AtomicU32,
    share: u32,
}

#[derive(Debug)]
struct Shared {
    slots: Box<[Slot]>,
    accounts: Box<[Account]>,
    /// The first free frame (low half) and a number that changes with every taking,
    /// so that a list that has changed meanwhile does not look like the old one.
    first_free: AtomicU64,
    frame_bytes: usize,
}

/// A fixed number of frames of a fixed size, allocated once. Cloning it gives another
/// handle on the same pool.
#[derive(Clone, Debug)]
pub struct FramePool(Arc<Shared>);

impl FramePool {
    /// Allocates `frames` frames for up to `frame_bytes` bytes each, without a tag, and
    /// an account for each of `shares`.
    pub(crate) fn new(frames: u32, frame_bytes: usize, shares: impl Iterator<Item = u32>) -> Self {
        let slot = |number: u32| Slot {
            holders: AtomicU32::new(0),
            next_free: AtomicU32::new(if number + 1 < frames {
                number + 1
            } else {
                NONE
            }),
            buffer: RwLock::new(Buffer {
                bytes: alloc::vec![0; frame_bytes + TAG_BYTES].into_boxed_slice(),
                start: 0,
                end: 0,
                offload: Offload::None,
            }),
        };
        let account = |share| Account {
            holds: AtomicU32::new(0),
            share,
        };
        let first_free = if frames == 0 { NONE } else { 0 };
        Self(Arc::new(Shared {
            slots: (0..frames).map(slot).collect(),
            accounts: shares.map(account).collect(),
            first_free: AtomicU64::new(first_free.into()),
            frame_bytes,
        }))
    }

    /// Returns the number of frames, free or not.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.slots.len()
    }

    /// Counts the frames that are free at this moment, by looking at each.
    #[must_use]
    pub fn free(&self) -> usize {
        let is_free = |slot: &&Slot| slot.holders.load(Ordering::Relaxed) == 0;
        self.0.slots.iter().filter(is_free).count()
    }

    /// Returns the length of the longest frame, header included, tag and frame check
    /// sequence not.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.0.frame_bytes
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Takes a free frame with one hold on it.
    pub(crate) fn take(&self, account: usize) -> Result<u32, DropReason> {
        if !self.charge(account) {
            return Err(DropReason::ShareUsed);
        }
        let Some(slot) = self.pop() else {
            self.discharge(account);
            return Err(DropReason::PoolEmpty);
        };
        if let Some(slot) = self.slot(slot) {
            slot.holders.store(1, Ordering::Relaxed);
        }
        Ok(slot)
    }

    /// Adds a hold on a frame that the caller holds, unless the account has its share.
    pub(crate) fn hold(&self, slot: u32, account: usize) -> bool {
        let charged = self.charge(account);
        if charged && let Some(slot) = self.slot(slot) {
            slot.holders.fetch_add(1, Ordering::Relaxed);
        }
        charged
    }

    /// Gives up a hold.
    pub(crate) fn release(&self, number: u32, account: usize) {
        self.discharge(account);
        let Some(slot) = self.slot(number) else {
            return;
        };
        // What this holder has done with the bytes comes before what the next will do.
        if slot.holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.push(number, slot);
        }
    }

    /// Returns the bytes of a frame; `None` for a number that is no frame's.
    pub(crate) fn buffer(&self, slot: u32) -> Option<&RwLock<Buffer>> {
        self.slot(slot).map(|slot| &slot.buffer)
    }

    fn slot(&self, slot: u32) -> Option<&Slot> {
        self.0.slots.get(slot as usize)
    }

    fn charge(&self, account: usize) -> bool {
        let Some(account) = self.0.accounts.get(account) else {
            return false;
        };
        let granted = account.holds.fetch_add(1, Ordering::Relaxed) < account.share;
        if !granted {
            account.holds.fetch_sub(1, Ordering::Relaxed);
        }
        granted
    }

    fn discharge(&self, account: usize) {
        if let Some(account) = self.0.accounts.get(account) {
            account.holds.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn pop(&self) -> Option<u32> {
        let first_free = &self.0.first_free;
        let mut first = first_free.load(Ordering::Acquire);
        loop {
            let (times, number) = halves(first);
            let next = self.slot(number)?.next_free.load(Ordering::Relaxed);
            let then = joined(times.wrapping_add(1), next);
            let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
            match first_free.compare_exchange_weak(first, then, success, failure) {
                Ok(_) => return Some(number),
                Err(now) => first = now,
            }
        }
    }

    fn push(&self, number: u32, slot: &Slot) {
        let first_free = &self.0.first_free;
        let mut first = first_free.load(Ordering::Relaxed);
        loop {
            let (times, next) = halves(first);
            slot.next_free.store(next, Ordering::Relaxed);
            let then = joined(times, number);
            let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
            match first_free.compare_exchange_weak(first, then, success, failure) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }
}

fn joined(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are wanted")]
const fn halves(both: u64) -> (u32, u32) {
    ((both >> 32) as u32, both as u32)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_frame_is_free_again_when_its_last_holder_goes() {
        let pool = FramePool::new(1, 64, [4, 4].into_iter());
        let slot = pool.take(0).unwrap();
        assert!(pool.hold(slot, 1));
        pool.release(slot, 0);
        assert_eq!(pool.take(0), Err(DropReason::PoolEmpty));
        pool.release(slot, 1);
        assert_eq!((pool.free(), pool.take(0)), (1, Ok(slot)));
    }

    #[test]
    fn nobody_holds_more_than_a_share() {
        let pool = FramePool::new(8, 64, [2, 1].into_iter());
        let slots = [pool.take(0).unwrap(), pool.take(0).unwrap()];
        assert_eq!(pool.take(0), Err(DropReason::ShareUsed));
        assert!(pool.hold(slots[0], 1));
        assert!(!pool.hold(slots[1], 1));
        pool.release(slots[1], 0);
        assert!(pool.take(0).is_ok());
        assert_eq!(pool.free(), 6);
    }

    #[test]
    fn every_frame_is_given_out_once() {
        let pool = FramePool::new(5, 64, [5].into_iter());
        let mut slots: Vec<_> = (0..5).map(|_| pool.take(0).unwrap()).collect();
        slots.sort_unstable();
        assert_eq!(slots, [0, 1, 2, 3, 4]);
        assert_eq!(pool.free(), 0);
    }

    #[test]
    fn no_frame_is_given_to_two_threads() {
        let rounds = if cfg!(miri) { 100 } else { 20_000 };
        let pool = FramePool::new(3, 64, [2; 3].into_iter());
        std::thread::scope(|scope| {
            for account in 0..3 {
                let pool = &pool;
                scope.spawn(move || {
                    for _ in 0..rounds {
                        // Two at a time, given back in the order in which they were
                        // taken, so that the list of free ones changes its order.
                        let taken = [(); 2].map(|()| pool.take(account));
                        for slot in taken.into_iter().flatten() {
                            let buffer = pool.buffer(slot).unwrap();
                            assert!(buffer.try_write().is_some(), "somebody else has it");
                            pool.release(slot, account);
                        }
                    }
                });
            }
        });
        assert_eq!(pool.free(), 3);
    }
}
