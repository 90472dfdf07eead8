//! CPU 1 sleeps until its timer while all the others spin, again and again, and
//! says how late it woke. `sleeps=N` says how often.
#![cfg_attr(target_os = "none", no_std, no_main)]

test_guests::guest!("sleeper", run);

#[cfg(target_os = "none")]
use core::sync::atomic::{AtomicU64, Ordering};

#[cfg(target_os = "none")]
use test_guests::runtime::random::Random;
#[cfg(target_os = "none")]
use test_guests::runtime::{cpu, gic, machine, percpu, smp, timer};
#[cfg(target_os = "none")]
use test_guests::{check, check_eq, say, sysreg};

/// How often it sleeps, if it is not told.
#[cfg(target_os = "none")]
const SLEEPS: u64 = 200;

#[cfg(target_os = "none")]
static AWAKENINGS: AtomicU64 = AtomicU64::new(0);
/// How late it woke, in ticks: altogether and at worst.
#[cfg(target_os = "none")]
static SUM: AtomicU64 = AtomicU64::new(0);
#[cfg(target_os = "none")]
static WORST: AtomicU64 = AtomicU64::new(0);
/// How often the other CPUs have looked at the number of awakenings.
#[cfg(target_os = "none")]
static SPINS: AtomicU64 = AtomicU64::new(0);

#[cfg(target_os = "none")]
fn run() {
    let cpus = machine::cpu_count();
    check!(cpus >= 2, "one CPU alone has nobody to wait for");
    gic::init_distributor();
    smp::run_on(cpus, work);
    let sleeps = sleeps();
    check_eq!(AWAKENINGS.load(Ordering::Acquire), sleeps, "awakenings");
    let tenth = |ticks: u64| ticks * 10 / (timer::ticks(1000).max(1000) / 1000);
    let (mean, worst) = (
        tenth(SUM.load(Ordering::Relaxed)) / sleeps.max(1),
        tenth(WORST.load(Ordering::Relaxed)),
    );
    say!(
        "sleeper: {sleeps} sleeps, {} spins, late by {}.{} us on average, {}.{} us at most",
        SPINS.load(Ordering::Relaxed),
        mean / 10,
        mean % 10,
        worst / 10,
        worst % 10
    );
}

#[cfg(target_os = "none")]
fn sleeps() -> u64 {
    machine::boot_number("sleeps").unwrap_or(SLEEPS)
}

#[cfg(target_os = "none")]
fn work() {
    let sleeps = sleeps();
    if percpu::index() == 1 {
        return sleep(sleeps);
    }
    let mut spins = 0;
    while AWAKENINGS.load(Ordering::Acquire) < sleeps {
        core::hint::spin_loop();
        spins += 1;
    }
    SPINS.fetch_add(spins, Ordering::Relaxed);
}

/// Sleeps with the virtual and the physical timer in turn.
#[cfg(target_os = "none")]
fn sleep(sleeps: u64) {
    gic::init_cpu();
    for intid in [timer::VIRTUAL_INTID, timer::PHYSICAL_INTID] {
        gic::enable(intid);
    }
    let mut random = Random::new(7);
    for round in 0..sleeps {
        let length = timer::ticks(100 + random.below(5000));
        let late = if round % 2 == 0 {
            let deadline = timer::now() + length;
            sysreg!("cntv_cval_el0", deadline);
            sysreg!("cntv_ctl_el0", timer::ENABLE);
            while sysreg!("cntv_ctl_el0") & timer::ISTATUS == 0 {
                cpu::wfi();
            }
            timer::now() - deadline
        } else {
            let deadline = sysreg!("cntpct_el0") + length;
            sysreg!("cntp_cval_el0", deadline);
            sysreg!("cntp_ctl_el0", timer::ENABLE);
            while sysreg!("cntp_ctl_el0") & timer::ISTATUS == 0 {
                cpu::wfi();
            }
            cpu::isb();
            sysreg!("cntpct_el0") - deadline
        };
        let intid = if round % 2 == 0 {
            timer::VIRTUAL_INTID
        } else {
            timer::PHYSICAL_INTID
        };
        // The timer's status may show before its interrupt does.
        let mut came = gic::SPURIOUS;
        timer::wait_until(|| {
            came = gic::acknowledge();
            came != gic::SPURIOUS
        });
        check_eq!(came, intid, "the interrupt that ended sleep {round}");
        sysreg!("cntv_ctl_el0", 0);
        sysreg!("cntp_ctl_el0", 0);
        gic::end(came);
        SUM.fetch_add(late, Ordering::Relaxed);
        WORST.fetch_max(late, Ordering::Relaxed);
        AWAKENINGS.fetch_add(1, Ordering::AcqRel);
    }
}
