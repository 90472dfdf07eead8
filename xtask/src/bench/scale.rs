//! `cargo xtask bench scale`: what more VMs and more vCPUs change, and what a VM
//! takes of the machine.

mod growth;
mod life;
mod memory;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::write;
use crate::cli::ScaleOptions;
use crate::workspace::Workspace;
use growth::Growth;
use life::Life;
use memory::Memory;

/// What the tables show.
const VMS: &str = "\
Instructions per operation on a machine of so many VMs. All but one sleep, on a CPU
of their own; for the switch all VMs are on one CPU.";
const VCPUS: &str = "\
Instructions per operation in a VM of so many vCPUs, each on a CPU of its own.";

/// What was measured.
#[derive(Debug, Serialize)]
struct Scale {
    vms: Growth,
    vcpus: Growth,
    memory: Memory,
    life: Life,
}

/// Measures, shows, writes and checks what the options ask for.
pub(super) fn run(workspace: &Workspace, options: &ScaleOptions) -> Result<ExitCode> {
    let vms = Growth::of_vms(workspace)?;
    println!("{VMS}\n\n{vms}");
    let vcpus = Growth::of_vcpus(workspace)?;
    println!("{VCPUS}\n\n{vcpus}");
    let memory = Memory::measure(workspace)?;
    println!("{memory}");
    let life = Life::measure(workspace)?;
    println!("{life}");
    let scale = Scale {
        vms,
        vcpus,
        memory,
        life,
    };
    if let Some(file) = &options.json {
        write(file, &(serde_json::to_string_pretty(&scale)? + "\n"))?;
    }
    if options.check {
        let missed = scale.missed();
        ensure!(
            missed.is_empty(),
            "these are above their aims:\n  {}",
            missed.join("\n  ")
        );
    }
    Ok(ExitCode::SUCCESS)
}

impl Scale {
    /// Says which aims are missed.
    fn missed(&self) -> Vec<String> {
        let growth = [("VMs", &self.vms), ("vCPUs", &self.vcpus)];
        growth
            .into_iter()
            .flat_map(|(what, growth)| growth.missed(what))
            .chain(self.memory.missed())
            .collect()
    }
}
