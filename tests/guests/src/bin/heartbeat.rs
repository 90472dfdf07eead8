//! Beats every 5 ms, and says whether it ever missed one.
//!
//! With `keys` among the boot arguments it goes on until it is told to stop:
//! `r` reports, `q` ends. Else it ends after 100 beats.
#![cfg_attr(target_os = "none", no_std, no_main)]

test_guests::guest!("heartbeat", run);

#[cfg(target_os = "none")]
use core::sync::atomic::{AtomicU64, Ordering};

#[cfg(target_os = "none")]
use test_guests::runtime::{console, cpu, gic, machine, timer};
#[cfg(target_os = "none")]
use test_guests::{check, check_eq, say, sysreg};

/// From one beat to the next, in microseconds.
#[cfg(target_os = "none")]
const PERIOD: u64 = 5000;

/// How many beats there are without `keys`.
#[cfg(target_os = "none")]
const BEATS: u64 = 100;

#[cfg(target_os = "none")]
static COUNT: AtomicU64 = AtomicU64::new(0);
/// When the next beat is due.
#[cfg(target_os = "none")]
static DUE: AtomicU64 = AtomicU64::new(0);
/// When the last one came, and the longest time between two.
#[cfg(target_os = "none")]
static LAST: AtomicU64 = AtomicU64::new(0);
#[cfg(target_os = "none")]
static LONGEST: AtomicU64 = AtomicU64::new(0);

#[cfg(target_os = "none")]
fn run() {
    gic::init_distributor();
    gic::init_cpu();
    cpu::set_irq_handler(beat);
    let period = timer::ticks(PERIOD);
    let start = timer::now();
    LAST.store(start, Ordering::Relaxed);
    DUE.store(start + period, Ordering::Relaxed);
    sysreg!("cntv_cval_el0", start + period);
    sysreg!("cntv_ctl_el0", timer::ENABLE);
    gic::enable(timer::VIRTUAL_INTID);
    say!("heartbeat: begins");
    let keys = machine::has_boot_word("keys");
    loop {
        cpu::wfi();
        cpu::with_irqs(cpu::isb);
        let (count, due) = (COUNT.load(Ordering::Relaxed), DUE.load(Ordering::Relaxed));
        check_eq!(
            due,
            start + (count + 1) * period,
            "when the next beat is due"
        );
        if !keys && count >= BEATS {
            break report(start);
        }
        match console::typed() {
            Some(b'r') => report(start),
            Some(b'q') => break report(start),
            _ => {}
        }
    }
}

/// The handler: one beat, and those that should have come in the meantime come
/// right after it.
#[cfg(target_os = "none")]
fn beat() {
    let intid = gic::acknowledge();
    if intid == gic::SPURIOUS {
        return;
    }
    check_eq!(intid, timer::VIRTUAL_INTID, "the interrupt");
    let (now, due) = (timer::now(), DUE.load(Ordering::Relaxed));
    check!(now >= due, "a beat comes {} ticks early", due - now);
    let next = due + timer::ticks(PERIOD);
    DUE.store(next, Ordering::Relaxed);
    sysreg!("cntv_cval_el0", next);
    COUNT.fetch_add(1, Ordering::Relaxed);
    LONGEST.fetch_max(now - LAST.swap(now, Ordering::Relaxed), Ordering::Relaxed);
    gic::end(intid);
}

/// Checks that as many beats have come as the time tells, and says so.
#[cfg(target_os = "none")]
fn report(start: u64) {
    let caught_up = timer::wait_until(|| {
        cpu::with_irqs(cpu::isb);
        timer::now() < DUE.load(Ordering::Relaxed)
    });
    check!(caught_up, "beats are missing");
    let microsecond = timer::ticks(1000).max(1000) / 1000;
    let (count, longest) = (
        COUNT.load(Ordering::Relaxed),
        LONGEST.load(Ordering::Relaxed),
    );
    say!(
        "heartbeat: {} ms, {count} beats, longest gap {} us",
        (timer::now() - start) / (1000 * microsecond),
        longest / microsecond
    );
}
