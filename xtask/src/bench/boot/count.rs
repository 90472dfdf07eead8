//! A boot in instructions, up to the first command of the shell: after that the
//! machine is turned off, and how long that takes is QEMU's business.

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde::{Serialize, Serializer};

use super::setup::{Bench, Setup};
use crate::guest::landmark;
use crate::run::instructions::{Counting, Counts, Exits, Share};
use crate::run::repeatable::repeatable;

/// How often each boot is run.
pub(super) const RUNS: usize = 2;

/// One setup's boot, run twice.
#[derive(Debug, Serialize)]
pub(super) struct Boot {
    #[serde(flatten)]
    pub(super) setup: Setup,
    #[serde(flatten)]
    pub(super) figures: Figures,
    /// What another run found, if it was not the same.
    pub(super) another: Option<Figures>,
    /// The hypervisor's functions and their instructions, most first.
    pub(super) functions: Vec<(String, u64)>,
}

/// What is counted in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Figures {
    #[serde(flatten, serialize_with = "totals")]
    pub(super) counts: Counts,
    pub(super) exits: Option<Exits>,
}

impl Boot {
    /// Runs the boot of a setup twice.
    pub(super) fn count(bench: &Bench<'_>, setup: Setup, progress: &ProgressBar) -> Result<Self> {
        let (figures, functions) = Figures::of_a_run(bench, setup, progress)?;
        let (again, _) = Figures::of_a_run(bench, setup, progress)?;
        Ok(Self {
            setup,
            another: (again != figures).then_some(again),
            figures,
            functions,
        })
    }
}

impl Figures {
    fn of_a_run(
        bench: &Bench<'_>,
        setup: Setup,
        progress: &ProgressBar,
    ) -> Result<(Self, Vec<(String, u64)>)> {
        progress.set_message(format!("{setup}, counted"));
        let mut machine = repeatable(bench.machine(setup)?);
        machine.count_instructions = true;
        machine.count_until = Some(landmark::ENTRY);
        let (session, _) = bench
            .boot(&machine)
            .with_context(|| format!("the boot \"{setup}\" failed"))?;
        let counting = session.counting();
        let counting = counting.context("this machine counts no instructions")?;
        progress.inc(1);
        Ok((Self::read(counting)?, counting.functions()?))
    }

    fn read(counting: &Counting) -> Result<Self> {
        Ok(Self {
            counts: counting.counts()?,
            exits: counting.exits()?,
        })
    }

    /// Returns the hypervisor's share of the whole run.
    pub(super) fn share(&self) -> Share {
        Share::of(self.counts.hypervisor(), self.counts.total())
    }

    /// Returns its share of what follows the first instruction of Linux.
    pub(super) fn share_from_linux(&self) -> Share {
        let start = self.counts.start();
        Share::of(
            self.counts.hypervisor() - start,
            self.counts.total() - start,
        )
    }
}

/// Writes sums and the CPUs' counts, not one number for each instruction.
fn totals<S: Serializer>(counts: &Counts, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeMap;
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("instructions", &counts.total())?;
    map.serialize_entry("el2_instructions", &counts.hypervisor())?;
    map.serialize_entry("el2_instructions_before_linux", &counts.start())?;
    map.serialize_entry("cpus", counts.cpus())?;
    map.end()
}
