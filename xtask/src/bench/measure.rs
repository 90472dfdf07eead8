//! Runs the guest that measures.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use super::figures::Figures;
use crate::run::Prepared;
use crate::run::dialogue::Dialogue;
use crate::run::repeatable::repeatable;
use crate::run::session::Session;
use crate::run::spec::{Boot, MachineSpec, VmSpec};
use crate::workspace::Workspace;

/// The guest that measures.
pub(crate) const GUEST: &str = "bench";

/// The log of the console, in `target/run`.
const LOG: &str = "bench.log";

/// What a measurement may take. It only bounds a failure.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The memory of a virtual machine: enough for pages that nobody has touched, and
/// for one that only keeps others company.
const MEMORY_MIB: u64 = 128;
pub(super) const LITTLE_MIB: u64 = 16;

/// Describes a virtual machine that does what `word` says (see the guest), or
/// measures all operations.
pub(super) fn vm(workspace: &Workspace, name: &str, vcpus: u32, word: &str) -> Result<VmSpec> {
    let mut vm = VmSpec::new(Boot::Kernel(workspace.build_guest(GUEST)?));
    name.clone_into(&mut vm.name);
    vm.vcpus = vcpus;
    vm.memory_mib = if word.is_empty() {
        MEMORY_MIB
    } else {
        LITTLE_MIB
    };
    vm.append(word);
    Ok(vm)
}

/// Starts a machine.
pub(super) fn start(workspace: &Workspace, machine: MachineSpec) -> Result<Dialogue> {
    let prepared = Prepared::new(workspace, &repeatable(machine), LOG)?;
    Ok(Dialogue::new(Session::start(prepared, Some(TIMEOUT))?))
}

/// Lets a machine run until the guest that measures has measured everything,
/// whatever other guests do. `title` says to the user what is being measured, and
/// `count` how many operations that are.
pub(super) fn figures(
    workspace: &Workspace,
    machine: MachineSpec,
    title: &str,
    count: usize,
) -> Result<Figures> {
    let progress = progress(title, count)?;
    let mut guest = start(workspace, machine)?;
    let mut printed = String::new();
    loop {
        let line = guest
            .expect("\n")
            .with_context(|| format!("cannot measure {title}"))?;
        if let Some((_, verdict)) = line.split_once("guest bench: ") {
            ensure!(verdict.trim() == "ok", "cannot measure {title}: {verdict}");
            break;
        }
        printed.extend([line.as_str(), "\n"]);
        progress.inc(u64::from(line.contains("bench: ")));
    }
    progress.finish_and_clear();
    Figures::parse(&printed)
}

fn progress(title: &str, count: usize) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{msg} {bar:24} {pos}/{len} operations")?;
    let progress = ProgressBar::new(count as u64).with_style(style);
    progress.set_message(title.to_owned());
    progress.tick();
    Ok(progress)
}
