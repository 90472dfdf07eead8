//! The last events of a CPU.

use alloc::boxed::Box;
use alloc::collections::TryReserveError;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{Event, header::address};
use crate::cpu::PcpuId;

/// What all rings together may take.
const MOST_BYTES: usize = 2 << 20;
/// The most and the fewest events of one ring.
const MOST_EVENTS: usize = 1 << 14;
const FEWEST_EVENTS: usize = 1 << 8;

/// One event's place.
type Slot = [AtomicU64; 4];

/// The last events of one CPU, which alone writes them. The oldest is overwritten.
///
/// A reader that looks at [`head`](Self::head) first, then at events, and then at
/// `head` again, knows that all those are whole whose number is below the first head
/// and that are fewer than [`capacity`](Self::capacity) behind the second.
#[derive(Debug)]
#[repr(C)]
pub struct Ring {
    /// Where the events are.
    address: u64,
    /// How many there are: a power of two.
    capacity: u64,
    /// How many have been written. Event number *n* is at *n* modulo `capacity`.
    head: AtomicU64,
    slots: Box<[Slot]>,
}

/// Returns how many events each CPU of so many keeps: a power of two.
#[must_use]
pub const fn capacity(cpu_count: u16) -> usize {
    let cpus = if cpu_count == 0 {
        1
    } else {
        cpu_count as usize
    };
    let fit = MOST_BYTES / size_of::<Slot>() / cpus;
    if fit >= MOST_EVENTS {
        MOST_EVENTS
    } else if fit <= FEWEST_EVENTS {
        FEWEST_EVENTS
    } else {
        1 << fit.ilog2()
    }
}

/// The rings of all CPUs.
#[derive(Debug)]
pub(super) struct Rings {
    rings: Box<[Arc<Ring>]>,
    addresses: Box<[u64]>,
}

impl Rings {
    /// Makes a ring for each CPU.
    pub(super) fn new(cpu_count: u16) -> Result<Self, TryReserveError> {
        let mut rings = Vec::new();
        for _ in 0..cpu_count {
            rings.push(Arc::new(Ring::new(capacity(cpu_count))?));
        }
        Ok(Self {
            addresses: rings
                .iter()
                .map(|ring| address(Arc::as_ptr(ring)))
                .collect(),
            rings: rings.into_boxed_slice(),
        })
    }

    pub(super) fn of_cpu(&self, cpu: PcpuId) -> Option<&Arc<Ring>> {
        self.rings.get(cpu.index())
    }

    /// Returns where the rings are.
    pub(super) const fn addresses(&self) -> &[u64] {
        &self.addresses
    }
}

impl Ring {
    fn new(capacity: usize) -> Result<Self, TryReserveError> {
        let mut slots = Vec::new();
        slots.try_reserve_exact(capacity)?;
        slots.resize_with(capacity, Slot::default);
        let slots = slots.into_boxed_slice();
        Ok(Self {
            address: address(slots.as_ptr()),
            capacity: slots.len() as u64,
            head: AtomicU64::new(0),
            slots,
        })
    }

    /// Adds an event. Only for the CPU whose ring this is.
    #[inline(always)]
    pub fn push(&self, event: &Event) {
        let head = self.head.load(Ordering::Relaxed);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "of a remainder below the length"
        )]
        let index = (head & (self.slots.len() as u64 - 1)) as usize;
        if let Some(slot) = self.slots.get(index) {
            for (cell, word) in slot.iter().zip(event.words()) {
                cell.store(word, Ordering::Relaxed);
            }
        }
        self.head.store(head + 1, Ordering::Release);
    }

    /// Returns how many events have been written.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// Returns how many events there is room for.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Returns the words of event number `index`, if that has been written and not
    /// been overwritten.
    #[must_use]
    pub fn words(&self, index: u64) -> Option<[u64; 4]> {
        let number = usize::try_from(index % self.capacity).ok()?;
        let slot = self.slots.get(number)?;
        let is_written = index < self.head();
        let words = slot.each_ref().map(|cell| cell.load(Ordering::Acquire));
        (is_written && self.head() - index < self.capacity).then_some(words)
    }
}
