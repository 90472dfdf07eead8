//! What the hypervisor costs while every guest sleeps.
//!
//! Instructions are counted one by one (see the package `instruction-counter`)
//! on a machine whose clock is the count of its instructions: what a run counts
//! does not depend on the host, so these tests may assert numbers. While all
//! CPUs sleep, that clock leaps to the next deadline.

use anyhow::{Context, Result, ensure};

use super::suite::{Run, Test};
use crate::guest::initramfs::Purpose;
use crate::run::instructions::{Counts, Exits};
use crate::run::repeatable::{BOOTARGS, repeatable};

/// How many instructions the hypervisor may execute for each second of guest
/// time, on all CPUs together.
const LIMIT_PER_SECOND: u64 = 100_000;

/// How many seconds guests sleep. What the longer run counts more than the
/// other is what it takes to sleep longer: both start and end alike.
const SHORT: u64 = 10;
const LONG: u64 = 40;

/// How often all vCPUs of a virtual machine together may be left for each second
/// in which its Linux has nothing to do.
const EXITS_PER_SECOND: u64 = 100;

/// The ways to run guests, each with as many virtual machines.
const MODES: [(&str, usize); 3] = [("--linux-smp", 1), ("--linux", 1), ("--multi-vm", 2)];

/// What a guest says when it has slept.
const AWAKE: &str = "slept well";

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::on_hypervisor("idle_machine_executes_almost_nothing", idle_machine).within_minutes(6),
        Test::on_hypervisor("an_idle_linux_is_left_alone", idle_linux).within_minutes(6),
    ]
}

fn idle_machine(run: &Run<'_>) -> Result<()> {
    for (mode, vms) in MODES {
        let (short, _) = counted_in_a_run(run, mode, vms, SHORT)?;
        let (long, _) = counted_in_a_run(run, mode, vms, LONG)?;
        let per_second = per_idle_second(short.hypervisor(), long.hypervisor())?;
        println!("{mode}: {per_second} instructions of the hypervisor per idle second");
        ensure!(
            per_second < LIMIT_PER_SECOND,
            "{mode}: {per_second} are too many; the limit is {LIMIT_PER_SECOND}"
        );
    }
    Ok(())
}

fn idle_linux(run: &Run<'_>) -> Result<()> {
    let (_, short) = counted_in_a_run(run, "--linux-smp", 1, SHORT)?;
    let (_, long) = counted_in_a_run(run, "--linux-smp", 1, LONG)?;
    let per_second = per_idle_second(short.total(), long.total())?;
    println!(
        "{per_second} exits per idle second of 4 vCPUs; in {} seconds {} synchronous and {} for \
         interrupts",
        LONG - SHORT,
        long.synchronous.saturating_sub(short.synchronous),
        long.interrupts.saturating_sub(short.interrupts)
    );
    ensure!(
        per_second < EXITS_PER_SECOND,
        "{per_second} exits per second are too many; the limit is {EXITS_PER_SECOND}"
    );
    Ok(())
}

/// Returns what one idle second adds, rounded up, if this was counted in a short
/// run and that in a long one.
fn per_idle_second(short: u64, long: u64) -> Result<u64> {
    let idle = long.checked_sub(short);
    let idle = idle.with_context(|| format!("{long} in a longer run than one with {short}"))?;
    Ok(idle.div_ceil(LONG - SHORT))
}

/// Counts the instructions of a machine, from its start to its end, in which
/// every guest sleeps for so many seconds, and how often guests were left.
fn counted_in_a_run(
    run: &Run<'_>,
    mode: &str,
    vms: usize,
    seconds: u64,
) -> Result<(Counts, Exits)> {
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
    let (printed, counts, exits) = run.talk_on(&machine)?.power_off_counted()?;
    let awake = printed
        .lines()
        .filter(|line| line.trim_end().ends_with(AWAKE))
        .count();
    ensure!(
        awake == vms,
        "{awake} of {vms} virtual machines have slept; the console:\n{printed}"
    );
    Ok((counts, exits))
}
