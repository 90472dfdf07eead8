//! Counts the instructions that a machine executes in a run, and which of them
//! are the hypervisor's.
//!
//! The work is done by a plugin of QEMU, the package `instruction-counter`,
//! which says what exactly is counted and how it tells hypervisor and guests
//! apart. Both sides share a file of counters: a few for each CPU, and one for
//! each word of the hypervisor's image. A machine without a hypervisor has none
//! of the latter.

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

/// How many counters a CPU has: see [`CpuCounts`].
const PER_CPU: usize = 3;

/// How the instructions of one run are counted.
pub(crate) struct Counting {
    plugin: PathBuf,
    counters: PathBuf,
    cpus: u32,
    program: Option<Program>,
}

/// The hypervisor, as far as it matters here.
struct Program {
    image_bytes: u64,
    symbols: PathBuf,
}

impl Counting {
    /// Builds the plugin and makes the file `counters` for a machine of `cpus`
    /// CPUs. `program` is the hypervisor's flat image and the ELF file with its
    /// functions, if there is a hypervisor.
    pub(super) fn new(
        workspace: &Workspace,
        cpus: u32,
        program: Option<(&Path, &Path)>,
        counters: PathBuf,
    ) -> Result<Self> {
        let library = format!("{DLL_PREFIX}{}{DLL_SUFFIX}", PLUGIN.replace('-', "_"));
        let plugin = workspace.build_for_host(PLUGIN)?.join(library);
        let program = match program {
            Some((image, symbols)) => Some(Program {
                image_bytes: fs::metadata(image)
                    .with_context(|| format!("cannot read {}", image.display()))?
                    .len(),
                symbols: symbols.to_owned(),
            }),
            None => None,
        };
        let words = program.as_ref().map_or(0, |program| program.image_bytes) / INSTRUCTION_BYTES;
        let count = u64::from(cpus) * PER_CPU as u64 + words;
        File::create(&counters)
            .and_then(|file| file.set_len(count * COUNTER_BYTES))
            .with_context(|| format!("cannot write {}", counters.display()))?;
        Ok(Self {
            plugin,
            counters,
            cpus,
            program,
        })
    }

    /// Returns QEMU's arguments.
    pub(super) fn arguments(&self) -> [String; 2] {
        let plugin = format!(
            "{},counters={},cpus={},start={IMAGE_START:#x},bytes={}",
            escaped(&self.plugin),
            escaped(&self.counters),
            self.cpus,
            self.program
                .as_ref()
                .map_or(0, |program| program.image_bytes),
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
            self.program.is_none() || counts.hypervisor() > 0,
            "no instruction of the hypervisor was seen at {IMAGE_START:#x}: is it loaded elsewhere?"
        );
        Ok(counts)
    }

    /// Returns the functions of the hypervisor that were executed, the most
    /// expensive first, each with the number of its instructions.
    pub(crate) fn functions(&self) -> Result<Vec<(String, u64)>> {
        let counts = self.counts()?;
        self.with_symbols(|symbols| counts.by_function(symbols))
    }

    /// Returns how often the hypervisor's function of this name, which is
    /// mangled in the image, was entered from above.
    ///
    /// # Errors
    /// There is no such function, or more than one: one that was inlined is
    /// none.
    pub(crate) fn calls(&self, function: &str) -> Result<u64> {
        let counts = self.counts()?;
        self.with_symbols(|symbols| counts.first_of(&symbols, function))?
    }

    /// Hands the addresses and names of the hypervisor's functions to `reader`.
    fn with_symbols<T>(&self, reader: impl FnOnce(Vec<(u64, &str)>) -> T) -> Result<T> {
        let Some(Program { symbols: path, .. }) = &self.program else {
            return Ok(reader(Vec::new()));
        };
        let elf = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let elf = object::File::parse(elf.as_slice())
            .with_context(|| format!("cannot read {}", path.display()))?;
        let symbols = elf
            .symbols()
            .filter(|symbol| matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown))
            .filter_map(|symbol| Some((symbol.address(), symbol.name().ok()?)))
            // Those with a dollar sign mark code and data, not functions.
            .filter(|(_, name)| !name.is_empty() && !name.starts_with('$'));
        Ok(reader(symbols.collect()))
    }
}

/// What one CPU has executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuCounts {
    /// Instructions that were not the hypervisor's.
    pub(crate) others: u64,
    /// The hypervisor's.
    pub(crate) hypervisor: u64,
    /// Those of the hypervisor that came before the first one of any guest.
    pub(crate) start: u64,
}

/// What was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    cpus: Vec<CpuCounts>,
    /// One for each word of the image.
    image: Vec<u64>,
}

