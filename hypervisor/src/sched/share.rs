//! How much of a CPU a vCPU is to have.

use dtb_platform::VmConfig;

/// How many priorities there are.
pub const LEVELS: usize = *VmConfig::PRIORITIES.end() as usize + 1;

/// The most that a weight can be.
const MAX_WEIGHT: u32 = *VmConfig::WEIGHTS.end();

/// One is so many bits of a ratio: a division less at each turn.
const RATIO_BITS: u32 = 32;

/// Weight and priority of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    weight: u32,
    /// By how much virtual time passes more quickly than for one of the highest weight:
    /// so many parts.
    ratio: u64,
    priority: u8,
}

impl Share {
    /// Makes a share of one of [`VmConfig::WEIGHTS`], which counts relative to
    /// the others' of the same priority, and one of [`VmConfig::PRIORITIES`], of
    /// which higher ones go first. What lies outside is brought to the nearest.
    #[must_use]
    pub fn new(weight: u32, priority: u8) -> Self {
        let weight = weight.clamp(*VmConfig::WEIGHTS.start(), MAX_WEIGHT);
        Self {
            weight,
            ratio: (u64::from(MAX_WEIGHT) << RATIO_BITS) / u64::from(weight),
            priority: priority.min(*VmConfig::PRIORITIES.end()),
        }
    }

    /// Returns the priority.
    #[must_use]
    pub const fn level(self) -> usize {
        self.priority as usize
    }

    /// Returns the weight.
    #[must_use]
    pub const fn weight(self) -> u32 {
        self.weight
    }

    /// Returns for how much `ticks` on the CPU count.
    #[inline]
    #[must_use]
    pub fn virtual_ticks(self, ticks: u64) -> u64 {
        let scaled = (u128::from(ticks) * u128::from(self.ratio)) >> RATIO_BITS;
        u64::try_from(scaled).unwrap_or(u64::MAX >> 1)
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::new(VmConfig::USUAL_WEIGHT, VmConfig::USUAL_PRIORITY)
    }
}
