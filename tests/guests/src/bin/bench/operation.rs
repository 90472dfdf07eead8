//! The operations, each between two looks at the counter. All are assembly, so
//! that nothing else is measured.

#![expect(unsafe_code, reason = "what is measured is single instructions")]

use core::arch::{asm, global_asm};

/// Runs instructions between two looks at the counter and returns the ticks
/// between them.
macro_rules! timed {
    ([$($instruction:literal),*] $($operands:tt)*) => {{
        let (before, after): (u64, u64);
        // SAFETY: the instructions are one operation of this file, which says
        // why it harms no memory of the program.
        unsafe {
            asm!(
                "isb",
                "mrs {before}, cntvct_el0",
                $($instruction,)*
                "mrs {after}, cntvct_el0",
                before = out(reg) before,
                after = out(reg) after,
                $($operands)*
                options(nostack),
            );
        }
        after.wrapping_sub(before)
    }};
}

/// Does nothing.
pub(crate) fn nothing() -> u64 {
    timed!([])
}

/// Calls the hypervisor with this function number, and returns the answer too.
/// A call changes no memory, and no register but x0 to x17.
pub(crate) fn hypercall(function: u64) -> (u64, u64) {
    let answer: u64;
    let ticks = timed!(["hvc #0"]
        inout("x0") function => answer,
        inout("x1") 0_u64 => _, inout("x2") 0_u64 => _, inout("x3") 0_u64 => _,
        out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _,
        out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _,
        out("x14") _, out("x15") _, out("x16") _, out("x17") _,
    );
    (ticks, answer)
}

/// Reads an ID register.
pub(crate) fn id_register() -> u64 {
    timed!(["mrs {value}, id_aa64pfr0_el1"] value = out(reg) _,)
}

/// Loads a word from a device register.
pub(crate) fn load(address: u64) -> u64 {
    timed!(["ldr {value:w}, [{address}]"] value = out(reg) _, address = in(reg) address,)
}

/// Stores a word to a device register, or to memory that nobody else uses.
pub(crate) fn store(address: u64, value: u32) -> u64 {
    timed!(["str {value:w}, [{address}]"] value = in(reg) value, address = in(reg) address,)
}

/// Acknowledges a pending interrupt and ends it, and returns its number too.
pub(crate) fn acknowledge_and_end() -> (u64, u64) {
    let intid: u64;
    let ticks = timed!(["mrs {intid}, icc_iar1_el1", "msr icc_eoir1_el1, {intid}"]
        intid = out(reg) intid,);
    (ticks, intid)
}

// The handler notes the time in x9 and the interrupt's number in x10, and stops
// the virtual timer. Interrupts are unmasked only below, where both registers are
// known to change. All other exceptions go to the vectors of the runtime.
global_asm!(
    r#"
    .macro to_runtime offset
    .balign 0x80
    b       exception_vectors + \offset
    .endm

    .text
    .balign 0x800
bench_vectors:
    to_runtime 0x000
    to_runtime 0x080
    to_runtime 0x100
    to_runtime 0x180
    to_runtime 0x200
    .balign 0x80
    mrs     x9, cntvct_el0
    mrs     x10, icc_iar1_el1
    msr     cntv_ctl_el0, xzr
    msr     icc_eoir1_el1, x10
    isb
    eret
    to_runtime 0x300
    to_runtime 0x380
    to_runtime 0x400
    to_runtime 0x480
    to_runtime 0x500
    to_runtime 0x580
    to_runtime 0x600
    to_runtime 0x680
    to_runtime 0x700
    to_runtime 0x780
    "#
);

/// Makes this CPU use the handler above.
pub(crate) fn install_vectors() {
    // SAFETY: the vectors lead back to the interrupted program, or end it.
    unsafe {
        asm!(
            "adrp {table}, bench_vectors",
            "add {table}, {table}, :lo12:bench_vectors",
            "msr vbar_el1, {table}",
            "isb",
            table = out(reg) _,
            options(nostack),
        );
    }
}

