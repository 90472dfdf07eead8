//! Checks that each vCPU keeps its own registers however often it is switched
//! away: every CPU writes patterns into all of its context, gives up the CPU in
//! one way or another, and looks at everything again.
//!
//! Patterns depend on the VM (`seed=N` among the boot arguments), the CPU and
//! the round, so two VMs with different seeds, and two CPUs of one, never hold
//! the same. `rounds=N` says how many rounds each CPU does.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod hold;
#[cfg(target_os = "none")]
mod interrupts;
#[cfg(target_os = "none")]
mod registers;
#[cfg(target_os = "none")]
mod round;

test_guests::guest!("context", run);

#[cfg(target_os = "none")]
fn run() {
    use test_guests::runtime::{gic, machine, smp};
    use test_guests::say;

    let cpus = machine::cpu_count();
    let registers = registers::prepare();
    gic::init_distributor();
    say!(
        "seed {}, {cpus} CPUs, {registers} system registers",
        round::seed()
    );
    smp::run_on(cpus, round::all);
    interrupts::check_sums(cpus);
    for index in 0..cpus {
        round::report(index);
    }
}
