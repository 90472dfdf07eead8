//! Sets of small numbers.

use alloc::vec::Vec;

const WORD_BITS: usize = u64::BITS as usize;

/// A set of numbers from 0 on. Allocates only in [`reserve`](Self::reserve), or for
/// numbers beyond what was reserved.
#[derive(Clone, Debug, Default)]
pub(super) struct IndexSet(Vec<u64>);

impl IndexSet {
    /// Makes an empty set.
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Makes room for numbers below `count`.
    pub(super) fn reserve(&mut self, count: usize) {
        let words = count.div_ceil(WORD_BITS);
        self.0.resize(words.max(self.0.len()), 0);
    }

    /// Adds `index`.
    #[inline]
    pub(super) fn insert(&mut self, index: usize) {
        match self.0.get_mut(index / WORD_BITS) {
            Some(word) => *word |= 1 << (index % WORD_BITS),
            None => self.insert_beyond(index),
        }
    }

    #[cold]
    fn insert_beyond(&mut self, index: usize) {
        self.reserve(index + 1);
        self.insert(index);
    }

    /// Removes `index`.
    #[inline]
    pub(super) fn remove(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / WORD_BITS) {
            *word &= !(1 << (index % WORD_BITS));
        }
    }

    /// Adds or removes `index`.
    pub(super) fn set(&mut self, index: usize, is_member: bool) {
        if is_member {
            self.insert(index);
        } else {
            self.remove(index);
        }
    }

    /// Tells whether `index` is in the set.
    pub(super) fn contains(&self, index: usize) -> bool {
        let word = self.0.get(index / WORD_BITS).copied().unwrap_or_default();
        word >> (index % WORD_BITS) & 1 != 0
    }

    /// Returns the members, in ascending order.
    #[inline(always)]
    pub(super) fn iter(&self) -> Members<'_> {
        let mut words = self.0.iter();
        Members {
            rest: words.next().copied().unwrap_or_default(),
            words,
            first: 0,
        }
    }
}

/// The members of a set that are still to come.
pub(super) struct Members<'a> {
    /// Of the present word.
    rest: u64,
    /// The words that follow.
    words: core::slice::Iter<'a, u64>,
    /// What the lowest bit of the present word stands for.
    first: usize,
}

impl Iterator for Members<'_> {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        while self.rest == 0 {
            self.rest = *self.words.next()?;
            self.first += WORD_BITS;
        }
        let bit = self.rest.trailing_zeros() as usize;
        self.rest &= self.rest - 1;
        Some(self.first + bit)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::IndexSet;

    #[test]
    fn members_come_in_ascending_order() {
        let mut set = IndexSet::new();
        set.reserve(10);
        for index in [130, 0, 63, 64, 5] {
            set.insert(index);
        }
        set.remove(5);
        set.remove(1000);
        set.set(64, true);
        set.set(63, false);
        assert!(set.contains(130) && !set.contains(63) && !set.contains(999));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 64, 130]);
    }
}