/// An interrupt that was taken: when, and its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) at: u64,
    pub(crate) intid: u64,
}

/// Runs instructions with interrupts unmasked until one has been taken. Returns
/// the time before them and the interrupt.
macro_rules! until_interrupt {
    ([$($instruction:literal),*] $($operands:tt)*) => {{
        let (before, at, intid): (u64, u64, u64);
        // SAFETY: the handler changes x9 and x10 and no memory, and so do the
        // instructions, which are one operation of this file.
        unsafe {
            asm!(
                "mov x9, xzr",
                "msr daifclr, #2",
                "isb",
                "mrs {before}, cntvct_el0",
                $($instruction,)*
                "cbz x9, 2b",
                "msr daifset, #2",
                before = out(reg) before,
                out("x9") at,
                out("x10") intid,
                $($operands)*
                options(nostack),
            );
        }
        (before, Taken { at, intid })
    }};
}

/// Sends this CPU an SGI: `target` is what ICC_SGI1R_EL1 takes.
pub(crate) fn sgi_to_self(target: u64) -> (u64, Taken) {
    until_interrupt!(["msr icc_sgi1r_el1, {target}", "2:"] target = in(reg) target,)
}

/// Programs the virtual timer for a time that has come.
pub(crate) fn timer_due_now(enable: u64) -> (u64, Taken) {
    until_interrupt!(
        ["msr cntv_cval_el0, {before}", "msr cntv_ctl_el0, {enable}", "2:"]
        enable = in(reg) enable,
    )
}

/// Waits in WFI, with interrupts masked until it ends, so that none comes too
/// early. Returns the time before it and the interrupt.
pub(crate) fn wait() -> (u64, Taken) {
    let (before, at, intid): (u64, u64, u64);
    // SAFETY: as for `until_interrupt`.
    unsafe {
        asm!(
            "mov x9, xzr",
            "isb",
            "mrs {before}, cntvct_el0",
            "2:",
            "wfi",
            "msr daifclr, #2",
            "isb",
            "msr daifset, #2",
            "cbz x9, 2b",
            before = out(reg) before,
            out("x9") at,
            out("x10") intid,
            options(nostack),
        );
    }
    (before, Taken { at, intid })
}

/// Waits while running. Where CPUs take turns on one clock, YIELD ends a turn.
pub(crate) fn spin() -> (u64, Taken) {
    until_interrupt!(["2:", "yield"])
}

/// Looks at the counter again and again, until more than so many ticks pass from
/// one look to the next, or `end` has come. Returns the last two looks.
pub(crate) fn gap(longest: u64, end: u64) -> (u64, u64) {
    let (last, now);
    // SAFETY: only registers change.
    unsafe {
        asm!(
            "mrs {now}, cntvct_el0",
            "2:",
            "mov {last}, {now}",
            "mrs {now}, cntvct_el0",
            "sub {ticks}, {now}, {last}",
            "cmp {ticks}, {longest}",
            "b.hi 3f",
            "cmp {now}, {end}",
            "b.lo 2b",
            "3:",
            now = out(reg) now,
            last = out(reg) last,
            ticks = out(reg) _,
            longest = in(reg) longest,
            end = in(reg) end,
            options(nostack),
        );
    }
    (last, now)
}

/// Lets another CPU run, where CPUs take turns on one clock.
pub(crate) fn yield_turn() {
    // SAFETY: a hint.
    unsafe { asm!("yield", options(nostack)) };
}

/// Looks at the counter, then sends an SGI. Returns the time.
pub(crate) fn sgi(target: u64) -> u64 {
    let before;
    // SAFETY: an interrupt of another CPU, which expects it.
    unsafe {
        asm!(
            "isb",
            "mrs {before}, cntvct_el0",
            "msr icc_sgi1r_el1, {target}",
            "yield",
            before = out(reg) before,
            target = in(reg) target,
            options(nostack),
        );
    }
    before
}
