//! The ring of events of a CPU, read while it is written.

use anyhow::{Result, ensure};

use super::memory::Memory;

/// Bytes and words of an event.
const EVENT_BYTES: u64 = 32;
const EVENT_WORDS: usize = 4;
/// Of the words in front of a ring: where its events are, how many it holds and
/// how many were written.
const HEAD: u64 = 16;
/// More than any ring holds.
const MOST_EVENTS: u64 = 1 << 20;

/// A ring, and how far it has been read.
#[derive(Debug)]
pub(super) struct Ring {
    address: u64,
    next: u64,
    lost: u64,
}

impl Ring {
    /// Reads the ring at this address from its first event on.
    pub(super) const fn new(address: u64) -> Self {
        Self {
            address,
            next: 0,
            lost: 0,
        }
    }

    /// Returns how many events were overwritten before they were read.
    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    /// Returns what has been written since the last time.
    pub(super) fn drain(&mut self, memory: &mut impl Memory) -> Result<Vec<[u64; 4]>> {
        let [events, capacity, head] = memory.array(self.address)?;
        ensure!(
            capacity.is_power_of_two() && capacity <= MOST_EVENTS && head >= self.next,
            "the ring at {:#x} is broken",
            self.address
        );
        let first = self.next.max(head.saturating_sub(capacity));
        let mut words = Vec::new();
        let mut at = first;
        while at < head {
            let offset = at % capacity;
            let count = (capacity - offset).min(head - at);
            let address = events + offset * EVENT_BYTES;
            words.extend(memory.words(address, usize::try_from(count)? * EVENT_WORDS)?);
            at += count;
        }
        // What may have been overwritten meanwhile, or is just being, is not to be
        // trusted.
        let [head_after] = memory.array(self.address + HEAD)?;
        let whole = first
            .max((head_after + 1).saturating_sub(capacity))
            .min(head);
        self.lost += whole - self.next;
        self.next = head;
        let (read, _) = words.as_chunks();
        let skipped = usize::try_from(whole - first)?;
        Ok(read.get(skipped..).unwrap_or_default().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::fakes::FakeMemory;
    use super::*;

    /// A ring of 4 events.
    fn ring() -> (FakeMemory, u64) {
        let mut memory = FakeMemory::default();
        let events = memory.add(&[0; 16]);
        let address = memory.add(&[events, 4, 0]);
        (memory, address)
    }

    /// Writes event number `n`.
    fn write(memory: &mut FakeMemory, address: u64, n: u64) {
        memory.set(n % 4 * EVENT_BYTES, n);
        memory.set(address + HEAD, n + 1);
    }

    fn drain(memory: &mut FakeMemory, ring: &mut Ring) -> Vec<u64> {
        let events = ring.drain(memory).unwrap();
        events.iter().map(|words| words[0]).collect()
    }

    #[test]
    fn each_event_is_read_once_also_across_the_end() {
        let (mut memory, address) = ring();
        let mut ring = Ring::new(address);
        assert_eq!(drain(&mut memory, &mut ring), [0; 0]);
        let mut read = Vec::new();
        for n in 0..20 {
            write(&mut memory, address, n);
            if n % 3 == 0 {
                read.extend(drain(&mut memory, &mut ring));
            }
        }
        assert_eq!(read, (0..19).collect::<Vec<_>>());
        assert_eq!(ring.lost(), 0);
    }

    #[test]
    fn what_was_overwritten_is_counted() {
        let (mut memory, address) = ring();
        let mut ring = Ring::new(address);
        for n in 0..10 {
            write(&mut memory, address, n);
        }
        // The oldest of the four may be in the course of being overwritten.
        assert_eq!(drain(&mut memory, &mut ring), [7, 8, 9]);
        assert_eq!(ring.lost(), 7);
        write(&mut memory, address, 10);
        assert_eq!(drain(&mut memory, &mut ring), [10]);
        assert_eq!(ring.lost(), 7);
    }

    #[test]
    fn nonsense_is_refused() {
        let (mut memory, address) = ring();
        memory.set(address + 8, 3);
        assert!(Ring::new(address).drain(&mut memory).is_err());
        memory.set(address + 8, 1 << 40);
        assert!(Ring::new(address).drain(&mut memory).is_err());
    }
}
