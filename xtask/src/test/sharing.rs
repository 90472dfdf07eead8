//! Virtual CPUs and virtual machines that share physical CPUs: the modes of
//! the command line.

use anyhow::{Result, ensure};

use super::suite::{Run, Test};
use crate::guest::initramfs::Purpose;
use crate::run::spec::MachineSpec;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::on_hypervisor("linux_shares_one_cpu", linux_shares_one_cpu),
        Test::on_hypervisor("multi_vm_boots_both", multi_vm_boots_both),
        Test::on_hypervisor("eight_vms_power_off", eight_vms_power_off).within_minutes(10),
    ]
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

/// Each virtual machine says its name, once, in a line that is shown whole; the
/// machine ends after both.
fn multi_vm_boots_both(run: &Run<'_>) -> Result<()> {
    let mut machine = run.machine(&["--multi-vm", "--append", "quiet"], None)?;
    ensure!(
        (machine.pcpus, machine.vms.len()) == (1, 2),
        "{} CPUs for {} virtual machines",
        machine.pcpus,
        machine.vms.len()
    );
    for vm in &mut machine.vms {
        let command = format!("echo '{} is here'", vm.name);
        vm.initrd = run.linux(Purpose::Run { command })?.initrd;
    }
    let printed = run.talk_on(&machine)?.power_off()?;
    each_says(&machine, &printed, |name| format!("{name} is here"))
}

fn eight_vms_power_off(run: &Run<'_>) -> Result<()> {
    let example = "examples/vms/eight-small.toml";
    let file = run.context.workspace.root().join(example);
    let machine = run.machine(&["--vms", &file.to_string_lossy()], None)?;
    ensure!(
        (machine.pcpus, machine.vms.len()) == (4, 8),
        "{example} is not about eight virtual machines on four CPUs"
    );
    let printed = run.talk_on(&machine)?.power_off()?;
    each_says(&machine, &printed, |name| format!("VM {name} has 2 CPUs"))
}

/// Checks that every virtual machine has printed its line: the first one, which
/// is typed to, as it is, the others with their name before it.
fn each_says(machine: &MachineSpec, printed: &str, line_of: impl Fn(&str) -> String) -> Result<()> {
    for (n, vm) in machine.vms.iter().enumerate() {
        let said = line_of(&vm.name);
        let wanted = if n == 0 {
            said
        } else {
            format!("{}| {said}", vm.name)
        };
        ensure!(
            printed.lines().any(|line| line.trim_end() == wanted),
            "{wanted:?} is missing; the console:\n{printed}"
        );
    }
    Ok(())
}
