//! Cache maintenance by address.
#![expect(unsafe_code, reason = "cache instructions")]

use core::arch::asm;

/// Cleans and invalidates `start..end` to the point of coherency, and forgets
/// instructions that were fetched from there.
pub(crate) fn clean_to_coherency(start: usize, end: usize) {
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
    // SAFETY: completes the cleaning, then drops stale instructions everywhere.
    unsafe { asm!("dsb sy", "ic ialluis", "dsb sy", "isb", options(nostack)) };
}
