//! What it costs that another vCPU runs on the same physical CPU, of this VM or
//! of another.
//!
//! Two that are always busy take turns, slice by slice. What passes one of them by
//! between two of its turns is a turn of the other, as long as its own, and two
//! switches.
//!
//! A neighbour that wakes by its timer and sleeps again at once is a gap as well: two
//! switches, its wake-up, and its few instructions.

use core::sync::atomic::{AtomicBool, Ordering};

use test_guests::check;
use test_guests::runtime::{gic, machine, smp, timer};

use super::interrupts::{self, SGI};
use super::{company, operation, quiet, samples};

/// How long a neighbour may let this vCPU wait, in microseconds.
const LONGEST: u64 = 100_000;

/// Measures with a vCPU of this VM that is as busy.
pub(crate) fn between_vcpus() {
    require_two();
    quiet::wait();
    smp::start(1, company::busy);
    switch("vcpu-switch");
}

/// Measures with another VM that is as busy.
pub(crate) fn between_vms() {
    switch("vm-switch");
}

/// Measures half of what a gap is longer than a turn of this vCPU.
fn switch(name: &str) {
    let mut began = timer::now();
    samples::measure(name, || {
        let (ended, next) = quiet::next_turn();
        let turn = ended - began;
        began = next;
        (next - ended).saturating_sub(turn) / 2
    });
}

fn require_two() {
    check!(
        machine::cpu_count() > 1,
        "this needs two vCPUs on one physical CPU"
    );
}

/// Measures with a vCPU of this VM for a neighbour.
pub(crate) fn wake_of_a_vcpu() {
    require_two();
    quiet::wait();
    smp::start(1, || {
        interrupts::prepare_cpu();
        company::neighbour();
    });
    timer::pause(2 * company::PERIOD);
    measure("vcpu-wake");
}

/// Set when the vCPU that answers has answered enough.
static ENOUGH: AtomicBool = AtomicBool::new(false);

/// Measures half of a round in which two vCPUs wake each other by an SGI, and
/// sleep until they are woken.
pub(crate) fn handover() {
    require_two();
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
pub(crate) fn wake_of_a_vm() {
    measure("vm-wake");
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
