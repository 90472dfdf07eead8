//! `cargo xtask bench io`: disks and networks of Linux guests, on the hypervisor and
//! directly on QEMU.
//!
//! The clock is that of the guest, so every run is another one: each figure is the
//! median of several, taken by turns. How often the guest is left does not depend on
//! the clock much.

mod disk;
mod net;

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::table::Table;
use crate::cli::IoOptions;
use crate::run::spec::Mode;
use crate::workspace::Workspace;
use disk::{Bench, WORKS, Work};

/// How often each of both is measured.
const RUNS: usize = 3;

/// What a run may take. It only bounds a failure.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The least part of the bare guest's throughput that is aimed for, in percent.
const THROUGHPUT_AIM: f64 = 75.0;

/// Measures, and tells the figures.
pub(super) fn run(workspace: &Workspace, options: &IoOptions) -> Result<ExitCode> {
    let bench = Bench::new(workspace)?;
    let style = ProgressStyle::with_template("{spinner} run {pos} of {len} {bar:30} {msg}")?;
    let progress = ProgressBar::new(2 * RUNS as u64).with_style(style);
    progress.enable_steady_tick(Duration::from_millis(120));
    let (mut bare, mut here) = (Vec::new(), Vec::new());
    let (mut bare_links, mut here_links) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        for (mode, runs, links) in [
            (Mode::Bare, &mut bare, &mut bare_links),
            (Mode::Hypervisor, &mut here, &mut here_links),
        ] {
            progress.set_message(match mode {
                Mode::Bare => "bare",
                Mode::Hypervisor => "on the hypervisor",
            });
            runs.push(bench.measure(mode)?);
            links.push(net::measure(workspace, &bench.guests, mode)?);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    let works = WORKS.iter().enumerate();
    let report = Report {
        disks: works
            .map(|(index, work)| Row::new(work, index, &bare, &here))
            .collect(),
        network: Network {
            bare: Link::new(&bare_links),
            here: Link::new(&here_links),
        },
    };
    print!("{report}");
    if let Some(file) = &options.json {
        super::write(file, &(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What one work came to in one run.
#[derive(Clone, Debug, Default)]
struct Figures {
    nanoseconds: u64,
    /// By reason, those that the same without requests has taken off.
    exits: BTreeMap<String, u64>,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Report {
    disks: Vec<Row>,
    network: Network,
}

/// The way between two guests.
#[derive(Debug, Serialize)]
struct Network {
    bare: Link,
    here: Link,
}

#[derive(Debug, Serialize)]
struct Link {
    round_trip_us: f64,
    mb_per_s: f64,
}

impl Link {
    /// Sums up runs.
    fn new(runs: &[net::Figures]) -> Self {
        Self {
            round_trip_us: median(runs.iter().map(|run| run.round_trip_us).collect()),
            mb_per_s: median(runs.iter().map(|run| run.mb_per_s).collect()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["between two Linux guests", "bare", "here", "here/bare"]);
        for (what, bare, here) in [
            (
                "ping, there and back, µs",
                self.bare.round_trip_us,
                self.here.round_trip_us,
            ),
            ("TCP, MB/s", self.bare.mb_per_s, self.here.mb_per_s),
        ] {
            let percent = 100.0 * here / bare;
            table.row([
                what.to_owned(),
                format!("{bare:.1}"),
                format!("{here:.1}"),
                format!("{percent:.0} %"),
            ]);
        }
        table.fmt(f)
    }
}

/// What one work comes to.
#[derive(Debug, Serialize)]
struct Row {
    work: String,
    bare_mb_per_s: f64,
    here_mb_per_s: f64,
    exits_per_request: f64,
    /// The most exits for each request that are aimed for.
    exits_aim: Option<f64>,
    by_reason: BTreeMap<String, f64>,
}

impl Row {
    /// Sums up the runs of the work at this place.
    #[expect(
        clippy::cast_precision_loss,
        reason = "figures for people have three digits"
    )]
    fn new(work: &Work, index: usize, bare: &[Vec<Figures>], here: &[Vec<Figures>]) -> Self {
        let of = |runs: &[Vec<Figures>]| -> Vec<Figures> {
            let runs = runs.iter();
            runs.filter_map(|run| run.get(index).cloned()).collect()
        };
        let (bare, here) = (of(bare), of(here));
        let throughput = |runs: &[Figures]| {
            let times = runs.iter().map(|run| run.nanoseconds as f64);
            (work.bytes * work.requests) as f64 * 1000.0 / median(times.collect())
        };
        let mut by_reason = BTreeMap::new();
        for reason in here.iter().flat_map(|run| run.exits.keys()) {
            let counts = here.iter().map(|run| run.exits.get(reason).copied());
            let counts = counts.map(|count| count.unwrap_or(0) as f64);
            let each = median(counts.collect()) / work.requests as f64;
            if each >= 0.005 {
                by_reason.insert(reason.clone(), each);
            }
        }
        let totals = here
            .iter()
            .map(|run| run.exits.values().sum::<u64>() as f64);
        Self {
            work: work.to_string(),
            bare_mb_per_s: throughput(&bare),
            here_mb_per_s: throughput(&here),
            exits_per_request: median(totals.collect()) / work.requests as f64,
            exits_aim: work.exits_aim,
            by_reason,
        }
    }

    fn percent(&self) -> f64 {
        100.0 * self.here_mb_per_s / self.bare_mb_per_s
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&[
            "disk of a Linux guest",
            "bare MB/s",
            "here MB/s",
            "here/bare",
            "exits per request",
            "aim",
        ]);
        for row in &self.disks {
            let aim = row.exits_aim.map(|aim| format!("{aim:.1}"));
            table.row([
                row.work.clone(),
                format!("{:.1}", row.bare_mb_per_s),
                format!("{:.1}", row.here_mb_per_s),
                format!("{:.0} %", row.percent()),
                format!("{:.2}", row.exits_per_request),
                aim.unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        writeln!(
            f,
            "{table}\n{}\nExits per request by reason:\n",
            self.network
        )?;
        for row in &self.disks {
            let reasons = row.by_reason.iter();
            let reasons: Vec<_> = reasons
                .map(|(reason, each)| format!("{reason} {each:.2}"))
                .collect();
            writeln!(f, "{:40} {}", row.work, reasons.join(", "))?;
        }
        writeln!(f)?;
        for row in &self.disks {
            if row.percent() < THROUGHPUT_AIM {
                writeln!(
                    f,
                    "{}: below the {THROUGHPUT_AIM:.0} % of the bare guest that are aimed for",
                    row.work
                )?;
            }
        }
        Ok(())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_median_of_its_runs() {
        let work = Work {
            writes: false,
            is_random: true,
            bytes: 4096,
            depth: 1,
            requests: 1000,
            exits_aim: Some(2.0),
        };
        let run = |nanoseconds, exits: &[(&str, u64)]| {
            let exits = exits.iter();
            vec![Figures {
                nanoseconds,
                exits: exits
                    .map(|(name, count)| ((*name).to_owned(), *count))
                    .collect(),
            }]
        };
        let bare = [run(40_960_000, &[]), run(1, &[]), run(90_960_000, &[])];
        let here = [
            run(81_920_000, &[("mmio", 1500), ("irq", 1000), ("wfi", 1)]),
            run(81_920_000, &[("mmio", 1500), ("irq", 900)]),
            run(1, &[("mmio", 9000)]),
        ];
        let row = Row::new(&work, 0, &bare, &here);
        assert_eq!(row.work, "random read, 4 KiB, depth 1");
        assert!((row.bare_mb_per_s - 100.0).abs() < 0.01, "{row:?}");
        assert!((row.percent() - 50.0).abs() < 0.01, "{row:?}");
        assert!((row.exits_per_request - 2.501).abs() < 0.01, "{row:?}");
        let reasons: Vec<_> = row.by_reason.keys().map(String::as_str).collect();
        assert_eq!(reasons, ["irq", "mmio"]);
    }
}
