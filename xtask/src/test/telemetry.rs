//! What the hypervisor counts and traces about a guest.

mod format;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::dialogue::Dialogue;
use super::images;
use super::monitor::{self, ask};
use super::suite::{Run, Test};
use crate::run::console::PROMPT;
use crate::run::spec::MachineSpec;
use crate::telemetry::tracer::Trace;
use crate::telemetry::{chrome, top};
use format::Tracks;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::on_hypervisor("exits_are_counted_by_reason", counts),
        Test::on_hypervisor("a_trace_of_linux_is_valid", traces),
        Test::on_hypervisor("a_trace_of_vms_that_share_a_cpu_is_valid", traces_turns),
    ]
}

/// What every vCPU of Linux does while it boots.
const ALWAYS: [&str; 3] = ["hvc", "vtimer", "mrs"];

/// Exits of vCPUs: vCPU, reason and how many.
type Exits = Vec<(u32, String, u64)>;

fn counts(run: &Run<'_>) -> Result<()> {
    let mut guest = run.talk_to_shell(|_| {})?;
    guest.expect(PROMPT)?;
    let told = stats(&mut guest)?;
    for vcpu in 0..4 {
        for reason in ALWAYS {
            let count = count(&told, vcpu, reason);
            ensure!(count > 0, "vCPU {vcpu}: no {reason} in {told:?}");
        }
    }
    let shown = top::plain(guest.directory())?;
    let shown = of_top(&shown);
    for (vcpu, reason, count_told) in told {
        let count_shown = count(&shown, vcpu, &reason);
        ensure!(
            count_shown >= count_told,
            "vCPU {vcpu}: top shows {count_shown} × {reason}, the monitor {count_told}"
        );
    }
    monitor::enter(&mut guest)?;
    guest.send("trace on\r");
    guest.expect("tracing: on")?;
    guest.send("trace off\r");
    guest.expect("tracing: off")?;
    leave(guest)
}

/// Asks the monitor about the exits of the only virtual machine.
fn stats(guest: &mut Dialogue) -> Result<Exits> {
    monitor::enter(guest)?;
    let exits = ask(guest, "stats 0", |answer| {
        let rows = answer.lines().filter_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let [vcpu, reason, count, ..] = words.as_slice() else {
                return None;
            };
            Some((
                vcpu.parse().ok()?,
                (*reason).to_owned(),
                count.parse().ok()?,
            ))
        });
        let rows: Exits = rows.collect();
        rows.iter()
            .any(|(_, reason, _)| reason == "all")
            .then_some(rows)
    })?;
    monitor::leave_to(guest, 0)?;
    Ok(exits)
}

/// Reads what `cargo xtask top --once` prints about the only virtual machine.
fn of_top(text: &str) -> Exits {
    let mut vcpu = None;
    let mut exits = Exits::new();
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match (words.as_slice(), vcpu) {
            (["vCPU", number], _) => vcpu = number.parse().ok(),
            ([reason, count], Some(vcpu)) => {
                let count = count.parse().unwrap_or(0);
                exits.push((vcpu, (*reason).to_owned(), count));
            }
            _ => {}
        }
    }
    exits
}

fn count(exits: &Exits, vcpu: u32, reason: &str) -> u64 {
    let row = exits.iter().find(|row| row.0 == vcpu && row.1 == reason);
    row.map_or(0, |row| row.2)
}

fn leave(mut guest: Dialogue) -> Result<()> {
    monitor::leave_to(&mut guest, 0)?;
    guest.send("poweroff\n");
    guest.power_off()?;
    Ok(())
}

/// Reads a trace as other programs do, and checks that it is valid.
fn tracks(trace: &Trace) -> Result<Tracks> {
    let mut json = Vec::new();
    chrome::write(trace, &mut json)?;
    let json: Value = serde_json::from_slice(&json).context("this is no JSON")?;
    Tracks::read(&json)
}

/// Two virtual machines whose two vCPUs each give up and lose their CPU again and
/// again.
fn traces_turns(run: &Run<'_>) -> Result<()> {
    let vms = (0..2)
        .map(|number| {
            let bootargs = format!("seed={} rounds=200", number + 1);
            images::small(run, &format!("vm{number}"), "context", &bootargs)
        })
        .collect::<Result<_>>()?;
    let mut machine = MachineSpec::of(1, vms);
    machine.trace = true;
    let trace = run.talk_on(&machine)?.power_off_traced()?;
    let tracks = tracks(&trace)?;
    let is_whole = trace.lost.iter().all(|lost| *lost == 0);
    let cpu = tracks.named("CPUs", "CPU 0")?;
    for (vm, vcpu) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let turns = cpu.spans(&format!("VM {vm} vCPU {vcpu}"));
        let own = tracks.named(&format!("VM {vm} vm{vm}"), &format!("vCPU {vcpu}"))?;
        let waits = own.spans("wfi");
        ensure!(
            waits > 0 && turns > 0,
            "vCPU {vcpu} of VM {vm}: {waits} waits in {turns} turns"
        );
        // Each wait ends a turn.
        ensure!(
            turns >= waits || !is_whole,
            "vCPU {vcpu} of VM {vm}: {waits} waits, but {turns} turns"
        );
    }
    Ok(())
}

fn traces(run: &Run<'_>) -> Result<()> {
    let mut guest = run.talk_to_shell(|machine| machine.trace = true)?;
    guest.expect(PROMPT)?;
    guest.send("poweroff\n");
    let tracks = tracks(&guest.power_off_traced()?)?;
    for number in 0..4 {
        let vcpu = tracks.named("VM 0 vm0", &format!("vCPU {number}"))?;
        for reason in ALWAYS {
            ensure!(vcpu.spans(reason) > 0, "vCPU {number}: no {reason}");
        }
        ensure!(vcpu.moments("interrupt 27") > 0, "vCPU {number}: no timer");
        let cpu = tracks.named("CPUs", &format!("CPU {number}"))?;
        let turns = cpu.spans(&format!("VM 0 vCPU {number}"));
        ensure!(turns > 0, "CPU {number} has run its vCPU not once");
    }
    Ok(())
}
