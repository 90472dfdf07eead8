//! The states of one SPI: pending, active, both; its CPU; the priority mask,
//! the running priority and preemption; EOI modes; the level of a line.

use core::sync::atomic::{AtomicU32, Ordering};

use test_guests::runtime::{console, cpu, gic, machine, mmio, smp, timer};
use test_guests::{check, check_eq, say, sysreg};

use crate::{counts, spi};

pub(crate) fn check_all() {
    let intid = spi::first_free();
    pending_and_enable(intid);
    active_state(intid);
    pending_while_active(intid);
    end_in_two_steps(intid);
    priority_mask(intid);
    preemption(intid, intid + 1);
    group_enables(intid);
    if machine::cpu_count() >= 2 {
        routing(intid);
    }
    level_of_the_uart();
    counts::clear();
    say!("interrupt states");
}

fn pending_and_enable(intid: u32) {
    gic::set_bit(gic::ISPENDR, intid);
    check!(gic::bit(gic::ISPENDR, intid), "SPI {intid} is not pending");
    counts::expect_silence("the SPI is disabled");
    gic::enable(intid);
    check_eq!(counts::poll(), intid, "a pending SPI, enabled");
    check!(
        !gic::bit(gic::ISPENDR, intid),
        "an acknowledged SPI is pending"
    );
    check!(
        gic::bit(gic::ISACTIVER, intid),
        "an acknowledged SPI is not active"
    );
    gic::end(intid);
    check!(!gic::bit(gic::ISACTIVER, intid), "an ended SPI is active");
    counts::expect_silence("the SPI was ended");

    gic::set_bit(gic::ISPENDR, intid);
    gic::set_bit(gic::ICPENDR, intid);
    check!(!gic::bit(gic::ISPENDR, intid), "a cleared SPI is pending");
    counts::expect_silence("the SPI was cleared");

    gic::set_bit(gic::ISPENDR, intid);
    gic::disable(intid);
    counts::expect_silence("the pending SPI was disabled");
    gic::enable(intid);
    check_eq!(counts::poll(), intid, "a pending SPI, enabled again");
    gic::end(intid);
}

fn active_state(intid: u32) {
    gic::set_bit(gic::ISACTIVER, intid);
    check!(gic::bit(gic::ISACTIVER, intid), "SPI {intid} is not active");
    gic::set_bit(gic::ISPENDR, intid);
    counts::expect_silence("the SPI is active");
    check!(
        gic::bit(gic::ISPENDR, intid),
        "an active SPI does not become pending"
    );
    gic::set_bit(gic::ICACTIVER, intid);
    check_eq!(counts::poll(), intid, "an SPI that was active");
    gic::end(intid);
}

fn pending_while_active(intid: u32) {
    gic::set_bit(gic::ISPENDR, intid);
    check_eq!(counts::poll(), intid, "an SPI");
    gic::set_bit(gic::ISPENDR, intid);
    gic::set_bit(gic::ISPENDR, intid);
    counts::expect_silence("the SPI is active");
    gic::end(intid);
    check_eq!(
        counts::poll(),
        intid,
        "an SPI that became pending while active"
    );
    gic::end(intid);
    counts::expect_silence("both were taken");
}

fn end_in_two_steps(intid: u32) {
    const EOI_MODE: u64 = 1 << 1;
    sysreg!("icc_ctlr_el1", EOI_MODE);
    gic::set_bit(gic::ISPENDR, intid);
    check_eq!(counts::poll(), intid, "an SPI in EOImode 1");
    check_eq!(sysreg!("icc_rpr_el1"), 0xA0, "running priority");
    gic::set_bit(gic::ISPENDR, intid);
    gic::end(intid);
    check_eq!(
        sysreg!("icc_rpr_el1") & 0xFF,
        0xFF,
        "running priority after EOI"
    );
    check!(
        gic::bit(gic::ISACTIVER, intid),
        "EOI deactivates in EOImode 1"
    );
    counts::expect_silence("the SPI is not deactivated");
    // Others of the same priority do come: the priority has dropped.
    gic::send_sgi(gic::sgi_to(2, cpu::mpidr()));
    check_eq!(counts::poll(), 2, "an SGI after the priority drop");
    gic::end(2);
    gic::deactivate(2);
    gic::deactivate(intid);
    check_eq!(counts::poll(), intid, "the second one, after DIR");
    gic::end(intid);
    gic::deactivate(intid);
    check!(!gic::bit(gic::ISACTIVER, intid), "DIR does not deactivate");
    sysreg!("icc_ctlr_el1", 0);
}

