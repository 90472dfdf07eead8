//! Which vCPUs must take note: the answer to every change of the vGIC.

use vm_contract::VcpuId;

/// How many vCPUs a [`Controller`](crate::Controller) can have.
pub const MAX_VCPUS: usize = 256;

/// A set of vCPUs whose list registers no longer say what the vGIC knows.
///
/// Each of them must fold and flush before it runs guest code again: a vCPU
/// that runs elsewhere is sent a physical interrupt, one that waits in WFI is
/// woken if [`Controller::deliverable`](crate::Controller::deliverable) says so. The vCPU
/// that caused the change can be among them.
///
/// ```
/// use arm_vgic_core::Kicks;
/// use vm_contract::VcpuId;
///
/// let mut kicks = Kicks::NONE;
/// kicks.insert(VcpuId::new(3));
/// assert!(kicks.contains(VcpuId::new(3)));
/// assert_eq!(kicks.iter().count(), 1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "a vCPU that is not kicked never sees its interrupt"]
pub struct Kicks([u64; MAX_VCPUS / 64]);

impl Kicks {
    /// Nobody.
    pub const NONE: Self = Self([0; MAX_VCPUS / 64]);

    /// Tells whether nobody is to be kicked.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        let [first, second, third, fourth] = self.0;
        first | second | third | fourth == 0
    }

    /// Tells whether `vcpu` is to be kicked.
    #[must_use]
    #[inline]
    pub fn contains(&self, vcpu: VcpuId) -> bool {
        let word = self.0.get(vcpu.index() / 64).copied().unwrap_or_default();
        word >> (vcpu.index() % 64) & 1 != 0
    }

    /// Adds `vcpu`. An index above 255 is of no vGIC and is ignored.
    #[inline]
    pub fn insert(&mut self, vcpu: VcpuId) {
        if let Some(word) = self.0.get_mut(vcpu.index() / 64) {
            *word |= 1 << (vcpu.index() % 64);
        }
    }

    /// Takes `vcpu` out.
    #[inline]
    pub fn remove(&mut self, vcpu: VcpuId) {
        if let Some(word) = self.0.get_mut(vcpu.index() / 64) {
            *word &= !(1 << (vcpu.index() % 64));
        }
    }

    /// Adds all of `other`.
    #[inline]
    pub fn extend(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine |= theirs;
        }
    }

    /// Calls `kick` for each of them, lowest index first. Shorter than
    /// [`iter`](Self::iter) where there is one, as there nearly always is.
    #[inline]
    pub fn for_each(self, mut kick: impl FnMut(VcpuId)) {
        for (base, mut word) in (0u16..).step_by(64).zip(self.0) {
            while word != 0 {
                #[expect(clippy::cast_possible_truncation, reason = "at most 63")]
                let bit = word.trailing_zeros() as u16;
                word &= word - 1;
                kick(VcpuId::new(base + bit));
            }
        }
    }

    /// Returns the vCPUs to kick, lowest index first.
    #[must_use]
    pub const fn iter(&self) -> KicksIter {
        let [current, second, third, fourth] = self.0;
        KicksIter {
            current,
            base: 0,
            rest: [second, third, fourth],
        }
    }
}

impl IntoIterator for Kicks {
    type Item = VcpuId;
    type IntoIter = KicksIter;

    fn into_iter(self) -> KicksIter {
        self.iter()
    }
}

/// Iterates over the vCPUs of [`Kicks`].
#[derive(Clone, Debug)]
pub struct KicksIter {
    current: u64,
    /// The vCPU that bit 0 of `current` stands for.
    base: u16,
    rest: [u64; MAX_VCPUS / 64 - 1],
}

impl Iterator for KicksIter {
    type Item = VcpuId;

    #[inline]
    fn next(&mut self) -> Option<VcpuId> {
        while self.current == 0 {
            let [next, second, third] = self.rest;
            if next | second | third == 0 {
                return None;
            }
            self.current = next;
            self.rest = [second, third, 0];
            self.base += 64;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most 63")]
        let bit = self.current.trailing_zeros() as u16;
        self.current &= self.current - 1;
        Some(VcpuId::new(self.base + bit))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn a_set_holds_what_was_inserted_and_nothing_else() {
        let mut kicks = Kicks::NONE;
        assert!(kicks.is_empty());
        for index in [0, 63, 64, 200, 255, 256, u16::MAX] {
            kicks.insert(VcpuId::new(index));
        }
        let listed: Vec<_> = kicks.iter().map(VcpuId::raw).collect();
        let mut called = Vec::new();
        kicks.for_each(|vcpu| called.push(vcpu.raw()));
        assert_eq!(called, listed);
        assert_eq!(listed, [0, 63, 64, 200, 255]);
        assert!((0..=u16::MAX).all(|i| kicks.contains(VcpuId::new(i)) == listed.contains(&i)));
        kicks.remove(VcpuId::new(64));
        assert!(!kicks.contains(VcpuId::new(64)) && kicks.contains(VcpuId::new(63)));
    }

    #[test]
    fn extending_unites() {
        let mut kicks = Kicks::NONE;
        kicks.insert(VcpuId::new(1));
        let mut other = Kicks::NONE;
        other.insert(VcpuId::new(130));
        kicks.extend(other);
        assert_eq!(kicks.iter().map(VcpuId::raw).collect::<Vec<_>>(), [1, 130]);
    }
}
