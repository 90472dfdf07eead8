//! Instructions made at run time.

#![expect(unsafe_code, reason = "writes instructions and makes the CPU see them")]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

use super::machine::MAX_CPUS;
use super::percpu;
use super::probe::{self, Fault, Registers};

/// `ret`.
pub const RET: u32 = 0xD65F_03C0;
/// `isb`.
pub const ISB: u32 = 0xD503_3FDF;
/// `nop`.
pub const NOP: u32 = 0xD503_201F;

/// The longest sequence that [`run`] takes, without its final `ret`.
pub const CAPACITY: usize = 63;

#[repr(C, align(4096))]
struct Buffer([AtomicU32; CAPACITY + 1]);

static BUFFERS: [Buffer; MAX_CPUS] =
    [const { Buffer([const { AtomicU32::new(RET) }; CAPACITY + 1]) }; MAX_CPUS];

/// Makes the instructions in `bytes` bytes from `address` on, freshly written,
/// what this CPU executes.
pub fn synchronize(address: u64, bytes: u64) {
    // The smallest line that the architecture allows is 4 words.
    let mut line = address & !15;
    while line < address + bytes {
        // To the point of coherency: the MMU may be off when it runs.
        // SAFETY: cache maintenance by address.
        unsafe { asm!("dc cvac, {0}", in(reg) line, options(nostack)) };
        line += 16;
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb ish", options(nostack)) };
    line = address & !15;
    while line < address + bytes {
        // SAFETY: invalidates instruction cache lines by address.
        unsafe { asm!("ic ivau, {0}", in(reg) line, options(nostack)) };
        line += 16;
    }
    // SAFETY: barriers.
    unsafe { asm!("dsb ish", "isb", options(nostack)) };
}

/// Writes `instructions` and then `last` to `target` and synchronizes.
fn place(target: &[AtomicU32], instructions: &[u32], last: u32) -> u64 {
    for (word, instruction) in target.iter().zip(instructions.iter().chain(&[last])) {
        word.store(*instruction, Ordering::Relaxed);
    }
    let address = target.as_ptr() as u64;
    synchronize(address, 4 * (instructions.len() as u64 + 1));
    address
}

/// Runs at most [`CAPACITY`] instructions with the general registers as given;
/// x30 must survive them. See [`probe::call`].
///
/// # Errors
/// The exception that one of them caused.
pub fn run(instructions: &[u32], registers: &mut Registers) -> Result<(), Fault> {
    probe::call(prepare(instructions), registers)
}

/// Writes instructions to this CPU's buffer for [`probe::call`] and returns
/// their address. The next [`prepare`] or [`run`] of this CPU replaces them.
#[must_use]
pub fn prepare(instructions: &[u32]) -> u64 {
    place(buffer(instructions), instructions, RET)
}

/// Writes instructions to this CPU's buffer, and after them a branch to the
/// code at `target` instead of a return; see [`prepare`].
#[must_use]
pub fn prepare_ending_in(instructions: &[u32], target: u64) -> u64 {
    let buffer = buffer(instructions);
    let branch = buffer.as_ptr() as u64 + 4 * instructions.len() as u64;
    place(buffer, instructions, b(branch, target))
}

/// Returns this CPU's buffer, in which `instructions` must find room.
fn buffer(instructions: &[u32]) -> &'static [AtomicU32] {
    crate::check!(
        instructions.len() <= CAPACITY,
        "{} instructions",
        instructions.len()
    );
    BUFFERS
        .get(percpu::index())
        .map_or(&[], |buffer| buffer.0.as_slice())
}

/// Encodes `b target` for the address `at`, at most 128 MiB away.
fn b(at: u64, target: u64) -> u32 {
    let words = (target.cast_signed() - at.cast_signed()) >> 2;
    let offset = u32::try_from(words & 0x3FF_FFFF);
    0x1400_0000 | offset.unwrap_or(0)
}

/// Encodes `mrs x<t>, S<op0>_<op1>_C<n>_C<m>_<op2>` from the five fields as
/// they stand in bits 20:5 of the instruction.
#[must_use]
pub const fn mrs(encoding: u32, t: u32) -> u32 {
    0xD520_0000 | encoding << 5 | t
}

/// Encodes `msr S<op0>_<op1>_C<n>_C<m>_<op2>, x<t>`.
#[must_use]
pub const fn msr(encoding: u32, t: u32) -> u32 {
    0xD500_0000 | encoding << 5 | t
}

/// Packs the fields of a system register or instruction, op0 from 0 to 3, as
/// [`mrs`] and [`msr`] take them.
#[must_use]
pub const fn encoding(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
}
