//! Checks the GICv3 and the timers: who is interrupted, how often and in what
//! order.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod counts;
#[cfg(target_os = "none")]
mod sgi;
#[cfg(target_os = "none")]
mod spi;
#[cfg(target_os = "none")]
mod states;
#[cfg(target_os = "none")]
mod ticks;
#[cfg(target_os = "none")]
mod wait;

test_guests::guest!("interrupts", run);

#[cfg(target_os = "none")]
fn run() {
    use test_guests::runtime::{gic, machine};
    use test_guests::say;

    gic::init_distributor();
    counts::init_cpu();
    let cpus = machine::cpu_count();
    say!("{} interrupts, {cpus} CPUs", gic::intid_count());
    sgi::check_all();
    ticks::check_all();
    states::check_all();
    spi::check_all();
    wait::check_all();
}
