//! How often each interrupt came on each CPU.

use core::sync::atomic::{AtomicU32, Ordering};

use test_guests::runtime::{cpu, gic, machine::MAX_CPUS, percpu, timer};
use test_guests::{check, check_eq, sysreg};

const INTIDS: usize = 1024;

static COUNTS: [[AtomicU32; INTIDS]; MAX_CPUS] =
    [const { [const { AtomicU32::new(0) }; INTIDS] }; MAX_CPUS];

/// Prepares this CPU: GIC interface, counting handler, timers off.
pub(crate) fn init_cpu() {
    sysreg!("cntv_ctl_el0", 0);
    sysreg!("cntp_ctl_el0", 0);
    gic::init_cpu();
    cpu::set_irq_handler(count_and_end);
}

/// Returns how often `intid` came on CPU `index`.
pub(crate) fn of(index: usize, intid: u32) -> u32 {
    COUNTS
        .get(index)
        .and_then(|counts| counts.get(intid as usize))
        .map_or(0, |count| count.load(Ordering::Acquire))
}

/// Returns how often `intid` came on this CPU.
pub(crate) fn mine(intid: u32) -> u32 {
    of(percpu::index(), intid)
}

/// Counts `intid` on this CPU.
pub(crate) fn add(intid: u32) {
    let counter = COUNTS
        .get(percpu::index())
        .and_then(|counts| counts.get(intid as usize));
    check!(counter.is_some(), "INTID {intid} does not exist");
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::AcqRel);
    }
}

/// Forgets all counts.
pub(crate) fn clear() {
    for counter in COUNTS.iter().flatten() {
        counter.store(0, Ordering::Release);
    }
}

/// The handler: acknowledges, counts, silences a timer, ends.
fn count_and_end() {
    let intid = gic::acknowledge();
    if intid == gic::SPURIOUS {
        return;
    }
    match intid {
        timer::VIRTUAL_INTID => sysreg!("cntv_ctl_el0", timer::ENABLE | timer::IMASK),
        timer::PHYSICAL_INTID => sysreg!("cntp_ctl_el0", timer::ENABLE | timer::IMASK),
        _ => {}
    }
    add(intid);
    gic::end(intid);
}

/// Waits until `intid` came exactly `expected` times on CPU `index`, with IRQs
/// as they are.
pub(crate) fn expect(index: usize, intid: u32, expected: u32) {
    let came = timer::wait_until(|| of(index, intid) >= expected);
    check!(
        came,
        "INTID {intid} came {} of {expected} times to CPU {index}",
        of(index, intid)
    );
    check_eq!(
        of(index, intid),
        expected,
        "count of INTID {intid} on CPU {index}"
    );
}

/// Polls for the next interrupt with IRQs masked, and acknowledges it.
pub(crate) fn poll() -> u32 {
    let mut intid = gic::SPURIOUS;
    timer::wait_until(|| {
        intid = gic::acknowledge();
        intid != gic::SPURIOUS
    });
    intid
}

/// Checks that nothing can be acknowledged for a while.
pub(crate) fn expect_silence(why: &str) {
    let deadline = timer::now() + timer::ticks(500);
    while timer::now() < deadline {
        let intid = gic::acknowledge();
        check_eq!(intid, gic::SPURIOUS, "an interrupt though {why}");
    }
}
