//! What it takes to create a VM and to destroy it, in instructions.

use std::fmt;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::bench::measure::{self, LITTLE_MIB};
use crate::run::spec::{MachineSpec, VmSpec};
use crate::workspace::Workspace;

/// A large VM.
const MUCH_MIB: u64 = 1024;

/// The priority of a VM that interrupts another one.
const PREEMPTING: u8 = 1;

/// What it takes to create and to destroy a VM of one vCPU.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Life {
    little: Instructions,
    much: Instructions,
}

/// What it takes for a VM of this size.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Instructions {
    memory_mib: u64,
    create: u64,
    destroy: u64,
}

impl Life {
    /// Measures for a small VM and for a large one.
    pub(super) fn measure(workspace: &Workspace) -> Result<Self> {
        let first = ends_at_once(workspace, "vm0", LITTLE_MIB)?;
        let alone = hypervisor(workspace, vec![first.clone()])?;
        let of = |memory_mib| {
            let second = ends_at_once(workspace, "vm1", memory_mib)?;
            let both = hypervisor(workspace, vec![first.clone(), second])?;
            let destroy = destroy(workspace, memory_mib)?;
            let create = both.checked_sub(alone + destroy);
            Ok::<_, anyhow::Error>(Instructions {
                memory_mib,
                create: create.context("a machine of two VMs takes less than one of one")?,
                destroy,
            })
        };
        Ok(Self {
            little: of(LITTLE_MIB)?,
            much: of(MUCH_MIB)?,
        })
    }
}

/// Describes a VM that turns itself off at once.
fn ends_at_once(workspace: &Workspace, name: &str, memory_mib: u64) -> Result<VmSpec> {
    let mut vm = measure::vm(workspace, name, 1, "off")?;
    vm.memory_mib = memory_mib;
    Ok(vm)
}

/// Returns how many instructions the hypervisor executes from the start of the
/// machine to its end, when all VMs have ended.
fn hypervisor(workspace: &Workspace, vms: Vec<VmSpec>) -> Result<u64> {
    let mut machine = MachineSpec::of(1, vms);
    machine.count_instructions = true;
    let counted = measure::start(workspace, machine)?.power_off_counted()?;
    Ok(counted.1.hypervisor())
}

/// Returns how many instructions it takes to turn a VM off and to give back what
/// it had, as seen by another one on the same CPU.
fn destroy(workspace: &Workspace, memory_mib: u64) -> Result<u64> {
    let mut mortal = measure::vm(workspace, "vm0", 1, "mortal")?;
    mortal.memory_mib = memory_mib;
    mortal.priority = PREEMPTING;
    let witness = measure::vm(workspace, "vm1", 1, "vm-destroy")?;
    let machine = MachineSpec::of(1, vec![mortal, witness]);
    let figures = measure::figures(workspace, machine, "the end of a VM", 1)?;
    figures
        .mean("vm-destroy")
        .context("the end of a VM was not seen")
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for of in [&self.little, &self.much] {
            let Instructions {
                memory_mib,
                create,
                destroy,
            } = of;
            writeln!(
                f,
                "To create a VM of {memory_mib} MiB and one vCPU takes {create} instructions, \
                 to destroy it {destroy}"
            )?;
        }
        Ok(())
    }
}
