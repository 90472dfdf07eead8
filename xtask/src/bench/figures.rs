//! What was measured.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Serialize;

/// What one operation costs, in instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Figure {
    pub(crate) count: u64,
    pub(crate) sum: u64,
    pub(crate) least: u64,
    pub(crate) most: u64,
}

impl Figure {
    /// Returns the mean, rounded.
    pub(crate) fn mean(&self) -> u64 {
        (self.sum + self.count / 2)
            .checked_div(self.count)
            .unwrap_or_default()
    }

    /// Reads what follows `bench: ` in a line of the guest:
    /// `NAME COUNT SUM LEAST MOST`.
    fn parse(line: &str) -> Option<(String, Self)> {
        let (name, numbers) = line.trim_end().split_once(' ')?;
        let numbers: Vec<u64> = numbers
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        let &[count, sum, least, most] = numbers.as_slice() else {
            return None;
        };
        let figure = Self {
            count,
            sum,
            least,
            most,
        };
        (count > 0).then(|| (name.to_owned(), figure))
    }
}

/// Figures, by the names of their operations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Figures(BTreeMap<String, Figure>);

impl Figures {
    /// Reads what the guest printed.
    pub(crate) fn parse(console: &str) -> Result<Self> {
        let lines = console.lines();
        lines
            .filter_map(|line| Some(line.split_once("bench: ")?.1))
            .map(|line| {
                Figure::parse(line).with_context(|| format!("not the line of a figure: {line}"))
            })
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Returns the figure of an operation, if that was measured.
    pub(crate) fn get(&self, name: &str) -> Option<&Figure> {
        self.0.get(name)
    }

    /// Returns the mean of an operation, if that was measured.
    pub(crate) fn mean(&self, name: &str) -> Option<u64> {
        self.get(name).map(Figure::mean)
    }

    /// Adds what was measured elsewhere.
    pub(crate) fn add(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

#[cfg(test)]
impl FromIterator<(&'static str, u64)> for Figures {
    /// Makes figures of operations that take as long each time.
    fn from_iter<I: IntoIterator<Item = (&'static str, u64)>>(means: I) -> Self {
        let figure = |mean| Figure {
            count: 1,
            sum: mean,
            least: mean,
            most: mean,
        };
        let named = |(name, mean): (&str, u64)| (name.to_owned(), figure(mean));
        Self(means.into_iter().map(named).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_among_other_lines() {
        let console = "[armature] VM 0 \"vm0\"\r\nbench: sgi-self 4 2326 581 583\r\n\
                       vm1| bench: gicd-read 2 600 299 301\r\n";
        let figures = Figures::parse(console).unwrap();
        let expected = Figure {
            count: 4,
            sum: 2326,
            least: 581,
            most: 583,
        };
        assert_eq!(figures.get("sgi-self"), Some(&expected));
        assert_eq!(figures.mean("sgi-self"), Some(582));
        assert_eq!(figures.mean("gicd-read"), Some(300));
        assert_eq!(figures.mean("gicd-write"), None);
    }

    #[test]
    fn a_line_that_is_cut_is_an_error() {
        for line in ["bench: a 1 2 3", "bench: a 1 2 x 4", "bench: a 0 0 0 0"] {
            assert!(Figures::parse(line).is_err(), "{line}");
        }
    }
}
