//! A device's view of its interrupt output.

use vm_contract::IrqLine;

/// Remembers what was driven last, so that only changes reach the line.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Unknown after a reset, which has no line at hand.
    driven: Option<bool>,
}

impl Output {
    /// Drives `line` to `level` unless it is there.
    pub(crate) fn drive(&mut self, line: &dyn IrqLine, level: bool) {
        if self.driven != Some(level) {
            self.driven = Some(level);
            line.set_level(level);
        }
    }

    /// Tells whether the line has the device's level.
    #[inline]
    pub(crate) const fn is_driven(&self) -> bool {
        self.driven.is_some()
    }
}
