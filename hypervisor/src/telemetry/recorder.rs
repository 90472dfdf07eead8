//! What is written down at each exit of a vCPU.

use alloc::sync::Arc;

use super::{ExitCounters, Reason};
use crate::history::History;

/// When and where a guest was left.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The system counter.
    pub ticks: u64,
    /// The guest's program counter.
    pub pc: u64,
}

/// Records the exits of one vCPU, whose owner owns this as well.
#[derive(Debug)]
pub struct Recorder {
    /// The reason of the present exit. Set while it is answered, where the reason
    /// is known anyway.
    pub reason: Reason,
    history: History,
    counters: Arc<ExitCounters>,
}

impl Recorder {
    pub(super) fn new(counters: Arc<ExitCounters>) -> Self {
        Self {
            reason: Reason::Other,
            history: History::default(),
            counters,
        }
    }

    /// Records an exit that has been answered: the guest was left at `began` and is
    /// to be entered `now`.
    #[inline(always)]
    pub fn record(&mut self, began: Moment, now: u64) {
        let reason = self.reason;
        self.counters.count(reason, now.wrapping_sub(began.ticks));
        self.history.record(began.pc, reason);
    }

    /// Returns the last exits.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }
}