fn priority_mask(intid: u32) {
    for (mask, comes) in [
        (0xA0, false),
        (0x80, false),
        (0, false),
        (0xB0, true),
        (0xF0, true),
    ] {
        sysreg!("icc_pmr_el1", mask);
        check_eq!(sysreg!("icc_pmr_el1"), mask, "the priority mask");
        gic::set_bit(gic::ISPENDR, intid);
        if comes {
            check_eq!(
                counts::poll(),
                intid,
                "an SPI of priority 0xA0 below mask {mask:#x}"
            );
            gic::end(intid);
        } else {
            counts::expect_silence("the priority mask is closed");
            sysreg!("icc_pmr_el1", 0xFF);
            check_eq!(counts::poll(), intid, "an SPI after the mask opened");
            gic::end(intid);
        }
    }
    sysreg!("icc_pmr_el1", 0xFF);
}

static NESTING: AtomicU32 = AtomicU32::new(0);
static ORDER: AtomicU32 = AtomicU32::new(0);

/// A less urgent interrupt lets the more urgent one in, not one of its own
/// priority.
fn preemption(outer: u32, inner: u32) {
    static OUTER: AtomicU32 = AtomicU32::new(0);

    fn log(digit: u32) {
        ORDER.store(
            ORDER.load(Ordering::Relaxed) * 10 + digit,
            Ordering::Relaxed,
        );
    }
    fn handler() {
        let intid = gic::acknowledge();
        if intid == gic::SPURIOUS {
            return;
        }
        let outer = OUTER.load(Ordering::Relaxed);
        let depth = NESTING.load(Ordering::Relaxed);
        NESTING.store(depth + 1, Ordering::Relaxed);
        log(if intid == outer { 1 } else { 2 });
        if intid == outer && depth == 0 {
            check_eq!(sysreg!("icc_rpr_el1"), 0x80, "running priority, outer");
            gic::set_bit(gic::ISPENDR, outer + 1);
            cpu::with_irqs(|| timer::pause(1000));
            log(3);
        }
        NESTING.store(NESTING.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        gic::end(intid);
    }

    OUTER.store(outer, Ordering::Relaxed);
    cpu::set_irq_handler(handler);
    gic::enable(inner);
    gic::set_priority(outer, 0x80);
    for (priority, expected) in [(0x40, 123), (0x80, 132), (0xC0, 132)] {
        gic::set_priority(inner, priority);
        ORDER.store(0, Ordering::Relaxed);
        gic::set_bit(gic::ISPENDR, outer);
        cpu::with_irqs(|| {
            let done = timer::wait_until(|| ORDER.load(Ordering::Relaxed) >= 100);
            check!(done, "the nested interrupts do not come");
        });
        let order = ORDER.load(Ordering::Relaxed);
        check_eq!(
            order,
            expected,
            "order of outer and inner at {priority:#x} (decimal digits)"
        );
    }
    gic::disable(inner);
    gic::set_priority(outer, 0xA0);
    gic::set_priority(inner, 0xA0);
    counts::init_cpu();
}

fn group_enables(intid: u32) {
    gic::enable(intid);
    sysreg!("icc_igrpen1_el1", 0);
    gic::set_bit(gic::ISPENDR, intid);
    cpu::with_irqs(|| timer::pause(500));
    check_eq!(counts::mine(intid), 0, "interrupts with group 1 off");
    sysreg!("icc_igrpen1_el1", 1);
    check_eq!(counts::poll(), intid, "an SPI after group 1 is on");
    gic::end(intid);

    let control = mmio::read32(gic::GICD + gic::CTLR);
    mmio::write32(gic::GICD + gic::CTLR, control & !0b10);
    timer::pause(200);
    gic::set_bit(gic::ISPENDR, intid);
    counts::expect_silence("the distributor's group 1 is off");
    mmio::write32(gic::GICD + gic::CTLR, control);
    check_eq!(counts::poll(), intid, "an SPI after the distributor is on");
    gic::end(intid);
}

fn routing(intid: u32) {
    static STAGE: AtomicU32 = AtomicU32::new(0);
    fn other() {
        counts::init_cpu();
        STAGE.store(1, Ordering::Release);
        cpu::with_irqs(|| {
            check!(
                timer::wait_until(|| STAGE.load(Ordering::Acquire) == 2),
                "no end"
            );
        });
    }
    counts::clear();
    smp::start(1, other);
    check!(
        timer::wait_until(|| STAGE.load(Ordering::Acquire) == 1),
        "CPU 1 is not ready"
    );
    gic::route(intid, machine::mpidr_of(1));
    for round in 1..=50 {
        gic::set_bit(gic::ISPENDR, intid);
        counts::expect(1, intid, round);
    }
    counts::expect_silence("the SPI belongs to CPU 1");
    // Pending while disabled, then given to this CPU.
    gic::disable(intid);
    gic::set_bit(gic::ISPENDR, intid);
    gic::route(intid, machine::mpidr_of(0));
    gic::enable(intid);
    check_eq!(counts::poll(), intid, "an SPI after it was routed here");
    gic::end(intid);
    check_eq!(counts::of(1, intid), 50, "interrupts on CPU 1");
    // To nobody: stays pending.
    gic::route(intid, 0xFE_0000_0000);
    gic::set_bit(gic::ISPENDR, intid);
    counts::expect_silence("the SPI belongs to nobody");
    gic::route(intid, machine::mpidr_of(0));
    check_eq!(counts::poll(), intid, "an SPI that belonged to nobody");
    gic::end(intid);
    STAGE.store(2, Ordering::Release);
    smp::join(1);
    counts::clear();
}

/// The UART's transmit interrupt, as long as it is raised, comes again.
fn level_of_the_uart() {
    gic::set_level_sensitive(console::INTID, true);
    gic::enable(console::INTID);
    // A byte that went out raises the interrupt.
    say!("UART level:");
    console::drain();
    mmio::write32(console::UARTIMSC, console::TX_INTERRUPT);
    let raised = timer::wait_until(|| mmio::read32(console::UARTMIS) & console::TX_INTERRUPT != 0);
    check!(raised, "the UART's transmit interrupt is not raised");
    for _ in 0..5 {
        check_eq!(counts::poll(), console::INTID, "the UART's interrupt");
        gic::end(console::INTID);
    }
    check!(
        gic::bit(gic::ISPENDR, console::INTID),
        "the UART's level is not shown"
    );
    gic::set_bit(gic::ICPENDR, console::INTID);
    check!(
        gic::bit(gic::ISPENDR, console::INTID),
        "ICPENDR clears a level"
    );
    check_eq!(counts::poll(), console::INTID, "the UART's interrupt");
    mmio::write32(console::UARTICR, console::TX_INTERRUPT);
    gic::end(console::INTID);
    counts::expect_silence("the UART's interrupt was cleared");
    check!(
        !gic::bit(gic::ISPENDR, console::INTID),
        "the UART's line stays high"
    );
    mmio::write32(console::UARTIMSC, 0);
    gic::disable(console::INTID);
}
