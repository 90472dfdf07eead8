//! The last exits of a vCPU, for the report when its VM fails.

use core::fmt;

use crate::telemetry::Reason;

/// How many exits are remembered: a power of two.
const LENGTH: usize = 8;

/// The reasons of the last exits, and where the guest was.
#[derive(Clone, Copy, Debug, Default)]
pub struct History {
    entries: [Option<(u64, Reason)>; LENGTH],
    /// How many there were; says where the next one goes.
    count: usize,
}

impl History {
    /// Remembers an exit that the guest made at `pc`.
    #[inline(always)]
    pub fn record(&mut self, pc: u64, reason: Reason) {
        if let Some(entry) = self.entries.get_mut(self.count % LENGTH) {
            *entry = Some((pc, reason));
        }
        self.count = self.count.wrapping_add(1);
    }
}

/// Lists the exits, the last one first.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "last exits:")?;
        let newest_first = (1..=LENGTH).map(|back| self.count.wrapping_sub(back) % LENGTH);
        for (pc, reason) in newest_first.filter_map(|n| *self.entries.get(n)?) {
            write!(f, "\n  {pc:016x}  {}", reason.text())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn the_last_exits_are_kept_newest_first() {
        let mut history = History::default();
        assert_eq!(history.to_string(), "last exits:");
        for pc in 0..20 {
            history.record(pc, Reason::WaitForEvent);
        }
        history.record(0x4000_0000, Reason::Hypercall);
        let text = history.to_string();
        let lines: alloc::vec::Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 1 + LENGTH);
        assert_eq!(lines[1], "  0000000040000000  HVC");
        assert_eq!(lines[2], "  0000000000000013  WFE");
        assert_eq!(lines[LENGTH], "  000000000000000d  WFE");
    }
}
