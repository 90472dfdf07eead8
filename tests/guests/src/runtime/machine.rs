//! What the device tree says about the machine: RAM, CPUs, boot arguments.

#![expect(unsafe_code, reason = "the device tree is found by its address")]

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{smccc, verdict};

/// The most CPUs that a guest uses; further ones stay off.
pub const MAX_CPUS: usize = 16;

/// Where RAM starts, and a device tree that x0 does not point to.
const RAM_BASE: u64 = 0x4000_0000;

static RAM_START: AtomicU64 = AtomicU64::new(0);
static RAM_END: AtomicU64 = AtomicU64::new(0);
static TREE_START: AtomicU64 = AtomicU64::new(0);
static TREE_END: AtomicU64 = AtomicU64::new(0);
static CPU_COUNT: AtomicUsize = AtomicUsize::new(0);
static MPIDRS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// Reads the device tree at `x0`, or at the start of RAM if that is 0. Runs
/// with the MMU off: stores, no atomic read-modify-write.
pub(super) fn discover(x0: u64) {
    let address = if x0 == 0 { RAM_BASE } else { x0 };
    // SAFETY: a boot loader has put a device tree at the one or the other
    // place; the parser checks its magic number first.
    let tree = match unsafe { fdt::Fdt::from_ptr(address as *const u8) } {
        Ok(tree) => tree,
        Err(error) => verdict::fail(format_args!("no device tree at {address:#x}: {error}")),
    };
    TREE_START.store(address, Ordering::Relaxed);
    TREE_END.store(address + tree.total_size() as u64, Ordering::Relaxed);
    let Some(region) = tree.memory().regions().next() else {
        verdict::fail(format_args!("the device tree names no memory"));
    };
    let start = region.starting_address as u64;
    RAM_START.store(start, Ordering::Relaxed);
    RAM_END.store(start + region.size.unwrap_or(0) as u64, Ordering::Relaxed);
    let mut count = 0;
    for (cpu, slot) in tree.cpus().zip(&MPIDRS) {
        slot.store(cpu.ids().first() as u64, Ordering::Relaxed);
        count += 1;
    }
    CPU_COUNT.store(count, Ordering::Relaxed);
    let method = tree
        .find_node("/psci")
        .and_then(|node| node.property("method")?.as_str());
    smccc::set_conduit(method == Some("smc"));
}

/// Returns the words of the boot arguments, in their order.
fn boot_words() -> impl Iterator<Item = &'static str> {
    let (address, _) = tree_range();
    // SAFETY: `discover` has found a device tree there, and no guest writes to
    // it.
    let tree = unsafe { fdt::Fdt::from_ptr(address as *const u8) };
    let arguments = tree.ok().and_then(|tree| tree.chosen().bootargs());
    arguments.unwrap_or_default().split_ascii_whitespace()
}

/// Tells whether the boot arguments contain this word.
#[must_use]
pub fn has_boot_word(word: &str) -> bool {
    boot_words().any(|candidate| candidate == word)
}

/// Returns the number that the boot arguments give as `NAME=number`, in
/// decimal.
#[must_use]
pub fn boot_number(name: &str) -> Option<u64> {
    boot_words().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

/// How the boot arguments ask the guest to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// No word about it: SYSTEM_OFF.
    Off,
    /// `reset`: SYSTEM_RESET.
    Reset,
    /// `reset2`: SYSTEM_RESET2.
    Reset2,
}

/// Returns how the boot arguments ask the guest to end.
#[must_use]
pub fn ending() -> Ending {
    if has_boot_word("reset2") {
        Ending::Reset2
    } else if has_boot_word("reset") {
        Ending::Reset
    } else {
        Ending::Off
    }
}

/// Makes sure that CPU 0 is the one that booted.
pub(super) fn name_boot_cpu(mpidr: u64) {
    let listed = mpidr_of(0);
    crate::check_eq!(
        mpidr,
        listed,
        "MPIDR_EL1 of the boot CPU, by the device tree"
    );
}

/// Returns the first byte of RAM.
#[must_use]
pub fn ram_start() -> u64 {
    RAM_START.load(Ordering::Relaxed)
}

/// Returns the first byte after RAM.
#[must_use]
pub fn ram_end() -> u64 {
    RAM_END.load(Ordering::Relaxed)
}

/// Returns where the device tree lies: its first byte and one past its last.
#[must_use]
pub fn tree_range() -> (u64, u64) {
    (
        TREE_START.load(Ordering::Relaxed),
        TREE_END.load(Ordering::Relaxed),
    )
}

/// Returns the first byte after the guest's image.
#[must_use]
pub fn image_end() -> u64 {
    unsafe extern "C" {
        static __image_end: u8;
    }
    (&raw const __image_end) as u64
}

/// Returns how many CPUs there are, at most [`MAX_CPUS`].
#[must_use]
pub fn cpu_count() -> usize {
    CPU_COUNT.load(Ordering::Relaxed)
}

/// Returns the affinity fields of the MPIDR of CPU `index`.
#[must_use]
pub fn mpidr_of(index: usize) -> u64 {
    MPIDRS
        .get(index)
        .map_or(u64::MAX, |mpidr| mpidr.load(Ordering::Relaxed))
}
