//! Spin locks that know their rank.
//!
//! Locks are taken in ascending rank only, so no two CPUs can wait for each
//! other. Host builds check every acquisition; the EL2 image pays nothing.
//! No lock spans guest entry or a call to firmware.

use core::ops::{Deref, DerefMut};

use spin::mutex::{SpinMutex, SpinMutexGuard};
use spin::relax::RelaxStrategy;

/// Ranks of all locks, lowest first.
pub mod rank {
    /// An entry of the table of VMs.
    pub const VM_TABLE: u8 = 10;
    /// Which VM a serial line belongs to.
    pub const SERIAL_LINE: u8 = 15;
    /// A VM's power state.
    pub const POWER: u8 = 20;
    /// The VMIDs of the machine.
    pub const VMIDS: u8 = 25;
    /// One device on a bus; never two at a time.
    pub const DEVICE: u8 = 50;
    /// A VM's interrupt translation service.
    pub const ITS: u8 = 55;
    /// A disk of the machine.
    pub const HOST_DISK: u8 = 58;
    /// The machine's network card.
    pub const HOST_NET: u8 = 59;
    /// A VM's stage-2 tables.
    pub const STAGE2: u8 = 60;
    /// Who is joined to the ports of the switch.
    pub const SWITCH_PORTS: u8 = 65;
    /// The switch.
    pub const SWITCH: u8 = 70;
    /// A VM's interrupt controller.
    pub const VGIC: u8 = 80;
    /// What was sent to a CPU's main loop.
    pub const INBOX: u8 = 90;
    /// The pool of free physical memory.
    pub const FRAMES: u8 = 95;
    /// The machine's UART.
    pub const CONSOLE: u8 = 100;
}

/// Lets a CPU that spins take a breath.
///
/// An emulator that lets CPUs take turns goes on to the next one at WFE, so that
/// whoever is waited for can go on; a mere hint would not make it. The CPU itself
/// does not wait there, as SEVL has just said that there is an event.
#[inline]
pub fn relax() {
    core::hint::spin_loop();
    #[cfg(target_os = "none")]
    {
        aarch64_cpu::asm::sevl();
        aarch64_cpu::asm::wfe();
    }
}

/// [`relax`], as the locks want it.
#[derive(Debug)]
struct Relax;

impl RelaxStrategy for Relax {
    #[inline]
    fn relax() {
        relax();
    }
}

/// A value that one CPU at a time may use. `RANK` is one of [`rank`].
#[derive(Debug, Default)]
pub struct RankedLock<T: ?Sized, const RANK: u8> {
    inner: SpinMutex<T, Relax>,
}

impl<T, const RANK: u8> RankedLock<T, RANK> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self {
            inner: SpinMutex::new(value),
        }
    }
}

impl<T, const RANK: u8> RankedLock<T, RANK> {
    /// Returns the value of a lock that nobody shares any more.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: ?Sized, const RANK: u8> RankedLock<T, RANK> {
    /// Waits for the lock.
    ///
    /// # Panics
    /// On a host, if the caller already holds a lock of this or a higher rank.
    #[inline]
    pub fn lock(&self) -> RankedGuard<'_, T, RANK> {
        held::acquire(RANK);
        RankedGuard {
            inner: self.inner.lock(),
        }
    }
}

/// Access to a locked value, until dropped.
#[derive(Debug)]
pub struct RankedGuard<'a, T: ?Sized, const RANK: u8> {
    inner: SpinMutexGuard<'a, T, Relax>,
}

impl<T: ?Sized, const RANK: u8> Deref for RankedGuard<'_, T, RANK> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T: ?Sized, const RANK: u8> DerefMut for RankedGuard<'_, T, RANK> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T: ?Sized, const RANK: u8> Drop for RankedGuard<'_, T, RANK> {
    #[inline]
    fn drop(&mut self) {
        held::release(RANK);
    }
}

#[cfg(target_os = "none")]
mod held {
    #[inline(always)]
    pub(super) const fn acquire(_rank: u8) {}
    #[inline(always)]
    pub(super) const fn release(_rank: u8) {}
}

/// The ranks that the current thread holds, one bit each.
#[cfg(not(target_os = "none"))]
mod held {
    use core::cell::Cell;

    std::thread_local! {
        static HELD: Cell<u128> = const { Cell::new(0) };
    }

    pub(super) fn acquire(rank: u8) {
        HELD.with(|held| {
            let above = held.get() >> rank;
            assert!(
                above == 0,
                "lock of rank {rank} taken while {above:#b} << {rank} is held"
            );
            held.set(held.get() | 1 << rank);
        });
    }

    pub(super) fn release(rank: u8) {
        HELD.with(|held| held.set(held.get() & !(1 << rank)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascending_ranks_pass_and_release_in_any_order() {
        let low = RankedLock::<_, 10>::new(1);
        let high = RankedLock::<_, 20>::new(2);
        let first = low.lock();
        let second = high.lock();
        drop(first);
        assert_eq!(*second, 2);
        drop(second);
        assert_eq!(*low.lock() + *high.lock(), 3);
    }

    #[test]
    #[should_panic(expected = "lock of rank 10")]
    fn a_descending_rank_is_caught() {
        let low = RankedLock::<_, 10>::new(());
        let high = RankedLock::<_, 20>::new(());
        let _second = high.lock();
        let _first = low.lock();
    }

    #[test]
    #[should_panic(expected = "lock of rank 50")]
    fn two_locks_of_one_rank_are_caught() {
        let one = RankedLock::<_, 50>::new(());
        let other = RankedLock::<_, 50>::new(());
        let _one = one.lock();
        let _other = other.lock();
    }
}
