//! How many exits there were.

use anyhow::Result;

use super::machine::{Machine, Vcpu};
use super::memory::Memory;

/// The exits of all vCPUs until some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) vcpus: Vec<Exits>,
}

/// The exits of one vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exits {
    pub(super) vm: u16,
    pub(super) vcpu: u16,
    /// By reason.
    pub(super) counts: Vec<u64>,
}

impl Exits {
    /// Returns how many there were for whatever reason.
    pub(super) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

impl Snapshot {
    /// Reads all counters.
    pub(super) fn take(machine: &Machine, memory: &mut impl Memory) -> Result<Self> {
        let buckets = usize::try_from(machine.buckets)?;
        let read = |vcpu: &Vcpu| {
            let cells = memory.words(vcpu.counters, machine.reasons.len() * buckets)?;
            let rows = cells.chunks(buckets.max(1));
            Ok(Exits {
                vm: vcpu.vm,
                vcpu: vcpu.vcpu,
                counts: rows.map(|row| row.iter().sum()).collect(),
            })
        };
        let vcpus = machine.vcpus.iter().map(read).collect::<Result<_>>()?;
        Ok(Self { vcpus })
    }

    /// Returns what was added since an earlier moment.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let difference = |(now, before): (&Exits, &Exits)| {
            let counts = now.counts.iter().zip(&before.counts);
            Exits {
                counts: counts
                    .map(|(now, before)| now.saturating_sub(*before))
                    .collect(),
                ..*now
            }
        };
        let pairs = self.vcpus.iter().zip(&earlier.vcpus);
        Self {
            vcpus: pairs.map(difference).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::fakes;
    use super::*;

    #[test]
    fn sizes_are_added_up_and_differences_taken() {
        let (mut memory, anchor) = fakes::memory();
        let machine = Machine::find(&mut memory, anchor).unwrap().unwrap();
        let before = Snapshot::take(&machine, &mut memory).unwrap();
        let counts: Vec<_> = before.vcpus.iter().map(|exits| &exits.counts[..]).collect();
        assert_eq!(counts, [[3, 0], [0, 0], [0, 7]]);
        memory.set(machine.vcpus[2].counters, 5);
        let now = Snapshot::take(&machine, &mut memory).unwrap();
        let totals = now
            .since(&before)
            .vcpus
            .iter()
            .map(Exits::total)
            .collect::<Vec<_>>();
        assert_eq!(totals, [0, 0, 5]);
    }
}
