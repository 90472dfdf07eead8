//! Cache maintenance by address.
#![expect(unsafe_code, reason = "cache instructions")]

use core::arch::asm;

/// Cleans and invalidates `start..end` to the point of coherency, and forgets
/// instructions that were fetched from there.
pub(crate) fn clean_to_coherency(start: usize, end: usize) {
    clean_lines(start, end);
    // SAFETY: completes the cleaning, then drops stale instructions everywhere.
    unsafe { asm!("dsb sy", "ic ialluis", "dsb sy", "isb", options(nostack)) };
}

/// Zeroes `start..end`, also for accesses that bypass the caches.
///
/// # Safety
/// It is memory that Rust knows nothing of and that the caller may overwrite.
pub(crate) unsafe fn clear(start: usize, end: usize) {
    /// DCZID_EL0.DZP: the instruction must not be used.
    const PROHIBITED: usize = 1 << 4;
    let zeroing: usize;
    // SAFETY: reads an ID register.
    unsafe { asm!("mrs {}, dczid_el0", out(reg) zeroing, options(nomem, nostack)) };
    // DCZID_EL0.BS: log2 of the words in the block that DC ZVA zeroes.
    let block = 4 << (zeroing & 0xf);
    let is_usual = block == line_bytes() && (start | end).is_multiple_of(LINES * block);
    if zeroing & PROHIBITED == 0 && is_usual {
        for at in (start..end).step_by(LINES * block) {
            // SAFETY: zeroes lines of the range, by the function's contract.
            unsafe { clear_lines(at, block) };
        }
    } else {
        let pointer = core::ptr::with_exposed_provenance_mut::<u8>(start);
        // SAFETY: by the function's contract.
        unsafe { pointer.write_bytes(0, end - start) };
        clean_lines(start, end);
    }
    // SAFETY: completes the cleaning.
    unsafe { asm!("dsb sy", options(nostack)) };
}

/// How many lines are cleared or cleaned at a time: loops cost more than what they do.
const LINES: usize = 8;

/// Zeroes [`LINES`] cache lines of `line` bytes from `start` on, and cleans them.
///
/// # Safety
/// As for [`clear`].
#[inline]
unsafe fn clear_lines(start: usize, line: usize) {
    // SAFETY: by the function's contract.
    unsafe {
        asm!(
            ".rept {lines}",
            "dc zva, {at}",
            "dc civac, {at}",
            "add {at}, {at}, {line}",
            ".endr",
            lines = const LINES,
            at = inout(reg) start => _,
            line = in(reg) line,
            options(nostack),
        );
    }
}

/// Returns the length of the smallest data cache line.
fn line_bytes() -> usize {
    let type_register: usize;
    // SAFETY: reads an ID register.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) type_register, options(nomem, nostack)) };
    // CTR_EL0.DminLine: log2 of the words.
    4 << (type_register >> 16 & 0xf)
}

fn clean_lines(start: usize, end: usize) {
    let line = line_bytes();
    let mut at = start & !(line - 1);
    while end.saturating_sub(at) >= LINES * line {
        // SAFETY: cleaning loses nothing, wherever the lines lie.
        unsafe {
            asm!(
                ".rept {lines}",
                "dc civac, {at}",
                "add {at}, {at}, {line}",
                ".endr",
                lines = const LINES,
                at = inout(reg) at,
                line = in(reg) line,
                options(nostack),
            );
        }
    }
    while at < end {
        // SAFETY: as above.
        unsafe { asm!("dc civac, {}", in(reg) at, options(nostack)) };
        at += line;
    }
}
