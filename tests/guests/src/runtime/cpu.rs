//! Small operations on the CPU itself.

#![expect(unsafe_code, reason = "system registers and barriers")]

use core::arch::asm;

/// Reads a system register by its name: `sysreg!("midr_el1")`; writes it:
/// `sysreg!("tpidr_el0", value)`.
#[macro_export]
macro_rules! sysreg {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reads a register; an undefined one ends in the vectors.
        #[expect(unsafe_code, reason = "a system register")]
        unsafe {
            core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value,
                options(nostack, preserves_flags));
        }
        value
    }};
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: registers written through this do not take memory away from
        // the program; those that could are written in `mmu` alone.
        #[expect(unsafe_code, reason = "a system register")]
        unsafe {
            core::arch::asm!(concat!("msr ", $name, ", {}"), "isb", in(reg) value,
                options(nostack, preserves_flags));
        }
    }};
}

/// Returns the affinity fields of this CPU's MPIDR_EL1.
#[must_use]
pub fn mpidr() -> u64 {
    sysreg!("mpidr_el1") & 0xFF_00FF_FFFF
}

/// Masks IRQs.
pub fn mask_irqs() {
    // SAFETY: masking interrupts harms no memory.
    unsafe { asm!("msr daifset, #2", options(nostack)) };
}

/// Unmasks IRQs.
pub fn unmask_irqs() {
    // SAFETY: handlers keep to atomics.
    unsafe { asm!("msr daifclr, #2", options(nostack)) };
}

/// Runs `body` with IRQs unmasked, then masks them again.
pub fn with_irqs<T>(body: impl FnOnce() -> T) -> T {
    unmask_irqs();
    let result = body();
    mask_irqs();
    result
}

/// Waits for an interrupt.
pub fn wfi() {
    // SAFETY: waits.
    unsafe { asm!("dsb sy", "wfi", options(nostack)) };
}

/// Waits until all accesses before are done.
pub fn dsb() {
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack)) };
}

/// Makes changes to system registers visible to what follows.
pub fn isb() {
    // SAFETY: a barrier.
    unsafe { asm!("isb", options(nostack)) };
}

/// Registers what this CPU calls when it takes an IRQ.
pub fn set_irq_handler(handler: fn()) {
    super::vectors::set_irq_handler(handler);
}
