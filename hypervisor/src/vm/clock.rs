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
    /// The time when the system counter was zero.
    epoch: Duration,
}

impl SystemClock {
    /// Makes a clock that shows `now_seconds` now.
    #[must_use]
    pub fn new(machine: &'static dyn Machine, now_seconds: u64) -> Self {
        let ticks_per_second = machine.ticks_per_second().max(1);
        let uptime = uptime(machine.now_ticks(), ticks_per_second);
        Self {
            machine,
            ticks_per_second,
            epoch: Duration::from_secs(now_seconds).saturating_sub(uptime),
        }
    }

    /// Returns the system counter's value when this clock will show `time`.
    #[must_use]
    pub fn ticks_at(&self, time: Duration) -> u64 {
        let uptime = time.saturating_sub(self.epoch).as_nanos();
        let ticks = uptime * u128::from(self.ticks_per_second) / u128::from(NANOS_PER_SECOND);
        // Rounded up, so that the time has come by then.
        u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(1)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        let uptime = uptime(self.machine.now_ticks(), self.ticks_per_second);
        self.epoch.saturating_add(uptime)
    }
}

/// Returns for how long the system counter, now at `ticks`, has been counting.
fn uptime(ticks: u64, ticks_per_second: u64) -> Duration {
    let (seconds, rest) = (ticks / ticks_per_second, ticks % ticks_per_second);
    // Counters have at most a few gigahertz: no product is cut off.
    let nanos = rest.saturating_mul(NANOS_PER_SECOND) / ticks_per_second;
    Duration::from_secs(seconds) + Duration::from_nanos(nanos)
}
