//! What an interrupt costs, from its cause to the first instruction of its
//! handler, and what it costs to take it.

use test_guests::runtime::{cpu, gic, timer};
use test_guests::{check_eq, sysreg};

use super::operation::{self, Taken};
use super::samples::{self, measure};

/// The SGI that is sent.
pub(crate) const SGI: u32 = 1;

/// How far ahead the timer is programmed, in microseconds: far enough that all
/// sleep by then.
const AHEAD: u64 = 1000;

/// Prepares the GIC and this CPU, which is the first.
pub(crate) fn prepare() {
    gic::init_distributor();
    prepare_cpu();
}

/// Prepares this CPU.
pub(crate) fn prepare_cpu() {
    gic::init_cpu();
    gic::enable(timer::VIRTUAL_INTID);
    operation::install_vectors();
}

/// Measures all that one CPU can have alone.
pub(crate) fn measure_all() {
    let me = gic::sgi_to(SGI, cpu::mpidr());
    measure("sgi-self", || {
        let (before, taken) = operation::sgi_to_self(me);
        since(before, taken, SGI)
    });
    measure("timer-now", || {
        let (before, taken) = operation::timer_due_now(timer::ENABLE);
        since(before, taken, timer::VIRTUAL_INTID)
    });
    measure("wfi-timer", || {
        let deadline = timer::now() + timer::ticks(AHEAD);
        let taken = wait_until(deadline);
        // Nobody looked at the counter at the deadline.
        since(deadline, taken, timer::VIRTUAL_INTID) + samples::look()
    });
    measure("acknowledge-eoi", || {
        gic::send_sgi(me);
        cpu::isb();
        let (ticks, intid) = operation::acknowledge_and_end();
        check_eq!(intid, u64::from(SGI), "the interrupt");
        ticks
    });
}

/// Waits in WFI until the virtual timer has expired.
pub(crate) fn wait_until(deadline: u64) -> Taken {
    sysreg!("cntv_cval_el0", deadline);
    sysreg!("cntv_ctl_el0", timer::ENABLE);
    operation::wait().1
}

/// Returns the ticks from `before` to the interrupt, which must be the one that
/// was expected.
pub(crate) fn since(before: u64, taken: Taken, expected: u32) -> u64 {
    check_eq!(taken.intid, u64::from(expected), "the interrupt");
    taken.at - before
}
