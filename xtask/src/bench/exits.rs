//! `cargo xtask bench exits`: what each operation costs, with the hypervisor and
//! without it.

use std::process::ExitCode;

use anyhow::{Context, Result};
use dtb_platform::VmConfig;
use serde::Serialize;

use super::chart::{self, Bars};
use super::figures::{Figure, Figures};
use super::limits::{self, Limit, Limits};
use super::measure;
use super::operations::{self, DEVICES, EXITS};
use super::table::{Table, number};
use super::write;
use crate::cli::ExitsOptions;
use crate::run::spec::{MachineSpec, Mode};
use crate::workspace::Workspace;

/// The virtual CPUs of the guest, each with a physical one of its own.
const VCPUS: u32 = 4;

/// The priority of the VM that preempts another one.
const PREEMPTING: u8 = 1;

/// What was measured.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exits {
    bare: Figures,
    pub(crate) here: Figures,
}

/// Measures, shows, writes and checks what the options ask for.
pub(super) fn run(workspace: &Workspace, options: &ExitsOptions) -> Result<ExitCode> {
    let limits = Limits::read(workspace)?;
    let exits = Exits::measure(workspace, options.cpu.as_deref())?;
    let rows = exits.rows(&limits)?;
    print!("{}", table(&rows));
    if let Some(file) = &options.json {
        write(file, &(serde_json::to_string_pretty(&rows)? + "\n"))?;
    }
    if let Some(file) = &options.svg {
        let bars: Vec<_> = rows.iter().map(Row::bars).collect();
        write(file, &chart::svg(&bars))?;
    }
    if options.check || options.lower {
        let below = limits.check(&exits.here)?;
        if options.lower {
            limits::lower(workspace, &below)?;
        } else if let Some(hint) = limits::hint(&below) {
            println!("\n{hint}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Exits {
    /// Measures one machine after the other.
    pub(crate) fn measure(workspace: &Workspace, cpu: Option<&str>) -> Result<Self> {
        let figures = |mut machine: MachineSpec, title, count| {
            if let Some(cpu) = cpu {
                cpu.clone_into(&mut machine.cpu);
            }
            measure::figures(workspace, machine, title, count)
        };
        let alone = MachineSpec::new(measure::vm(workspace, "vm0", VCPUS, "")?);
        let mut bare = alone.clone();
        bare.mode = Mode::Bare;
        let bare = figures(bare, "without the hypervisor", EXITS.len())?;
        let mut here = figures(alone, "on the hypervisor", EXITS.len() + DEVICES.len())?;

        for word in ["vcpu-switch", "vcpu-wake", "vcpu-handover"] {
            let pair = measure::vm(workspace, "vm0", 2, word)?;
            here.add(figures(
                MachineSpec::of(1, vec![pair]),
                "two vCPUs on a CPU",
                1,
            )?);
        }
        for (other, priority, word) in [
            ("busy", VmConfig::USUAL_PRIORITY, "vm-switch"),
            ("neighbour", PREEMPTING, "vm-wake"),
        ] {
            // The other one comes first, and is at its work when this one begins.
            let mut other = measure::vm(workspace, "vm0", 1, other)?;
            other.priority = priority;
            let vm = measure::vm(workspace, "vm1", 1, word)?;
            let machine = MachineSpec::of(1, vec![other, vm]);
            here.add(figures(machine, "two VMs on a CPU", 1)?);
        }
        Ok(Self { bare, here })
    }

    /// Returns the rows of the table.
    fn rows(&self, limits: &Limits) -> Result<Vec<Row>> {
        operations::all()
            .map(|operation| {
                let here = self.here.get(operation.name).copied();
                Ok(Row {
                    name: operation.name,
                    title: operation.title,
                    bare: self.bare.get(operation.name).copied(),
                    here: here.with_context(|| format!("{} was not measured", operation.name))?,
                    limit: limits.of(operation)?,
                })
            })
            .collect()
    }
}

/// One operation: what it costs and what it may cost.
#[derive(Debug, Serialize)]
struct Row {
    name: &'static str,
    title: &'static str,
    bare: Option<Figure>,
    here: Figure,
    #[serde(flatten)]
    limit: Limit,
}

impl Row {
    /// Says which goal is reached.
    fn reaches(&self) -> &'static str {
        let cost = self.here.mean();
        let is_within = |goal: Option<u64>| goal.is_some_and(|goal| cost <= goal);
        match self.limit.required {
            None => "-",
            _ if is_within(self.limit.stretch) => "stretch",
            _ if is_within(self.limit.required) => "required",
            _ => "neither",
        }
    }

    /// Returns how much more it costs than without the hypervisor.
    fn ratio(&self) -> Option<f64> {
        let bare = self
            .bare
            .map(|figure| figure.mean())
            .filter(|cost| *cost > 0)?;
        Some(self.here.mean() as f64 / bare as f64)
    }

    fn bars(&self) -> Bars<'_> {
        Bars {
            title: self.title,
            bare: self.bare.map(|figure| figure.mean()),
            here: self.here.mean(),
            required: self.limit.required,
        }
    }
}

fn table(rows: &[Row]) -> Table {
    let heads = [
        "instructions per operation",
        "bare",
        "here",
        "ratio",
        "required",
        "stretch",
        "reached",
    ];
    let mut table = Table::new(&heads);
    for row in rows {
        let ratio = row.ratio().map(|ratio| format!("{ratio:.0}"));
        table.row([
            row.title.to_owned(),
            number(row.bare.map(|figure| figure.mean())),
            row.here.mean().to_string(),
            ratio.unwrap_or_else(|| "-".to_owned()),
            number(row.limit.required),
            number(row.limit.stretch),
            row.reaches().to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bare: Option<u64>, here: u64) -> Row {
        let figure = |sum| Figure {
            count: 1,
            sum,
            least: sum,
            most: sum,
        };
        Row {
            name: "gicd-read",
            title: "GICD read",
            bare: bare.map(figure),
            here: figure(here),
            limit: Limit {
                limit: 500,
                required: Some(260),
                stretch: Some(190),
            },
        }
    }

    #[test]
    fn a_goal_is_reached_by_as_much_as_it_says() {
        for (here, goal) in [
            (190, "stretch"),
            (191, "required"),
            (260, "required"),
            (261, "neither"),
        ] {
            assert_eq!(row(None, here).reaches(), goal, "{here}");
        }
    }

    #[test]
    fn what_costs_nothing_or_is_not_there_has_no_ratio() {
        assert_eq!(row(Some(2), 5).ratio(), Some(2.5));
        assert_eq!(row(Some(0), 5).ratio(), None);
        assert_eq!(row(None, 5).ratio(), None);
    }

    #[test]
    fn the_table_has_a_line_for_each_row() {
        let rows = [row(Some(1), 200), row(None, 300)];
        let table = table(&rows).to_string();
        let words: Vec<Vec<_>> = table
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let expected = ["GICD", "read", "1", "200", "200", "260", "190", "required"];
        assert_eq!(words.get(1).unwrap(), &expected);
        let expected = ["GICD", "read", "-", "300", "-", "260", "190", "neither"];
        assert_eq!(words.get(2).unwrap(), &expected);
    }
}
