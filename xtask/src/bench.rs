//! `cargo xtask bench`: measures what the hypervisor costs, in instructions.

mod boot;
mod chart;
mod exits;
mod figures;
mod limits;
mod measure;
mod operations;
mod table;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::bench::{Bench, BenchOptions};
use crate::workspace::Workspace;

pub(crate) use exits::Exits;
pub(crate) use limits::Limits;
pub(crate) use measure::GUEST;

/// Measures what the options choose.
pub(crate) fn bench_command(workspace: &Workspace, options: BenchOptions) -> Result<ExitCode> {
    match options.what {
        Bench::Boot(options) => boot::run(workspace, &options),
        Bench::Exits(options) => exits::exits_command(workspace, &options),
    }
}
