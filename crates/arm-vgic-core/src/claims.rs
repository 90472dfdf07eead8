//! Which interrupts want a list register of one vCPU.

use alloc::boxed::Box;

use crate::lpi::{FIRST_LPI_WORD, Grouping, first_intid};

/// A set of INTIDs, in words of 32, with a summary so that an empty one is
/// cheap.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    /// Bit `n` below 32 says that `words[n]` is not zero, a bit above that one
    /// of a group of `lpis` is not.
    summary: u64,
    words: [u32; 32],
    /// The words from number 32.
    lpis: Box<[u32]>,
    grouping: Grouping,
}

impl Claims {
    /// Returns an empty set that has no room for LPIs.
    pub(crate) fn new() -> Self {
        Self {
            summary: 0,
            words: [0; 32],
            lpis: Box::default(),
            grouping: Grouping::default(),
        }
    }

    /// Makes room for so many words of LPIs.
    pub(crate) fn make_room(&mut self, lpi_words: usize) {
        self.lpis = alloc::vec![0; lpi_words].into_boxed_slice();
        self.grouping = Grouping::of(lpi_words);
    }

    /// Takes out everything.
    pub(crate) fn clear(&mut self) {
        self.summary = 0;
        self.words = [0; 32];
        self.lpis.fill(0);
    }

    /// Adds `bits` of the bank `word`.
    pub(crate) fn add(&mut self, word: usize, bits: u32) {
        if let Some(slot) = self.words.get_mut(word) {
            *slot |= bits;
            self.summary |= u64::from(*slot != 0) << word;
        } else if let Some(slot) = self.lpis.get_mut(word - FIRST_LPI_WORD) {
            *slot |= bits;
            self.summary |= u64::from(*slot != 0) << self.grouping.bit(word);
        }
    }

    /// Takes `bits` of the bank `word` out.
    pub(crate) fn remove(&mut self, word: usize, bits: u32) {
        if let Some(slot) = self.words.get_mut(word) {
            *slot &= !bits;
            if *slot == 0 {
                self.summary &= !(1 << word);
            }
        } else if let Some(slot) = self.lpis.get_mut(word - FIRST_LPI_WORD) {
            *slot &= !bits;
            self.summarise(self.grouping.bit(word));
        }
    }

    /// Returns what is in bank 0, the SGIs and PPIs.
    pub(crate) fn private(&self) -> u32 {
        let [private, ..] = self.words;
        private
    }

    /// Adds `bits` of bank 0, the SGIs and PPIs. Tells whether that is news.
    pub(crate) fn add_private(&mut self, bits: u32) -> bool {
        let [private, ..] = &mut self.words;
        let news = bits & !*private != 0;
        *private |= bits;
        self.summary |= 1;
        news
    }

    /// Makes bank 0, the SGIs and PPIs, exactly `bits` and returns what it was.
    pub(crate) fn replace_private(&mut self, bits: u32) -> u32 {
        let [private, ..] = &mut self.words;
        self.summary = self.summary & !1 | u64::from(bits != 0);
        core::mem::replace(private, bits)
    }

