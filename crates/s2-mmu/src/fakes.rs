//! Doubles of the machine for tests on a host: tables in a `Vec`, a TLB that
//! only keeps a log, and a whole machine that fails the test on stale use.

mod machine;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use vm_contract::{GuestPhysAddrRange, HostPhysAddr};

use crate::level::{ENTRIES, LeafSize, PAGE_BYTES};
use crate::table_mem::TableMem;
use crate::tlb::Stage2Tlb;

pub use machine::{ModelMachine, ModelTables, ModelTlb};

/// Where the first table lies: in reach of the smallest physical address space.
const FIRST_TABLE: usize = 0xF000_0000;

/// Tables in ordinary memory, under made-up physical addresses from
/// 0xF000_0000 on.
///
/// It panics where a caller breaks the contract of [`TableMem`], and hands out
/// again what was freed last, so that reuse shows up soon.
#[derive(Debug, Default)]
pub struct VecTables {
    used: BTreeMap<usize, Vec<u64>>,
    free: Vec<(usize, usize)>,
    end: usize,
    remaining: Option<usize>,
}

impl VecTables {
    /// Returns an endless memory.
    #[must_use]
    pub fn new() -> Self {
        Self {
            end: FIRST_TABLE,
            ..Self::default()
        }
    }

    /// Makes every allocation after the next `count` fail; `None` lifts the
    /// limit.
    pub fn limit_allocations(&mut self, count: Option<usize>) {
        self.remaining = count;
    }

    /// Returns how many frames are allocated and not freed.
    #[must_use]
    pub fn frames_in_use(&self) -> usize {
        self.used.values().map(|table| table.len() / ENTRIES).sum()
    }

    /// Tells whether `table` was allocated and not freed.
    #[must_use]
    pub fn is_allocated(&self, table: HostPhysAddr) -> bool {
        self.used.contains_key(&table.into())
    }
}

impl TableMem for VecTables {
    fn allocate(&mut self, frames: usize) -> Option<HostPhysAddr> {
        assert!(frames.is_power_of_two() && frames <= 16, "{frames} frames");
        if let Some(remaining) = &mut self.remaining {
            *remaining = remaining.checked_sub(1)?;
        }
        let last_freed = self.free.iter().rposition(|&(_, size)| size == frames);
        let table = match last_freed.map(|position| self.free.swap_remove(position)) {
            Some((table, _)) => table,
            None => {
                let table = self.end.next_multiple_of(frames * PAGE_BYTES);
                self.end = table + frames * PAGE_BYTES;
                table
            }
        };
        self.used.insert(table, vec![0; frames * ENTRIES]);
        Some(table.into())
    }

    fn free(&mut self, table: HostPhysAddr, frames: usize) {
        let freed = self.used.remove(&table.into());
        assert_eq!(
            freed.map(|entries| entries.len()),
            Some(frames * ENTRIES),
            "{table:?} is freed as it was allocated"
        );
        self.free.push((table.into(), frames));
    }

    fn read(&self, table: HostPhysAddr, index: usize) -> u64 {
        let entry = self
            .used
            .get(&table.into())
            .and_then(|entries| entries.get(index));
        *entry.expect("only allocated tables are read")
    }

    fn write(&mut self, table: HostPhysAddr, index: usize, entry: u64) {
        let slot = self
            .used
            .get_mut(&table.into())
            .and_then(|entries| entries.get_mut(index));
        *slot.expect("only allocated tables are written") = entry;
    }
}

/// One thing that a [`TlbLog`] was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlbEvent {
    /// [`Stage2Tlb::publish`].
    Publish,
    /// [`Stage2Tlb::invalidate`].
    Invalidate {
        /// The guest.
        vttbr: u64,
        /// The addresses.
        range: GuestPhysAddrRange,
        /// The size of the smallest leaf.
        stride: LeafSize,
    },
    /// [`Stage2Tlb::invalidate_all`].
    InvalidateAll {
        /// The guest.
        vttbr: u64,
    },
}

/// A TLB that caches nothing and writes down what it is told.
#[derive(Debug, Default)]
pub struct TlbLog {
    /// What was asked, oldest first.
    pub events: Vec<TlbEvent>,
}

impl TlbLog {
    /// Returns an empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the ranges that were invalidated by address, and forgets all.
    pub fn take_invalidated(&mut self) -> Vec<(GuestPhysAddrRange, LeafSize)> {
        let ranges = self.events.drain(..).filter_map(|event| match event {
            TlbEvent::Invalidate { range, stride, .. } => Some((range, stride)),
            TlbEvent::Publish | TlbEvent::InvalidateAll { .. } => None,
        });
        ranges.collect()
    }
}

impl Stage2Tlb for TlbLog {
    fn publish(&mut self) {
        self.events.push(TlbEvent::Publish);
    }

    fn invalidate(&mut self, vttbr: u64, range: GuestPhysAddrRange, stride: LeafSize) {
        self.events.push(TlbEvent::Invalidate {
            vttbr,
            range,
            stride,
        });
    }

    fn invalidate_all(&mut self, vttbr: u64) {
        self.events.push(TlbEvent::InvalidateAll { vttbr });
    }
}
