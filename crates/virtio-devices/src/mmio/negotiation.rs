//! Feature negotiation through windows of 32 bits (VirtIO 1.2, 2.2, 4.2.2).

use crate::features;

/// What is offered, what the driver took, and where both look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Negotiation {
    offered: u64,
    taken: u64,
    /// Whether the driver took anything from bit 64 on, where nothing is.
    beyond: bool,
    pub(crate) device_select: u32,
    pub(crate) driver_select: u32,
}

impl Negotiation {
    pub(crate) const fn new(offered: u64) -> Self {
        Self {
            offered,
            taken: 0,
            beyond: false,
            device_select: 0,
            driver_select: 0,
        }
    }

    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.offered);
    }

    /// Returns the 32 features that the driver looks at.
    pub(crate) const fn window(&self) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "one half of the features is asked for"
        )]
        match self.device_select {
            0 => self.offered as u32,
            1 => (self.offered >> 32) as u32,
            _ => 0,
        }
    }

    /// Takes the 32 features that the driver writes.
    pub(crate) const fn take(&mut self, value: u32) {
        match self.driver_select {
            0 => self.taken = with_low(self.taken, value),
            1 => self.taken = with_high(self.taken, value),
            _ => self.beyond |= value != 0,
        }
    }

    /// Returns the features that the driver took, if it may take them: none
    /// that was not offered, and VERSION_1 among them.
    pub(crate) fn agreed(&self) -> Option<u64> {
        let offered = !self.beyond && self.taken & !self.offered == 0;
        (offered && self.taken & features::VERSION_1 != 0).then_some(self.taken)
    }

    /// Tells whether the driver took `feature`.
    pub(crate) const fn has(&self, feature: u64) -> bool {
        self.taken & feature == feature
    }
}

/// Replaces the low 32 bits.
pub(crate) const fn with_low(whole: u64, low: u32) -> u64 {
    whole & !0xFFFF_FFFF | low as u64
}

/// Replaces the high 32 bits.
pub(crate) const fn with_high(whole: u64, high: u32) -> u64 {
    whole & 0xFFFF_FFFF | (high as u64) << 32
}
