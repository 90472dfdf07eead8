//! `cargo xtask top`: how often the vCPUs of a running machine leave their guests.

mod screen;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use super::counters::Snapshot;
use super::machine::Machine;
use super::memory::QemuMemory;
use super::qmp::Client;
use crate::cli::TopOptions;
use crate::workspace::Workspace;

/// The control channel of a run that others may use, in the run's directory.
pub(crate) const SOCKET: &str = "qmp";
/// The file that says where the header's address is.
pub(crate) const ANCHOR: &str = "telemetry";

/// A machine that is looked at.
struct Watch {
    memory: QemuMemory,
    machine: Machine,
}

impl Watch {
    fn snapshot(&mut self) -> Result<Snapshot> {
        Snapshot::take(&self.machine, &mut self.memory)
    }

    fn plain(&mut self) -> Result<String> {
        let snapshot = self.snapshot()?;
        Ok(table::plain(&self.machine, &snapshot))
    }
}

/// Shows the exits of the machine that was started last.
pub(crate) fn top_command(workspace: &Workspace, options: &TopOptions) -> Result<ExitCode> {
    let mut watch = attach(&workspace.target().join("run"))?;
    if options.once {
        print!("{}", watch.plain()?);
    } else {
        screen::show(&mut watch, Duration::from_millis(options.interval))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns what `--once` prints about the run with this directory.
pub(crate) fn plain(directory: &Path) -> Result<String> {
    let stream = UnixStream::connect(directory.join(SOCKET)).context("it does not run")?;
    watch(directory, stream)?.plain()
}

/// Returns how many exits all vCPUs of the run with this directory have had, by the
/// name of the reason.
pub(crate) fn exits(directory: &Path) -> Result<BTreeMap<String, u64>> {
    let stream = UnixStream::connect(directory.join(SOCKET)).context("it does not run")?;
    let mut watch = watch(directory, stream)?;
    let vcpus = watch.snapshot()?.vcpus;
    let reasons = watch.machine.reasons.iter().enumerate();
    let sum = |(reason, name): (usize, &String)| {
        let counts = vcpus.iter().filter_map(|exits| exits.counts.get(reason));
        (name.clone(), counts.sum())
    };
    Ok(reasons.map(sum).collect())
}

/// Attaches to the machine that was started last, of those whose directories are
/// in `runs`.
fn attach(runs: &Path) -> Result<Watch> {
    for directory in latest_first(runs) {
        // One that ended without tidying up answers no more.
        if let Ok(stream) = UnixStream::connect(directory.join(SOCKET)) {
            return watch(&directory, stream);
        }
    }
    bail!("no machine runs: start one with `cargo xtask qemu`, in another terminal")
}

/// Returns the directories of runs that have a control channel.
fn latest_first(runs: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten();
    let mut directories: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(|entry| {
            let socket = fs::metadata(entry.path().join(SOCKET)).ok()?;
            Some((socket.modified().ok()?, entry.path()))
        })
        .collect();
    directories.sort();
    directories
        .into_iter()
        .rev()
        .map(|(_, path)| path)
        .collect()
}

/// Looks at the machine whose directory this is.
fn watch(directory: &Path, stream: UnixStream) -> Result<Watch> {
    let path = directory.join(ANCHOR);
    let anchor = fs::read_to_string(&path);
    let anchor = anchor.with_context(|| format!("cannot read {}", path.display()))?;
    let anchor = anchor.trim().parse().context("no address")?;
    let file = directory.join(format!("top-{}", std::process::id()));
    let mut memory = QemuMemory::new(Client::new(stream)?, file);
    let machine = Machine::find(&mut memory, anchor)?;
    let machine = machine.context("the hypervisor has not started yet: try again")?;
    Ok(Watch { memory, machine })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nothing_runs_it_is_said_what_to_do() {
        let runs = std::env::temp_dir().join(format!("armature-top-{}", std::process::id()));
        let complaint = |runs: &Path| attach(runs).err().map(|error| error.to_string());
        let nothing = complaint(&runs);
        assert!(nothing.is_some_and(|text| text.contains("cargo xtask qemu")));
        // What a run that was killed leaves behind.
        let stale = runs.join("1-0");
        fs::create_dir_all(&stale).unwrap();
        drop(std::os::unix::net::UnixListener::bind(stale.join(SOCKET)).unwrap());
        let nothing = complaint(&runs);
        fs::remove_dir_all(&runs).unwrap();
        assert!(nothing.is_some_and(|text| text.contains("no machine runs")));
    }
}
