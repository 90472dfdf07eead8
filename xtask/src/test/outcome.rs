//! Tests of the tests: how a machine ends is never taken for something else.

use std::fs;

use anyhow::{Result, ensure};

use super::suite::{Run, Test, Verdict};
use crate::run::session::Outcome;
use crate::run::spec::{Boot, Mode, VmSpec};

/// PSCI function numbers (Arm DEN 0022).
const SYSTEM_OFF: u32 = 0x8400_0008;
const SYSTEM_RESET: u32 = 0x8400_0009;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("a_power_off_is_a_success", |run| {
            ends(run, SYSTEM_OFF, &Outcome::PoweredOff)
        }),
        Test::new("a_reset_of_the_machine_is_a_failure", |run| {
            ends(run, SYSTEM_RESET, &Outcome::HypervisorFailed)
        }),
        Test::new("a_vm_that_does_not_fit_is_reported", does_not_fit),
    ]
}

/// Runs a program that calls this function of PSCI and nothing else, on a
/// machine that must not restart, as it is for the hypervisor.
fn ends(run: &Run<'_>, function: u32, expected: &Outcome) -> Result<Verdict> {
    let program = [
        0xd280_0000 | (function & 0xffff) << 5, // movz x0, #low
        0xf2a0_0000 | (function >> 16) << 5,    // movk x0, #high, lsl #16
        0xd400_0002,                            // hvc #0
        0x1400_0000,                            // b .
    ];
    let file = run.directory()?.join(format!("psci-{function:x}.bin"));
    fs::write(&file, program.map(u32::to_le_bytes).concat())?;
    let guest = run.talk(VmSpec::new(Boot::Kernel(file)), |machine| {
        machine.mode = Mode::Bare;
        machine.qemu_args.push("-no-reboot".to_owned());
    })?;
    let outcome = guest.outcome()?;
    ensure!(outcome == *expected, "the outcome is: {outcome}");
    Ok(Verdict::Passed)
}

/// Gives a VM less memory than its device tree needs: the hypervisor says so and
/// the run is a failure.
fn does_not_fit(run: &Run<'_>) -> Result<Verdict> {
    if run.context.is_bare() {
        return Ok(Verdict::Skipped("it is about the hypervisor".to_owned()));
    }
    let file = run.directory()?.join("nothing.bin");
    fs::write(&file, [0; 4])?;
    let mut vm = VmSpec::new(Boot::Kernel(file));
    vm.memory_mib = 2;
    let mut guest = run.talk(vm, |_| {})?;
    guest.expect("the VM's memory is too small")?;
    let outcome = guest.outcome()?;
    ensure!(
        outcome == Outcome::HypervisorFailed,
        "the outcome is: {outcome}"
    );
    Ok(Verdict::Passed)
}
