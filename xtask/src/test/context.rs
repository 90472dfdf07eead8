//! The registers of vCPUs that share physical CPUs.

use anyhow::{Result, ensure};

use super::images;
use super::suite::{Run, Test};
use crate::run::spec::MachineSpec;

/// How many virtual machines there are, how many vCPUs each has, and how often
/// each vCPU fills and checks its registers.
const VMS: usize = 2;
const VCPUS: usize = 2;
const ROUNDS: u64 = 1500;

/// The fewest switches, of one kind or another, that a vCPU must have seen on a
/// shared CPU.
const FEWEST_SWITCHES: u64 = 800;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::on_hypervisor("registers_of_vms_and_vcpus_never_mix", |run| mix(run, 1)),
        Test::on_hypervisor("registers_never_mix_while_vcpus_move", |run| mix(run, 2)),
    ]
}

/// Two virtual machines whose vCPUs fill every register, wait, call and spin,
/// and look at every register again.
fn mix(run: &Run<'_>, pcpus: u32) -> Result<()> {
    let vms = (0..VMS)
        .map(|index| {
            let bootargs = format!("seed={} rounds={ROUNDS}", index + 1);
            images::small(run, &format!("vm{index}"), "context", &bootargs)
        })
        .collect::<Result<_>>()?;
    let printed = run.talk_on(&MachineSpec::of(pcpus, vms))?.power_off()?;
    let said = |what: &str| printed.lines().filter(|line| line.contains(what)).count();
    ensure!(
        said("guest context: FAILED") == 0 && said("guest context: ok") == VMS,
        "not every virtual machine is content; the console:\n{printed}"
    );
    let mut vcpus = 0;
    for line in printed.lines() {
        let Some(seen) = Seen::parse(line) else {
            continue;
        };
        vcpus += 1;
        ensure!(
            seen.rounds == ROUNDS && seen.switches() >= FEWEST_SWITCHES,
            "a vCPU has seen too little: {line}"
        );
    }
    ensure!(
        vcpus == VMS * VCPUS,
        "{vcpus} vCPUs have reported; the console:\n{printed}"
    );
    Ok(())
}

/// What a vCPU tells about itself.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    rounds: u64,
    /// Rounds in which another vCPU of the same VM came further.
    others_ran: u64,
    /// Spins that took much longer than they should.
    interrupted: u64,
    /// Waits until a timer expired, for which it gave up its CPU.
    waits: u64,
}

impl Seen {
    fn parse(line: &str) -> Option<Self> {
        let (_, report) = line.split_once("context: CPU ")?;
        let mut numbers = report
            .split(|end: char| !end.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok())
            .skip(1);
        Some(Self {
            rounds: numbers.next()?,
            others_ran: numbers.next()?,
            interrupted: numbers.next()?,
            waits: numbers.next()?,
        })
    }

    /// Returns how often it was switched away at least: while another ran it may
    /// have waited.
    fn switches(&self) -> u64 {
        self.interrupted + self.others_ran.max(self.waits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let line =
            "vm1| context: CPU 1: 20 rounds, others ran in 4, 3 spins interrupted, 12 full waits\r";
        let seen = Seen::parse(line).unwrap();
        assert_eq!((seen.rounds, seen.switches()), (20, 15));
        assert_eq!(Seen::parse("guest context: ok"), None);
    }
}
