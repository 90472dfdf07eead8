//! The generic timer: time, waiting, and the two timers of EL1.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::sysreg;

static FREQUENCY: AtomicU64 = AtomicU64::new(1);

/// INTID of the virtual timer.
pub const VIRTUAL_INTID: u32 = 27;
/// INTID of the physical timer.
pub const PHYSICAL_INTID: u32 = 30;

/// CNTx_CTL_EL0.ENABLE.
pub const ENABLE: u64 = 1;
/// CNTx_CTL_EL0.IMASK.
pub const IMASK: u64 = 2;
/// CNTx_CTL_EL0.ISTATUS.
pub const ISTATUS: u64 = 4;

pub(super) fn init() {
    FREQUENCY.store(sysreg!("cntfrq_el0").max(1), Ordering::Relaxed);
}

/// Returns the virtual counter.
#[must_use]
pub fn now() -> u64 {
    super::cpu::isb();
    sysreg!("cntvct_el0")
}

/// Returns the ticks in so many microseconds.
#[must_use]
pub fn ticks(microseconds: u64) -> u64 {
    FREQUENCY
        .load(Ordering::Relaxed)
        .saturating_mul(microseconds)
        / 1_000_000
}

/// Waits until `condition` holds, at most ten seconds. Tells whether it does.
pub fn wait_until(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = now() + ticks(10_000_000);
    loop {
        if condition() {
            return true;
        }
        if now() > deadline {
            return condition();
        }
        core::hint::spin_loop();
    }
}

/// Lets so many microseconds pass.
pub fn pause(microseconds: u64) {
    let deadline = now() + ticks(microseconds);
    while now() < deadline {
        core::hint::spin_loop();
    }
}
