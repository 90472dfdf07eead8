//! The virtual and the physical timer on every CPU.

use test_guests::runtime::{cpu, gic, machine, percpu, smp, timer};
use test_guests::{check, check_eq, say, sysreg};

use crate::counts;

const TICKS: u32 = 20;

pub(crate) fn check_all() {
    smp::run_on(machine::cpu_count(), tick);
    for index in 0..machine::cpu_count() {
        for intid in [timer::VIRTUAL_INTID, timer::PHYSICAL_INTID] {
            check_eq!(
                counts::of(index, intid),
                TICKS,
                "ticks of PPI {intid} on CPU {index}"
            );
        }
    }
    say!("timers tick");
    counts::clear();
    disarmed_timer_is_quiet();
    level_is_shown_though_disabled();
    counts::clear();
}

fn tick() {
    counts::init_cpu();
    let me = percpu::index();
    gic::enable(timer::VIRTUAL_INTID);
    gic::enable(timer::PHYSICAL_INTID);
    cpu::with_irqs(|| {
        for round in 1..=TICKS {
            let begin = timer::now();
            let period = timer::ticks(1000);
            sysreg!("cntv_tval_el0", period);
            sysreg!("cntv_ctl_el0", timer::ENABLE);
            counts::expect(me, timer::VIRTUAL_INTID, round);
            check!(timer::now() - begin >= period, "the virtual timer is early");
            // By an absolute time, as well.
            let deadline = sysreg!("cntpct_el0") + period;
            sysreg!("cntp_cval_el0", deadline);
            sysreg!("cntp_ctl_el0", timer::ENABLE);
            counts::expect(me, timer::PHYSICAL_INTID, round);
            check!(
                sysreg!("cntpct_el0") >= deadline,
                "the physical timer is early"
            );
        }
    });
    sysreg!("cntv_ctl_el0", 0);
    sysreg!("cntp_ctl_el0", 0);
}

/// A timer that is turned off before its interrupt is taken may have left one
/// interrupt under way, but no more.
fn disarmed_timer_is_quiet() {
    for _ in 0..20 {
        gic::enable(timer::VIRTUAL_INTID);
        sysreg!("cntv_tval_el0", 1);
        sysreg!("cntv_ctl_el0", timer::ENABLE);
        let fired = timer::wait_until(|| sysreg!("cntv_ctl_el0") & timer::ISTATUS != 0);
        check!(fired, "the virtual timer does not fire");
        sysreg!("cntv_ctl_el0", 0);
        counts::clear();
        cpu::with_irqs(|| timer::pause(200));
        let count = counts::mine(timer::VIRTUAL_INTID);
        check!(count <= 1, "a timer that is off interrupts {count} times");
        sysreg!("cntv_ctl_el0", 0);
        gic::disable(timer::VIRTUAL_INTID);
    }
}

fn level_is_shown_though_disabled() {
    gic::disable(timer::VIRTUAL_INTID);
    gic::disable(timer::PHYSICAL_INTID);
    sysreg!("cntv_tval_el0", 1);
    sysreg!("cntv_ctl_el0", timer::ENABLE);
    sysreg!("cntp_tval_el0", 1);
    sysreg!("cntp_ctl_el0", timer::ENABLE);
    for intid in [timer::VIRTUAL_INTID, timer::PHYSICAL_INTID] {
        let shown = timer::wait_until(|| gic::bit(gic::ISPENDR, intid));
        check!(shown, "the level of disabled PPI {intid} is not shown");
    }
    counts::expect_silence("the timers' PPIs are disabled");
    sysreg!("cntv_ctl_el0", 0);
    sysreg!("cntp_ctl_el0", 0);
    for intid in [timer::VIRTUAL_INTID, timer::PHYSICAL_INTID] {
        let gone = timer::wait_until(|| !gic::bit(gic::ISPENDR, intid));
        check!(gone, "PPI {intid} stays pending after its timer is off");
    }
}
