//! The interrupt controller written at random, and brought back.

use core::sync::atomic::{AtomicU32, Ordering};

use test_guests::runtime::{cpu, gic, mmu, probe, random::Random, timer};
use test_guests::{check, say, sysreg};

static SGIS: AtomicU32 = AtomicU32::new(0);
static TICKS: AtomicU32 = AtomicU32::new(0);

fn handler() {
    let intid = gic::acknowledge();
    if intid == gic::SPURIOUS {
        return;
    }
    if intid == timer::VIRTUAL_INTID {
        sysreg!("cntv_ctl_el0", 0);
        TICKS.fetch_add(1, Ordering::Relaxed);
    }
    if intid == 1 {
        SGIS.fetch_add(1, Ordering::Relaxed);
    }
    gic::end(intid);
}

/// Initialises the interrupt controller and checks that SGIs and the timer
/// still work.
pub(crate) fn recover(after: &str) {
    sysreg!("cntv_ctl_el0", 0);
    sysreg!("cntp_ctl_el0", 0);
    // What was active stays so until somebody ends it.
    end_everything();
    gic::init_distributor();
    gic::init_cpu();
    cpu::set_irq_handler(handler);
    let (sgis, ticks) = (SGIS.load(Ordering::Relaxed), TICKS.load(Ordering::Relaxed));
    gic::enable(timer::VIRTUAL_INTID);
    sysreg!("cntv_tval_el0", timer::ticks(100));
    sysreg!("cntv_ctl_el0", timer::ENABLE);
    gic::send_sgi(gic::sgi_to(1, cpu::mpidr()));
    cpu::with_irqs(|| {
        let came = timer::wait_until(|| SGIS.load(Ordering::Relaxed) > sgis);
        check!(came, "no SGI after {after}");
        let came = timer::wait_until(|| TICKS.load(Ordering::Relaxed) > ticks);
        check!(came, "no timer interrupt after {after}");
    });
    gic::disable(timer::VIRTUAL_INTID);
}

/// Drops every running priority, so that new interrupts can come: of those that
/// were acknowledged in passing, and of those that never were.
fn end_everything() {
    sysreg!("icc_ctlr_el1", 0);
    for _ in 0..64 {
        if sysreg!("icc_rpr_el1") & 0xFF == 0xFF {
            break;
        }
        sysreg!("icc_eoir0_el1", 0);
        sysreg!("icc_eoir1_el1", 0);
    }
    sysreg!("icc_ap0r0_el1", 0);
    sysreg!("icc_ap1r0_el1", 0);
    sysreg!("icc_igrpen0_el1", 0);
}

/// Reads, then writes, every offset of the distributor and of two
/// redistributors.
pub(crate) fn fuzz() {
    let own = gic::redistributor();
    fuzz_frame("GICD", gic::GICD, 0x1_0000);
    fuzz_frame("GICR", own, gic::GICR_STRIDE);
    fuzz_frame("the next GICR", own + gic::GICR_STRIDE, gic::GICR_STRIDE);
    flood();
}

/// Accesses every offset at every width: aligned with zeros, ones and a random
/// number; not aligned, where it is not a Device's own alignment fault, so that
/// it gets past stage 1.
fn fuzz_frame(name: &str, base: u64, size: u64) {
    let mut random = Random::new(base);
    let (mut done, mut faults) = (0, 0);
    let mut tally = |outcome: Result<u64, probe::Fault>| match outcome {
        Ok(_) => done += 1,
        Err(_) => faults += 1,
    };
    let aligned = mmu::window(base, mmu::Kind::Device);
    for offset in 0..size {
        for width in [1, 2, 4, 8] {
            if offset % width == 0 {
                tally(probe::read(aligned + offset, width));
                for value in [0, u64::MAX, random.draw()] {
                    tally(probe::write(aligned + offset, width, value).map(|()| 0));
                }
            }
        }
    }
    let unaligned = mmu::window(base, mmu::Kind::Uncached);
    for offset in (0..size).filter(|offset| offset % 0x40 <= 8) {
        for width in [2, 4, 8] {
            if offset % width != 0 {
                tally(probe::read(unaligned + offset, width));
                tally(probe::write(unaligned + offset, width, random.draw()).map(|()| 0));
            }
        }
    }
    say!("{name}: {done} done, {faults} faults");
    recover(name);
}

/// SGIs by the thousand, to everybody and nobody.
fn flood() {
    let mut random = Random::new(9);
    for round in 0..20_000_u32 {
        let target = match round % 4 {
            0 => gic::sgi_to(1, cpu::mpidr()),
            1 => 1 << 40 | 2 << 24,
            2 => random.draw(),
            _ => gic::sgi_to(round % 16, cpu::mpidr()),
        };
        gic::send_sgi(target);
        sysreg!("icc_asgi1r_el1", target);
        sysreg!("icc_sgi0r_el1", target);
    }
    recover("a flood of SGIs");
    say!("SGI flood");
}
