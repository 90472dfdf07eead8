//! What TCR_EL1 and the TTBRs say about one half of the address space.

use super::{ADDRESS, Stage1Registers, WalkError};

/// TCR_EL1 fields that both halves share.
const TCR_IPS_SHIFT: u32 = 32;
const TCR_HA: u64 = 1 << 39;
/// TCR_EL1.DS: descriptors of 52-bit addresses for 4 KiB and 16 KiB.
const TCR_DS: u64 = 1 << 59;
/// TCR_EL1.TBI0 and TBI1.
const TCR_TBI: [u64; 2] = [1 << 37, 1 << 38];
/// TCR_EL1.EPD0 and EPD1.
const TCR_EPD: [u64; 2] = [1 << 7, 1 << 23];
/// TCR_EL1.T0SZ and T1SZ.
const TCR_TSZ_SHIFT: [u32; 2] = [0, 16];

/// The bit that chooses between TTBR0_EL1 and TTBR1_EL1.
const HALF_SELECT: u32 = 55;

/// The bounds of TnSZ: regions of at most 48 bits, and of at least 16, or of
/// two pages of 64 KiB.
const TSZ_MIN: u64 = 16;
const TSZ_MAX: u64 = 48;
const TSZ_MAX_64K: u64 = 47;

/// The size of a page and of a full table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granule {
    /// 12, 14 or 16.
    page_shift: u32,
}

impl Granule {
    const K4: Self = Self { page_shift: 12 };
    const K16: Self = Self { page_shift: 14 };
    const K64: Self = Self { page_shift: 16 };

    /// TCR_EL1.TG0 and TG1 encode the same sizes differently.
    const fn of(tcr: u64, upper: bool) -> Option<Self> {
        if upper {
            match tcr >> 30 & 0b11 {
                0b01 => Some(Self::K16),
                0b10 => Some(Self::K4),
                0b11 => Some(Self::K64),
                _ => None,
            }
        } else {
            match tcr >> 14 & 0b11 {
                0b00 => Some(Self::K4),
                0b01 => Some(Self::K64),
                0b10 => Some(Self::K16),
                _ => None,
            }
        }
    }

    pub(super) const fn page_mask(self) -> u64 {
        (1 << self.page_shift) - 1
    }

    /// How many bits of an address one level resolves: a page of 8-byte
    /// descriptors.
    const fn stride(self) -> u32 {
        self.page_shift - 3
    }

    pub(super) const fn index_mask(self) -> u64 {
        (1 << self.stride()) - 1
    }

    /// Returns the lowest address bit that `level` resolves.
    pub(super) const fn level_shift(self, level: u8) -> u32 {
        self.page_shift + (3 - level as u32) * self.stride()
    }

    /// Tells whether a walk can end at `level`: with pages of 4 KiB from
    /// level 1 on, otherwise from level 2 on.
    pub(super) const fn has_leaf(self, level: u8) -> bool {
        level >= 2 || level == 1 && self.page_shift == 12
    }
}

/// One half of the address space, as far as a walk needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) granule: Granule,
    /// The address of the first table.
    pub(super) root: u64,
    /// 0 to 3.
    pub(super) start_level: u8,
    pub(super) hardware_access_flag: bool,
    /// How many address bits the region has.
    size_bits: u32,
    /// How many bits a physical address may have.
    output_bits: u32,
}

impl Region {
    /// Finds the region of `va`, which must be in it: the bits above the
    /// region's size all like the one that selects the half.
    pub(super) fn of(registers: &Stage1Registers, va: u64) -> Result<Self, WalkError> {
        let tcr = registers.tcr;
        let upper = is_upper(va);
        let half = |of: [u64; 2]| if upper { of[1] } else { of[0] };
        let granule = Granule::of(tcr, upper).ok_or(WalkError::Unsupported)?;
        let tsz_shift = if upper {
            TCR_TSZ_SHIFT[1]
        } else {
            TCR_TSZ_SHIFT[0]
        };
        let tsz = tcr >> tsz_shift & 0x3F;
        let output_bits = output_bits(tcr);
        let wide = if granule == Granule::K64 {
            output_bits > 48
        } else {
            tcr & TCR_DS != 0
        };
        if wide || tsz < TSZ_MIN {
            return Err(WalkError::Unsupported);
        }
        let tsz_max = if granule == Granule::K64 {
            TSZ_MAX_64K
        } else {
            TSZ_MAX
        };
        if tsz > tsz_max || tcr & half(TCR_EPD) != 0 {
            return Err(WalkError::Translation(0));
        }

        // 16 to 48.
        let size_bits = 64 - tsz as u32;
        let beyond = without_tag(registers, va) >> size_bits;
        let expected = if upper { u64::MAX >> size_bits } else { 0 };
        if beyond != expected {
            return Err(WalkError::Translation(0));
        }

        // Levels are counted back from the last: each resolves a stride of
        // what lies above the page offset.
        let levels = (size_bits - granule.page_shift).div_ceil(granule.stride());
        let start_level = (4_u32.saturating_sub(levels) & 0b11) as u8;
        let mut region = Self {
            granule,
            root: 0,
            start_level,
            hardware_access_flag: tcr & TCR_HA != 0,
            size_bits,
            output_bits: output_bits.min(48),
        };
        // The table lies at a multiple of its size, at least of 64 bytes. The
        // bits below, and the ASID above, are no part of the address.
        let table_shift = (size_bits - granule.level_shift(start_level) + 3).max(6);
        let ttbr = half([registers.ttbr0, registers.ttbr1]);
        region.root = ttbr & ADDRESS & !((1 << table_shift) - 1);
        region.check_size(region.root, 0)?;
        Ok(region)
    }

    /// Returns which descriptor of the first table `va` is translated by.
    pub(super) const fn root_index(&self, va: u64) -> u64 {
        (va & ((1 << self.size_bits) - 1)) >> self.granule.level_shift(self.start_level)
    }

    /// Checks that an address found at `level` is one that exists.
    ///
    /// # Errors
    /// [`WalkError::AddressSize`] if it is too large.
    pub(super) fn check_size(&self, address: u64, level: u8) -> Result<(), WalkError> {
        if address >> self.output_bits == 0 {
            Ok(())
        } else {
            Err(WalkError::AddressSize(level))
        }
    }
}

/// Returns `va` with what its top byte holds, if that is a tag, replaced by
/// copies of bit 55.
pub(super) const fn without_tag(registers: &Stage1Registers, va: u64) -> u64 {
    let upper = is_upper(va);
    let tagged = registers.tcr & if upper { TCR_TBI[1] } else { TCR_TBI[0] } != 0;
    match (tagged, upper) {
        (false, _) => va,
        (true, false) => va & u64::MAX >> 8,
        (true, true) => va | !(u64::MAX >> 8),
    }
}

const fn is_upper(va: u64) -> bool {
    va >> HALF_SELECT & 1 != 0
}

/// Returns what TCR_EL1.IPS says; a reserved value says as much as the largest.
const fn output_bits(tcr: u64) -> u32 {
    match tcr >> TCR_IPS_SHIFT & 0b111 {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        5 => 48,
        _ => 52,
    }
}
