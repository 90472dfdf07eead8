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
use serde::Serialize;

use super::placement::IMAGE_START;
use super::qemu::escaped;
use super::spec::MachineSpec;
use crate::workspace::Workspace;

/// The plugin's package.
const PLUGIN: &str = "instruction-counter";

/// The length of an A64 instruction and that of its counter.
const INSTRUCTION_BYTES: u64 = 4;
const COUNTER_BYTES: u64 = size_of::<u64>() as u64;

/// The hypervisor's vector table, and the length of each of its 16 slots (Arm DDI
/// 0487, "Exception vectors"): four from EL2 with SP_EL0, four with SP_EL2, four
/// from AArch64 and four from AArch32 below it. Each four are synchronous, IRQ,
/// FIQ and SError.
const VECTORS: &str = "el2_vectors";
const SLOT_BYTES: u64 = 0x80;

/// How many counters a CPU has: see [`CpuCounts`].
const PER_CPU: usize = 3;

/// How the instructions of one run are counted.
pub(crate) struct Counting {
    plugin: PathBuf,
    counters: PathBuf,
    cpus: u32,
    until: Option<u64>,
    program: Option<Program>,
}

/// The hypervisor, as far as it matters here.
struct Program {
    image_bytes: u64,
    symbols: PathBuf,
}

impl Counting {
    /// Builds the plugin and makes the file `counters` for a machine. `program` is the hypervisor's flat image and the ELF file with its
    /// functions, if there is a hypervisor.
    pub(super) fn new(
        workspace: &Workspace,
        machine: &MachineSpec,
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
        let count = u64::from(machine.pcpus) * PER_CPU as u64 + words;
        File::create(&counters)
            .and_then(|file| file.set_len(count * COUNTER_BYTES))
            .with_context(|| format!("cannot write {}", counters.display()))?;
        Ok(Self {
            plugin,
            counters,
            cpus: machine.pcpus,
            until: machine.count_until,
            program,
        })
    }

    /// Returns QEMU's arguments.
    pub(super) fn arguments(&self) -> [String; 2] {
        let mut plugin = format!(
            "{},counters={},cpus={},start={IMAGE_START:#x},bytes={}",
            escaped(&self.plugin),
            escaped(&self.counters),
            self.cpus,
            self.program
                .as_ref()
                .map_or(0, |program| program.image_bytes),
        );
        if let Some(address) = self.until {
            plugin += &format!(",end={address:#x}");
        }
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

    /// Returns how often guests were left, by the vectors that they were left
    /// through; nothing if there is no hypervisor.
    pub(crate) fn exits(&self) -> Result<Option<Exits>> {
        if self.program.is_none() {
            return Ok(None);
        }
        let counts = self.counts()?;
        let exits = self.with_symbols(|symbols| counts.exits(&symbols))?;
        exits
            .context("the hypervisor has no vector table")
            .map(Some)
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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

    /// Returns how often the first instruction of each vector was executed that
    /// leads from a lower exception level to the hypervisor.
    fn exits(&self, symbols: &[(u64, &str)]) -> Option<Exits> {
        let (table, _) = symbols.iter().find(|(_, name)| *name == VECTORS)?;
        let slot = |number: u64| {
            let word = (table + number * SLOT_BYTES) / INSTRUCTION_BYTES;
            self.image.get(usize::try_from(word).ok()?).copied()
        };
        // From AArch64, then from AArch32.
        let both = |kind: u64| Some(slot(8 + kind)? + slot(12 + kind)?);
        Some(Exits {
            synchronous: both(0)?,
            interrupts: both(1)? + both(2)?,
        })
    }
}

/// How often guests were left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Exits {
    /// For something that a guest did.
    pub(crate) synchronous: u64,
    /// For an IRQ or FIQ.
    pub(crate) interrupts: u64,
}

impl Exits {
    /// Returns how often that was in all.
    pub(crate) const fn total(self) -> u64 {
        self.synchronous + self.interrupts
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
    fn an_exit_executes_the_first_instruction_of_its_vector() {
        // The table begins at the second word; slot 8 is followed by 9 to 15.
        let mut image = vec![1000; 1 + 16 * 32];
        for (slot, count) in (8..).zip([1, 20, 300, 9, 4000, 50_000, 600_000, 9]) {
            image[1 + slot * 32] = count;
        }
        let counts = Counts {
            cpus: Vec::new(),
            image,
        };
        let exits = counts.exits(&[(0, "_start"), (4, VECTORS)]).unwrap();
        assert_eq!((exits.synchronous, exits.interrupts), (4001, 650_320));
        assert_eq!(exits.total(), 654_321);
        assert_eq!(counts.exits(&[(0x800, VECTORS)]), None);
        assert_eq!(counts.exits(&[(4, "_start")]), None);
    }
}
