//! What an SGI costs from one CPU to the handler of another.
//!
//! The counter is the same for both CPUs, and QEMU lets them take turns on one
//! clock: what either of them executes counts. So the sender gives up its turn
//! as soon as it has sent, and nothing but the hypervisor comes in between.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use test_guests::runtime::{gic, machine, smp, timer};

use super::interrupts::{self, SGI};
use super::operation::{self, Taken};
use super::samples;

/// The CPU that is interrupted.
pub(crate) const RECEIVER: usize = 1;

/// How long the sender waits until the receiver surely waits, in microseconds.
const SETTLE: u64 = 500;

/// Whether the receiver is about to wait, and whether it has waited enough.
static WAITS: AtomicBool = AtomicBool::new(false);
static ENOUGH: AtomicBool = AtomicBool::new(false);
/// When the receiver's handler began, and what for; 0 until then.
static TAKEN: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Measures with a receiver that runs, and with one that sleeps.
pub(crate) fn measure_all() {
    measure("sgi-running", || receive(operation::spin));
    measure("sgi-waiting", || receive(operation::wait));
}

fn measure(name: &str, receiver: fn()) {
    ENOUGH.store(false, Ordering::Release);
    smp::start(RECEIVER, receiver);
    let target = gic::sgi_to(SGI, machine::mpidr_of(RECEIVER));
    samples::measure(name, || {
        until_it_waits();
        let before = operation::sgi(target);
        interrupts::since(before, answer(), SGI)
    });
    until_it_waits();
    ENOUGH.store(true, Ordering::Release);
    operation::sgi(target);
    answer();
    smp::join(RECEIVER);
}

/// The receiver: waits for one interrupt after the other and tells of each.
fn receive(wait: fn() -> (u64, Taken)) {
    interrupts::prepare_cpu();
    while !ENOUGH.load(Ordering::Acquire) {
        WAITS.store(true, Ordering::Release);
        let (_, taken) = wait();
        let [at, intid] = &TAKEN;
        intid.store(taken.intid, Ordering::Relaxed);
        at.store(taken.at, Ordering::Release);
    }
}

fn until_it_waits() {
    while !WAITS.swap(false, Ordering::Acquire) {
        operation::yield_turn();
    }
    let settled = timer::now() + timer::ticks(SETTLE);
    while timer::now() < settled {
        operation::yield_turn();
    }
}

/// Waits for what the receiver tells.
fn answer() -> Taken {
    let [at, intid] = &TAKEN;
    loop {
        match at.swap(0, Ordering::Acquire) {
            0 => operation::yield_turn(),
            at => {
                let intid = intid.load(Ordering::Relaxed);
                return Taken { at, intid };
            }
        }
    }
}
