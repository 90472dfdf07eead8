//! What the hypervisor costs while every guest sleeps.
//!
//! Instructions are counted one by one (see the package `instruction-counter`)
//! on a machine whose clock is the count of its instructions: what a run counts
//! does not depend on the host, so these tests may assert numbers. While all
//! CPUs sleep, that clock leaps to the next deadline.

use anyhow::{Result, ensure};

use super::suite::{Run, Test};
use crate::guest::initramfs::Purpose;
use crate::run::repeatable::{BOOTARGS, repeatable};

/// How many instructions the hypervisor may execute for each second of guest
/// time, on all CPUs together.
const LIMIT_PER_SECOND: u64 = 100_000;

/// How many seconds guests sleep. What the longer run counts more than the
/// other is what it takes to sleep longer: both start and end alike.
const SHORT: u64 = 10;
const LONG: u64 = 40;

/// The ways to run guests, each with as many virtual machines.
const MODES: [(&str, usize); 3] = [("--linux-smp", 1), ("--linux", 1), ("--multi-vm", 2)];

/// What a guest says when it has slept.
const AWAKE: &str = "slept well";

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::on_hypervisor("idle_machine_executes_almost_nothing", idle_machine).within_minutes(6),
    ]
}

fn idle_machine(run: &Run<'_>) -> Result<()> {
    for (mode, vms) in MODES {
        let short = executed_in_a_run(run, mode, vms, SHORT)?;
        let long = executed_in_a_run(run, mode, vms, LONG)?;
        let idle = long.checked_sub(short);
        ensure!(
            idle.is_some(),
            "{mode}: {long} instructions in a longer run than one of {short}"
        );
        let per_second = idle.unwrap_or_default() / (LONG - SHORT);
        println!("{mode}: {per_second} instructions of the hypervisor per idle second");
        ensure!(
            per_second < LIMIT_PER_SECOND,
            "{mode}: {per_second} are too many; the limit is {LIMIT_PER_SECOND}"
        );
    }
    Ok(())
}

/// Returns how many instructions the hypervisor executes, from the start to the
/// end of a machine in which every guest sleeps for so many seconds.
fn executed_in_a_run(run: &Run<'_>, mode: &str, vms: usize, seconds: u64) -> Result<u64> {
    let flags = [mode, "--count-instructions", "--append", BOOTARGS];
    let mut machine = repeatable(run.machine(&flags, None)?);
    ensure!(
        machine.vms.len() == vms,
        "{mode} runs {} virtual machines",
        machine.vms.len()
    );
    for vm in &mut machine.vms {
        let command = format!("sleep {seconds} && echo '{AWAKE}'");
        vm.initrd = run.linux(Purpose::Run { command })?.initrd;
    }
    let (printed, counts) = run.talk_on(&machine)?.power_off_counted()?;
    let awake = printed
        .lines()
        .filter(|line| line.trim_end().ends_with(AWAKE))
        .count();
    ensure!(
        awake == vms,
        "{awake} of {vms} virtual machines have slept; the console:\n{printed}"
    );
    Ok(counts.hypervisor())
}
