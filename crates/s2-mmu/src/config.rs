//! The shape of the guest physical address space, as VTCR_EL2 describes it.

use crate::level::{ENTRIES, PAGE_BYTES, shift};
use crate::vmid::VmidSize;

/// The smallest input address that T0SZ can describe without FEAT_TTST.
const MIN_IPA_BITS: u8 = 25;

/// How many address bits concatenated root tables can add to one table.
const CONCATENATION_BITS: u8 = 4;

const T0SZ_SHIFT: u32 = 0;
const SL0_SHIFT: u32 = 6;
/// Walks are inner and outer write-back write-allocate, inner shareable.
const WALK_ATTRIBUTES: u64 = 0b01 << 8 | 0b01 << 10 | 0b11 << 12;
const PS_SHIFT: u32 = 16;
const VS_16_BITS: u64 = 1 << 19;
const RES1: u64 = 1 << 31;

/// The geometry of a stage 2: input and output sizes, the level at which the
/// walk starts and how many tables are concatenated there.
///
/// TG0 (4 KiB), HA and HD (off: access and dirty flags are not managed by the
/// hardware) and all fields of later extensions are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage2Config {
    ipa_bits: u8,
    pa_bits: u8,
    /// The encoding of `pa_bits` in VTCR_EL2.PS.
    ps: u8,
    start_level: u8,
    vmid_size: VmidSize,
}

impl Stage2Config {
    /// Chooses the geometry for a machine whose smallest
    /// ID_AA64MMFR0_EL1.PARange is `parange_field` and for guest physical
    /// addresses of `ipa_bits`, or of as many bits as the machine's physical
    /// addresses have.
    ///
    /// `ipa_bits` is brought into what the machine can do, from 25 bits to the
    /// size of its physical addresses; [`ipa_bits`](Self::ipa_bits) tells what
    /// came of it. Physical addresses above 48 bits are not used. VMIDs have 8
    /// bits unless [`with_vmid_size`](Self::with_vmid_size) says otherwise.
    #[must_use]
    pub const fn from_parange(parange_field: u64, ipa_bits: Option<u8>) -> Self {
        let (ps, pa_bits) = match parange_field & 0xF {
            0 => (0, 32),
            1 => (1, 36),
            2 => (2, 40),
            3 => (3, 42),
            4 => (4, 44),
            _ => (5, 48),
        };
        let ipa_bits = match ipa_bits {
            Some(bits) if bits < MIN_IPA_BITS => MIN_IPA_BITS,
            Some(bits) if bits < pa_bits => bits,
            _ => pa_bits,
        };
        // Blocks of 1 GiB need level 1, so level 2 is the start only where an
        // address does not reach further. Level 0 is left until concatenation
        // at level 1 is exhausted: machines below 44 bits do not have it.
        let start_level = if ipa_bits <= shift(1) {
            2
        } else if ipa_bits <= shift(0) + CONCATENATION_BITS {
            1
        } else {
            0
        };
        Self {
            ipa_bits,
            pa_bits,
            ps,
            start_level,
            vmid_size: VmidSize::Bits8,
        }
    }

    /// Returns the same geometry with VMIDs of another size.
    #[must_use]
    pub const fn with_vmid_size(self, vmid_size: VmidSize) -> Self {
        Self { vmid_size, ..self }
    }

    /// Returns the value for VTCR_EL2.
    #[must_use]
    pub const fn vtcr(&self) -> u64 {
        let t0sz = 64 - self.ipa_bits as u64;
        let sl0 = 2 - self.start_level as u64;
        let vs = match self.vmid_size {
            VmidSize::Bits8 => 0,
            VmidSize::Bits16 => VS_16_BITS,
        };
        RES1 | vs
            | (self.ps as u64) << PS_SHIFT
            | WALK_ATTRIBUTES
            | sl0 << SL0_SHIFT
            | t0sz << T0SZ_SHIFT
    }

    /// Returns how many bits a guest physical address has.
    #[must_use]
    pub const fn ipa_bits(&self) -> u8 {
        self.ipa_bits
    }

