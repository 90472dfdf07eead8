//! What else the machine does, seen by what passes a spinning CPU by.

use test_guests::check;
use test_guests::runtime::timer;

use super::operation;

/// More instructions than lie between two looks at the counter, and fewer than
/// anything else takes.
const LONGEST_ALONE: u64 = 32;

/// How long nothing may happen until the machine counts as quiet, in microseconds:
/// longer than QEMU lets one CPU run while others could.
const QUIET: u64 = 300_000;

/// How often it may happen that something does.
const PATIENCE: u32 = 10_000;

/// Spins until something else runs, and returns for how many ticks; `None` if
/// nothing does for so many microseconds.
pub(crate) fn gap(within: u64) -> Option<u64> {
    let longest = operation::nothing() * LONGEST_ALONE;
    let (last, now) = operation::gap(longest, timer::now() + timer::ticks(within));
    (now - last > longest).then_some(now - last)
}

/// Spins until this CPU has its next turn, and returns when the last one ended and
/// this one began.
pub(crate) fn next_turn() -> (u64, u64) {
    operation::gap(operation::nothing() * LONGEST_ALONE, u64::MAX)
}

/// Waits until all other CPUs and VMs sleep.
pub(crate) fn wait() {
    let quiet = (0..PATIENCE).any(|_| gap(QUIET).is_none());
    check!(quiet, "the rest of the machine does not come to rest");
}
