//! VMs and vCPUs that are there for others to be measured beside them.

use test_guests::runtime::{cpu, smccc, timer};
use test_guests::say;

use super::{interrupts, quiet};

/// How long a neighbour sleeps, in microseconds.
pub(crate) const PERIOD: u64 = 500;

/// How often one wakes that ends: more often than the other VM needs to begin.
const WAKE_UPS: u32 = 200;

/// Wakes and sleeps again, for ever.
pub(crate) fn neighbour() {
    loop {
        wake_up();
    }
}

/// Runs for as long as it may, for ever.
pub(crate) fn busy() {
    loop {
        quiet::next_turn();
    }
}

/// Wakes and sleeps again, and turns its VM off at last.
pub(crate) fn mortal() {
    for _ in 0..WAKE_UPS {
        wake_up();
    }
    off();
}

fn wake_up() {
    interrupts::wait_until(timer::now() + timer::ticks(PERIOD));
}

/// Turns its VM off without a word.
pub(crate) fn off() {
    smccc::psci(smccc::SYSTEM_OFF, [0; 3]);
}

/// Says so, and sleeps for ever.
pub(crate) fn idle() {
    say!("idle from now on");
    sleep();
}

/// Sleeps for ever.
pub(crate) fn sleep() {
    loop {
        cpu::wfi();
    }
}
