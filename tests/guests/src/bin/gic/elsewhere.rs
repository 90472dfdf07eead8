//! What one CPU does to an interrupt that another has in hand, or waits for: the
//! other one spins on memory, and nothing but the GIC takes it out of that.

use test_guests::check;
use test_guests::runtime::{gic, mmio, timer};

use crate::interface::{Interface, SPURIOUS};
use crate::partner::{self, Request};
use crate::place::{bit, redistributor, set_bit, set_priority};
use crate::snapshot::{self, Snapshot};
use crate::taken;
use crate::transcript::{add, line};

/// An SPI that no device drives.
const SPI: u32 = 100;

/// An interrupt that CPU 1 has acknowledged, seen and ended from CPU 0.
pub(crate) fn in_hand<I: Interface>() {
    line!("== in the hand of CPU 1");
    prepare::<I>();
    for round in 0..3 {
        acknowledge::<I>();
        wait_until_active::<I>("acknowledged", true);
        I::EOIR.write(1, SPI.into());
        wait_until_active::<I>("ended", false);
        line!("{round}: ended");
    }
    if I::CLEARS_FOR_OTHERS {
        deactivate_for_other::<I>();
    }
    Snapshot::<I>::take().print();
}

/// What CPU 1 has acknowledged and dropped is deactivated by CPU 0.
fn deactivate_for_other<I: Interface>() {
    I::set_two_steps(0, true);
    I::set_two_steps(1, true);
    for round in 0..3 {
        acknowledge::<I>();
        I::EOIR.write(1, SPI.into());
        // With no look at it in between.
        set_bit::<I>(gic::ICACTIVER, 0, SPI);
        wait_until_active::<I>("ICACTIVER", false);
        line!("{round}: ICACTIVER");
    }
    for round in 0..3 {
        acknowledge::<I>();
        I::EOIR.write(1, SPI.into());
        I::DIR.write(0, SPI.into());
        wait_until_active::<I>("DIR", false);
        line!("{round}: {:?}", I::DIR);
    }
}

/// Each way in which CPU 0 makes an interrupt come to CPU 1 that was held back.
pub(crate) fn held_back<I: Interface>() {
    line!("== held back from CPU 1");
    let pend = || set_bit::<I>(gic::ISPENDR, 0, SPI);
    release::<I>("ISPENDR", || {}, pend);
    release::<I>(
        "ISENABLER",
        || {
            set_bit::<I>(gic::ICENABLER, 0, SPI);
            pend();
        },
        || set_bit::<I>(gic::ISENABLER, 0, SPI),
    );
    release::<I>(
        "IPRIORITYR",
        || {
            I::PMR.write(1, 0x80);
            set_priority::<I>(0, SPI, 0xC0);
            pend();
        },
        || set_priority::<I>(0, SPI, 0x40),
    );
    release::<I>(
        "CTLR",
        || {
            mmio::write32(gic::GICD + gic::CTLR, 0);
            pend();
        },
        || mmio::write32(gic::GICD + gic::CTLR, I::ENABLE),
    );
    release::<I>(
        "ICACTIVER",
        || {
            set_bit::<I>(gic::ISACTIVER, 0, SPI);
            pend();
        },
        || set_bit::<I>(gic::ICACTIVER, 0, SPI),
    );
    if !I::IS_BANKED {
        release::<I>(
            "IROUTER",
            || {
                I::route(SPI, 0);
                pend();
            },
            || I::route(SPI, 1),
        );
        let waker = redistributor(1) + gic::WAKER;
        let sleep = |asleep: bool| {
            mmio::write32(waker, u32::from(asleep) << 1);
            let done = || mmio::read32(waker) & 0b100 != 0;
            check!(
                timer::wait_until(|| done() == asleep),
                "GICR_WAKER of CPU 1 does not follow"
            );
        };
        release::<I>("awake", || {}, pend);
        sleep(true);
        sleep(false);
        release::<I>("WAKER", || {}, pend);
    }
    Snapshot::<I>::take().print();
}

/// One SPI for CPU 1.
fn prepare<I: Interface>() {
    snapshot::start_over::<I>();
    set_priority::<I>(0, SPI, 0x40);
    // Edge-triggered.
    let number = u64::from(SPI / 16);
    mmio::write32(
        gic::GICD + gic::ICFGR + 4 * number,
        0b10 << (2 * (SPI % 16)),
    );
    I::route(SPI, 1);
    set_bit::<I>(gic::ISENABLER, 0, SPI);
    mmio::write32(gic::GICD + gic::CTLR, I::ENABLE);
}

/// Makes it pending and lets CPU 1 acknowledge it.
fn acknowledge<I: Interface>() {
    set_bit::<I>(gic::ISPENDR, 0, SPI);
    let mut intid = SPURIOUS;
    let came = timer::wait_until(|| {
        intid = I::IAR.read(1);
        intid != SPURIOUS
    });
    check!(came, "INTID {SPI} does not come to CPU 1");
    add!("{intid} ");
}

/// Waits until CPU 0 sees whether it is active, while CPU 1 does nothing.
fn wait_until_active<I: Interface>(how: &str, active: bool) {
    let seen = timer::wait_until(|| bit::<I>(gic::ISACTIVER, 0, SPI) == active);
    check!(seen, "INTID {SPI} is never seen active: {active}, {how}");
}

/// Holds the SPI back, lets CPU 1 wait for it, and lets it go.
fn release<I: Interface>(how: &str, hold: impl Fn(), free: impl Fn()) {
    prepare::<I>();
    hold();
    snapshot::settle::<I>();
    taken::clear(1);
    partner::post(Request::Take(1));
    check!(
        timer::wait_until(|| taken::is_waiting(1)),
        "CPU 1 does not wait"
    );
    let early = taken::count(1);
    free();
    let came = timer::wait_until(|| taken::count(1) == 1);
    check!(came, "{how} does not let INTID {SPI} come to CPU 1");
    partner::answer();
    add!("{how}: {early} before,");
    taken::all(1).for_each(|intid| add!(" {intid}"));
    line!("");
}
