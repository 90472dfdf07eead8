//! Exercises the GIC and tells everything that is visible of it, line by line:
//! the transcripts of two GICs that follow the specification are equal.
//!
//! What depends on time is never printed; what else is masked or avoided, and why,
//! `masks` says.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod debts;
#[cfg(target_os = "none")]
mod elsewhere;
#[cfg(target_os = "none")]
mod exceptions;
#[cfg(target_os = "none")]
mod flood;
#[cfg(target_os = "none")]
mod interface;
#[cfg(target_os = "none")]
mod its;
#[cfg(target_os = "none")]
mod levels;
#[cfg(target_os = "none")]
mod masks;
#[cfg(target_os = "none")]
mod partner;
#[cfg(target_os = "none")]
mod place;
#[cfg(target_os = "none")]
mod registers;
#[cfg(target_os = "none")]
mod snapshot;
#[cfg(target_os = "none")]
mod taken;
#[cfg(target_os = "none")]
mod transcript;
#[cfg(target_os = "none")]
mod v2;
#[cfg(target_os = "none")]
mod v3;
#[cfg(target_os = "none")]
mod walk;

test_guests::guest!("gic", run);

#[cfg(target_os = "none")]
fn run() {
    use test_guests::check;
    use test_guests::runtime::{gic, machine};

    check!(machine::cpu_count() >= interface::CPUS, "too few CPUs");
    if gic::has_gicv3() {
        v3::run();
    } else {
        v2::run();
    }
}
