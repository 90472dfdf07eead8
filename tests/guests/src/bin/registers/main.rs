//! Checks that a CPU keeps what it holds through every kind of trap, and that
//! its ID registers tell the truth.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod features;
#[cfg(target_os = "none")]
mod pauth;
#[cfg(target_os = "none")]
mod state;
#[cfg(target_os = "none")]
mod traps;

test_guests::guest!("registers", run);

#[cfg(target_os = "none")]
fn run() {
    use test_guests::runtime::{gic, machine, smp};
    use test_guests::say;

    features::check_all();
    gic::init_distributor();
    smp::run_on(machine::cpu_count(), traps::hold_through_all);
    say!("{} CPUs keep their registers", machine::cpu_count());
    // Again, one alone: then a vCPU that is switched off in between.
    smp::run_on(1, traps::hold_through_all);
    smp::run_on(machine::cpu_count(), traps::hold_through_all);
}
