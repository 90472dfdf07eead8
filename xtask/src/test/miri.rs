//! Host tests in Miri, which finds data races and undefined behaviour, and shows
//! the threads another order, and older values of what they share, with each seed.

use std::ops::Range;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::Tally;
use crate::toolchain;
use crate::workspace::Workspace;

/// Guest memory is addressed by number, as at EL2, and is never freed; tests may
/// ask for the time.
const FLAGS: &str = "-Zmiri-permissive-provenance -Zmiri-ignore-leaks -Zmiri-disable-isolation";

/// Tests of the hypervisor that run together.
struct Group {
    name: &'static str,
    /// What their names contain.
    filters: &'static [&'static str],
    seeds: Range<u32>,
}

const GROUPS: [Group; 4] = [
    Group {
        name: "memory and locks",
        filters: &["vm::memory::", "lock::", "vm::mailbox::"],
        seeds: 0..1,
    },
    Group {
        name: "calls between CPUs",
        filters: &["sched::tests::"],
        seeds: 0..8,
    },
    Group {
        name: "pauses",
        filters: &["vm::tests::"],
        seeds: 0..4,
    },
    Group {
        name: "main loops that run at the same time",
        filters: &["run::tests::concurrent::"],
        seeds: 0..2,
    },
];

/// Runs all groups, of which each counts as one test. Without Miri they are
/// skipped.
pub(super) fn run(workspace: &Workspace) -> Result<Tally> {
    let mut tally = Tally::default();
    println!("\nrunning {} groups of host tests in Miri", GROUPS.len());
    if let Err(reason) = toolchain::ensure_miri() {
        println!("tests in Miri ... skipped: {reason:#}");
        return Ok(tally);
    }
    for group in &GROUPS {
        let start = Instant::now();
        let output = command(workspace, group)
            .output()
            .context("cannot start rustup")?;
        let seconds = start.elapsed().as_secs_f64();
        let Group { name, seeds, .. } = group;
        let said = String::from_utf8_lossy(&output.stdout);
        // A filter that finds no test finds no mistake either.
        if output.status.success() && !said.contains("\nrunning 0 tests") {
            tally.passed += 1;
            println!(
                "test in Miri: {name}, seeds {} to {} ... ok ({seconds:.1} s)",
                seeds.start,
                seeds.end - 1
            );
        } else {
            tally.failed += 1;
            let errors = String::from_utf8_lossy(&output.stderr);
            println!("test in Miri: {name} ... FAILED ({seconds:.1} s)\n{said}\n{errors}");
        }
    }
    Ok(tally)
}

fn command(workspace: &Workspace, group: &Group) -> Command {
    let Range { start, end } = group.seeds;
    let mut command = toolchain::nightly_cargo();
    command
        .current_dir(workspace.root())
        .env(
            "MIRIFLAGS",
            format!("{FLAGS} -Zmiri-many-seeds={start}..{end}"),
        )
        .args(["miri", "test", "--quiet", "-p", "hypervisor", "--lib", "--"])
        .args(group.filters)
        .stdin(Stdio::null());
    command
}
