//! The PL031 real-time clock (Arm DDI 0224).

use core::time::Duration;

use vm_contract::{
    AccessError, BaseDeviceOps, DeviceContext, DeviceKind, GuestPhysAddr, GuestPhysAddrRange,
    IrqLine, Width,
};

use crate::output::Output;
use crate::primecell;

const RTCDR: u64 = 0x000;
const RTCMR: u64 = 0x004;
const RTCLR: u64 = 0x008;
const RTCCR: u64 = 0x00C;
const RTCIMSC: u64 = 0x010;
const RTCRIS: u64 = 0x014;
const RTCMIS: u64 = 0x018;
const RTCICR: u64 = 0x01C;

/// Part 0x031, designer 0x41 (Arm), revision 1.
const PERIPH_ID: [u8; 4] = [0x31, 0x10, 0x14, 0x00];

/// The seconds after which the counter comes round.
const WRAP_SECONDS: u64 = 1 << 32;

/// The time that runs the clock.
pub trait Clock: Send {
    /// Returns the time since the Unix epoch, or since some other moment if
    /// the host does not know it. It never runs backwards.
    fn now(&self) -> Duration;
}

/// A PL031 real-time clock.
///
/// It starts with the seconds of its [`Clock`] and always runs, as one with a
/// battery does. The guest may load another value; that lasts until the device
/// is made anew, beyond [`reset`](BaseDeviceOps::reset).
#[derive(Debug)]
pub struct Pl031<C: Clock> {
    base: GuestPhysAddr,
    clock: C,
    output: Output,
    /// What the counter is ahead of the clock's seconds, modulo 2^32.
    offset: u32,
    /// The clock's seconds up to which matches were looked for.
    seen: u64,
    load: u32,
    match_value: u32,
    masked_in: bool,
    raised: bool,
}

impl<C: Clock> Pl031<C> {
    /// Makes a clock whose registers lie at `base`.
    #[must_use]
    pub fn new(base: GuestPhysAddr, clock: C) -> Self {
        let seen = clock.now().as_secs();
        Self {
            base,
            clock,
            output: Output::default(),
            offset: 0,
            seen,
            load: 0,
            match_value: 0,
            masked_in: false,
            raised: false,
        }
    }

    /// Returns when, in the time of the [`Clock`], the interrupt output rises
    /// next if the guest does nothing: call [`poll`](Self::poll) then. `None`
    /// while the interrupt is masked or raised.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        if !self.masked_in || self.raised {
            return None;
        }
        let distance = match u64::from(self.distance()) {
            0 => WRAP_SECONDS,
            distance => distance,
        };
        Some(Duration::from_secs(self.seen.saturating_add(distance)))
    }

    /// Looks at the clock and raises the interrupt if the match was reached.
    pub fn poll(&mut self, line: &dyn IrqLine) {
        // Whatever else may change the level drives the line itself.
        if self.advance() || !self.output.is_driven() {
            self.output.drive(line, self.level());
        }
    }

    const fn level(&self) -> bool {
        self.raised && self.masked_in
    }

    /// Returns the counter at the second `seen`.
    const fn counter(&self) -> u32 {
        low_word(self.seen).wrapping_add(self.offset)
    }

    /// Returns the seconds from `seen` until the counter equals the match.
    const fn distance(&self) -> u32 {
        self.match_value.wrapping_sub(self.counter())
    }

    /// Brings `seen` up to now and notes a match on the way.
    #[inline(always)]
    fn advance(&mut self) -> bool {
        let now = self.clock.now().as_secs();
        if now <= self.seen {
            return false;
        }
        let elapsed = now - self.seen;
        let distance = u64::from(self.distance());
        self.raised |= (distance != 0 && distance <= elapsed) || elapsed >= WRAP_SECONDS;
        self.seen = now;
        true
    }

    /// Compares after a register changed, not only when the counter steps.
    const fn compare(&mut self) {
        self.raised |= self.distance() == 0;
    }
}

impl<C: Clock> BaseDeviceOps for Pl031<C> {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Rtc
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        primecell::window(self.base)
    }

    fn read(
        &mut self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        primecell::check_access(offset, width)?;
        self.poll(context.line);
        let value = match offset {
            RTCDR => self.counter(),
            RTCMR => self.match_value,
            RTCLR => self.load,
            RTCCR => 1,
            RTCIMSC => u32::from(self.masked_in),
            RTCRIS => u32::from(self.raised),
            RTCMIS => u32::from(self.level()),
            _ => primecell::identification(PERIPH_ID, offset),
        };
        Ok(width.truncate(value.into()))
    }

    fn write(
        &mut self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), AccessError> {
        primecell::check_access(offset, width)?;
        self.advance();
        let value = low_word(width.truncate(value));
        match offset {
            RTCMR => {
                self.match_value = value;
                self.compare();
            }
            RTCLR => {
                self.load = value;
                self.offset = value.wrapping_sub(low_word(self.seen));
                self.compare();
            }
            RTCIMSC => self.masked_in = value & 1 != 0,
            RTCICR if value & 1 != 0 => self.raised = false,
            // RTCCR: the clock runs already, and nothing stops it.
            _ => {}
        }
        self.output.drive(context.line, self.level());
        Ok(())
    }

    fn reset(&mut self) {
        self.output = Output::default();
        self.seen = self.clock.now().as_secs().max(self.seen);
        self.load = 0;
        self.match_value = 0;
        self.masked_in = false;
        self.raised = false;
    }
}

/// Returns the low 32 bits.
const fn low_word(value: u64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low word is what is asked for"
    )]
    let low = value as u32;
    low
}
