//! What a CPU owes for the interrupts that it has acknowledged.

use test_guests::check;

use crate::interface::CPUS;
use crate::place::Place;

/// The most that a CPU can owe.
const DEPTH: usize = 64;

/// A list of interrupts, the last one acknowledged last.
#[derive(Clone, Copy)]
struct Debts {
    intids: [u32; DEPTH],
    count: usize,
}

impl Debts {
    const NONE: Self = Self {
        intids: [0; DEPTH],
        count: 0,
    };

    fn count(&self) -> usize {
        self.count
    }

    fn push(&mut self, intid: u32) {
        let slot = self.intids.get_mut(self.count);
        check!(slot.is_some(), "INTID {intid} is owed beside {DEPTH}");
        if let Some(slot) = slot {
            *slot = intid;
            self.count += 1;
        }
    }

    fn as_slice(&self) -> &[u32] {
        self.intids.get(..self.count).unwrap_or_default()
    }

    fn pop(&mut self) -> Option<u32> {
        let last = self.as_slice().last().copied();
        self.count = self.count.saturating_sub(1);
        last
    }

    /// Takes the one at `index` out of the middle.
    fn take(&mut self, index: usize) -> Option<u32> {
        let taken = self.as_slice().get(index).copied()?;
        let last = self.pop();
        if let (Some(slot), Some(last)) = (self.intids.get_mut(index), last) {
            *slot = last;
        }
        Some(taken)
    }
}

/// The INTID of what an acknowledge says; a GICv2 has the sender of an SGI above.
const INTID: u32 = 0x3FF;

/// What all CPUs owe.
pub(crate) struct Ledger {
    /// To be ended, the innermost last.
    begun: [Debts; CPUS],
    /// To be deactivated.
    dropped: [Debts; CPUS],
}

impl Ledger {
    /// Nobody owes anything.
    pub(crate) const EMPTY: Self = Self {
        begun: [Debts::NONE; CPUS],
        dropped: [Debts::NONE; CPUS],
    };

    /// Notes what `cpu` has acknowledged.
    pub(crate) fn begin(&mut self, cpu: usize, debt: u32) {
        if let Some(begun) = self.begun.get_mut(cpu) {
            begun.push(debt);
        }
    }

    /// Notes what `cpu` must deactivate.
    pub(crate) fn drop(&mut self, cpu: usize, debt: u32) {
        if let Some(dropped) = self.dropped.get_mut(cpu) {
            dropped.push(debt);
        }
    }

    /// Takes the innermost of what `cpu` has begun.
    pub(crate) fn innermost(&mut self, cpu: usize) -> Option<u32> {
        self.begun.get_mut(cpu).and_then(Debts::pop)
    }

    /// Takes one of what `cpu` must deactivate.
    pub(crate) fn take_dropped(&mut self, cpu: usize, index: usize) -> Option<u32> {
        self.dropped.get_mut(cpu).and_then(|list| list.take(index))
    }

    /// Tells whether `cpu` has begun nothing.
    pub(crate) fn runs_nothing(&self, cpu: usize) -> bool {
        self.begun.get(cpu).is_some_and(|begun| begun.count() == 0)
    }

    /// Returns how many interrupts `cpu` must deactivate.
    pub(crate) fn dropped(&self, cpu: usize) -> usize {
        self.dropped.get(cpu).map_or(0, Debts::count)
    }

    /// Returns the interrupts of a bank that a CPU has begun.
    pub(crate) fn begun_in(&self, place: Place) -> u32 {
        inside(&self.begun, place)
    }

    /// Returns the interrupts of a bank that a CPU must deactivate.
    pub(crate) fn dropped_in(&self, place: Place) -> u32 {
        inside(&self.dropped, place)
    }

    /// Forgets those of a bank that some CPU must deactivate: somebody did it.
    pub(crate) fn forget_dropped(&mut self, place: Place, bits: u32) {
        let is_gone = |debt: u32| {
            let intid = debt & INTID;
            intid / 32 == place.bank && bits >> (intid % 32) & 1 != 0
        };
        let seen = self.dropped.iter_mut().enumerate();
        for (_, list) in seen.filter(|(cpu, _)| place.is_seen_by(*cpu)) {
            while let Some(index) = list.as_slice().iter().position(|debt| is_gone(*debt)) {
                list.take(index);
            }
        }
    }
}

/// Returns those of a bank that are in the lists of the CPUs.
fn inside(lists: &[Debts; CPUS], place: Place) -> u32 {
    let seen = lists.iter().enumerate();
    let seen = seen.filter(|(cpu, _)| place.is_seen_by(*cpu));
    let intids = seen.flat_map(|(_, list)| list.as_slice().iter().map(|debt| debt & INTID));
    let inside = intids.filter(|intid| intid / 32 == place.bank);
    inside.fold(0, |bits, intid| bits | 1 << (intid % 32))
}
