//! `cargo xtask check`: everything that is asked of the sources.

mod rules;
mod text;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cli::CheckOptions;
use crate::toolchain;
use crate::workspace::{EL2_TARGET, Package, Workspace};

/// Runs every check, even after one has failed, and says which did.
pub(crate) fn check_command(workspace: &Workspace, options: &CheckOptions) -> Result<ExitCode> {
    let mut failed = Vec::new();
    eprintln!("check: the repository's rules");
    let mut problems = rules::problems(workspace)?;
    problems.extend(text::problems(workspace)?);
    if !problems.is_empty() {
        for problem in &problems {
            eprintln!("{problem}");
        }
        failed.push("the repository's rules");
    }
    if !options.rules {
        toolchain::ensure_rust_target()?;
        for (name, mut command) in commands(workspace) {
            eprintln!("check: {name}");
            let status = command.status().context("cannot start cargo")?;
            if !status.success() {
                failed.push(name);
            }
        }
    }
    if failed.is_empty() {
        eprintln!("check: all is well");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("error: failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Returns what cargo checks, by name.
fn commands(workspace: &Workspace) -> Vec<(&'static str, Command)> {
    let command = |arguments: &[&str]| {
        let mut command = workspace.cargo();
        command.args(arguments);
        command
    };
    let format = command(&["fmt", "--all", "--check"]);
    let deny = ["--", "-D", "warnings"];
    let mut host = command(&["clippy", "--quiet", "--workspace", "--all-targets"]);
    host.args(deny);
    let mut target = command(&["clippy", "--quiet", "--target", EL2_TARGET]);
    for package in workspace
        .metadata
        .packages
        .iter()
        .filter(|p| runs_on_target(p, workspace))
    {
        target.args(["-p", &package.name]);
    }
    target.args(deny);
    let mut documentation = command(&["doc", "--quiet", "--workspace", "--no-deps"]);
    documentation.env("RUSTDOCFLAGS", "-D warnings");
    vec![
        ("format", format),
        ("clippy for the host", host),
        ("clippy for the target", target),
        ("documentation", documentation),
    ]
}

/// Tells whether the package is built without an operating system: all are,
/// but for the tools and examples of the host.
fn runs_on_target(package: &Package, workspace: &Workspace) -> bool {
    let directory = package.directory();
    ["crates", "hypervisor", "tests"]
        .iter()
        .any(|part| directory.starts_with(workspace.root().join(part)))
}
