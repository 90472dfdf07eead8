//! Choices out of an input.

/// What is left of an input; after its end all choices are zero.
pub(super) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) const fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    pub(super) fn half(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub(super) fn word(&mut self) -> u32 {
        u32::from(self.half()) | u32::from(self.half()) << 16
    }

    /// Returns a number that is mostly small, and else close to some power of
    /// two or to the largest.
    pub(super) fn number(&mut self) -> u64 {
        let byte = self.byte();
        let small = u64::from(byte & 0x3F);
        match byte >> 6 {
            0 | 1 => small,
            2 => (1 << (small & 63)) - u64::from(self.byte() & 1),
            _ => u64::MAX - small,
        }
    }

    /// Takes all that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.0)
    }
}
