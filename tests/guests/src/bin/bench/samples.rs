//! Repeated measurements and what comes of them.

use core::sync::atomic::{AtomicU64, Ordering};

use test_guests::{check, say};

use super::operation;

/// How often an operation is done before it is measured, and how often then.
const WARM_UP: u32 = 64;
const COUNT: usize = 256;

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
    report(name, &core::array::from_fn::<_, COUNT, _>(|_| operation()));
}

/// Prints what was measured, in ticks.
pub(crate) fn report(name: &str, ticks: &[u64]) {
    let instructions = ticks.iter().copied().map(instructions);
    let sum: u64 = instructions.clone().sum();
    let least = instructions.clone().min().unwrap_or_default();
    let most = instructions.max().unwrap_or_default();
    say!("bench: {name} {} {sum} {least} {most}", ticks.len());
}

/// Returns how many instructions lie between two looks at the counter that are
/// so many ticks apart: one of the looks is an instruction as well.
fn instructions(ticks: u64) -> u64 {
    (ticks / look()).saturating_sub(1)
}
