//! Runs the guest that measures.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use super::figures::Figures;
use crate::run::Prepared;
use crate::run::repeatable::repeatable;
use crate::run::session::{Outcome, Session, Step};
use crate::run::spec::{Boot, MachineSpec, VmSpec};
use crate::workspace::Workspace;

/// The guest that measures.
pub(crate) const GUEST: &str = "bench";

/// The log of the console, in `target/run`.
const LOG: &str = "bench.log";

/// What a measurement may take. It only bounds a failure.
const TIMEOUT: Duration = Duration::from_secs(600);

/// What the guest says when it has measured everything, or has failed.
const DONE: &str = "guest bench: ok";
const FAILED: &str = "guest bench: FAILED: ";

/// Describes a virtual machine that does what `word` says (see the guest), or
/// measures all operations.
pub(crate) fn vm(workspace: &Workspace, name: &str, vcpus: u32, word: &str) -> Result<VmSpec> {
    let mut vm = VmSpec::new(Boot::Kernel(workspace.build_guest(GUEST)?));
    name.clone_into(&mut vm.name);
    vm.vcpus = vcpus;
    vm.append(word);
    Ok(vm)
}

/// Lets a machine run until the guest that measures has measured everything,
/// whatever other guests do. `title` says to the user what is being measured, and
/// `count` how many operations that are.
pub(crate) fn figures(
    workspace: &Workspace,
    machine: MachineSpec,
    title: &str,
    count: usize,
) -> Result<Figures> {
    let progress = progress(title, count)?;
    let prepared = Prepared::new(workspace, &repeatable(machine), LOG)?;
    let mut session = Session::start(prepared, Some(TIMEOUT))?;
    let mut console = String::new();
    loop {
        match session.next()? {
            Step::Console(bytes) => {
                // ASCII, and anything else has to be harmless only.
                console.push_str(&String::from_utf8_lossy(&bytes));
                let measured = console.matches("bench: ").count();
                progress.set_position(measured as u64);
                if console.contains(DONE) {
                    break;
                }
                ensure!(!failed(&console), "{title}: {console}");
            }
            Step::Ended(Outcome::Interrupted(signal)) => bail!("stopped by signal {signal}"),
            Step::Ended(outcome) => bail!("{title}: {outcome}; the console:\n{console}"),
        }
    }
    progress.finish_and_clear();
    Figures::parse(&console)
}

/// Tells whether a guest has said, in a whole line, that it failed.
fn failed(console: &str) -> bool {
    let reason = console.split_once(FAILED).map(|(_, reason)| reason);
    reason.is_some_and(|reason| reason.contains('\n'))
}

fn progress(title: &str, count: usize) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{msg} {bar:24} {pos}/{len} operations")?;
    let progress = ProgressBar::new(count as u64).with_style(style);
    progress.set_message(title.to_owned());
    Ok(progress)
}
