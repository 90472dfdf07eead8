//! An interrupt line that remembers.

use core::cell::Cell;

use vm_contract::IrqLine;

/// Remembers the level of a line, how often it rose, and how often it was
/// driven.
#[derive(Debug, Default)]
pub struct IrqLog {
    level: Cell<bool>,
    rises: Cell<u64>,
    calls: Cell<u64>,
}

impl IrqLog {
    /// Tells whether the line is high.
    #[must_use]
    pub const fn is_high(&self) -> bool {
        self.level.get()
    }

    /// Returns how often the line rose.
    #[must_use]
    pub const fn rises(&self) -> u64 {
        self.rises.get()
    }

    /// Returns how often the line was driven, changed or not.
    #[must_use]
    pub const fn calls(&self) -> u64 {
        self.calls.get()
    }
}

impl IrqLine for IrqLog {
    fn set_level(&self, asserted: bool) {
        self.calls.set(self.calls.get() + 1);
        if asserted && !self.level.replace(asserted) {
            self.rises.set(self.rises.get() + 1);
        }
        self.level.set(asserted);
    }
}
