//! The exits of vCPUs as rows: a vCPU's VM and number, all of them, then those for
//! each reason, the most frequent reason first.

use std::fmt::Write;
use std::time::Duration;

use super::super::counters::{Exits, Snapshot};
use super::super::machine::Machine;

/// Rows of text under a row of titles.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) titles: Vec<String>,
    pub(super) rows: Vec<Row>,
}

/// One row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Whether it is the sum of a VM's.
    pub(super) is_sum: bool,
    pub(super) cells: Vec<String>,
}

/// How a count is shown.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    /// As it is.
    Exits,
    /// As a rate, after so long.
    PerSecond(Duration),
}

impl Unit {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate for the eye"
    )]
    fn show(self, count: u64) -> String {
        match self {
            Self::Exits => count.to_string(),
            Self::PerSecond(time) => {
                let rate = count as f64 / time.as_secs_f64().max(1e-3);
                (rate.round() as u64).to_string()
            }
        }
    }
}

impl Table {
    /// Shows a row for each vCPU, and one for each VM with the sum of its vCPUs.
    pub(super) fn new(machine: &Machine, exits: &Snapshot, unit: Unit) -> Self {
        let reasons = by_frequency(exits);
        let name = |reason: &usize| machine.reasons.get(*reason).cloned().unwrap_or_default();
        let titles = ["VM", "vCPU", "all"].map(str::to_owned);
        let titles = titles.into_iter().chain(reasons.iter().map(name)).collect();
        let row = |is_sum, vm, vcpu, exits: &Exits| {
            let counts = reasons
                .iter()
                .map(|reason| exits.counts.get(*reason).copied());
            let counts = counts.map(|count| unit.show(count.unwrap_or(0)));
            let all = unit.show(exits.total());
            let cells = [vm, vcpu, all].into_iter().chain(counts).collect();
            Row { is_sum, cells }
        };
        let mut rows = Vec::new();
        for vm in exits.vcpus.chunk_by(|one, other| one.vm == other.vm) {
            let Some(number) = vm.first().map(|exits| exits.vm) else {
                continue;
            };
            let name = machine
                .vms
                .get(usize::from(number))
                .map_or("?", String::as_str);
            rows.push(row(
                true,
                format!("{number} {name}"),
                "all".to_owned(),
                &sum(vm),
            ));
            for exits in vm {
                rows.push(row(false, String::new(), exits.vcpu.to_string(), exits));
            }
        }
        Self { titles, rows }
    }

    /// Returns how wide each column is.
    pub(super) fn widths(&self) -> Vec<usize> {
        let rows = self.rows.iter().map(|row| &row.cells);
        let mut widths = vec![0; self.titles.len()];
        for cells in rows.chain([&self.titles]) {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.chars().count().max(*width);
            }
        }
        widths
    }
}

/// Returns the reasons that there were, the most frequent first.
fn by_frequency(exits: &Snapshot) -> Vec<usize> {
    let all = sum(&exits.vcpus);
    let mut reasons: Vec<_> = (0..)
        .zip(all.counts)
        .filter(|(_, count)| *count > 0)
        .collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    reasons.into_iter().map(|(reason, _)| reason).collect()
}

fn sum(vcpus: &[Exits]) -> Exits {
    let reasons = vcpus.iter().map(|exits| exits.counts.len()).max();
    let mut counts = vec![0; reasons.unwrap_or(0)];
    for exits in vcpus {
        for (sum, count) in counts.iter_mut().zip(&exits.counts) {
            *sum += count;
        }
    }
    let vm = vcpus.first().map_or(0, |exits| exits.vm);
    Exits {
        vm,
        vcpu: 0,
        counts,
    }
}

/// Returns the exits since the machine was started as plain text: reasons one below
/// the other, so that it fits any terminal.
pub(super) fn plain(machine: &Machine, exits: &Snapshot) -> String {
    let table = Table::new(machine, exits, Unit::Exits);
    let mut text = String::new();
    for Row { is_sum, cells } in &table.rows {
        let named = table.titles.iter().zip(cells).skip(2);
        let [vm, vcpu, ..] = cells.as_slice() else {
            continue;
        };
        // Writing to a string does not fail.
        let _ = if *is_sum {
            writeln!(text, "VM {vm}: exits since the machine was started")
        } else {
            writeln!(text, "  vCPU {vcpu}")
        };
        let indent = if *is_sum { "  " } else { "    " };
        for (title, count) in named.filter(|(title, count)| *title == "all" || *count != "0") {
            let _ = writeln!(text, "{indent}{title:<16} {count:>12}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::super::machine::fakes;
    use super::*;

    fn table(unit: Unit) -> (Table, String) {
        let (mut memory, anchor) = fakes::memory();
        let machine = Machine::find(&mut memory, anchor).unwrap().unwrap();
        let exits = Snapshot::take(&machine, &mut memory).unwrap();
        (Table::new(&machine, &exits, unit), plain(&machine, &exits))
    }

    #[test]
    fn the_most_frequent_reason_comes_first() {
        let (table, _) = table(Unit::Exits);
        assert_eq!(table.titles, ["VM", "vCPU", "all", "hvc", "other"]);
        let rows: Vec<_> = table.rows.iter().map(|row| row.cells.join(" ")).collect();
        let expected = [
            "0 one all 3 0 3",
            " 0 3 0 3",
            " 1 0 0 0",
            "1 two all 7 7 0",
            " 0 7 7 0",
        ];
        assert_eq!(rows, expected);
        assert_eq!(table.widths(), [5, 4, 3, 3, 5]);
    }

    #[test]
    fn a_rate_is_by_the_second() {
        let (table, _) = table(Unit::PerSecond(Duration::from_millis(500)));
        assert_eq!(table.rows[4].cells, ["", "0", "14", "14", "0"]);
    }

    #[test]
    fn plain_text_leaves_out_what_there_was_not() {
        let (_, text) = table(Unit::Exits);
        let expected = "VM 0 one: exits since the machine was started\n  \
                        all                         3\n  other                       3\n  \
                        vCPU 0\n    all                         3\n    \
                        other                       3\n  vCPU 1\n    \
                        all                         0\n";
        assert!(text.starts_with(expected), "{text}");
    }
}
