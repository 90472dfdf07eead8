//! The console that several virtual machines share, and the monitor behind it.

use std::fs;

use anyhow::{Context, Result, ensure};

use super::dialogue::Dialogue;
use super::monitor;
use super::suite::{Run, Test};
use crate::run::console::PROMPT;
use crate::run::session::Outcome;
use crate::run::spec::{Boot, VmSpec};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::on_hypervisor("each_vm_has_a_console_of_its_own", consoles),
        Test::on_hypervisor("a_vm_that_fails_is_reported", crash_report),
    ]
}

/// Types a command to the shell that has the focus, and waits for its answer.
fn ask(guest: &mut Dialogue, command: &str, answer: &str) -> Result<()> {
    guest.send(&format!("{command}\n"));
    // What is typed comes back first.
    guest.expect("\n")?;
    guest.expect(answer)?;
    guest.expect(PROMPT)?;
    Ok(())
}

/// Types a command to the monitor, whose answer must have this in it.
fn command(guest: &mut Dialogue, command: &str, answer: &str) -> Result<()> {
    monitor::enter(guest)?;
    monitor::ask(guest, command, |said| said.contains(answer).then_some(()))
        .with_context(|| format!("{answer:?} is not what {command:?} says"))
}

/// Gives a virtual machine the focus, whose shell then prompts again.
fn focus(guest: &mut Dialogue, vm: u32) -> Result<()> {
    monitor::leave_to(guest, vm)?;
    guest.send("\n");
    guest.expect(PROMPT)?;
    Ok(())
}

fn consoles(run: &Run<'_>) -> Result<()> {
    let machine = run.machine(&["--multi-vm", "--append", "quiet"], None)?;
    let mut guest = run.talk_on(&machine)?;
    guest.expect("Ctrl-] and then n: next VM")?;
    guest.expect(PROMPT)?;
    ask(&mut guest, "echo first=$((40 + 2))", "first=42")?;
    focus(&mut guest, 1)?;
    ask(
        &mut guest,
        "life=second; echo $life=$((40 + 3))",
        "second=43",
    )?;
    ask(&mut guest, "cat /proc/uptime > /tmp/before", "")?;

    command(&mut guest, "vms", "1   running")?;
    command(&mut guest, "pause 1", "VM 1 is paused")?;
    command(&mut guest, "vms", "1   paused")?;
    // While one is paused the other lives, and for longer than the paused one
    // may notice.
    focus(&mut guest, 0)?;
    ask(&mut guest, "sleep 5; echo slept", "slept")?;
    command(&mut guest, "resume 1", "VM 1 goes on")?;
    focus(&mut guest, 1)?;
    let elapsed = "echo $(($(cut -d. -f1 /proc/uptime) - $(cut -d. -f1 /tmp/before))) seconds";
    guest.send(&format!("{elapsed}\n"));
    guest.expect("/tmp/before))) seconds")?;
    let seconds: u64 = guest.expect(" seconds")?.trim().parse()?;
    ensure!(
        seconds < 5,
        "its clock did not stand still: {seconds} seconds"
    );
    guest.expect(PROMPT)?;
    ask(&mut guest, "echo $life", "second")?;

    // A restart loses all that it knew, and nothing of the other.
    command(&mut guest, "restart 1", "VM 1 starts anew")?;
    monitor::leave_to(&mut guest, 1)?;
    guest.expect(PROMPT)?;
    ask(&mut guest, "echo \"<$life>\"", "<>")?;
    focus(&mut guest, 0)?;
    guest.send("poweroff\n");
    guest.expect("VM 0 is off")?;
    command(&mut guest, "vms", "0   off")?;
    focus(&mut guest, 1)?;
    guest.send("poweroff\n");
    guest.power_off()?;
    Ok(())
}

/// A program that jumps to where nothing is, without exception vectors.
fn crash_report(run: &Run<'_>) -> Result<()> {
    let program: [u32; 3] = [
        0xd2a1_6000, // movz x0, #0x0b00, lsl #16
        0xd63f_0000, // blr x0
        0x1400_0000, // b .
    ];
    let file = run.directory()?.join("no-vectors.bin");
    fs::write(&file, program.map(u32::to_le_bytes).concat())?;
    let mut vm = VmSpec::new(Boot::Kernel(file));
    (vm.vcpus, vm.memory_mib) = (1, 16);
    let mut guest = run.talk(vm, |_| {})?;
    for text in [
        "VM 0 (vm0) stopped on vCPU 0: exceptions lead to 0x200, where nothing can be executed",
        "x0  000000000b000000",
        "pc  0000000000000200",
        "last exits:",
        "0000000000000200  stage-2 fault",
        "000000000b000000  stage-2 fault",
        "called from: 0000000040080008",
    ] {
        guest.expect(text)?;
    }
    let outcome = guest.outcome()?;
    ensure!(
        outcome == Outcome::HypervisorFailed,
        "the outcome is: {outcome}"
    );
    Ok(())
}