impl Counts {
    fn new(file: &[u8], cpus: usize) -> Self {
        let (counters, _) = file.as_chunks();
        let counters: Vec<u64> = counters.iter().copied().map(u64::from_ne_bytes).collect();
        let (cpus, image) = counters
            .split_at_checked(cpus * PER_CPU)
            .unwrap_or_default();
        let (cpus, _) = cpus.as_chunks::<PER_CPU>();
        let counted = |&[others, hypervisor, start]: &[u64; PER_CPU]| CpuCounts {
            others,
            hypervisor,
            start,
        };
        Self {
            cpus: cpus.iter().map(counted).collect(),
            image: image.to_vec(),
        }
    }

    /// Returns what each CPU has executed.
    pub(crate) fn cpus(&self) -> &[CpuCounts] {
        &self.cpus
    }

    /// Returns how many instructions the hypervisor has executed, on all CPUs.
    pub(crate) fn hypervisor(&self) -> u64 {
        self.cpus.iter().map(|cpu| cpu.hypervisor).sum()
    }

    /// Returns how many of these came before the first instruction of a guest.
    pub(crate) fn start(&self) -> u64 {
        self.cpus.iter().map(|cpu| cpu.start).sum()
    }

    /// Returns how many instructions all CPUs have executed.
    pub(crate) fn total(&self) -> u64 {
        let others: u64 = self.cpus.iter().map(|cpu| cpu.others).sum();
        others + self.hypervisor()
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
            .map(|(name, count)| (readable(name), count))
            .collect();
        functions.sort_unstable_by(|(a, m), (b, n)| n.cmp(m).then_with(|| a.cmp(b)));
        functions
    }

    /// Returns how often the first instruction of a function was executed.
    fn first_of(&self, symbols: &[(u64, &str)], function: &str) -> Result<u64> {
        let mut named = symbols
            .iter()
            .filter(|(_, name)| readable(name) == function)
            .map(|(address, _)| *address);
        let address = named
            .next()
            .with_context(|| format!("the hypervisor has no function {function}"))?;
        ensure!(
            named.all(|other| other == address),
            "the hypervisor has several functions {function}"
        );
        let word = usize::try_from(address / INSTRUCTION_BYTES)?;
        let count = self.image.get(word).copied();
        count.with_context(|| format!("{function} lies outside of the image"))
    }
}

/// Returns a symbol's name as it stands in the source.
fn readable(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

/// A part of a whole in thousandths of a percent, rounded up: no limit is kept by
/// rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share(u128);

impl Share {
    /// Returns what `part` is of `total`; nothing of nothing.
    pub(crate) fn of(part: u64, total: u64) -> Self {
        Self((u128::from(part) * 100_000).div_ceil(u128::from(total.max(1))))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} %", self.0 / 1000, self.0 % 1000)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (part, total) = (self.hypervisor(), self.total());
        if self.image.is_empty() {
            return write!(f, "{total} instructions");
        }
        let share = Share::of(part, total);
        write!(f, "EL2: {part} of {total} instructions ({share})")?;
        write!(f, ", {} of them before the first guest's", self.start())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Counts {
        let file = [1000_u64, 20, 9, 2000, 3, 2, 0, 5, 7, 0, 11].map(u64::to_ne_bytes);
        Counts::new(file.as_flattened(), 2)
    }

    #[test]
    fn the_counters_of_cpus_come_before_those_of_the_image() {
        let cpu = |others, hypervisor, start| CpuCounts {
            others,
            hypervisor,
            start,
        };
        let counts = counts();
        assert_eq!(counts.cpus(), [cpu(1000, 20, 9), cpu(2000, 3, 2)]);
        assert_eq!(counts.image, [0, 5, 7, 0, 11]);
        assert_eq!(
            (counts.hypervisor(), counts.start(), counts.total()),
            (23, 11, 3023)
        );
    }

    #[test]
    fn the_share_is_told_in_percent() {
        assert_eq!(
            counts().to_string(),
            "EL2: 23 of 3023 instructions (0.761 %), 11 of them before the first guest's"
        );
        assert_eq!(Share::of(7, 14).to_string(), "50.000 %");
        assert_eq!(Share::of(0, 0).to_string(), "0.000 %");
        assert!(Share::of(15_001, 10_000_000) > Share::of(15, 10_000));
    }

    #[test]
    fn a_machine_without_a_hypervisor_has_a_total_only() {
        let file = [1000_u64, 0, 0].map(u64::to_ne_bytes);
        let counts = Counts::new(file.as_flattened(), 1);
        assert_eq!(counts.to_string(), "1000 instructions");
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

    #[test]
    fn a_call_executes_the_first_instruction_of_a_function() {
        let symbols = [(4, "twice"), (8, "enter"), (12, "idle"), (16, "twice")];
        let calls = |function| counts().first_of(&symbols, function);
        assert_eq!(calls("enter").unwrap(), 7);
        assert_eq!(calls("idle").unwrap(), 0);
        assert!(calls("inlined").is_err());
        assert!(calls("twice").is_err());
    }
}
