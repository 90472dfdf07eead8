//! Linux in a storm of interrupts.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};

use super::linux::{LOG_FOLLOWS, healthy, per_cpu};
use super::suite::{Run, Test, Verdict};
use crate::guest::initramfs;

/// The package whose program makes the storm.
const PACKAGE: &str = "test-storm";
const PROGRAM: &str = "storm";

const VCPUS: u32 = 8;
/// Ten minutes of the guest's time.
const SECONDS: u64 = 600;

/// Separates what the command tells.
const STORM_FOLLOWS: &str = "--- storm ---";
const AFTERWARDS: &str = "--- afterwards ---";

/// How many interrupts each CPU must get at least, of its timer and of the other
/// CPUs: how many it can get is the host's affair.
const LEAST: u64 = 1000;

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new("linux_8_vcpus_weather_an_interrupt_storm", weathers).within_minutes(20)]
}

fn weathers(run: &Run<'_>) -> Result<Verdict> {
    let program = storm(run)?;
    let command = format!(
        "cat /proc/interrupts; echo '{STORM_FOLLOWS}'
         {PROGRAM} {SECONDS} {VCPUS} || exit 1
         echo '{AFTERWARDS}'; cat /proc/interrupts
         echo '{LOG_FOLLOWS}'; dmesg"
    );
    let output = run.output(&command, |machine| {
        machine.pcpus = VCPUS;
        for vm in &mut machine.vms {
            vm.vcpus = VCPUS;
            vm.append("quiet");
            vm.unpack(&program);
        }
    })?;
    let told = healthy(&output)?;
    let (before, rest) = told.split_once(STORM_FOLLOWS).context("no storm")?;
    let (storm, after) = rest.split_once(AFTERWARDS).context("no end")?;
    for line in storm.lines().filter(|line| line.starts_with("storm: end")) {
        println!("{line}");
    }
    progressed(storm, VCPUS as usize, SECONDS)?;
    let [before, after] = [before, after].map(Interrupts::read);
    let errors = after.of("Err:");
    ensure!(errors == [0], "interrupts that nobody expects: {errors:?}");
    for (what, names) in [
        ("timer interrupts", &["arch_timer"][..]),
        ("IPIs", &["IPI0:", "IPI1:"]),
    ] {
        let came = after.since(&before, names)?;
        println!("{what}: {came:?}");
        let enough = came.len() == VCPUS as usize && came.iter().all(|came| *came >= LEAST);
        ensure!(enough, "too few {what}: {came:?}; the output:\n{output}");
    }
    Ok(Verdict::Passed)
}

/// Checks what a storm of `seconds` on `cpus` CPUs has told: all numbers once a minute,
/// of which each has grown since the minute before, and all once more in the end.
fn progressed(storm: &str, cpus: usize, seconds: u64) -> Result<()> {
    let minutes = seconds / 60;
    let mut before = vec![[0; 2]; cpus];
    for minute in 1..=minutes {
        let when = format!("minute {minute}");
        let now = report(storm, &when);
        ensure!(now.len() == cpus, "{when}: not {cpus} CPUs: {now:?}");
        let grew = |(now, before): (&[u64; 2], &[u64; 2])| now[0] > before[0] && now[1] > before[1];
        ensure!(
            now.iter().zip(&before).all(grew),
            "{when}: a CPU stood still: {before:?}, then {now:?}"
        );
        before = now;
    }
    let further = report(storm, &format!("minute {}", minutes + 1));
    ensure!(further.is_empty(), "a minute too many: {further:?}");
    let last = report(storm, "end");
    ensure!(last.len() == cpus, "in the end not {cpus} CPUs: {last:?}");
    let took = storm.lines().find_map(|line| {
        let took = line.strip_prefix("storm: ")?;
        took.strip_suffix(" s, 0 failures")?.parse::<u64>().ok()
    });
    ensure!(
        took.is_some_and(|took| took >= seconds),
        "it has not come to its end after {seconds} s: {took:?}"
    );
    Ok(())
}

/// Returns the ticks and strokes of each CPU as the storm told them at one time.
fn report(storm: &str, when: &str) -> Vec<[u64; 2]> {
    let lines = (0..).map_while(|cpu| {
        let name = format!("storm: {when} cpu {cpu} ticks ");
        storm.lines().find_map(|line| line.strip_prefix(&name))
    });
    lines
        .filter_map(|numbers| {
            let (ticks, strokes) = numbers.split_once(" strokes ")?;
            Some([ticks.parse().ok()?, strokes.parse().ok()?])
        })
        .collect()
}

