//! What it costs that another vCPU runs on the same physical CPU, of this VM or
//! of another.
//!
//! The neighbour wakes by its timer and sleeps again at once. For the vCPU that
//! runs on all the while that is a gap between two looks at the counter: there
//! and back are two switches, and half of the gap is one, with a half of the few
//! instructions of the neighbour.

use test_guests::check;
use test_guests::runtime::{cpu, machine, smp, timer};

use super::interrupts;
use super::operation;
use super::samples;

/// How long the neighbour sleeps, in microseconds.
const PERIOD: u64 = 500;

/// How long the neighbour's beginnings may take, in microseconds.
const SETTLE: u64 = 20_000;

/// More instructions than lie between two looks, and fewer than two switches.
const LONGEST_ALONE: u64 = 32;

/// Measures with a vCPU of this VM for a neighbour.
pub(crate) fn between_vcpus() {
    check!(
        machine::cpu_count() > 1,
        "this needs two vCPUs on one physical CPU"
    );
    smp::start(1, || {
        interrupts::prepare_cpu();
        be_neighbour();
    });
    measure("vcpu-switch");
}

/// Measures with another VM for a neighbour, which has a higher priority.
pub(crate) fn between_vms() {
    measure("vm-switch");
}

fn measure(name: &str) {
    timer::pause(SETTLE);
    let longest = operation::nothing() * LONGEST_ALONE;
    samples::measure(name, || operation::gap(longest) / 2);
}

/// The neighbour: wakes, and sleeps again.
pub(crate) fn be_neighbour() {
    loop {
        interrupts::wait_until(timer::now() + timer::ticks(PERIOD));
    }
}

/// Sleeps for ever.
pub(crate) fn be_idle() {
    loop {
        cpu::wfi();
    }
}
