//! The shape of one bus access and the ways in which it can fail.

use thiserror::Error;

/// How many bytes one access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
    /// 64 bits.
    Dword,
}

impl Width {
    /// Returns the width whose size is `1 << log2` bytes: the encoding of
    /// ESR_ELx.ISS.SAS and of the `size` field of load and store instructions.
    /// Only the two lowest bits count.
    #[inline]
    #[must_use]
    pub const fn from_log2(log2: u32) -> Self {
        match log2 & 0b11 {
            0 => Self::Byte,
            1 => Self::Half,
            2 => Self::Word,
            _ => Self::Dword,
        }
    }

    /// Returns the logarithm of the size in bytes: 0 to 3.
    #[inline]
    #[must_use]
    pub const fn log2(self) -> u32 {
        self as u32
    }

    /// Returns the width of `bytes` bytes, or `None` unless that is 1, 2, 4 or 8.
    #[must_use]
    pub const fn from_bytes(bytes: usize) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Half),
            4 => Some(Self::Word),
            8 => Some(Self::Dword),
            _ => None,
        }
    }

    /// Returns the number of bytes: 1, 2, 4 or 8.
    #[inline]
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.log2()
    }

    /// Returns the number of bits: 8, 16, 32 or 64.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u32 {
        8 << self.log2()
    }

    /// Returns a value whose lowest [`bits`](Self::bits) bits are ones.
    #[inline]
    #[must_use]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// Returns `value` with the bits above this width cleared.
    #[inline]
    #[must_use]
    pub const fn truncate(self, value: u64) -> u64 {
        value & self.mask()
    }

    /// Returns `value`, taken as a signed number of this width, extended to
    /// 64 bits.
    #[inline]
    #[must_use]
    pub const fn sign_extend(self, value: u64) -> u64 {
        let unused = 64 - self.bits();
        ((value << unused).cast_signed() >> unused).cast_unsigned()
    }
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// A data read.
    Read,
    /// A data write.
    Write,
    /// An instruction fetch.
    Execute,
}

/// The guest asked for something that a device or its memory does not do.
///
/// This never stops a VM by itself: the hypervisor answers it as the
/// architecture says, reads-as-zero/writes-ignored or an external abort
/// injected into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[must_use = "the guest is owed an answer"]
pub enum AccessError {
    /// Nothing answers at this address.
    #[error("nothing answers at this address")]
    NoDevice,
    /// The register exists, but not for this width.
    #[error("the register does not take accesses of this width")]
    InvalidWidth,
    /// The address is not a multiple of the access width.
    #[error("the address is not aligned to the width")]
    Misaligned,
    /// The register is read-only, or the memory is.
    #[error("the target is read-only")]
    ReadOnly,
    /// Part of the access lies outside the guest's memory.
    #[error("the access leaves the guest's memory")]
    OutsideMemory,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Width; 4] = [Width::Byte, Width::Half, Width::Word, Width::Dword];

    #[test]
    fn a_width_is_the_same_by_bytes_and_by_logarithm() {
        for (log2, width) in (0u32..).zip(ALL) {
            assert_eq!(Width::from_log2(log2), width);
            assert_eq!(Width::from_bytes(1 << log2), Some(width));
            assert_eq!(width.bytes() * 8, u64::from(width.bits()));
        }
        assert_eq!(Width::from_bytes(3), None);
        assert_eq!(Width::from_bytes(16), None);
    }

    #[test]
    fn extension_keeps_the_value_and_truncation_undoes_it() {
        for width in ALL {
            let minus_two = width.truncate(u64::MAX - 1);
            assert_eq!(width.sign_extend(minus_two), u64::MAX - 1);
            assert_eq!(width.truncate(width.sign_extend(minus_two)), minus_two);
            assert_eq!(width.sign_extend(1), 1);
        }
        assert_eq!(Width::Dword.mask(), u64::MAX);
    }
}
