//! `benches/limits.toml`: what each operation may cost.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::figures::Figures;
use super::operations::{self, Operation};
use crate::workspace::Workspace;

/// Where the limits are, in the repository.
const FILE: &str = "benches/limits.toml";

/// What an operation may cost, in instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    /// What it costs at most today: more is a failure.
    pub(crate) limit: u64,
    /// What the project demands, if it does.
    pub(crate) required: Option<u64>,
    /// What it hopes for.
    pub(crate) stretch: Option<u64>,
}

impl Limit {
    /// Returns the limit of what costs `cost`: a little more, since the compiler may lay
    /// the same code out in other ways, but no more than what is demanded.
    fn ceiling(self, cost: u64) -> u64 {
        let demanded = self.required.filter(|required| cost <= *required);
        (cost + cost / 50).min(demanded.unwrap_or(u64::MAX))
    }
}

/// The limits of all operations.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Limits(BTreeMap<String, Limit>);

/// An operation that does not cost what its limit says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Deviation {
    operation: &'static Operation,
    cost: u64,
    limit: u64,
    /// What the limit can be.
    ceiling: u64,
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operation: Operation { name, title },
            cost,
            limit,
            ..
        } = self;
        write!(f, "{name} ({title}): {cost}, the limit is {limit}")
    }
}

impl Limits {
    /// Reads the file.
    pub(crate) fn read(workspace: &Workspace) -> Result<Self> {
        let path = workspace.root().join(FILE);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let limits: Self = toml::from_str(text)?;
        for Operation { name, .. } in operations::all() {
            ensure!(limits.0.contains_key(*name), "no limits of {name}");
        }
        for name in limits.0.keys() {
            let known = operations::all().any(|operation| operation.name == name);
            ensure!(known, "{name} is nothing that is measured");
        }
        Ok(limits)
    }

    /// Returns the limits of an operation.
    pub(crate) fn of(&self, operation: &Operation) -> Result<Limit> {
        let limit = self.0.get(operation.name).copied();
        limit.with_context(|| format!("no limits of {} in {FILE}", operation.name))
    }

    /// Fails if an operation costs more than its limit, or was not measured.
    /// Returns those that cost so much less that the limit can be lowered.
    pub(crate) fn check(&self, figures: &Figures) -> Result<Vec<Deviation>> {
        let mut above = Vec::new();
        let mut below = Vec::new();
        for operation in operations::all() {
            let cost = figures.mean(operation.name);
            let cost = cost.with_context(|| format!("{} was not measured", operation.name))?;
            let limits = self.of(operation)?;
            let deviation = Deviation {
                operation,
                cost,
                limit: limits.limit,
                ceiling: limits.ceiling(cost),
            };
            if cost > deviation.limit {
                above.push(deviation);
            } else if deviation.ceiling < deviation.limit {
                below.push(deviation);
            }
        }
        ensure!(above.is_empty(), "{}", complaint(&above));
        Ok(below)
    }
}

