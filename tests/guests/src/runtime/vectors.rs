//! The exception vectors: expected faults go back to their probe, interrupts
//! to the guest's handler, all else ends the guest.

#![expect(unsafe_code, reason = "vectors are assembly")]

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use super::percpu::{self, PerCpu};
use super::verdict;

global_asm!(
    r#"
    .macro to_sync
    .balign 0x80
    stp     x0, x1, [sp, #-16]!
    mrs     x0, tpidr_el1
    b       exception_sync
    .endm

    .macro to_irq
    .balign 0x80
    b       exception_irq
    .endm

    // FIQ and SError: fatal unless a probe is under way.
    .text
    .balign 0x800
    .global exception_vectors
exception_vectors:
    .rept 4
    to_sync
    to_irq
    to_sync
    to_sync
    .endr

exception_sync:
    ldr     x1, [x0, #{recovery_sp}]
    cbz     x1, 1f
    str     xzr, [x0, #{recovery_sp}]
    mov     sp, x1
    mrs     x2, esr_el1
    str     x2, [x0, #{esr}]
    mrs     x2, far_el1
    str     x2, [x0, #{far}]
    mrs     x2, elr_el1
    str     x2, [x0, #{elr}]
    mrs     x2, spsr_el1
    str     x2, [x0, #{spsr}]
    b       probe_recover
1:  mrs     x0, esr_el1
    mrs     x1, far_el1
    mrs     x2, elr_el1
    mrs     x3, spsr_el1
    bl      {unexpected}

exception_irq:
    sub     sp, sp, #192
    stp     x0, x1, [sp]
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x29, [sp, #144]
    mrs     x0, elr_el1
    mrs     x1, spsr_el1
    stp     x30, x0, [sp, #160]
    str     x1, [sp, #176]
    bl      {interrupt}
    ldr     x1, [sp, #176]
    ldp     x30, x0, [sp, #160]
    msr     spsr_el1, x1
    msr     elr_el1, x0
    ldp     x18, x29, [sp, #144]
    ldp     x16, x17, [sp, #128]
    ldp     x14, x15, [sp, #112]
    ldp     x12, x13, [sp, #96]
    ldp     x10, x11, [sp, #80]
    ldp     x8, x9, [sp, #64]
    ldp     x6, x7, [sp, #48]
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp]
    add     sp, sp, #192
    eret
    "#,
    recovery_sp = const offset_of!(PerCpu, recovery_sp),
    esr = const offset_of!(PerCpu, fault_esr),
    far = const offset_of!(PerCpu, fault_far),
    elr = const offset_of!(PerCpu, fault_elr),
    spsr = const offset_of!(PerCpu, fault_spsr),
    unexpected = sym unexpected,
    interrupt = sym interrupt,
);

extern "C" fn unexpected(esr: u64, far: u64, elr: u64, spsr: u64) -> ! {
    verdict::fail(format_args!(
        "unexpected exception on CPU {}: ESR {esr:#x} FAR {far:#x} ELR {elr:#x} SPSR {spsr:#x}",
        percpu::index()
    ))
}

/// Takes an interrupt to the handler that this CPU registered. The handler may
/// unmask interrupts: ELR and SPSR are on the stack.
extern "C" fn interrupt() {
    let handler = percpu::this().irq_handler.load(Ordering::Relaxed);
    if handler == 0 {
        verdict::fail(format_args!(
            "an interrupt on CPU {}, unasked",
            percpu::index()
        ));
    }
    // SAFETY: only `set_irq_handler` stores a nonzero value, a `fn()`.
    let handler: fn() = unsafe { core::mem::transmute(handler) };
    handler();
}

/// Registers what this CPU calls when an interrupt is taken.
pub(super) fn set_irq_handler(handler: fn()) {
    percpu::this()
        .irq_handler
        .store(handler as usize, Ordering::Relaxed);
}
