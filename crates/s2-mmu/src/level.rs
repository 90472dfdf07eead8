//! Lookup levels and what one entry of each spans, for the 4 KiB granule.

/// The size of a page and of one translation table.
pub const PAGE_BYTES: usize = 1 << PAGE_SHIFT;

const PAGE_SHIFT: u8 = 12;

/// How many bits of the address one level resolves.
const STRIDE: u8 = 9;

/// Entries of one table of one frame.
pub(crate) const ENTRIES: usize = 1 << STRIDE;

/// The lookup level whose entries are pages.
pub(crate) const LAST_LEVEL: u8 = 3;

/// The first lookup level that may hold blocks.
pub(crate) const FIRST_BLOCK_LEVEL: u8 = 1;

// Addresses are `usize` throughout, as `vm-contract` has them; the spans below
// need 48 bits.
const _: () = assert!(usize::BITS == 64, "stage 2 needs 64-bit addresses");

/// Returns the position of the lowest address bit that `level` resolves.
pub(crate) const fn shift(level: u8) -> u8 {
    PAGE_SHIFT + STRIDE * (LAST_LEVEL - level)
}

/// Returns how many bytes one entry at `level` spans.
pub(crate) const fn span(level: u8) -> usize {
    1 << shift(level)
}

/// The size of a leaf of the tree: a page or a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeafSize {
    /// 4 KiB, at level 3.
    Page,
    /// 2 MiB, at level 2.
    Block2MiB,
    /// 1 GiB, at level 1.
    Block1GiB,
}

impl LeafSize {
    /// Returns the number of bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        span(match self {
            Self::Page => 3,
            Self::Block2MiB => 2,
            Self::Block1GiB => 1,
        })
    }

    /// Returns the size of leaves at `level`, which is 1, 2 or 3.
    pub(crate) const fn at_level(level: u8) -> Self {
        match level {
            0 | 1 => Self::Block1GiB,
            2 => Self::Block2MiB,
            _ => Self::Page,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaf_sizes_are_what_their_names_say() {
        assert_eq!(LeafSize::Page.bytes(), 4 << 10);
        assert_eq!(LeafSize::Block2MiB.bytes(), 2 << 20);
        assert_eq!(LeafSize::Block1GiB.bytes(), 1 << 30);
        for level in FIRST_BLOCK_LEVEL..=LAST_LEVEL {
            assert_eq!(LeafSize::at_level(level).bytes(), span(level));
        }
    }
}
