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
mod exits;
#[cfg(target_os = "none")]
mod interrupts;
#[cfg(target_os = "none")]
mod operation;
#[cfg(target_os = "none")]
mod samples;
#[cfg(target_os = "none")]
mod switches;

test_guests::guest!("bench", run);

/// What each word of the boot arguments has measured.
#[cfg(target_os = "none")]
const CHOICES: [(&str, fn()); 4] = [
    ("vcpu-switch", switches::between_vcpus),
    ("vm-switch", switches::between_vms),
    ("neighbour", switches::be_neighbour),
    ("idle", switches::be_idle),
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
        Some((_, measure)) => measure(),
        None => operations(),
    }
}

/// Measures all that a VM with a physical CPU for each of its own can do.
#[cfg(target_os = "none")]
fn operations() {
    exits::measure_all();
    interrupts::measure_all();
    across::measure_all();
}
