//! Virtual machines that start anew a thousand times, beside one that must not
//! notice.

use anyhow::{Context, Result, ensure};

use super::dialogue::Dialogue;
use super::images;
use super::monitor::{self, Memory};
use super::suite::{Run, Test};
use crate::run::spec::MachineSpec;

/// How often a virtual machine starts anew.
const LIVES: usize = 1000;

/// What the guests say: one when it is alive, one when it has left everything
/// in disorder, one when it begins, which it does once.
const ALIVE: &str = "phoenix: alive";
const WAITS: &str = "phoenix: waits";
const BEGINS: &str = "heartbeat: begins";

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::on_hypervisor("a_vm_is_restarted_1000_times", restarted).within_minutes(6),
        Test::on_hypervisor("a_vm_reboots_1000_times", reboots).within_minutes(6),
    ]
}

/// The monitor restarts a virtual machine again and again.
fn restarted(run: &Run<'_>) -> Result<()> {
    let mut guest = start(run, "wait", WAITS)?;
    let first = Beats::ask(&mut guest)?;
    monitor::enter(&mut guest)?;
    let before = Memory::ask(&mut guest)?;
    for life in 1..=LIVES {
        guest.send("restart 1\r");
        guest
            .expect(ALIVE)
            .with_context(|| format!("restart {life}"))?;
        guest.expect(WAITS)?;
    }
    let after = Memory::ask(&mut guest)?;
    ensure!(
        after == before,
        "memory before {LIVES} restarts and after: {before:?}, {after:?}"
    );
    monitor::stop(&mut guest, 1)?;
    end(guest, first, LIVES + 1)
}

/// A virtual machine resets itself again and again.
fn reboots(run: &Run<'_>) -> Result<()> {
    let mut guest = start(run, "reboot", ALIVE)?;
    let first = Beats::ask(&mut guest)?;
    monitor::enter(&mut guest)?;
    // It is off each time the memory is looked at: while it lives nobody knows
    // what it is about to do.
    monitor::stop(&mut guest, 1)?;
    let before = Memory::ask(&mut guest)?;
    guest.send("restart 1\r");
    for life in 1..=LIVES {
        guest
            .expect(ALIVE)
            .with_context(|| format!("reset {life}"))?;
    }
    monitor::stop(&mut guest, 1)?;
    let after = Memory::ask(&mut guest)?;
    ensure!(
        after == before,
        "memory before {LIVES} resets and after: {before:?}, {after:?}"
    );
    end(guest, first, LIVES + 1)
}

/// Starts two virtual machines: one that beats, with the focus, and one that
/// comes to life with these boot arguments. Waits until it has said `text`.
fn start(run: &Run<'_>, bootargs: &str, text: &str) -> Result<Dialogue> {
    let mut heartbeat = images::small(run, "heartbeat", "heartbeat", "keys")?;
    heartbeat.vcpus = 1;
    let mut phoenix = images::small(run, "phoenix", "phoenix", bootargs)?;
    phoenix.memory_mib = 8;
    let mut guest = run.talk_on(&MachineSpec::of(2, vec![heartbeat, phoenix]))?;
    guest.expect_all(&[BEGINS, text])?;
    Ok(guest)
}

/// Checks that one virtual machine came to life at least so often and the other
/// lived all the time, and ends the machine.
fn end(mut guest: Dialogue, first: Beats, lives: usize) -> Result<()> {
    monitor::leave_to(&mut guest, 0)?;
    let last = Beats::ask(&mut guest)?;
    let all = guest.all()?;
    let count = |text: &str| all.matches(text).count();
    let (begun, lived) = (count(BEGINS), count(ALIVE));
    ensure!(begun == 1, "VM 0 began {begun} times");
    ensure!(lived >= lives, "VM 1 lived {lived} times, not {lives}");
    ensure!(
        last.milliseconds > first.milliseconds && last.beats > first.beats,
        "VM 0's time stood still: {first:?}, {last:?}"
    );
    println!(
        "{lived} lives; the other virtual machine: {} beats in {} ms, longest gap {} us",
        last.beats, last.milliseconds, last.longest_gap
    );
    guest.send("q");
    let printed = guest.power_off()?;
    ensure!(
        printed.contains("guest heartbeat: ok"),
        "VM 0 is not content; the console:\n{printed}"
    );
    ensure!(
        !all.contains("FAILED"),
        "a guest has failed; the console:\n{printed}"
    );
    Ok(())
}

/// What the guest `heartbeat` tells.
#[derive(Debug, PartialEq, Eq)]
struct Beats {
    milliseconds: u64,
    beats: u64,
    /// In microseconds.
    longest_gap: u64,
}

impl Beats {
    /// Asks it; it has the focus.
    fn ask(guest: &mut Dialogue) -> Result<Self> {
        guest.send("r");
        loop {
            guest.expect("heartbeat: ")?;
            let line = guest.expect("\n")?;
            if let Some(beats) = Self::parse(&line) {
                return Ok(beats);
            }
            ensure!(!line.contains("FAILED"), "guest heartbeat: {line}");
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut numbers = line
            .split(|end: char| !end.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok());
        Some(Self {
            milliseconds: numbers.next()?,
            beats: numbers.next()?,
            longest_gap: numbers.next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_heart_says_is_read() {
        let beats = Beats::parse("504 ms, 100 beats, longest gap 5302 us\r").unwrap();
        assert_eq!((beats.milliseconds, beats.beats), (504, 100));
        assert_eq!(Beats::parse("begins\r"), None);
    }
}
