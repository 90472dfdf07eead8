//! Repeated measurements and what comes of them.

use core::sync::atomic::{AtomicU64, Ordering};

use test_guests::{check, say};

use super::operation;

/// How often an operation is done before it is measured, and how often then.
const WARM_UP: u32 = 64;
const COUNT: u32 = 256;

/// The ticks of one instruction.
static TICKS: AtomicU64 = AtomicU64::new(1);

/// Finds out how many ticks one instruction takes: always the same number, or
/// instructions cannot be counted by the clock.
pub(crate) fn calibrate() {
    let ticks = operation::nothing();
    let steady = (0..COUNT).all(|_| operation::nothing() == ticks);
    check!(
        steady && ticks > 0,
        "the counter does not count instructions: QEMU needs -icount shift=4,sleep=off"
    );
    TICKS.store(ticks, Ordering::Relaxed);
}

/// Returns the ticks that one look at the counter takes.
pub(crate) fn look() -> u64 {
    TICKS.load(Ordering::Relaxed)
}

/// Measures an operation and prints the result. `operation` returns the ticks
/// between the two looks at the counter.
pub(crate) fn measure(name: &str, mut operation: impl FnMut() -> u64) {
    for _ in 0..WARM_UP {
        operation();
    }
    let (mut sum, mut least, mut most) = (0, u64::MAX, 0);
    for _ in 0..COUNT {
        let instructions = instructions(operation());
        sum += instructions;
        least = least.min(instructions);
        most = most.max(instructions);
    }
    say!("bench: {name} {COUNT} {sum} {least} {most}");
}

/// Returns how many instructions lie between two looks at the counter that are
/// so many ticks apart: one of the looks is an instruction as well.
fn instructions(ticks: u64) -> u64 {
    (ticks / look()).saturating_sub(1)
}
