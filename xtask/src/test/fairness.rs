//! How physical CPUs are shared out, in the guests' own time.
//!
//! The clock of these machines is the count of their instructions, so that
//! nothing depends on the host: a share is the same in every run.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::images;
use super::monitor::{self, Times};
use super::suite::{Run, Test};
use crate::guest::initramfs::Purpose;
use crate::run::repeatable::{BOOTARGS, repeatable};
use crate::run::spec::MachineSpec;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::on_hypervisor("a_vcpu_wakes_while_another_spins", wakes),
        Test::on_hypervisor("a_busy_vm_does_not_delay_another", undelayed).within_minutes(6),
        Test::on_hypervisor("four_busy_vcpus_have_a_quarter_each", quarters).within_minutes(6),
    ]
}

/// How often a vCPU sleeps, and how late it may wake, in microseconds: less than
/// a slice.
const SLEEPS: u64 = 400;
const LATEST: u64 = 10_000;

/// A vCPU sleeps until its timer, the other one of the VM spins on the same CPU.
fn wakes(run: &Run<'_>) -> Result<()> {
    let vm = images::small(run, "vm0", "sleeper", &format!("sleeps={SLEEPS}"))?;
    let printed = run
        .talk_on(&repeatable(MachineSpec::of(1, vec![vm])))?
        .power_off()?;
    let line = printed
        .lines()
        .find(|line| line.starts_with(&format!("sleeper: {SLEEPS} sleeps")));
    let line = line.with_context(|| format!("no result; the console:\n{printed}"))?;
    ensure!(
        printed.contains("guest sleeper: ok"),
        "the guest is not content; the console:\n{printed}"
    );
    println!("{}", line.trim_end());
    let (_, latest) = line.split_once("average, ").context("no latest waking")?;
    let latest: f64 = latest.split(' ').next().unwrap_or_default().parse()?;
    ensure!(
        latest < LATEST as f64,
        "a vCPU wakes {latest} us late, the limit is {LATEST}"
    );
    Ok(())
}

/// How often the other virtual machine sleeps for a second, and what a second
/// may be, in hundredths.
const SECONDS: usize = 10;
const SECOND: std::ops::Range<u64> = 100..120;

/// One virtual machine is busy for as long as the other sleeps.
fn undelayed(run: &Run<'_>) -> Result<()> {
    let mut machine = repeatable(run.machine(&["--multi-vm", "--append", BOOTARGS], None)?);
    let commands = [
        "echo busy; while :; do :; done".to_owned(),
        // Begins when the other one is known to be busy.
        format!(
            "echo idle; read go < /dev/ttyAMA0
             for n in $(seq {SECONDS}); do
                 read from rest < /proc/uptime; sleep 1; read to rest < /proc/uptime
                 echo \"slept: $from $to\"
             done"
        ),
    ];
    for (vm, command) in machine.vms.iter_mut().zip(commands) {
        vm.initrd = run.linux(Purpose::Run { command })?.initrd;
    }
    let mut guest = run.talk_on(&machine)?;
    guest.expect_all(&["busy", "vm1| idle"])?;
    monitor::leave_to(&mut guest, 1)?;
    guest.send("\n");
    for n in 1..=SECONDS {
        guest.expect("slept: ")?;
        let line = guest.expect("\n")?;
        let slept = slept(&line).with_context(|| format!("not two times: {line}"))?;
        println!("sleep 1: {slept} hundredths of a second");
        ensure!(
            SECOND.contains(&slept),
            "second {n} takes {slept} hundredths"
        );
    }
    guest.expect("VM 1 is off")?;
    monitor::enter(&mut guest)?;
    guest.send("stop 0\r");
    guest.power_off()?;
    Ok(())
}

/// Returns how long was slept, from two readings of `/proc/uptime`.
fn slept(line: &str) -> Option<u64> {
    let mut times = line.split_whitespace().map(hundredths);
    let (from, to) = (times.next()??, times.next()??);
    to.checked_sub(from)
}

fn hundredths(time: &str) -> Option<u64> {
    let (seconds, rest) = time.split_once('.')?;
    (rest.len() == 2)
        .then(|| format!("{seconds}{rest}").parse().ok())
        .flatten()
}

/// What a share of one quarter may be, in percent, and for how many seconds it is
/// looked at.
const QUARTER: std::ops::RangeInclusive<f64> = 22.0..=28.0;
const MINUTE: u64 = 60;

