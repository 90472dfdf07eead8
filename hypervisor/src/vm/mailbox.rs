//! What others may tell a vCPU without owning it.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::cpu::PcpuId;

/// Somebody wants the vCPU to look around.
const ATTENTION: u32 = 1 << 0;
/// It has its turn: it looks before it next enters the guest.
const RUNNING: u32 = 1 << 1;
/// It rests: its CPU's main loop has to look. With neither it is ready, and looks
/// when its turn comes.
const RESTING: u32 = 1 << 2;
/// The CPU on which it is, from this bit on.
const HOME: u32 = 16;

/// The only way to reach a vCPU that runs elsewhere.
///
/// Call, whereabouts and home are one word: whoever calls learns whom to tell,
/// and a vCPU that goes to rest or moves meanwhile sees the call.
#[derive(Debug)]
pub struct VcpuMailbox(AtomicU32);

/// What a vCPU is doing that is not ready, as far as those must know who call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It waits to be turned on, or for an interrupt.
    Resting,
    /// It has its turn.
    Running,
}

impl Doing {
    const fn bit(self) -> u32 {
        match self {
            Self::Resting => RESTING,
            Self::Running => RUNNING,
        }
    }
}

/// Who has to be told of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// Nobody: it will look anyway.
    Nobody,
    /// The guest on this CPU, which has to leave for a moment.
    Guest(PcpuId),
    /// The main loop of this CPU.
    Scheduler(PcpuId),
}

impl VcpuMailbox {
    /// Creates the mailbox of a vCPU that rests at `home`.
    #[must_use]
    pub const fn new(home: PcpuId) -> Self {
        Self(AtomicU32::new((home.raw() as u32) << HOME | RESTING))
    }

    /// Asks the vCPU to look at its VM's state before it next enters the guest:
    /// the interrupt controller, a start, a stop. Returns who must be told.
    #[must_use]
    pub fn call(&self) -> Callee {
        let before = self.0.fetch_or(ATTENTION, Ordering::AcqRel);
        if before & ATTENTION != 0 {
            Callee::Nobody
        } else if before & RUNNING != 0 {
            Callee::Guest(home(before))
        } else if before & RESTING != 0 {
            Callee::Scheduler(home(before))
        } else {
            Callee::Nobody
        }
    }

    /// Takes the call. What was changed before it was made is visible now.
    #[inline]
    pub fn take(&self) -> bool {
        self.0.load(Ordering::Relaxed) & ATTENTION != 0
            && self.0.fetch_and(!ATTENTION, Ordering::AcqRel) & ATTENTION != 0
    }

    /// Tells whether a call waits.
    #[must_use]
    pub fn called(&self) -> bool {
        self.0.load(Ordering::Acquire) & ATTENTION != 0
    }

    /// Records what the vCPU, which was ready, does from now on. Tells whether it
    /// has been called meanwhile.
    #[inline]
    pub fn begin(&self, doing: Doing) -> bool {
        self.0.fetch_or(doing.bit(), Ordering::AcqRel) & ATTENTION != 0
    }

    /// Records that the vCPU, which was doing that, is ready.
    #[inline]
    pub fn end(&self, doing: Doing) {
        self.0.fetch_and(!doing.bit(), Ordering::AcqRel);
    }

    /// Records that the vCPU, which does not run, moves to `home`. It counts as
    /// called: who called it before has told the CPU that it leaves.
    pub fn move_to(&self, to: PcpuId) {
        let bits = u32::from(to.raw()) << HOME | ATTENTION;
        let change = |word: u32| Some(word & RESTING | bits);
        // It never refuses.
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, change);
    }

    /// Returns the CPU on which the vCPU is.
    #[must_use]
    pub fn home(&self) -> PcpuId {
        home(self.0.load(Ordering::Relaxed))
    }
}

fn home(word: u32) -> PcpuId {
    PcpuId::new((word >> HOME) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_is_told_once_and_taken_once() {
        let home = PcpuId::new(3);
        let mailbox = VcpuMailbox::new(home);
        assert!(!mailbox.take());
        assert_eq!(mailbox.call(), Callee::Scheduler(home));
        assert_eq!(mailbox.call(), Callee::Nobody, "the second need not");
        assert!(mailbox.take());
        assert!(!mailbox.take());
        mailbox.end(Doing::Resting);
        assert!(!mailbox.begin(Doing::Running));
        assert_eq!(mailbox.call(), Callee::Guest(home));
        mailbox.end(Doing::Running);
        assert!(mailbox.called(), "it has not looked yet");
        assert!(mailbox.take());
        assert_eq!(
            mailbox.call(),
            Callee::Nobody,
            "it looks when its turn comes"
        );
        assert_eq!(mailbox.home(), home);
        assert!(mailbox.begin(Doing::Resting), "and nobody told its CPU");
    }

    #[test]
    fn who_moves_looks_around_at_its_new_home() {
        let mailbox = VcpuMailbox::new(PcpuId::new(3));
        mailbox.move_to(PcpuId::new(1));
        assert_eq!(mailbox.home(), PcpuId::new(1));
        assert_eq!(mailbox.call(), Callee::Nobody);
        assert!(mailbox.take());
        assert_eq!(mailbox.call(), Callee::Scheduler(PcpuId::new(1)));
    }
}
