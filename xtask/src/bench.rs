//! `cargo xtask bench`: what the hypervisor costs.

mod boot;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::Bench;
use crate::workspace::Workspace;

/// Measures what the options choose.
pub(crate) fn bench_command(workspace: &Workspace, bench: Bench) -> Result<ExitCode> {
    match bench {
        Bench::Boot(options) => boot::run(workspace, &options),
    }
}
