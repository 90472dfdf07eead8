//! `cargo xtask test`: the host tests, some of them in Miri, then the tests in QEMU.

mod bench;
mod consoles;
mod context;
mod disks;
mod fairness;
mod firmware;
mod gic;
mod host;
mod idle;
mod images;
mod linux;
mod lives;
mod miri;
mod nets;
mod outcome;
mod refusals;
mod sharing;
mod storm;
mod suite;
mod telemetry;

use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::cli::TestOptions;
use crate::run::spec::Mode;
use crate::run::{dialogue, monitor};
use crate::workspace::Workspace;
use suite::{Context, Test};

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs the tests that the options choose; the last line tells the sum.
pub(crate) fn test_command(workspace: &Workspace, options: &TestOptions) -> Result<ExitCode> {
    let mode = if options.bare {
        Mode::Bare
    } else {
        Mode::Hypervisor
    };
    let context = Context::new(workspace, mode);
    let filter = options.filter.as_deref().unwrap_or_default();
    let mut tests = all(&context);
    tests.retain(|test| test.name.contains(filter));
    if options.list {
        for test in &tests {
            println!("{}", test.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        !tests.is_empty(),
        "no test's name contains {filter:?}; see --list"
    );
    let mut tally = Tally::default();
    let is_all = !options.host && !options.miri && !options.qemu && options.filter.is_none();
    if options.host || is_all {
        tally.add(host::run(workspace)?);
    }
    if options.miri || is_all {
        tally.add(miri::run(workspace)?);
    }
    if options.qemu || options.filter.is_some() || is_all {
        tally.add(suite::run(&context, &tests)?);
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns every test in QEMU, the quick ones first.
fn all(context: &Context<'_>) -> Vec<Test> {
    let mut tests = images::tests(context);
    tests.extend(gic::tests());
    tests.extend(bench::tests());
    tests.extend(outcome::tests());
    tests.extend(refusals::tests());
    tests.extend(firmware::tests());
    tests.extend(context::tests());
    tests.extend(lives::tests());
    tests.extend(fairness::tests());
    tests.extend(linux::tests());
    tests.extend(sharing::tests());
    tests.extend(consoles::tests());
    tests.extend(idle::tests());
    tests.extend(disks::tests());
    tests.extend(nets::tests());
    tests.extend(telemetry::tests());
    tests.extend(storm::tests());
    tests
}