    /// Returns how many bits a physical address has.
    #[must_use]
    pub const fn pa_bits(&self) -> u8 {
        self.pa_bits
    }

    /// Returns the size of the VMIDs.
    #[must_use]
    pub const fn vmid_size(&self) -> VmidSize {
        self.vmid_size
    }

    /// Returns how many contiguous frames the root takes: 1, 2, 4, 8 or 16.
    #[must_use]
    pub const fn root_frames(&self) -> usize {
        self.root_entries().div_ceil(ENTRIES)
    }

    /// Returns the alignment of the root in bytes, which is its size.
    #[must_use]
    pub const fn root_bytes(&self) -> usize {
        self.root_frames() * PAGE_BYTES
    }

    /// Returns one past the last guest physical address.
    pub(crate) const fn ipa_end(&self) -> usize {
        1 << self.ipa_bits
    }

    /// Returns one past the last physical address.
    pub(crate) const fn pa_end(&self) -> usize {
        1 << self.pa_bits
    }

    /// Returns the lookup level of the root.
    pub(crate) const fn start_level(&self) -> u8 {
        self.start_level
    }

    /// Returns how many entries of the root are used.
    pub(crate) const fn root_entries(&self) -> usize {
        1 << (self.ipa_bits - shift(self.start_level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_concatenated_as_the_architecture_demands() {
        for (parange, ipa_bits, start_level, root_frames) in [
            (0, 32, 1, 1),
            (1, 36, 1, 1),
            (2, 40, 1, 2),
            (3, 42, 1, 8),
            (4, 44, 0, 1),
            (5, 48, 0, 1),
            (6, 48, 0, 1),
            (15, 48, 0, 1),
        ] {
            let config = Stage2Config::from_parange(parange, None);
            assert_eq!(config.ipa_bits(), ipa_bits, "PARange {parange}");
            assert_eq!(config.start_level(), start_level, "PARange {parange}");
            assert_eq!(config.root_frames(), root_frames, "PARange {parange}");
        }
        assert_eq!(Stage2Config::from_parange(5, Some(43)).root_frames(), 16);
        assert_eq!(Stage2Config::from_parange(5, Some(30)).start_level(), 2);
        assert_eq!(Stage2Config::from_parange(5, Some(31)).start_level(), 1);
    }

    #[test]
    fn vtcr_has_the_fields_of_a_40_bit_machine() {
        let vtcr = Stage2Config::from_parange(2, None).vtcr();
        assert_eq!(vtcr & 0x3F, 24, "T0SZ");
        assert_eq!(vtcr >> 6 & 0b11, 1, "SL0: level 1");
        assert_eq!(vtcr >> 8 & 0b11_11_11, 0b11_01_01, "SH0, ORGN0, IRGN0");
        assert_eq!(vtcr >> 14 & 0b11, 0, "TG0: 4 KiB");
        assert_eq!(vtcr >> 16 & 0b111, 2, "PS: 40 bits");
        assert_eq!(vtcr >> 19, 1 << 12, "VS, HA and HD clear, bit 31 set");
    }

    #[test]
    fn sixteen_bit_vmids_set_vs_and_nothing_else() {
        let narrow = Stage2Config::from_parange(5, None);
        let wide = narrow.with_vmid_size(VmidSize::Bits16);
        assert_eq!(wide.vtcr() ^ narrow.vtcr(), 1 << 19);
    }

    #[test]
    fn the_walk_starts_where_the_input_size_is_allowed_to() {
        // AArch64.S2InconsistentSL: levels below the start resolve at most
        // `iasize - 1` bits, and the start itself one stride and 4 bits more.
        for parange in 0..7 {
            for bits in 0..=u8::MAX {
                let config = Stage2Config::from_parange(parange, Some(bits));
                let below = shift(config.start_level());
                assert!(config.ipa_bits() > below);
                assert!(config.ipa_bits() <= below + 9 + 4);
                assert!(config.start_level() != 0 || config.pa_bits() >= 44);
                assert!(config.ipa_bits() <= config.pa_bits());
                assert!(config.root_frames().is_power_of_two() && config.root_frames() <= 16);
            }
        }
    }
}
