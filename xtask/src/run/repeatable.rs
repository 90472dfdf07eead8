//! Machines on which a run is the same each time.

use super::spec::MachineSpec;

/// One instruction is one tick of the guests' counter (16 ns), a machine that
/// sleeps leaps to its next deadline, and nothing comes from the host but the
/// pace at which it takes what the console prints.
const ARGUMENTS: [&str; 8] = [
    "-icount",
    "shift=4,sleep=off",
    "-rtc",
    "base=2024-01-01,clock=vm",
    "-seed",
    "1",
    "-machine",
    "dtb-randomness=off",
];

/// What Linux is told there: nothing of it is random, and it starts quicker
/// without tests of itself.
pub(crate) const BOOTARGS: &str = "quiet nokaslr cryptomgr.notests=1";

/// Gives a machine a clock that counts its instructions.
pub(crate) fn repeatable(mut machine: MachineSpec) -> MachineSpec {
    machine.qemu_args.extend(ARGUMENTS.map(str::to_owned));
    machine
}
