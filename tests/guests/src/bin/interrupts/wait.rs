//! WFI: what wakes it.

use core::sync::atomic::{AtomicU32, Ordering};

use test_guests::runtime::{cpu, gic, machine, smp, timer};
use test_guests::{check, say, sysreg};

use crate::counts;

const ROUNDS: u32 = 50;

pub(crate) fn check_all() {
    counts::init_cpu();
    counts::clear();
    gic::enable(timer::VIRTUAL_INTID);
    gic::enable(timer::PHYSICAL_INTID);
    timer_wakes_though_masked();
    timer_wakes_to_its_handler();
    if machine::cpu_count() >= 2 {
        sgi_wakes_a_sleeper();
        timer_wakes_while_another_spins();
    }
    say!("WFI");
}

fn arm_virtual(microseconds: u64) {
    sysreg!("cntv_tval_el0", timer::ticks(microseconds));
    sysreg!("cntv_ctl_el0", timer::ENABLE);
}

/// An interrupt that PSTATE.I masks ends WFI all the same.
fn timer_wakes_though_masked() {
    for _ in 0..ROUNDS {
        arm_virtual(500);
        while sysreg!("cntv_ctl_el0") & timer::ISTATUS == 0 {
            cpu::wfi();
        }
        cpu::with_irqs(|| timer::wait_until(|| sysreg!("cntv_ctl_el0") & timer::IMASK != 0));
    }
    for _ in 0..ROUNDS {
        sysreg!("cntp_tval_el0", timer::ticks(500));
        sysreg!("cntp_ctl_el0", timer::ENABLE);
        while sysreg!("cntp_ctl_el0") & timer::ISTATUS == 0 {
            cpu::wfi();
        }
        cpu::with_irqs(|| timer::wait_until(|| sysreg!("cntp_ctl_el0") & timer::IMASK != 0));
    }
}

fn timer_wakes_to_its_handler() {
    counts::clear();
    for round in 1..=ROUNDS {
        arm_virtual(300);
        while counts::mine(timer::VIRTUAL_INTID) < round {
            cpu::wfi();
            // The handler runs here.
            cpu::with_irqs(cpu::isb);
        }
        check!(
            counts::mine(timer::VIRTUAL_INTID) == round,
            "a tick too many"
        );
    }
}

/// The sleeper sleeps until its SGI comes; a lost wake-up ends in the time-out
/// of whoever waits for the count.
fn sgi_wakes_a_sleeper() {
    static AWAKE: AtomicU32 = AtomicU32::new(0);
    fn sleeper() {
        counts::init_cpu();
        AWAKE.store(1, Ordering::Release);
        while counts::mine(7) < ROUNDS {
            cpu::wfi();
            cpu::with_irqs(cpu::isb);
        }
    }
    counts::clear();
    smp::start(1, sleeper);
    check!(
        timer::wait_until(|| AWAKE.load(Ordering::Acquire) == 1),
        "CPU 1 does not start"
    );
    for round in 1..=ROUNDS {
        // Sometimes asleep already, sometimes just about to be.
        timer::pause(u64::from(round % 7) * 50);
        gic::send_sgi(gic::sgi_to(7, machine::mpidr_of(1)));
        counts::expect(1, 7, round);
    }
    smp::join(1);
}

fn timer_wakes_while_another_spins() {
    static DONE: AtomicU32 = AtomicU32::new(0);
    fn sleeper() {
        counts::init_cpu();
        gic::enable(timer::VIRTUAL_INTID);
        for round in 1..=ROUNDS {
            arm_virtual(200);
            while counts::mine(timer::VIRTUAL_INTID) < round {
                cpu::wfi();
                cpu::with_irqs(cpu::isb);
            }
        }
        DONE.store(1, Ordering::Release);
    }
    counts::clear();
    smp::start(1, sleeper);
    let done = timer::wait_until(|| DONE.load(Ordering::Acquire) == 1);
    check!(done, "a sleeper misses its timer while another CPU spins");
    smp::join(1);
}