/// Each vCPU of a Linux guest counts as fast as it can. The guest says what each
/// has done and had, and so does the hypervisor.
fn quarters(run: &Run<'_>) -> Result<()> {
    let mut machine = repeatable(run.machine(&["--linux", "--append", BOOTARGS], None)?);
    ensure!(machine.pcpus == 1, "the machine has {} CPUs", machine.pcpus);
    let command = format!(
        "count() {{
             trap 'echo work $1 $n; exit' TERM
             n=0; while :; do n=$((n + 1)); done
         }}
         for cpu in 0 1 2 3; do
             count $cpu & taskset -p $((1 << cpu)) $! > /dev/null; jobs=\"$jobs $!\"
         done
         tell() {{ head -n 5 /proc/stat | sed \"s/^/$1 /\"; echo $1 that; }}
         tell before; sleep {MINUTE}; tell after
         read go < /dev/ttyAMA0
         kill $jobs; wait"
    );
    for vm in &mut machine.vms {
        let command = command.clone();
        vm.initrd = run.linux(Purpose::Run { command })?.initrd;
    }
    let mut guest = run.talk_on(&machine)?;
    let mut output = String::new();
    let mut times = Vec::new();
    for moment in ["before", "after"] {
        output.push_str(&guest.expect(&format!("{moment} that"))?);
        // They count on all the while.
        monitor::enter(&mut guest)?;
        times.push(Times::ask(&mut guest)?);
        monitor::leave_to(&mut guest, 0)?;
    }
    guest.send("\n");
    output.push_str(&guest.power_off()?);

    let work = shares(&work(&output));
    let used = used(&output);
    let [first, last] = times.as_slice() else {
        bail!("{} answers of the monitor", times.len());
    };
    for cpu in 0..4 {
        let work = *work.get(&cpu).with_context(|| missing(cpu, &output))?;
        let (ran, stolen) = *used.get(&cpu).with_context(|| missing(cpu, &output))?;
        let given = given(first, last, cpu).with_context(|| format!("no vCPU {cpu}: {times:?}"))?;
        println!(
            "vCPU {cpu}: {work:.1} % of the work; by Linux {ran:.1} % of the time and \
             {stolen:.1} % stolen; by the hypervisor {given:.1} %"
        );
        for share in [work, ran, given] {
            ensure!(
                QUARTER.contains(&share),
                "vCPU {cpu} has {share:.1} %; {times:?}; the console:\n{output}"
            );
        }
    }
    Ok(())
}

fn missing(cpu: u32, output: &str) -> String {
    format!("nothing about vCPU {cpu}; the console:\n{output}")
}

/// Returns which part of the time a vCPU of VM 0 ran, in percent.
fn given(first: &Times, last: &Times, vcpu: u32) -> Option<f64> {
    let ran = |times: &Times| {
        let mut vcpus = times.vcpus.iter();
        let time = vcpus.find(|time| (time.vm, time.vcpu) == (0, vcpu))?;
        Some(time.ran)
    };
    let run = ran(last)?.checked_sub(ran(first)?)?;
    let whole = last.uptime.checked_sub(first.uptime)?;
    Some(100.0 * run as f64 / whole as f64)
}

/// Reads the lines `work CPU COUNT`.
fn work(output: &str) -> BTreeMap<u32, f64> {
    let lines = output.lines().filter_map(|line| line.strip_prefix("work "));
    lines
        .filter_map(|line| {
            let (cpu, count) = line.split_once(' ')?;
            Some((cpu.parse().ok()?, count.trim_end().parse().ok()?))
        })
        .collect()
}

/// Returns what each has of the sum, in percent.
fn shares(counts: &BTreeMap<u32, f64>) -> BTreeMap<u32, f64> {
    let sum: f64 = counts.values().sum();
    let share = |(cpu, count): (&u32, &f64)| (*cpu, 100.0 * count / sum);
    counts.iter().map(share).collect()
}

/// Reads `/proc/stat` before and after, and returns for each CPU which part of
/// the time between it ran and which was stolen, in percent.
fn used(output: &str) -> BTreeMap<u32, (f64, f64)> {
    let before = jiffies(output, "before cpu");
    let after = jiffies(output, "after cpu");
    after
        .into_iter()
        .filter_map(|(cpu, after)| {
            let before = before.get(&cpu)?;
            let spent: Vec<f64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
            // user, nice, system, idle, iowait, irq, softirq, steal
            let whole: f64 = spent.iter().take(8).sum();
            let [user, nice, system, _, _, irq, softirq, steal, ..] = spent.as_slice() else {
                return None;
            };
            let ran = user + nice + system + irq + softirq;
            Some((cpu, (100.0 * ran / whole, 100.0 * steal / whole)))
        })
        .collect()
}

fn jiffies(output: &str, prefix: &str) -> BTreeMap<u32, Vec<f64>> {
    let lines = output.lines().filter_map(|line| line.strip_prefix(prefix));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            // The sum of all has no number.
            let number = line.starts_with(|first: char| first.is_ascii_digit());
            let cpu = number.then(|| words.next()?.parse().ok()).flatten()?;
            Some((cpu, words.filter_map(|word| word.parse().ok()).collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_sum() {
        let counts = work("work 0 10\nwork 1 30\r\nworks 2 5\n");
        let shares = shares(&counts);
        assert_eq!(shares.get(&0), Some(&25.0));
        assert_eq!(shares.get(&1), Some(&75.0));
        assert_eq!(shares.len(), 2);
    }

    #[test]
    fn time_is_told_apart_from_stolen_time() {
        let output = "before cpu  1 0 0 0 0 0 0 0 0 0\nbefore cpu0 10 0 5 100 0 0 0 20 0 0\n\
                      after cpu  9 0 0 0 0 0 0 0 0 0\nafter cpu0 30 0 10 100 0 0 0 95 0 0\n";
        assert_eq!(used(output).get(&0), Some(&(25.0, 75.0)));
    }

    #[test]
    fn uptimes_are_subtracted_exactly() {
        assert_eq!(slept("9.99 11.00\r"), Some(101));
        assert_eq!(slept("9.9 11.00"), None);
        assert_eq!(slept("11.00"), None);
    }
}
