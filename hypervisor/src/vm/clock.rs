//! Wall-clock time for the guests' real-time clocks.

use core::time::Duration;

use primecell_devices::Clock;

use crate::cpu::Machine;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Time since the epoch, kept by the system counter.
#[derive(Clone, Copy)]
pub struct SystemClock {
    machine: &'static dyn Machine,
    /// The time when the system counter was zero.
    epoch: Duration,
}

impl SystemClock {
    /// Makes a clock that shows `now_seconds` now.
    #[must_use]
    pub fn new(machine: &'static dyn Machine, now_seconds: u64) -> Self {
        let uptime = uptime(machine);
        Self {
            machine,
            epoch: Duration::from_secs(now_seconds).saturating_sub(uptime),
        }
    }

    /// Returns the system counter's value when this clock will show `time`.
    #[must_use]
    pub fn ticks_at(&self, time: Duration) -> u64 {
        let uptime = time.saturating_sub(self.epoch).as_nanos();
        let ticks = uptime * u128::from(self.machine.ticks_per_second()) / NANOS_PER_SECOND;
        // Rounded up, so that the time has come by then.
        u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(1)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.epoch.saturating_add(uptime(self.machine))
    }
}

/// Returns for how long the system counter has been counting.
fn uptime(machine: &dyn Machine) -> Duration {
    let nanos = u128::from(machine.now_ticks()) * NANOS_PER_SECOND
        / u128::from(machine.ticks_per_second().max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
