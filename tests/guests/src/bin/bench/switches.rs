//! What it costs that another vCPU runs on the same physical CPU, of this VM or
//! of another.
//!
//! The neighbour wakes by its timer and sleeps again at once. For the vCPU that
//! runs on all the while that is a gap between two looks at the counter: there
//! and back are two switches, and half of the gap is one, with a half of the few
//! instructions of the neighbour.

use core::sync::atomic::{AtomicBool, Ordering};

use test_guests::check;
use test_guests::runtime::{gic, machine, smp, timer};

use super::interrupts::{self, SGI};
use super::{company, operation, quiet, samples};

/// How long a neighbour may let this vCPU wait, in microseconds.
const LONGEST: u64 = 100_000;

/// Measures with a vCPU of this VM for a neighbour.
pub(crate) fn between_vcpus() {
    check!(
        machine::cpu_count() > 1,
        "this needs two vCPUs on one physical CPU"
    );
    quiet::wait();
    smp::start(1, || {
        interrupts::prepare_cpu();
        company::neighbour();
    });
    timer::pause(2 * company::PERIOD);
    measure("vcpu-switch");
}

/// Set when the vCPU that answers has answered enough.
static ENOUGH: AtomicBool = AtomicBool::new(false);

/// Measures half of a round in which two vCPUs wake each other by an SGI, and
/// sleep until they are woken.
pub(crate) fn handover() {
    check!(
        machine::cpu_count() > 1,
        "this needs two vCPUs on one physical CPU"
    );
    quiet::wait();
    smp::start(1, answer);
    let other = gic::sgi_to(SGI, machine::mpidr_of(1));
    let (_, taken) = operation::wait();
    let mut last = taken.at;
    samples::measure("vcpu-handover", || {
        gic::send_sgi(other);
        let (_, taken) = operation::wait();
        let round = taken.at - last;
        last = taken.at;
        round / 2
    });
    ENOUGH.store(true, Ordering::Release);
    gic::send_sgi(other);
    smp::join(1);
}

/// The other vCPU: wakes the first, and sleeps until it is woken.
fn answer() {
    interrupts::prepare_cpu();
    let first = gic::sgi_to(SGI, machine::mpidr_of(0));
    while !ENOUGH.load(Ordering::Acquire) {
        gic::send_sgi(first);
        operation::wait();
    }
}

/// Measures with another VM for a neighbour, which has a higher priority.
pub(crate) fn between_vms() {
    measure("vm-switch");
}

fn measure(name: &str) {
    samples::measure(name, || match quiet::gap(LONGEST) {
        Some(gap) => gap / 2,
        None => {
            check!(false, "no neighbour runs");
            0
        }
    });
}

/// Measures what it takes to turn a VM off and to give back what it had, more than
/// to let it sleep once more. That VM has a higher priority, and sleeps often
/// before it ends.
pub(crate) fn end_of_a_vm() {
    let (mut before, mut last) = (0, 0);
    while let Some(gap) = quiet::gap(LONGEST) {
        (before, last) = (last, gap);
    }
    check!(before > 0, "no VM ended");
    samples::report("vm-destroy", &[last - before + samples::look()]);
}