/// Writes what was measured into the file, with a little slack, where that is below the
/// limit.
pub(crate) fn lower(workspace: &Workspace, below: &[Deviation]) -> Result<()> {
    let path = workspace.root().join(FILE);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = lowered(&text, below);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Replaces limits, and leaves everything else of the file as it is.
fn lowered(text: &str, below: &[Deviation]) -> String {
    let mut section = "";
    let lines = text.lines().map(|line| {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        let mut rows = below.iter().filter(|row| row.operation.name == section);
        match rows.next() {
            Some(row) if line.starts_with("limit = ") => {
                format!("limit = {}\n", row.ceiling)
            }
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}

/// Says what is wrong and what to do.
fn complaint(above: &[Deviation]) -> String {
    let lines: Vec<_> = above.iter().map(|row| format!("\n  {row}")).collect();
    format!(
        "operations cost more instructions than {FILE} allows:{}\n\
         make them cheaper again (`cargo xtask qemu --count-instructions=20` shows which \
         functions execute most), or raise the limits in the same commit and say why",
        lines.concat()
    )
}

/// Says which limits can be lower.
pub(crate) fn hint(below: &[Deviation]) -> Option<String> {
    let lines: Vec<_> = below.iter().map(|row| format!("\n  {row}")).collect();
    (!below.is_empty()).then(|| {
        format!(
            "these cost less than {FILE} allows; --lower lowers the limits to keep it so:{}",
            lines.concat()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limits of 100 for everything.
    fn limits() -> Limits {
        let entries = operations::all().map(|operation| {
            format!(
                "[{}]\nlimit = 100\nrequired = 95\nstretch = 80\n",
                operation.name
            )
        });
        Limits::parse(&entries.collect::<String>()).unwrap()
    }

    fn all_at(cost: u64) -> Figures {
        operations::all()
            .map(|operation| (operation.name, cost))
            .collect()
    }

    #[test]
    fn the_file_of_this_repository_is_complete() {
        let limits = Limits::read(&Workspace::find().unwrap()).unwrap();
        for operation in operations::all() {
            let limit = limits.of(operation).unwrap();
            assert!(limit.stretch <= limit.required, "{}", operation.name);
            let demanded = limit.required.unwrap_or(u64::MAX);
            assert!(limit.limit <= demanded, "{}", operation.name);
        }
    }

    #[test]
    fn slack_ends_where_demands_do() {
        let limit = |required| Limit {
            limit: 1000,
            required,
            stretch: None,
        };
        assert_eq!(limit(None).ceiling(100), 102);
        assert_eq!(limit(Some(200)).ceiling(100), 102);
        assert_eq!(limit(Some(101)).ceiling(100), 101);
        assert_eq!(limit(Some(99)).ceiling(100), 102);
    }

    #[test]
    fn what_is_above_its_limit_is_named_with_its_figures() {
        let mut figures = all_at(100);
        assert_eq!(limits().check(&figures).unwrap(), []);
        figures.add([("sgi-self", 101), ("gicd-read", 99)].into_iter().collect());
        let error = limits().check(&figures).unwrap_err().to_string();
        let line = "sgi-self (SGI to self, to handler): 101, the limit is 100";
        assert!(error.contains(line), "{error}");
        assert!(!error.contains("gicd-read"), "{error}");
    }

    #[test]
    fn what_is_below_its_limit_is_returned() {
        let mut figures = all_at(100);
        figures.add([("gicd-read", 90)].into_iter().collect());
        let below = limits().check(&figures).unwrap();
        let hint = hint(&below).unwrap();
        assert!(
            hint.contains("gicd-read (GICD read): 90, the limit is 100"),
            "{hint}"
        );
        assert_eq!(super::hint(&[]), None);
    }

    #[test]
    fn limits_are_lowered_and_all_else_stays() {
        let text =
            "# Costs.\n\n[gicd-read]\nlimit = 100\nrequired = 100\n\n[sgi-self]\nlimit = 100\n";
        let mut figures = all_at(100);
        figures.add([("gicd-read", 90)].into_iter().collect());
        let below = limits().check(&figures).unwrap();
        let expected = text.replacen("limit = 100", "limit = 91", 1);
        assert_eq!(lowered(text, &below), expected);
    }

    #[test]
    fn what_was_not_measured_does_not_pass() {
        assert!(limits().check(&Figures::default()).is_err());
    }

    #[test]
    fn a_file_with_a_row_too_few_or_too_many_is_refused() {
        assert!(Limits::parse("").is_err());
        let mut text: String = operations::all()
            .map(|operation| {
                format!(
                    "[{}]\nlimit = 1\nrequired = 1\nstretch = 1\n",
                    operation.name
                )
            })
            .collect();
        text.push_str("[coffee]\nlimit = 1\nrequired = 1\nstretch = 1\n");
        assert!(Limits::parse(&text).is_err());
    }
}
