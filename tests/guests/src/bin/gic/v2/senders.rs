//! One SGI from several CPUs at once: it comes once for each, in an order that is
//! nobody's business.

use test_guests::check;
use test_guests::runtime::{gic, mmio, timer};

use super::interface::{Gicc, SGIR};
use crate::interface::{CPUS, Interface, SPURIOUS};
use crate::place::Place;
use crate::snapshot::{self, Snapshot};
use crate::transcript::{add, line};

const SGI: u32 = 6;

/// Each CPU takes what both have sent.
pub(crate) fn run() {
    line!("== an SGI from all CPUs");
    snapshot::start_over::<Gicc>();
    mmio::write32(gic::GICD + gic::CTLR, Gicc::ENABLE);
    let mut now = Snapshot::<Gicc>::take();
    for target in 0..CPUS {
        for cpu in 0..CPUS {
            Place { cpu, bank: 0 }.store::<Gicc>(SGIR, 1 << (16 + target) | SGI);
        }
        add!("sent to {target}");
        now.advance();
        let senders = (0..CPUS).fold(0, |set, _| set | 1 << take(target));
        add!("CPU {target} has it from {senders:b}");
        now.advance();
        check!(
            Gicc::Iar.read(target) == SPURIOUS,
            "SGI {SGI} comes to CPU {target} once more"
        );
    }
}

/// Takes and ends the SGI on `cpu`, and returns who sent it.
fn take(cpu: usize) -> u64 {
    let mut value = SPURIOUS;
    let came = timer::wait_until(|| {
        value = Gicc::Iar.read(cpu);
        value != SPURIOUS
    });
    check!(came, "SGI {SGI} does not come to CPU {cpu}");
    Gicc::Eoir.write(cpu, value);
    value >> 10
}
