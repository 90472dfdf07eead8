//! Interrupts taken as exceptions: one within the other, and on the other CPU.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use test_guests::runtime::{cpu, gic, mmio, timer};
use test_guests::{check, check_eq};

use crate::interface::Interface;
use crate::partner::{self, Request};
use crate::place::{Place, set_bit, set_priority};
use crate::snapshot::{self, Snapshot};
use crate::taken;
use crate::transcript::{add, line};
use crate::v3::interface::Icc;

/// The interrupts of a nest, the outermost and least urgent one first: more than
/// there are list registers.
const NEST: [u32; 14] = [64, 3, 17, 100, 5, 18, 130, 8, 200, 16, 287, 0, 33 + 8, 20];

static DEPTH: AtomicUsize = AtomicUsize::new(0);
/// Running priority at each depth, on the way in and on the way out.
static RUNNING: [[AtomicU32; NEST.len()]; 2] =
    [const { [const { AtomicU32::new(0) }; NEST.len()] }; 2];

/// Added to an INTID in the log when its handler ends.
const ENDS: u32 = 10_000;

pub(crate) fn nest() {
    line!("== nest of {}", NEST.len());
    snapshot::start_over::<Icc>();
    for (intid, level) in NEST.iter().rev().zip(1_u8..) {
        gic::set_priority(*intid, level << 4);
        gic::enable(*intid);
    }
    mmio::write32(gic::GICD + gic::CTLR, 0b10);
    for round in 0..2 {
        taken::clear(0);
        DEPTH.store(0, Ordering::Relaxed);
        cpu::set_irq_handler(go_deeper);
        gic::set_bit(gic::ISPENDR, NEST[0]);
        cpu::with_irqs(|| {
            let all = timer::wait_until(|| taken::count(0) >= 2 * NEST.len());
            check!(all, "the nest ends after {}", taken::count(0));
        });
        add!("round {round}:");
        for entry in taken::all(0) {
            match entry.checked_sub(ENDS) {
                None => add!(" {entry}"),
                Some(intid) => add!(" /{intid}"),
            }
        }
        line!("");
        for running in &RUNNING {
            add!("RPR");
            running
                .iter()
                .for_each(|rpr| add!(" {:x}", rpr.load(Ordering::Relaxed)));
            line!("");
        }
    }
    Snapshot::<Icc>::take().print();
}

fn go_deeper() {
    let intid = gic::acknowledge();
    if intid == gic::SPURIOUS {
        return;
    }
    let depth = DEPTH.fetch_add(1, Ordering::Relaxed);
    taken::note(intid);
    note_running(0, depth);
    if let Some(next) = NEST.get(depth + 1) {
        // What is less urgent, or no more urgent, waits.
        gic::set_bit(gic::ISPENDR, *next);
        cpu::with_irqs(|| {
            let deeper = timer::wait_until(|| taken::count(0) > depth + 1);
            check!(deeper, "INTID {next} does not interrupt {intid}");
            let back = || DEPTH.load(Ordering::Relaxed) == depth + 1;
            check!(timer::wait_until(back), "INTID {next} does not end");
        });
    }
    note_running(1, depth);
    taken::note(ENDS + intid);
    DEPTH.fetch_sub(1, Ordering::Relaxed);
    gic::end(intid);
}

fn note_running(when: usize, depth: usize) {
    let slot = RUNNING.get(when).and_then(|running| running.get(depth));
    if let Some(slot) = slot {
        let running = u32::try_from(Icc::Rpr.read_here()).unwrap_or(u32::MAX);
        slot.store(running, Ordering::Relaxed);
    }
}

/// Interrupts for CPU 1, which waits for them: each is sent when the one before
/// has been taken.
pub(crate) fn deliver<I: Interface>() {
    line!("== delivery to CPU 1");
    snapshot::start_over::<I>();
    mmio::write32(gic::GICD + gic::CTLR, I::ENABLE);
    let shared = [40, 71, 128, 222, 287];
    for intid in shared {
        set_priority::<I>(0, intid, 0x80);
        set_bit::<I>(gic::ISENABLER, 0, intid);
        I::route(intid, 1);
    }
    Place { cpu: 1, bank: 0 }.write_bits::<I>(gic::ISENABLER, 0xFFFF | 1 << 16);
    // Through the other CPU's redistributor.
    let private: &[u32] = if I::IS_BANKED { &[] } else { &[9, 16] };
    let count = shared.len() + 16 + 16 + private.len();
    taken::clear(1);
    partner::post(Request::Take(count as u64));
    let mut expected = 0;
    let mut wait = |what: &str, intid: u32| {
        expected += 1;
        let came = timer::wait_until(|| taken::count(1) >= expected);
        check!(came, "{what} {intid} does not come to CPU 1");
    };
    for intid in shared {
        set_bit::<I>(gic::ISPENDR, 0, intid);
        wait("SPI", intid);
    }
    for intid in 0..16 {
        I::send_sgi(intid, false);
        wait("SGI", intid);
    }
    for intid in (0..16).rev() {
        I::send_sgi(intid, true);
        wait("broadcast SGI", intid);
    }
    for intid in private {
        set_bit::<I>(gic::ISPENDR, 1, *intid);
        wait("GICR_ISPENDR", *intid);
    }
    partner::answer();
    check_eq!(taken::count(1), count, "interrupts that CPU 1 has taken");
    add!("taken");
    taken::all(1).for_each(|intid| add!(" {intid}"));
    line!("");
    Snapshot::<I>::take().print();
}
