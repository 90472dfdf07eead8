//! How much of a CPU a vCPU is to have.

/// How many priorities there are.
pub const LEVELS: usize = 8;

/// The most that a weight can be.
const MAX_WEIGHT: u32 = 10_000;

/// Weight and priority of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    weight: u32,
    priority: u8,
}

impl Share {
    /// Makes a share. A weight counts relative to the others' of the same
    /// priority and lies between 1 and 10,000; a priority is below [`LEVELS`],
    /// and higher ones go first. What lies outside is brought to the nearest.
    #[must_use]
    pub fn new(weight: u32, priority: u8) -> Self {
        Self {
            weight: weight.clamp(1, MAX_WEIGHT),
            priority: priority.min(LEVELS as u8 - 1),
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
    #[must_use]
    pub fn virtual_ticks(self, ticks: u64) -> u64 {
        let scaled = u128::from(ticks) * u128::from(MAX_WEIGHT) / u128::from(self.weight);
        u64::try_from(scaled).unwrap_or(u64::MAX >> 1)
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::new(100, 0)
    }
}
