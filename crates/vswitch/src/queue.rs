//! The queue between the switch and one receiver: a bounded ring, one producer, one
//! consumer, no lock.
//!
//! Both ends are values that are not cloned, and their operations take `&mut self`:
//! that there is one of each at a time is the compiler's to see. The switch is the one
//! producer of all queues; whoever calls it from several CPUs locks it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::pool::FramePool;
use crate::vlan::Tag;

/// Says in a cell that the frame leaves with a tag.
const TAGGED: u64 = 1 << 48;

/// A frame on its way to a receiver, whose hold goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queued {
    pub(crate) slot: u32,
    pub(crate) tag: Option<Tag>,
}

impl Queued {
    fn encode(self) -> u64 {
        let tag = self
            .tag
            .map_or(0, |tag| TAGGED | u64::from(tag.control()) << 32);
        tag | u64::from(self.slot)
    }

    #[expect(clippy::cast_possible_truncation, reason = "fields of a word")]
    fn decode(cell: u64) -> Self {
        Self {
            slot: cell as u32,
            tag: (cell & TAGGED != 0).then(|| Tag::new((cell >> 32) as u16)),
        }
    }
}

/// A counter on a cache line of its own, so that the two ends do not disturb each
/// other.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Position(AtomicU32);

#[derive(Debug)]
struct Ring {
    /// A power of two of them.
    cells: Box<[AtomicU64]>,
    /// How many have been taken out, wrapping. Written by the consumer only.
    taken: Position,
    /// How many have been put in, wrapping. Written by the producer only.
    put: Position,
    pool: FramePool,
    account: usize,
}

impl Ring {
    fn cell(&self, position: u32) -> Option<&AtomicU64> {
        self.cells.get(position as usize & (self.cells.len() - 1))
    }

    fn put(&self, queued: Queued) -> bool {
        let put = self.put.0.load(Ordering::Relaxed);
        // Pairs with the release in `take`: the cell has been read before it is reused.
        let taken = self.taken.0.load(Ordering::Acquire);
        if put.wrapping_sub(taken) as usize >= self.cells.len() {
            return false;
        }
        let Some(cell) = self.cell(put) else {
            return false;
        };
        cell.store(queued.encode(), Ordering::Relaxed);
        self.put.0.store(put.wrapping_add(1), Ordering::Release);
        true
    }

    fn take(&self) -> Option<Queued> {
        let taken = self.taken.0.load(Ordering::Relaxed);
        // Pairs with the release in `put`: the cell and the frame are written.
        if taken == self.put.0.load(Ordering::Acquire) {
            return None;
        }
        let queued = Queued::decode(self.cell(taken)?.load(Ordering::Relaxed));
        self.taken.0.store(taken.wrapping_add(1), Ordering::Release);
        Some(queued)
    }

    fn is_empty(&self) -> bool {
        self.taken.0.load(Ordering::Relaxed) == self.put.0.load(Ordering::Acquire)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The last of the two ends is gone: so is what lies between them.
        while let Some(queued) = self.take() {
            self.pool.release(queued.slot, self.account);
        }
    }
}

/// The switch's end.
#[derive(Debug)]
pub(crate) struct Producer(Arc<Ring>);

/// The receiver's end.
#[derive(Debug)]
pub(crate) struct Consumer(Arc<Ring>);

/// Returns both ends of a queue for at least `frames` frames, whose holds are charged
/// to `account`.
pub(crate) fn queue(pool: &FramePool, account: usize, frames: u32) -> (Producer, Consumer) {
    let cells = frames.next_power_of_two();
    let ring = Arc::new(Ring {
        cells: (0..cells).map(|_| AtomicU64::new(0)).collect(),
        taken: Position::default(),
        put: Position::default(),
        pool: pool.clone(),
        account,
    });
    (Producer(Arc::clone(&ring)), Consumer(ring))
}

impl Producer {
    /// Puts a frame in, with one more hold on it; tells whether there was room.
    #[expect(clippy::needless_pass_by_ref_mut, reason = "there is one producer")]
    pub(crate) fn put(&mut self, queued: Queued) -> bool {
        let Ring { pool, account, .. } = &*self.0;
        if !pool.hold(queued.slot, *account) {
            return false;
        }
        let put = self.0.put(queued);
        if !put {
            pool.release(queued.slot, *account);
        }
        put
    }
}

impl Consumer {
    /// Takes the oldest frame out; its hold is the caller's.
    #[expect(clippy::needless_pass_by_ref_mut, reason = "there is one consumer")]
    pub(crate) fn take(&mut self) -> Option<Queued> {
        self.0.take()
    }

    /// Tells whether nothing is there at this moment.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn account(&self) -> usize {
        self.0.account
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn a_cell_keeps_frame_and_tag() {
        for tag in [None, Some(Tag::new(0)), Some(Tag::new(0xFFFF))] {
            let queued = Queued {
                slot: u32::MAX,
                tag,
            };
            assert_eq!(Queued::decode(queued.encode()), queued);
        }
    }

    #[test]
    fn a_queue_keeps_order_and_refuses_when_full() {
        // The account has room for three, the ring for two.
        let pool = FramePool::new(3, 64, [3, 3].into_iter());
        let (mut producer, mut consumer) = queue(&pool, 1, 2);
        let slots = [0; 3].map(|account| pool.take(account).unwrap());
        let taken = slots.map(|slot| producer.put(Queued { slot, tag: None }));
        assert_eq!(taken, [true, true, false]);
        slots.into_iter().for_each(|slot| pool.release(slot, 0));
        assert_eq!(pool.free(), 1);
        assert_eq!(consumer.take().map(|queued| queued.slot), Some(slots[0]));
        pool.release(slots[0], 1);
        drop(consumer);
        assert_eq!(pool.free(), 2);
        drop(producer);
        assert_eq!(pool.free(), 3);
    }

    #[test]
    fn two_threads_lose_and_double_nothing() {
        let total: u32 = if cfg!(miri) { 200 } else { 20_000 };
        let pool = FramePool::new(16, 64, [8, 8].into_iter());
        let (mut producer, mut consumer) = queue(&pool, 1, 8);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut sent = 0;
                while sent < total {
                    let Ok(slot) = pool.take(0) else { continue };
                    let [a, b, c, d] = sent.to_le_bytes();
                    pool.buffer(slot).unwrap().write().bytes[..4].copy_from_slice(&[a, b, c, d]);
                    let tag = Some(Tag::new(u16::from_le_bytes([a, b])));
                    sent += u32::from(producer.put(Queued { slot, tag }));
                    pool.release(slot, 0);
                    std::thread::yield_now();
                }
            });
            let mut expected = 0;
            while expected < total {
                let Some(Queued { slot, tag }) = consumer.take() else {
                    std::thread::yield_now();
                    continue;
                };
                let bytes = *pool
                    .buffer(slot)
                    .unwrap()
                    .read()
                    .bytes
                    .first_chunk()
                    .unwrap();
                assert_eq!(u32::from_le_bytes(bytes), expected);
                assert_eq!(tag.map(Tag::control), Some((expected & 0xFFFF) as u16));
                pool.release(slot, 1);
                expected += 1;
            }
        });
        assert!(consumer.is_empty());
        assert_eq!(pool.free(), 16);
    }
}
