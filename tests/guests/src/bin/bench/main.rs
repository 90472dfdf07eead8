//! Measures what operations cost that a hypervisor has a hand in, in
//! instructions: the time between two looks at the counter, one tick of which is
//! as long as one instruction (`-icount` of QEMU).
//!
//! Each result is a line `bench: NAME COUNT SUM LEAST MOST`: how often the
//! operation was measured and how many instructions that took in all, at least
//! and at most. The operation itself is counted, what measures it is not.
//!
//! A word among the boot arguments chooses what is measured, or that this
//! guest only keeps another company.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod across;
#[cfg(target_os = "none")]
mod company;
#[cfg(target_os = "none")]
mod exits;
#[cfg(target_os = "none")]
mod interrupts;
#[cfg(target_os = "none")]
mod operation;
#[cfg(target_os = "none")]
mod quiet;
#[cfg(target_os = "none")]
mod samples;
#[cfg(target_os = "none")]
mod switches;

test_guests::guest!("bench", run);

/// What each word of the boot arguments has done.
#[cfg(target_os = "none")]
const CHOICES: [(&str, fn()); 11] = [
    ("vcpu-switch", switches::between_vcpus),
    ("vm-switch", switches::between_vms),
    ("vcpu-wake", switches::wake_of_a_vcpu),
    ("vm-wake", switches::wake_of_a_vm),
    ("vcpu-handover", switches::handover),
    ("vm-destroy", switches::end_of_a_vm),
    ("neighbour", company::neighbour),
    ("busy", company::busy),
    ("mortal", company::mortal),
    ("off", company::off),
    ("idle", company::idle),
];

#[cfg(target_os = "none")]
fn run() {
    use test_guests::runtime::machine;

    samples::calibrate();
    interrupts::prepare();
    let chosen = CHOICES
        .iter()
        .find(|(word, _)| machine::has_boot_word(word));
    match chosen {
        Some((_, what)) => what(),
        None => operations(),
    }
}

/// Measures all that a VM with a physical CPU for each of its own can do, while
/// everything else sleeps.
#[cfg(target_os = "none")]
fn operations() {
    use test_guests::runtime::{machine, smp};

    for sleeper in across::RECEIVER + 1..machine::cpu_count() {
        smp::start(sleeper, company::sleep);
    }
    quiet::wait();
    exits::measure_all();
    interrupts::measure_all();
    if machine::cpu_count() > across::RECEIVER {
        across::measure_all();
    }
}
