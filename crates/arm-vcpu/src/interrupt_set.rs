//! Interrupts asked for through `inject_interrupt`, until the run loop hands
//! them to the VM's interrupt controller.

use vm_contract::IntId;

/// Holds a set of SGIs, PPIs and SPIs. Asking whether it is empty costs one
/// comparison.
#[derive(Clone, Debug, Default)]
pub(crate) struct InterruptSet {
    /// Bit n: word n is not zero.
    words_in_use: u32,
    words: [u64; IntId::SPI_END.div_ceil(64) as usize],
}

impl InterruptSet {
    /// Adds interrupt `vector`; returns `false` if it is not one of the set's
    /// kinds.
    pub(crate) fn insert(&mut self, vector: usize) -> bool {
        if vector >= IntId::SPI_END as usize {
            return false;
        }
        let Some(word) = self.words.get_mut(vector / 64) else {
            return false;
        };
        *word |= 1 << (vector % 64);
        self.words_in_use |= 1 << (vector / 64);
        true
    }

    /// Takes the lowest interrupt out.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<IntId> {
        if self.words_in_use == 0 {
            return None;
        }
        let index = self.words_in_use.trailing_zeros();
        let word = self.words.get_mut(index as usize)?;
        let bit = word.trailing_zeros();
        *word &= word.wrapping_sub(1);
        if *word == 0 {
            self.words_in_use &= !(1 << index);
        }
        IntId::new(index * 64 + bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_come_out_once_each_and_in_order() {
        let mut set = InterruptSet::default();
        for vector in [1019, 33, 0, 33, 64, 63] {
            assert!(set.insert(vector));
        }
        let order = [0, 33, 63, 64, 1019];
        for vector in order {
            assert_eq!(set.pop(), IntId::new(vector));
        }
        assert_eq!(set.pop(), None);
    }

    #[test]
    fn special_numbers_are_refused() {
        let mut set = InterruptSet::default();
        assert!(!set.insert(1020));
        assert!(!set.insert(8192));
        assert!(!set.insert(usize::MAX));
        assert_eq!(set.pop(), None);
    }
}
