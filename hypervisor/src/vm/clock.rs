//! Wall-clock time for the guests' real-time clocks.

use core::time::Duration;

use primecell_devices::Clock;

use crate::cpu::Machine;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Time since the epoch, kept by the system counter.
#[derive(Clone, Copy)]
pub struct SystemClock {
    machine: &'static dyn Machine,
    ticks_per_second: u64,
    /// How many ticks had passed since the epoch when the system counter was zero.
    epoch: u64,
}

impl SystemClock {
    /// Makes a clock that shows `now_seconds` now.
    #[must_use]
    pub fn new(machine: &'static dyn Machine, now_seconds: u64) -> Self {
        let ticks_per_second = machine.ticks_per_second().max(1);
        let now = now_seconds.saturating_mul(ticks_per_second);
        Self {
            machine,
            ticks_per_second,
            epoch: now.saturating_sub(machine.now_ticks()),
        }
    }

    /// Returns how fast the system counter counts.
    #[must_use]
    pub const fn ticks_per_second(&self) -> u64 {
        self.ticks_per_second
    }

    /// Returns the system counter's value when this clock will show `time`.
    #[must_use]
    pub fn ticks_at(&self, time: Duration) -> u64 {
        let ticks =
            time.as_nanos() * u128::from(self.ticks_per_second) / u128::from(NANOS_PER_SECOND);
        let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
        // Rounded up, so that the time has come by then.
        ticks.saturating_sub(self.epoch).saturating_add(1)
    }
}

impl Clock for SystemClock {
    #[inline]
    fn now(&self) -> Duration {
        let ticks = self.epoch.saturating_add(self.machine.now_ticks());
        let (seconds, rest) = (ticks / self.ticks_per_second, ticks % self.ticks_per_second);
        // Counters have at most a few gigahertz: the product is not cut off.
        let nanos = rest.saturating_mul(NANOS_PER_SECOND) / self.ticks_per_second;
        Duration::new(seconds, u32::try_from(nanos).unwrap_or_default())
    }
}