/// Builds the program that makes the storm.
fn storm(run: &Run<'_>) -> Result<Vec<u8>> {
    let workspace = run.context.workspace;
    let file = workspace.build_for_target(PACKAGE, &[])?.join(PROGRAM);
    let program = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    initramfs::program(PROGRAM, &program)
}

/// What /proc/interrupts shows.
struct Interrupts<'a>(Vec<(&'a str, Vec<u64>)>);

impl<'a> Interrupts<'a> {
    fn read(text: &'a str) -> Self {
        Self(text.lines().map(|line| (line, per_cpu(line))).collect())
    }

    /// Returns the counts of the line that contains `name`, CPU by CPU.
    fn of(&self, name: &str) -> &[u64] {
        let line = self.0.iter().find(|(line, _)| line.contains(name));
        line.map_or(&[], |(_, counts)| counts)
    }

    /// Returns how many of all with these names have come to each CPU since
    /// `before`.
    fn since(&self, before: &Self, names: &[&str]) -> Result<Vec<u64>> {
        let mut sums = Vec::new();
        for name in names {
            let (old, new) = (before.of(name), self.of(name));
            if old.len() != new.len() || new.is_empty() {
                bail!("{name}: {old:?} before, {new:?} after");
            }
            sums.resize(new.len(), 0);
            for (sum, (new, old)) in sums.iter_mut().zip(new.iter().zip(old)) {
                *sum += new.saturating_sub(*old);
            }
        }
        Ok(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "           CPU0       CPU1\n\
        \x2011:       10         20     GICv3  27 Level     arch_timer\n\
        IPI0:         1          2       Rescheduling interrupts\n\
        IPI1:         3          4       Function call interrupts\n\
        Err:          0\n";

    #[test]
    fn interrupts_are_counted_cpu_by_cpu() {
        let after = BEFORE
            .replace("10  ", "15  ")
            .replace("2       Resch", "9       Resch");
        let (before, after) = (Interrupts::read(BEFORE), Interrupts::read(&after));
        let timer = after.since(&before, &["arch_timer"]).unwrap();
        assert_eq!(timer, [5, 0]);
        let calls = after.since(&before, &["IPI0:", "IPI1:"]).unwrap();
        assert_eq!(calls, [0, 7]);
        assert_eq!(after.of("Err:"), [0]);
    }

    const TOLD: &str = "storm: word 300\n\
        storm: minute 1 cpu 0 ticks 10 strokes 5\n\
        storm: minute 1 cpu 1 ticks 11 strokes 6\n\
        storm: minute 2 cpu 0 ticks 20 strokes 10\n\
        storm: minute 2 cpu 1 ticks 21 strokes 11\n\
        storm: end cpu 0 ticks 20 strokes 11\n\
        storm: end cpu 1 ticks 21 strokes 12\n\
        storm: 120 s, 0 failures\n";

    #[test]
    fn every_number_has_to_grow_in_every_minute() {
        progressed(TOLD, 2, 120).unwrap();
        for (old, new) in [
            ("minute 2 cpu 1 ticks 21", "minute 2 cpu 1 ticks 11"),
            ("ticks 20 strokes 10", "ticks 20 strokes 5"),
            ("minute 1 cpu 0 ticks 10", "minute 1 cpu 0 ticks 0"),
            ("storm: minute 2 cpu 1", "storm: minute 3 cpu 1"),
            ("storm: end cpu 1", "storm: over cpu 1"),
            ("120 s", "119 s"),
            ("0 failures", "1 failures"),
        ] {
            let told = TOLD.replace(old, new);
            assert_ne!(told, TOLD);
            assert!(progressed(&told, 2, 120).is_err(), "{told}");
        }
        assert!(progressed(TOLD, 2, 60).is_err(), "a minute too many");
        assert!(progressed(TOLD, 2, 180).is_err(), "a minute too few");
        assert!(progressed(TOLD, 3, 120).is_err());
    }

    #[test]
    fn a_line_that_is_missing_is_an_error() {
        let before = Interrupts::read(BEFORE);
        assert!(before.since(&before, &["IPI2:"]).is_err());
    }
}
