//! Interrupts taken as exceptions, and the order in which they came.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use test_guests::check;
use test_guests::runtime::{cpu, percpu, timer};

use crate::interface::{Interface, SPURIOUS};
use crate::place::word;

const CAPACITY: usize = 256;

struct Log {
    waiting: AtomicBool,
    count: AtomicUsize,
    intids: [AtomicU32; CAPACITY],
}

static LOGS: [Log; 2] = [const {
    Log {
        waiting: AtomicBool::new(false),
        count: AtomicUsize::new(0),
        intids: [const { AtomicU32::new(0) }; CAPACITY],
    }
}; 2];

/// Notes that this CPU has taken `intid`.
pub(crate) fn note(intid: u32) {
    if let Some(log) = LOGS.get(percpu::index()) {
        let slot = log.intids.get(log.count.load(Ordering::Relaxed));
        check!(slot.is_some(), "too many interrupts, INTID {intid} at last");
        if let Some(slot) = slot {
            slot.store(intid, Ordering::Relaxed);
            log.count.fetch_add(1, Ordering::Release);
        }
    }
}

/// Returns how many interrupts CPU `cpu` has taken.
pub(crate) fn count(cpu: usize) -> usize {
    LOGS.get(cpu)
        .map_or(0, |log| log.count.load(Ordering::Acquire))
}

/// Returns the interrupts that CPU `cpu` has taken, the first one first.
pub(crate) fn all(cpu: usize) -> impl Iterator<Item = u32> {
    let intids = LOGS.get(cpu).map_or(&[][..], |log| &log.intids);
    let taken = intids.iter().take(count(cpu));
    taken.map(|intid| intid.load(Ordering::Relaxed))
}

/// Forgets what CPU `cpu` has taken.
pub(crate) fn clear(cpu: usize) {
    if let Some(log) = LOGS.get(cpu) {
        log.count.store(0, Ordering::Release);
    }
}

/// Takes interrupts on this CPU as exceptions until it has taken `target` since
/// the last [`clear`].
pub(crate) fn take<I: Interface>(target: u64) {
    let me = percpu::index();
    cpu::set_irq_handler(handler::<I>);
    set_waiting(me, true);
    cpu::with_irqs(|| {
        let came = timer::wait_until(|| count(me) as u64 >= target);
        check!(
            came,
            "{} of {target} interrupts come to CPU {me}",
            count(me)
        );
    });
    set_waiting(me, false);
}

fn set_waiting(cpu: usize, waiting: bool) {
    if let Some(log) = LOGS.get(cpu) {
        log.waiting.store(waiting, Ordering::Release);
    }
}

/// Tells whether CPU `cpu` takes interrupts, or is about to.
pub(crate) fn is_waiting(cpu: usize) -> bool {
    LOGS.get(cpu)
        .is_some_and(|log| log.waiting.load(Ordering::Acquire))
}

fn handler<I: Interface>() {
    let value = I::IAR.read_here();
    if value != SPURIOUS {
        note(word(value));
        I::EOIR.write_here(value);
    }
}
