//! Sets of physical CPUs.

use core::fmt;

use crate::cpu::PcpuId;

/// The most physical CPUs that the hypervisor uses.
pub const MAX_CPUS: u16 = 256;

const WORD_BITS: usize = u64::BITS as usize;
const WORDS: usize = MAX_CPUS as usize / WORD_BITS;

/// A set of physical CPUs, numbered below [`MAX_CPUS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuSet([u64; WORDS]);

impl CpuSet {
    /// Returns the set of the first `count` CPUs.
    #[must_use]
    pub fn first(count: u16) -> Self {
        (0..count.min(MAX_CPUS)).map(PcpuId::new).collect()
    }

    /// Adds a CPU; one whose number is too high is no member of any set.
    pub fn insert(&mut self, cpu: PcpuId) {
        if let Some(word) = self.0.get_mut(cpu.index() / WORD_BITS) {
            *word |= 1 << (cpu.index() % WORD_BITS);
        }
    }

    /// Tells whether a CPU is in the set.
    #[must_use]
    pub fn contains(&self, cpu: PcpuId) -> bool {
        let word = self.0.get(cpu.index() / WORD_BITS).copied();
        word.unwrap_or_default() >> (cpu.index() % WORD_BITS) & 1 != 0
    }

    /// Returns how many CPUs are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Tells whether no CPU is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// Returns the CPUs of the set, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = PcpuId> + use<> {
        let mut left = *self;
        core::iter::from_fn(move || {
            let (index, word) = left
                .0
                .iter_mut()
                .enumerate()
                .find(|(_, word)| **word != 0)?;
            let bit = word.trailing_zeros() as usize;
            *word &= *word - 1;
            u16::try_from(index * WORD_BITS + bit).ok().map(PcpuId::new)
        })
    }
}

impl FromIterator<PcpuId> for CpuSet {
    fn from_iter<I: IntoIterator<Item = PcpuId>>(cpus: I) -> Self {
        let mut set = Self::default();
        for cpu in cpus {
            set.insert(cpu);
        }
        set
    }
}

/// Shows ranges where there are some: `0-3,7`.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().map(PcpuId::raw).peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if(|next| *next == last + 1) {
                last = next;
            }
            write!(f, "{separator}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    #[test]
    fn a_set_has_the_members_that_were_added() {
        let set: CpuSet = [7, 0, 2, 1, 200, 300]
            .map(PcpuId::new)
            .into_iter()
            .collect();
        let members: Vec<_> = set.iter().map(PcpuId::raw).collect();
        assert_eq!(members, [0, 1, 2, 7, 200], "300 is too high");
        assert_eq!((set.len(), set.is_empty()), (5, false));
        assert_eq!(set.to_string(), "0-2,7,200");
        assert!(CpuSet::default().is_empty());
        assert_eq!(CpuSet::first(4).to_string(), "0-3");
    }
}
