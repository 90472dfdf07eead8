//! Counts the instructions that the hypervisor executes in a run.
//!
//! The work is done by a plugin of QEMU, the package `instruction-counter`,
//! which says what exactly is counted and how it tells hypervisor and guests
//! apart. Both sides share a file of counters: one for each CPU, of the
//! instructions that were not the hypervisor's, and one for each word of the
//! hypervisor's image.

use std::collections::HashMap;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSymbol, SymbolKind};

use super::placement::IMAGE_START;
use super::qemu::escaped;
use crate::workspace::Workspace;

/// The plugin's package.
const PLUGIN: &str = "instruction-counter";

/// The length of an A64 instruction and that of its counter.
const INSTRUCTION_BYTES: u64 = 4;
const COUNTER_BYTES: u64 = size_of::<u64>() as u64;

/// How the instructions of one run are counted.
pub(crate) struct Counting {
    plugin: PathBuf,
    counters: PathBuf,
    cpus: u32,
    image_bytes: u64,
    symbols: PathBuf,
}

impl Counting {
    /// Builds the plugin and makes the file `counters` for a machine of `cpus`
    /// CPUs and the flat `image`, whose functions are in the ELF file
    /// `symbols`.
    pub(super) fn new(
        workspace: &Workspace,
        cpus: u32,
        image: &Path,
        symbols: &Path,
        counters: PathBuf,
    ) -> Result<Self> {
        let library = format!("{DLL_PREFIX}{}{DLL_SUFFIX}", PLUGIN.replace('-', "_"));
        let plugin = workspace.build_for_host(PLUGIN)?.join(library);
        let image_bytes = fs::metadata(image)
            .with_context(|| format!("cannot read {}", image.display()))?
            .len();
        let count = u64::from(cpus) + image_bytes / INSTRUCTION_BYTES;
        File::create(&counters)
            .and_then(|file| file.set_len(count * COUNTER_BYTES))
            .with_context(|| format!("cannot write {}", counters.display()))?;
        Ok(Self {
            plugin,
            counters,
            cpus,
            image_bytes,
            symbols: symbols.to_owned(),
        })
    }

    /// Returns QEMU's arguments.
    pub(super) fn arguments(&self) -> [String; 2] {
        let plugin = format!(
            "{},counters={},cpus={},start={IMAGE_START:#x},bytes={}",
            escaped(&self.plugin),
            escaped(&self.counters),
            self.cpus,
            self.image_bytes
        );
        ["-plugin".to_owned(), plugin]
    }

    /// Returns what has been counted up to now.
    pub(crate) fn counts(&self) -> Result<Counts> {
        let bytes = fs::read(&self.counters)
            .with_context(|| format!("cannot read {}", self.counters.display()))?;
        let counts = Counts::new(&bytes, usize::try_from(self.cpus)?);
        // No run that starts at all is without some.
        ensure!(
            counts.hypervisor() > 0,
            "no instruction of the hypervisor was seen at {IMAGE_START:#x}: is it loaded elsewhere?"
        );
        Ok(counts)
    }

    /// Returns the functions of the hypervisor that were executed, the most
    /// expensive first, each with the number of its instructions.
    pub(super) fn functions(&self) -> Result<Vec<(String, u64)>> {
        let counts = self.counts()?;
        let path = &self.symbols;
        let elf = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let elf = object::File::parse(elf.as_slice())
            .with_context(|| format!("cannot read {}", path.display()))?;
        let symbols = elf
            .symbols()
            .filter(|symbol| matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown))
            .filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?)))
            // Those with a dollar sign mark code and data, not functions.
            .filter(|(_, name)| !name.is_empty() && !name.starts_with('$'));
        Ok(counts.by_function(symbols.collect()))
    }
}

/// What was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    others: u64,
    /// One for each word of the image.
    image: Vec<u64>,
}

impl Counts {
    fn new(file: &[u8], cpus: usize) -> Self {
        let (counters, _) = file.as_chunks();
        let mut counters = counters.iter().copied().map(u64::from_ne_bytes);
        Self {
            others: counters.by_ref().take(cpus).sum(),
            image: counters.collect(),
        }
    }

    /// Returns how many instructions the hypervisor has executed, on all CPUs.
    pub(crate) fn hypervisor(&self) -> u64 {
        self.image.iter().sum()
    }

    /// Returns how many instructions all CPUs have executed.
    pub(crate) fn total(&self) -> u64 {
        self.others + self.hypervisor()
    }

    /// Adds up what belongs to each function, given their addresses within the
    /// image.
    fn by_function(&self, mut symbols: Vec<(u64, &str)>) -> Vec<(String, u64)> {
        symbols.sort_unstable();
        let mut sums: HashMap<&str, u64> = HashMap::new();
        let addresses = (0_u64..).step_by(4);
        for (address, count) in addresses.zip(&self.image).filter(|(_, count)| **count > 0) {
            let following = symbols.partition_point(|(start, _)| *start <= address);
            let symbol = following
                .checked_sub(1)
                .and_then(|index| symbols.get(index));
            *sums
                .entry(symbol.map_or("?", |(_, name)| *name))
                .or_default() += count;
        }
        let mut functions: Vec<(String, u64)> = sums
            .into_iter()
            .map(|(name, count)| (format!("{:#}", rustc_demangle::demangle(name)), count))
            .collect();
        functions.sort_unstable_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
        functions
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (part, total) = (self.hypervisor(), self.total());
        // In hundredths of a percent, rounded.
        let share = (u128::from(part) * 10_000 + u128::from(total) / 2)
            .checked_div(total.into())
            .unwrap_or_default();
        let (percent, hundredths) = (share / 100, share % 100);
        write!(
            f,
            "EL2: {part} of {total} instructions ({percent}.{hundredths:02} %)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Counts {
        let file = [1000_u64, 2000, 0, 5, 7, 0, 11].map(u64::to_ne_bytes);
        Counts::new(file.as_flattened(), 2)
    }

    #[test]
    fn the_counters_of_cpus_come_before_those_of_the_image() {
        let expected = Counts {
            others: 3000,
            image: vec![0, 5, 7, 0, 11],
        };
        assert_eq!(counts(), expected);
        assert_eq!((counts().hypervisor(), counts().total()), (23, 3023));
    }

    #[test]
    fn the_share_is_told_in_percent() {
        assert_eq!(
            counts().to_string(),
            "EL2: 23 of 3023 instructions (0.76 %)"
        );
        let half = Counts {
            others: 7,
            image: vec![7],
        };
        assert_eq!(half.to_string(), "EL2: 7 of 14 instructions (50.00 %)");
        let none = Counts::new(&[], 0);
        assert_eq!(none.to_string(), "EL2: 0 of 0 instructions (0.00 %)");
    }

    #[test]
    fn instructions_belong_to_the_function_before_them() {
        let functions = counts().by_function(vec![(12, "idle"), (8, "enter")]);
        let named = |name: &str, count| (name.to_owned(), count);
        assert_eq!(
            functions,
            [named("idle", 11), named("enter", 7), named("?", 5)]
        );
    }
}
