//! `cargo xtask bench`: what the hypervisor costs.

mod boot;
mod chart;
mod exits;
mod figures;
mod io;
mod limits;
mod measure;
mod operations;
mod scale;
mod table;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::Bench;
use crate::workspace::Workspace;

pub(crate) use exits::Exits;
pub(crate) use limits::Limits;
pub(crate) use measure::GUEST;

/// Measures what the options choose.
pub(crate) fn bench_command(workspace: &Workspace, bench: Bench) -> Result<ExitCode> {
    match bench {
        Bench::Boot(options) => boot::run(workspace, &options),
        Bench::Exits(options) => exits::run(workspace, &options),
        Bench::Io(options) => io::run(workspace, &options),
        Bench::Scale(options) => scale::run(workspace, &options),
    }
}

/// Writes a file that the user asked for.
fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
