//! The same operations on machines that grow.

use std::fmt;

use anyhow::Result;
use dtb_platform::Placement;
use serde::Serialize;

use crate::bench::figures::Figures;
use crate::bench::measure;
use crate::bench::operations::{self, EXITS, Operation};
use crate::bench::table::{Table, number};
use crate::run::spec::MachineSpec;
use crate::workspace::Workspace;

/// How many VMs, and vCPUs, there are.
const COUNTS: [u32; 5] = [1, 2, 4, 8, 16];

/// The vCPUs of the VM that measures while there are others, each with a physical
/// CPU of its own. The others share one more.
const VCPUS: u32 = 4;

/// By how much an operation may cost more or less than on the smallest machine, in
/// percent.
const AIM: f64 = 5.0;

/// What was measured on each machine.
#[derive(Debug, Serialize)]
pub(super) struct Growth(Vec<Size>);

/// One machine.
#[derive(Debug, Serialize)]
struct Size {
    count: u32,
    figures: Figures,
}

impl Growth {
    /// Measures in one VM while there are more and more others, all asleep.
    pub(super) fn of_vms(workspace: &Workspace) -> Result<Self> {
        let measure = |count| {
            let title = format!("with {count} VMs");
            let machine = apart(workspace, count)?;
            let mut figures = measure::figures(workspace, machine, &title, EXITS.len())?;
            let machine = together(workspace, count)?;
            figures.add(measure::figures(workspace, machine, &title, 1)?);
            Ok(Size { count, figures })
        };
        COUNTS
            .into_iter()
            .map(measure)
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Measures in VMs of more and more vCPUs, each with a physical CPU of its own.
    pub(super) fn of_vcpus(workspace: &Workspace) -> Result<Self> {
        let measure = |count| {
            let title = format!("with {count} vCPUs");
            let machine = MachineSpec::new(measure::vm(workspace, "vm0", count, "")?);
            let figures = measure::figures(workspace, machine, &title, EXITS.len())?;
            Ok(Size { count, figures })
        };
        COUNTS
            .into_iter()
            .map(measure)
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Returns what an operation costs on each machine, where it was measured.
    fn costs(&self, operation: &Operation) -> Vec<Option<u64>> {
        let sizes = self.0.iter();
        sizes
            .map(|size| size.figures.mean(operation.name))
            .collect()
    }

    /// Returns the operations that were measured, and what they cost.
    fn rows(&self) -> impl Iterator<Item = (&'static Operation, Vec<Option<u64>>)> {
        operations::all()
            .map(|operation| (operation, self.costs(operation)))
            .filter(|(_, costs)| costs.iter().any(Option::is_some))
    }

    /// Says which operations cost too much more, or less, on large machines.
    pub(super) fn missed(&self, what: &str) -> Vec<String> {
        let rows = self
            .rows()
            .map(|(operation, costs)| (operation, deviation(&costs)));
        rows.filter(|(_, deviation)| *deviation > AIM)
            .map(|(operation, deviation)| {
                let title = operation.title;
                format!("{title}: {deviation:.1} % with more {what}, the aim is {AIM} %")
            })
            .collect()
    }
}

/// Returns by how much a cost differs at most from the first, in percent.
fn deviation(costs: &[Option<u64>]) -> f64 {
    let mut costs = costs.iter().copied().flatten();
    let Some(first) = costs.next() else {
        return 0.0;
    };
    let most = costs.map(|cost| cost.abs_diff(first)).max();
    100.0 * most.unwrap_or_default() as f64 / first.max(1) as f64
}

/// Describes a machine of `count` VMs. One measures on CPUs of its own, the others
/// sleep on another CPU. It is built last, when they are there.
fn apart(workspace: &Workspace, count: u32) -> Result<MachineSpec> {
    let mut vms = (1..count)
        .map(|index| {
            let mut vm = measure::vm(workspace, &format!("idle{index}"), 1, "idle")?;
            vm.placement = Placement::Pinned(vec![VCPUS]);
            Ok(vm)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut vm = measure::vm(workspace, "measures", VCPUS, "")?;
    vm.placement = Placement::Pinned((0..VCPUS).collect());
    vms.push(vm);
    Ok(MachineSpec::of(VCPUS + 1, vms))
}

/// Describes a machine of `count` VMs that share its only CPU. One has two vCPUs
/// and measures what a switch between them costs, the others sleep.
fn together(workspace: &Workspace, count: u32) -> Result<MachineSpec> {
    let mut vms = (1..count)
        .map(|index| measure::vm(workspace, &format!("idle{index}"), 1, "idle"))
        .collect::<Result<Vec<_>>>()?;
    vms.push(measure::vm(workspace, "measures", 2, "vcpu-switch")?);
    Ok(MachineSpec::of(1, vms))
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0.iter().map(|size| size.count.to_string());
        let heads: Vec<_> = ["operation".to_owned()]
            .into_iter()
            .chain(counts)
            .chain(["differs by".to_owned()])
            .collect();
        let heads: Vec<_> = heads.iter().map(String::as_str).collect();
        let mut table = Table::new(&heads);
        for (operation, costs) in self.rows() {
            let differs = format!("{:.1} %", deviation(&costs));
            let cells = costs.into_iter().map(number);
            table.row(
                [operation.title.to_owned()]
                    .into_iter()
                    .chain(cells)
                    .chain([differs]),
            );
        }
        write!(f, "{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(costs: [u64; 3]) -> Growth {
        let size = |(count, cost)| Size {
            count,
            figures: [("gicd-read", cost)].into_iter().collect(),
        };
        Growth([1, 2, 4].into_iter().zip(costs).map(size).collect())
    }

    #[test]
    fn costs_are_compared_with_those_of_the_smallest_machine() {
        assert_eq!(deviation(&[None, Some(200), Some(190), Some(204)]), 5.0);
        assert_eq!(deviation(&[Some(7)]), 0.0);
        assert_eq!(deviation(&[None]), 0.0);
    }

    #[test]
    fn what_grows_too_much_is_named() {
        assert_eq!(
            growth([200, 205, 210]).missed("VMs"),
            Vec::<String>::default()
        );
        assert_eq!(
            growth([200, 205, 212]).missed("VMs"),
            ["GICD read: 6.0 % with more VMs, the aim is 5 %"]
        );
    }

    #[test]
    fn a_row_has_a_column_for_each_machine() {
        let table = growth([200, 205, 212]).to_string();
        let row: Vec<_> = table
            .lines()
            .nth(1)
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        assert_eq!(row, ["GICD", "read", "200", "205", "212", "6.0", "%"]);
    }
}
