//! `cargo xtask`: builds, runs, tests, checks and measures Armature.
//!
//! This file holds the command line and nothing else; each command lives in
//! the module that bears its name.

mod bench;
mod check;
mod cli;
mod guest;
mod image;
mod run;
mod telemetry;
mod test;
mod toolchain;
mod vms;
mod workspace;

use std::process::ExitCode;

use cli::{Cli, Command};
use workspace::Workspace;

fn main() -> ExitCode {
    let cli = Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    match cli.command {
        Command::Qemu(options) => run::qemu_command(&workspace, *options),
        Command::Check(options) => check::check_command(&workspace, &options),
        Command::Top(options) => telemetry::top::top_command(&workspace, &options),
        Command::Test(options) => test::test_command(&workspace, &options),
        Command::Bench(bench) => bench::bench_command(&workspace, bench),
    }
}
