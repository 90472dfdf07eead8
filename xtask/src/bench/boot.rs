//! `cargo xtask bench boot`: Linux to its shell, on the hypervisor and
//! directly on QEMU.
//!
//! The boots are counted in instructions, on machines where nothing but these
//! makes time pass. So each boot is run twice, and both runs must agree to the
//! instruction: a figure that does not repeat is no figure.

mod count;
mod report;
mod setup;
mod wall;

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::BootOptions;
use crate::workspace::Workspace;
use count::Boot;
use report::Report;
use setup::{Bench, SETUPS};
use wall::Wall;

/// Boots what the options choose, and tells the figures.
pub(super) fn run(workspace: &Workspace, options: &BootOptions) -> Result<ExitCode> {
    let bench = Bench::new(workspace)?;
    let setups: Vec<_> = SETUPS
        .into_iter()
        .filter(|setup| options.vcpus.is_none_or(|vcpus| vcpus == setup.vcpus))
        .collect();
    let progress = progress(setups.len() * count::RUNS + wall::boots(options.wall))?;
    let boots = setups
        .iter()
        .map(|setup| Boot::count(&bench, *setup, &progress))
        .collect::<Result<Vec<_>>>()?;
    let wall = if options.wall {
        Some(Wall::measure(&bench, options.vcpus, &progress)?)
    } else {
        None
    };
    progress.finish_and_clear();
    let report = Report::new(&bench, boots, wall);
    print!("{report}");
    report.print_functions(options.functions);
    if let Some(file) = &options.json {
        let json = serde_json::to_string_pretty(&report)? + "\n";
        fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(if report.repeats() {
        ExitCode::SUCCESS
    } else {
        eprintln!(
            "error: boots that must be the same differ, so the figures above mean nothing; \
             is there anything random in the guest or in QEMU's arguments?"
        );
        ExitCode::FAILURE
    })
}

fn progress(boots: usize) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{spinner} boot {pos} of {len} {bar:30} {msg}")?;
    let progress = ProgressBar::new(boots as u64).with_style(style);
    progress.enable_steady_tick(Duration::from_millis(120));
    Ok(progress)
}
