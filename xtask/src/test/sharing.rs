//! Virtual CPUs and virtual machines that share physical CPUs: the modes of
//! the command line.

use anyhow::{Result, ensure};

use super::suite::{Run, Test, Verdict};
use crate::guest::initramfs::Purpose;
use crate::run::spec::Mode;

pub(super) fn tests() -> Vec<Test> {
    vec![
        shared("linux_shares_one_cpu", linux_shares_one_cpu),
        shared("multi_vm_boots_both", multi_vm_boots_both),
        shared("eight_vms_power_off", eight_vms_power_off).within_minutes(10),
    ]
}

/// Names a test that means nothing without the hypervisor.
fn shared(name: &str, body: fn(&Run<'_>) -> Result<()>) -> Test {
    Test::new(name, move |run| match run.context.mode {
        Mode::Bare => Ok(Verdict::Skipped("only the hypervisor shares CPUs".into())),
        Mode::Hypervisor => body(run).map(|()| Verdict::Passed),
    })
}

fn linux_shares_one_cpu(run: &Run<'_>) -> Result<()> {
    let machine = run.machine(&["--linux"], None)?;
    ensure!(machine.pcpus == 1, "the machine has {} CPUs", machine.pcpus);
    let (output, status) = run.exec_by_flags(&["--linux"], "nproc")?;
    ensure!(
        (output.as_str(), status) == ("4\n", 0),
        "status {status}; not four CPUs:\n{output}"
    );
    Ok(())
}

/// Each virtual machine says its name; the machine ends after both.
fn multi_vm_boots_both(run: &Run<'_>) -> Result<()> {
    let mut machine = run.machine(&["--multi-vm", "--append", "quiet"], None)?;
    ensure!(
        (machine.pcpus, machine.vms.len()) == (1, 2),
        "{} CPUs for {} virtual machines",
        machine.pcpus,
        machine.vms.len()
    );
    let mut marks = Vec::new();
    for vm in &mut machine.vms {
        let mark = format!("{} is here", vm.name);
        // More than once, should the other one speak in between.
        let command = format!("for i in $(seq 20); do echo '{mark}'; done");
        vm.initrd = run.linux(Purpose::Run { command })?.initrd;
        marks.push(mark);
    }
    let printed = run.talk_on(&machine)?.power_off()?;
    for mark in marks {
        ensure!(
            printed.lines().any(|line| untagged(line) == mark),
            "{mark:?} is missing; the console:\n{printed}"
        );
    }
    Ok(())
}

fn eight_vms_power_off(run: &Run<'_>) -> Result<()> {
    let example = "examples/vms/eight-small.toml";
    let file = run.context.workspace.root().join(example);
    let machine = run.machine(&["--vms", &file.to_string_lossy()], None)?;
    ensure!(
        (machine.pcpus, machine.vms.len()) == (4, 8),
        "{example} is not about eight virtual machines on four CPUs"
    );
    run.talk_on(&machine)?.power_off()?;
    Ok(())
}

/// Returns a line of a console without the name of the virtual machine that
/// printed it, if that is there.
fn untagged(line: &str) -> &str {
    let said = line.split_once("| ").map_or(line, |(_, said)| said);
    said.trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_counts_with_and_without_the_name_of_its_virtual_machine() {
        for line in [
            "vm0 is here\r",
            "vm0| vm0 is here",
            "\x1b[0mvm0| vm0 is here",
        ] {
            assert_eq!(untagged(line), "vm0 is here", "{line:?}");
        }
    }
}
