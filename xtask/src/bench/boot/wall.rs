//! A boot by the clock on the wall. It says what the machine under QEMU does to
//! it; instructions say what the hypervisor does.

use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde::Serialize;

use super::setup::{Bench, Setup};

/// How often each of both is booted.
const RUNS: usize = 5;

/// How many virtual CPUs there are unless somebody says so.
const VCPUS: u32 = 4;

/// Returns how many boots are for this.
pub(super) const fn boots(wanted: bool) -> usize {
    if wanted { 2 * RUNS } else { 0 }
}

/// Seconds to the shell.
#[derive(Debug, Serialize)]
pub(super) struct Wall {
    pub(super) vcpus: u32,
    /// Directly on QEMU.
    pub(super) bare: Vec<f64>,
    /// On the hypervisor.
    pub(super) hypervisor: Vec<f64>,
}

impl Wall {
    /// Boots both by turns, so that whatever else the host does meets both.
    pub(super) fn measure(
        bench: &Bench<'_>,
        vcpus: Option<u32>,
        progress: &ProgressBar,
    ) -> Result<Self> {
        let vcpus = vcpus.unwrap_or(VCPUS);
        let time = |setup: Setup| {
            progress.set_message(format!("{setup}, by the clock"));
            let booted = bench.boot(&bench.machine(setup)?);
            let (_, time) = booted.with_context(|| format!("the boot \"{setup}\" failed"))?;
            progress.inc(1);
            Ok::<_, anyhow::Error>(Duration::as_secs_f64(&time))
        };
        let (mut bare, mut hypervisor) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            bare.push(time(Setup::bare(vcpus))?);
            hypervisor.push(time(Setup::on_hypervisor(vcpus, vcpus))?);
        }
        Ok(Self {
            vcpus,
            bare,
            hypervisor,
        })
    }

    /// Returns the medians, bare and on the hypervisor.
    pub(super) fn medians(&self) -> (f64, f64) {
        (median(&self.bare), median(&self.hypervisor))
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lets_one_slow_run_be() {
        assert!((median(&[3.0, 90.0, 2.5, 2.0, 2.75]) - 2.75).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
