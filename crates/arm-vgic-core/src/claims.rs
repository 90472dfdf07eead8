//! Which interrupts want a list register of one vCPU.

/// A set of INTIDs below 1024, with a summary so that an empty one is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    /// Bit `n` says that `words[n]` is not zero.
    summary: u32,
    words: [u32; 32],
}

impl Claims {
    /// Nothing.
    pub(crate) const NONE: Self = Self {
        summary: 0,
        words: [0; 32],
    };

    /// Adds `bits` of the bank `word`.
    pub(crate) fn add(&mut self, word: usize, bits: u32) {
        if let Some(slot) = self.words.get_mut(word) {
            *slot |= bits;
            self.summary |= u32::from(*slot != 0) << word;
        }
    }

    /// Takes `bits` of the bank `word` out.
    pub(crate) fn remove(&mut self, word: usize, bits: u32) {
        if let Some(slot) = self.words.get_mut(word) {
            *slot &= !bits;
            if *slot == 0 {
                self.summary &= !(1 << word);
            }
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
        self.summary = self.summary & !1 | u32::from(bits != 0);
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
            let word = summary.trailing_zeros() as usize;
            summary &= summary - 1;
            let mut bits = self.words.get(word).copied().unwrap_or_default();
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
        let bits = self.words.get_mut(word as usize)?;
        let number = bits.trailing_zeros();
        *bits &= bits.wrapping_sub(1);
        if *bits == 0 {
            self.summary &= self.summary - 1;
        }
        Some(word * 32 + number)
    }

    /// Iterates over the INTIDs, lowest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + use<'_> {
        let mut summary = self.summary;
        let mut base = 0;
        let mut bits = 0u32;
        core::iter::from_fn(move || {
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
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn claims_are_listed_in_order_until_they_are_taken_out() {
        let mut claims = Claims::NONE;
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
}
