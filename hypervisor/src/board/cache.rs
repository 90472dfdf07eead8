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
    if zeroing & PROHIBITED == 0 && (start | end).is_multiple_of(block) {
        for at in (start..end).step_by(block) {
            // SAFETY: zeroes a block of the range, by the function's contract.
            unsafe { asm!("dc zva, {}", in(reg) at, options(nostack)) };
        }
    } else {
        let pointer = core::ptr::with_exposed_provenance_mut::<u8>(start);
        // SAFETY: by the function's contract.
        unsafe { pointer.write_bytes(0, end - start) };
    }
    clean_lines(start, end);
    // SAFETY: completes the cleaning.
    unsafe { asm!("dsb sy", options(nostack)) };
}

fn clean_lines(start: usize, end: usize) {
    let type_register: usize;
    // SAFETY: reads an ID register.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) type_register, options(nomem, nostack)) };
    // CTR_EL0.DminLine: log2 of the words in the smallest data cache line.
    let line = 4 << (type_register >> 16 & 0xf);
    let mut at = start & !(line - 1);
    while at < end {
        // SAFETY: cleaning loses nothing, wherever the line lies.
        unsafe { asm!("dc civac, {}", in(reg) at, options(nostack)) };
        at += line;
    }
}
