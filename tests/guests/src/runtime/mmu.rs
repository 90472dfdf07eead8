//! Stage 1: RAM one to one and cached, everything else one to one as Device
//! memory, and one movable window for each CPU in the upper half.

#![expect(unsafe_code, reason = "translation tables and their registers")]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use super::machine::{self, MAX_CPUS};
use super::percpu;
use crate::sysreg;

const GIB: u64 = 1 << 30;
const MIB2: u64 = 1 << 21;
const PAGE: u64 = 1 << 12;
/// Addresses have 39 bits in each half, so that walks start at level 1.
const VA_BITS: u64 = 39;
/// What the lower half reaches one to one.
pub const IDENTITY_END: u64 = 1 << VA_BITS;
/// Where the upper half begins.
const UPPER: u64 = 0xFFFF_FF80_0000_0000;
/// The upper half's entries for table experiments, one for each CPU, lie this
/// many entries above the windows.
const EXPERIMENT: usize = 64;

/// What kind of memory an address is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Normal, write-back.
    Cached = 0,
    /// Device-nGnRE, not executable.
    Device = 1,
    /// Normal, not cached: unaligned accesses and fetches are allowed.
    Uncached = 2,
}

const MAIR: u64 = 0xFF | 0x04 << 8 | 0x44 << 16;
const BLOCK: u64 = 0b01;
const TABLE: u64 = 0b11;
const LEAF_PAGE: u64 = 0b11;
const ACCESSED: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;

#[repr(C, align(4096))]
struct Table([AtomicU64; 512]);

impl Table {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    fn set(&self, index: usize, descriptor: u64) {
        if let Some(entry) = self.0.get(index) {
            entry.store(descriptor, Ordering::Relaxed);
        }
    }

    fn address(&self) -> u64 {
        core::ptr::from_ref(self) as u64
    }
}

static LOWER_TABLE: Table = Table::new();
static UPPER_TABLE: Table = Table::new();
/// For the gigabyte in which RAM ends, and for the 2 MiB.
static END_GIB: Table = Table::new();
static END_2MIB: Table = Table::new();

const fn attributes(kind: Kind) -> u64 {
    let no_fetch = if matches!(kind, Kind::Device) { PXN } else { 0 };
    (kind as u64) << 2 | INNER_SHAREABLE | ACCESSED | UXN | no_fetch
}

/// Fills one table: entry `i` covers `size` bytes from `base + i * size`. The
/// entry in which RAM ends is left to `straddling`.
fn fill(table: &Table, base: u64, size: u64, leaf: u64, straddling: Option<u64>) {
    for index in 0..512 {
        let start = base + index as u64 * size;
        let ram = start >= machine::ram_start() && start < machine::ram_end();
        let kind = if ram { Kind::Cached } else { Kind::Device };
        let descriptor = match straddling {
            Some(next) if ram && start + size > machine::ram_end() => next | TABLE,
            _ => start | attributes(kind) | leaf,
        };
        table.set(index, descriptor);
    }
}

/// Builds the tables. Runs with the MMU off.
pub(super) fn build() {
    let end = machine::ram_end();
    fill(&END_2MIB, end & !(MIB2 - 1), PAGE, LEAF_PAGE, None);
    fill(
        &END_GIB,
        end & !(GIB - 1),
        MIB2,
        BLOCK,
        Some(END_2MIB.address()),
    );
    fill(&LOWER_TABLE, 0, GIB, BLOCK, Some(END_GIB.address()));
    super::cpu::dsb();
}

/// Turns the MMU and the caches of this CPU on.
pub(super) fn enable() {
    // At most 48 bits: 52 need another descriptor format.
    let physical_bits = (sysreg!("id_aa64mmfr0_el1") & 0xF).min(5);
    let size = 64 - VA_BITS;
    // Both halves: write-back inner and outer, inner shareable, 4 KiB granule.
    let half = 1 << 8 | 1 << 10 | 3 << 12;
    let tcr = size | half | (size | half) << 16 | 0b10 << 30 | physical_bits << 32;
    sysreg!("mair_el1", MAIR);
    sysreg!("tcr_el1", tcr);
    sysreg!("ttbr0_el1", LOWER_TABLE.address());
    sysreg!("ttbr1_el1", UPPER_TABLE.address());
    invalidate_all();
    // RES1 bits of Armv8.0, SPAN, and I, SA, C, M.
    sysreg!("sctlr_el1", 0x30D0_0800 | 1 << 12 | 1 << 3 | 1 << 2 | 1);
}

/// Tells whether this CPU's MMU is on.
#[must_use]
pub fn is_enabled() -> bool {
    sysreg!("sctlr_el1") & 1 != 0
}

fn invalidate_all() {
    // SAFETY: drops cached translations; the tables stay what they are.
    unsafe {
        asm!(
            "dsb ishst",
            "tlbi vmalle1",
            "dsb ish",
            "isb",
            options(nostack)
        )
    };
}

fn replace_upper(entry: usize, descriptor: u64) -> u64 {
    let address = UPPER + (entry as u64) * GIB;
    UPPER_TABLE.set(entry, 0);
    invalidate_all();
    UPPER_TABLE.set(entry, descriptor);
    // SAFETY: makes the store visible to the table walker.
    unsafe { asm!("dsb ishst", "isb", options(nostack)) };
    address
}

/// Moves this CPU's window to the gigabyte that holds the physical address
/// `physical`, below 2^48, and returns the virtual address of that byte.
#[must_use]
pub fn window(physical: u64, kind: Kind) -> u64 {
    let base = physical & !(GIB - 1) & 0xFFFF_FFFF_FFFF;
    let descriptor = base | attributes(kind) | BLOCK;
    replace_upper(percpu::index(), descriptor) + (physical & (GIB - 1))
}

/// Maps the gigabyte that holds `physical` in this CPU's experimental entry and
/// returns the virtual address of that byte: a second [`window`].
#[must_use]
pub fn alias(physical: u64, kind: Kind) -> u64 {
    let base = physical & !(GIB - 1);
    experiment(base | attributes(kind) | BLOCK) + (physical & (GIB - 1))
}

/// Puts a raw level-1 descriptor into this CPU's experimental entry of the
/// upper half and returns the virtual address of its gigabyte.
#[must_use]
pub fn experiment(descriptor: u64) -> u64 {
    const { assert!(EXPERIMENT >= MAX_CPUS) };
    replace_upper(EXPERIMENT + percpu::index(), descriptor)
}

/// Runs `body` with TTBR1_EL1 as given, which may be any value, and restores
/// it.
pub fn with_upper_tables<T>(ttbr1: u64, body: impl FnOnce() -> T) -> T {
    sysreg!("ttbr1_el1", ttbr1);
    invalidate_all();
    let result = body();
    sysreg!("ttbr1_el1", UPPER_TABLE.address());
    invalidate_all();
    result
}
