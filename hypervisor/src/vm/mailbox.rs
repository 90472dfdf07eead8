//! What others may tell a vCPU without owning it.

use core::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use crate::cpu::PcpuId;

/// The only way to reach a vCPU that runs elsewhere.
#[derive(Debug)]
pub struct VcpuMailbox {
    attention: AtomicBool,
    home: AtomicU16,
}

impl VcpuMailbox {
    /// Creates the mailbox of a vCPU that lives on `home`.
    #[must_use]
    pub const fn new(home: PcpuId) -> Self {
        Self {
            attention: AtomicBool::new(false),
            home: AtomicU16::new(home.raw()),
        }
    }

    /// Asks the vCPU to look at its VM's state before it next enters the guest:
    /// the interrupt controller, a start, a stop. Returns whether its CPU must
    /// still be told; if not, somebody else has just done so.
    #[must_use]
    pub fn call(&self) -> bool {
        !self.attention.swap(true, Ordering::AcqRel)
    }

    /// Takes the call. What was changed before it was made is visible now.
    #[inline]
    pub fn take(&self) -> bool {
        self.attention.load(Ordering::Relaxed) && self.attention.swap(false, Ordering::AcqRel)
    }

    /// Tells whether a call waits.
    #[must_use]
    pub fn called(&self) -> bool {
        self.attention.load(Ordering::Acquire)
    }

    /// Returns the CPU on which the vCPU lives.
    #[must_use]
    pub fn home(&self) -> PcpuId {
        PcpuId::new(self.home.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_is_told_once_and_taken_once() {
        let mailbox = VcpuMailbox::new(PcpuId::new(3));
        assert!(!mailbox.take());
        assert!(mailbox.call(), "the first caller tells the CPU");
        assert!(!mailbox.call(), "the second need not");
        assert!(mailbox.take());
        assert!(!mailbox.take());
        assert!(mailbox.call());
        assert_eq!(mailbox.home(), PcpuId::new(3));
    }
}
