//! Wall-clock time for the guests' real-time clocks.

use primecell_devices::Clock;

use crate::cpu::Machine;

/// Seconds since the epoch, kept by the system counter.
#[derive(Clone, Copy)]
pub struct SystemClock {
    machine: &'static dyn Machine,
    /// The time when the system counter was zero.
    epoch_seconds: u64,
}

impl SystemClock {
    /// Makes a clock that shows `now_seconds` now.
    #[must_use]
    pub fn new(machine: &'static dyn Machine, now_seconds: u64) -> Self {
        let uptime = machine.now_ticks() / machine.ticks_per_second().max(1);
        Self { machine, epoch_seconds: now_seconds.wrapping_sub(uptime) }
    }

    /// Returns the system counter's value when this clock will show `seconds`.
    #[must_use]
    pub fn ticks_at(&self, seconds: u64) -> u64 {
        seconds.saturating_sub(self.epoch_seconds).saturating_mul(self.machine.ticks_per_second())
    }
}

impl Clock for SystemClock {
    fn seconds(&self) -> u64 {
        let uptime = self.machine.now_ticks() / self.machine.ticks_per_second().max(1);
        self.epoch_seconds.wrapping_add(uptime)
    }
}
