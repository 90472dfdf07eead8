//! What a CPU owes for the interrupts that it has acknowledged.

use test_guests::check;

/// The most that a CPU can owe.
const DEPTH: usize = 64;

/// A list of interrupts, the last one acknowledged last.
#[derive(Clone, Copy)]
pub(crate) struct Debts {
    intids: [u32; DEPTH],
    count: usize,
}

impl Debts {
    pub(crate) const NONE: Self = Self {
        intids: [0; DEPTH],
        count: 0,
    };

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn push(&mut self, intid: u32) {
        let slot = self.intids.get_mut(self.count);
        check!(slot.is_some(), "INTID {intid} is owed beside {DEPTH}");
        if let Some(slot) = slot {
            *slot = intid;
            self.count += 1;
        }
    }

    pub(crate) fn as_slice(&self) -> &[u32] {
        self.intids.get(..self.count).unwrap_or_default()
    }

    pub(crate) fn pop(&mut self) -> Option<u32> {
        let last = self.as_slice().last().copied();
        self.count = self.count.saturating_sub(1);
        last
    }

    /// Takes the one at `index` out of the middle.
    pub(crate) fn take(&mut self, index: usize) -> Option<u32> {
        let taken = self.as_slice().get(index).copied()?;
        let last = self.pop();
        if let (Some(slot), Some(last)) = (self.intids.get_mut(index), last) {
            *slot = last;
        }
        Some(taken)
    }
}