    /// Tells whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.summary == 0
    }

    /// Tells whether there are at most as many as bits are set in `room`.
    pub(crate) fn fit(&self, mut room: u16) -> bool {
        let mut summary = self.summary;
        while summary != 0 {
            let word = summary.trailing_zeros();
            summary &= summary - 1;
            let Some(bits) = self.words.get(word as usize) else {
                return self.lpis_fit(room);
            };
            let mut bits = *bits;
            while bits != 0 {
                if room == 0 {
                    return false;
                }
                bits &= bits - 1;
                room &= room - 1;
            }
        }
        true
    }

    /// Takes out the lowest INTID.
    pub(crate) fn take_first(&mut self) -> Option<u32> {
        if self.summary == 0 {
            return None;
        }
        let word = self.summary.trailing_zeros();
        let Some(bits) = self.words.get_mut(word as usize) else {
            return self.take_first_lpi(word);
        };
        let number = bits.trailing_zeros();
        *bits &= bits.wrapping_sub(1);
        if *bits == 0 {
            self.summary &= self.summary - 1;
        }
        Some(word * 32 + number)
    }

    /// Iterates over the INTIDs, lowest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + use<'_> {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
        let mut summary = self.summary as u32;
        let mut base = 0;
        let mut bits = 0u32;
        let others = core::iter::from_fn(move || {
            if bits == 0 {
                if summary == 0 {
                    return None;
                }
                let word = summary.trailing_zeros();
                summary &= summary - 1;
                base = word * 32;
                bits = self.words.get(word as usize).copied().unwrap_or_default();
            }
            let number = bits.trailing_zeros();
            bits &= bits.wrapping_sub(1);
            Some(base + number)
        });
        others.chain(self.lpis())
    }

    /// Iterates over the LPIs, lowest first.
    fn lpis(&self) -> impl Iterator<Item = u32> + use<'_> {
        crate::set_bits((self.summary >> 32) as u32)
            .flat_map(|group| self.grouping.words(group))
            .flat_map(|word| {
                let bits = self.lpis.get(word - FIRST_LPI_WORD).copied();
                let first = first_intid(word);
                crate::set_bits(bits.unwrap_or_default()).map(move |number| first + number)
            })
    }

    #[cold]
    fn lpis_fit(&self, room: u16) -> bool {
        let room = room.count_ones() as usize;
        self.lpis().take(room + 1).count() <= room
    }

    #[cold]
    fn take_first_lpi(&mut self, summary_bit: u32) -> Option<u32> {
        let intid = self.lpis().next()?;
        let word = crate::lpi::word_of(intid) as usize;
        let bits = self.lpis.get_mut(word - FIRST_LPI_WORD)?;
        *bits &= bits.wrapping_sub(1);
        self.summarise(summary_bit);
        Some(intid)
    }

    /// Brings the summary of a group of LPI words in line with them.
    fn summarise(&mut self, summary_bit: u32) {
        let mut words = self.grouping.words(summary_bit - 32);
        let any = words.any(|word| {
            self.lpis
                .get(word - FIRST_LPI_WORD)
                .is_some_and(|w| *w != 0)
        });
        self.summary = self.summary & !(1 << summary_bit) | u64::from(any) << summary_bit;
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn claims_are_listed_in_order_until_they_are_taken_out() {
        let mut claims = Claims::new();
        assert_eq!(claims.iter().count(), 0);
        claims.add(31, 1 << 27);
        claims.add(1, 0b101);
        assert_eq!(claims.replace_private(1 << 7), 0);
        assert_eq!(claims.iter().collect::<Vec<_>>(), [7, 32, 34, 1019]);
        claims.remove(1, 0b001);
        assert_eq!(claims.replace_private(0), 1 << 7);
        assert_eq!(claims.iter().collect::<Vec<_>>(), [34, 1019]);
        assert!(claims.fit(0b1010) && !claims.fit(0b1000) && !claims.is_empty());
        let mut taken = claims.clone();
        let all: Vec<_> = core::iter::from_fn(|| taken.take_first()).collect();
        assert_eq!(all, [34, 1019]);
        assert!(taken.is_empty() && taken.fit(0));
        claims.remove(1, u32::MAX);
        claims.remove(31, u32::MAX);
        claims.add(5, 0);
        assert_eq!(claims.iter().count(), 0);
    }

    #[test]
    fn lpis_come_after_all_others() {
        for (lpi_words, highest) in [(1, 8223), (31, 9183), (64, 10239), (256, 16383)] {
            let mut claims = Claims::new();
            claims.make_room(lpi_words);
            let last = lpi_words + 31;
            claims.add(32, 0b1001);
            claims.add(last, 1 << 31);
            claims.add(last + 1, 1);
            claims.add(2, 1);
            let all = [64, 8192, 8195, highest];
            assert_eq!(claims.iter().collect::<Vec<_>>(), all);
            assert!(claims.fit(0xF) && !claims.fit(0x7) && !claims.fit(0));
            let mut taken = claims.clone();
            assert!(core::iter::from_fn(|| taken.take_first()).eq(all));
            assert!(taken.is_empty());
            claims.remove(32, 0b1000);
            claims.remove(2, 1);
            assert!(!claims.fit(0b1) && claims.fit(0b11));
            claims.remove(last, 1 << 31);
            assert!(claims.iter().eq([8192]) && !claims.is_empty());
            claims.remove(32, 1);
            assert!(claims.is_empty());
            claims.add(last, 1);
            claims.clear();
            assert!(claims.is_empty() && claims.iter().count() == 0);
        }
    }
}
