//! The figures as a table, with the limits that they have.

use std::fmt;

use serde::Serialize;

use super::count::{Boot, Figures};
use super::setup::{Bench, Setup};
use super::wall::Wall;
use crate::run::instructions::Share;

/// The most that may be EL2's of a boot, by setup, in parts of 10,000.
const SHARES: [(Setup, u64); 2] = [
    (Setup::on_hypervisor(1, 1), 15),
    (Setup::on_hypervisor(4, 4), 50),
];

/// What four virtual CPUs on one may cost, in hundredths of what they cost on
/// four.
const SHARING: u64 = 115;

/// How many times the boot without hypervisor a boot may take by the clock.
const WALL: f64 = 1.5;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    kernel: String,
    boots: Vec<Boot>,
    seconds: Option<Wall>,
}

impl Report {
    pub(super) fn new(bench: &Bench<'_>, boots: Vec<Boot>, wall: Option<Wall>) -> Self {
        Self {
            kernel: bench.kernel(),
            boots,
            seconds: wall,
        }
    }

    /// Tells whether every second run was the same as the first.
    pub(super) fn repeats(&self) -> bool {
        self.boots.iter().all(|boot| boot.another.is_none())
    }

    /// Lists the functions of EL2 that executed most.
    pub(super) fn print_functions(&self, most: usize) {
        if most == 0 {
            return;
        }
        for boot in self.boots.iter().filter(|boot| boot.setup.hypervisor) {
            println!("\n{}: instructions of EL2", boot.setup);
            for (name, count) in boot.functions.iter().take(most) {
                println!("{:>15}  {name}", grouped(*count));
            }
        }
    }

    fn figures(&self, setup: Setup) -> Option<&Figures> {
        let mut boots = self.boots.iter();
        boots
            .find(|boot| boot.setup == setup)
            .map(|boot| &boot.figures)
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, boot: &Boot) -> fmt::Result {
        let Boot { setup, figures, .. } = boot;
        let counts = &figures.counts;
        write!(f, "{setup:10} {:>15}", grouped(counts.total()))?;
        if let Some(exits) = figures.exits {
            let bare = self.figures(Setup::bare(setup.vcpus));
            let ratio = bare.map(|bare| ratio(counts.total(), bare.counts.total()));
            write!(
                f,
                " {:>7} {:>15} {:>9} {:>13} {:>9} {:>7} {:>7}",
                ratio.unwrap_or_default(),
                grouped(counts.hypervisor()),
                figures.share().to_string(),
                grouped(counts.hypervisor() - counts.start()),
                figures.share_from_linux().to_string(),
                grouped(exits.synchronous),
                grouped(exits.interrupts),
            )?;
        }
        writeln!(f)?;
        if let Some(another) = &boot.another {
            writeln!(
                f,
                "  NOT THE SAME in another run: {} instructions, {} of EL2",
                grouped(another.counts.total()),
                grouped(another.counts.hypervisor()),
            )?;
        }
        Ok(())
    }

    fn limits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (setup, limit) in SHARES {
            let Some(figures) = self.figures(setup) else {
                continue;
            };
            let most = Share::of(limit, 10_000);
            let (all, linux) = (figures.share(), figures.share_from_linux());
            let text = format!("EL2's share of {setup}");
            verdict(f, &text, &all, all <= most, &most)?;
            let text = "  from Linux's first instruction";
            verdict(f, text, &linux, linux <= most, &most)?;
        }
        let on = |pcpus| self.figures(Setup::on_hypervisor(4, pcpus));
        if let (Some(one), Some(four)) = (on(1), on(4)) {
            let (one, four) = (one.counts.total(), four.counts.total());
            let kept = u128::from(one) * 100 <= u128::from(four) * u128::from(SHARING);
            let limit = ratio(SHARING, 100);
            verdict(f, "4 on 1 against 4 on 4", &ratio(one, four), kept, &limit)?;
        }
        if let Some(wall) = &self.seconds {
            let (bare, here) = wall.medians();
            let found = format!("{:.2} x", here / bare);
            let limit = format!("{WALL:.2} x");
            verdict(
                f,
                "seconds against bare",
                &found,
                here <= bare * WALL,
                &limit,
            )?;
        }
        Ok(())
    }
}

fn verdict(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    found: &dyn fmt::Display,
    kept: bool,
    limit: &dyn fmt::Display,
) -> fmt::Result {
    let verdict = if kept { "kept" } else { "EXCEEDED" };
    let (found, limit) = (found.to_string(), limit.to_string());
    writeln!(f, "{what:34} {found:>10}   limit {limit:>8}: {verdict}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} to its shell, in instructions", self.kernel)?;
        writeln!(
            f,
            "{:10} {:>15} {:>7} {:>15} {:>9} {:>13} {:>9} {:>15}",
            "", "", "against", "", "", "from Linux's", "", "exits:"
        )?;
        writeln!(
            f,
            "{:10} {:>15} {:>7} {:>15} {:>9} {:>13} {:>9} {:>7} {:>7}",
            "CPUs", "all", "bare", "EL2", "share", "first one on", "share", "sync", "irq"
        )?;
        for boot in &self.boots {
            self.row(f, boot)?;
        }
        if let Some(wall) = &self.seconds {
            let (bare, here) = wall.medians();
            let vcpus = wall.vcpus;
            writeln!(
                f,
                "\nseconds to the shell with {vcpus} CPUs, medians of {}: {bare:.2} bare, {here:.2} here",
                wall.bare.len()
            )?;
        }
        writeln!(f)?;
        self.limits(f)
    }
}

/// Writes a number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes how many times the second number the first is.
fn ratio(number: u64, of: u64) -> String {
    let thousandths = (u128::from(number) * 1000).div_ceil(u128::from(of.max(1)));
    format!("{}.{:03} x", thousandths / 1000, thousandths % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(ratio(3, 2), "1.500 x");
        assert_eq!(ratio(1, 3), "0.334 x");
    }
}
