//! Doing what may fault, and living to tell.

#![expect(
    unsafe_code,
    reason = "calls code that may fault, with any register contents"
)]

use core::arch::global_asm;
use core::fmt;
use core::sync::atomic::Ordering;

use super::percpu;

/// A synchronous exception that a probe caused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1.
    pub far: u64,
    /// ELR_EL1.
    pub elr: u64,
    /// SPSR_EL1.
    pub spsr: u64,
}

impl Fault {
    /// Exception class: an instruction that is undefined here.
    pub const UNDEFINED: u64 = 0x00;
    /// Exception class: FP, SIMD or SVE access trapped.
    pub const FP_TRAPPED: u64 = 0x07;
    /// Exception class: the PSTATE.IL bit was set.
    pub const ILLEGAL_STATE: u64 = 0x0E;
    /// Exception class: SVE access trapped.
    pub const SVE_TRAPPED: u64 = 0x19;
    /// Exception class: an instruction abort from EL1.
    pub const INSTRUCTION_ABORT: u64 = 0x21;
    /// Exception class: a data abort from EL1.
    pub const DATA_ABORT: u64 = 0x25;

    /// Returns the exception class, ESR_EL1.EC.
    #[must_use]
    pub const fn class(&self) -> u64 {
        self.esr >> 26 & 0x3F
    }

    /// Returns the fault status, ESR_EL1.ISS.DFSC or IFSC, of an abort.
    #[must_use]
    pub const fn status(&self) -> u64 {
        self.esr & 0x3F
    }

    /// Tells whether a data access ended in an external abort, on the access
    /// itself or on a table walk.
    #[must_use]
    pub const fn is_external_abort(&self) -> bool {
        matches!(self.class(), Self::DATA_ABORT | Self::INSTRUCTION_ABORT)
            && matches!(self.status(), 0x10 | 0x13..=0x17)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "fault (class {:#x}, ESR {:#x}, FAR {:#x}, ELR {:#x}, SPSR {:#x})",
            self.class(),
            self.esr,
            self.far,
            self.elr,
            self.spsr
        )
    }
}

/// The general registers that a probe starts with and leaves: x0 to x29.
pub type Registers = [u64; 30];

global_asm!(
    r#"
    .text
    .global probe_call
probe_call:
    sub     sp, sp, #128
    stp     x29, x30, [sp]
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    mrs     x9, daif
    stp     x1, x9, [sp, #96]
    str     x18, [sp, #112]
    mrs     x9, tpidr_el1
    mov     x10, sp
    str     x10, [x9, #{recovery_sp}]
    mov     x30, x0
    mov     x29, x1
    ldp     x0, x1, [x29]
    ldp     x2, x3, [x29, #16]
    ldp     x4, x5, [x29, #32]
    ldp     x6, x7, [x29, #48]
    ldp     x8, x9, [x29, #64]
    ldp     x10, x11, [x29, #80]
    ldp     x12, x13, [x29, #96]
    ldp     x14, x15, [x29, #112]
    ldp     x16, x17, [x29, #128]
    ldp     x18, x19, [x29, #144]
    ldp     x20, x21, [x29, #160]
    ldp     x22, x23, [x29, #176]
    ldp     x24, x25, [x29, #192]
    ldp     x26, x27, [x29, #208]
    ldp     x28, x29, [x29, #224]
    blr     x30
    stp     x0, x1, [sp, #-16]!
    ldr     x0, [sp, #112]
    stp     x2, x3, [x0, #16]
    stp     x4, x5, [x0, #32]
    stp     x6, x7, [x0, #48]
    stp     x8, x9, [x0, #64]
    stp     x10, x11, [x0, #80]
    stp     x12, x13, [x0, #96]
    stp     x14, x15, [x0, #112]
    stp     x16, x17, [x0, #128]
    stp     x18, x19, [x0, #144]
    stp     x20, x21, [x0, #160]
    stp     x22, x23, [x0, #176]
    stp     x24, x25, [x0, #192]
    stp     x26, x27, [x0, #208]
    stp     x28, x29, [x0, #224]
    ldp     x2, x3, [sp], #16
    stp     x2, x3, [x0]
    mrs     x9, tpidr_el1
    str     xzr, [x9, #{recovery_sp}]
    mov     x0, xzr
1:  ldr     x9, [sp, #104]
    ldr     x18, [sp, #112]
    ldp     x27, x28, [sp, #80]
    ldp     x25, x26, [sp, #64]
    ldp     x23, x24, [sp, #48]
    ldp     x21, x22, [sp, #32]
    ldp     x19, x20, [sp, #16]
    ldp     x29, x30, [sp]
    add     sp, sp, #128
    msr     daif, x9
    ret

    // From the vector, with SP as probe_call recorded it.
    .global probe_recover
probe_recover:
    mov     x0, #1
    b       1b

    .global probe_load1
probe_load1:
    ldrb    w0, [x0]
    ret
    .global probe_load2
probe_load2:
    ldrh    w0, [x0]
    ret
    .global probe_load4
probe_load4:
    ldr     w0, [x0]
    ret
    .global probe_load8
probe_load8:
    ldr     x0, [x0]
    ret
    .global probe_store1
probe_store1:
    strb    w1, [x0]
    ret
    .global probe_store2
probe_store2:
    strh    w1, [x0]
    ret
    .global probe_store4
probe_store4:
    str     w1, [x0]
    ret
    .global probe_store8
probe_store8:
    str     x1, [x0]
    ret
    "#,
    recovery_sp = const core::mem::offset_of!(percpu::PerCpu, recovery_sp),
);

unsafe extern "C" {
    fn probe_call(code: u64, registers: *mut Registers) -> u64;
    safe fn probe_load1();
    safe fn probe_load2();
    safe fn probe_load4();
    safe fn probe_load8();
    safe fn probe_store1();
    safe fn probe_store2();
    safe fn probe_store4();
    safe fn probe_store8();
}

/// Calls the code at `code` with all general registers as given, and stores
/// what they are when it returns through x30.
///
/// # Errors
/// The exception that ended it; `registers` is unchanged then. What else the
/// code did before, it did.
///
/// The code must leave SP_EL1, TPIDR_EL1 and the guest's own memory alone;
/// beyond that anything goes, which is why this is not an `unsafe fn`: all
/// that runs here are the guest's own probes.
pub fn call(code: u64, registers: &mut Registers) -> Result<(), Fault> {
    // SAFETY: the assembly saves what the procedure call standard keeps; the
    // caller chose code that returns or faults.
    if unsafe { probe_call(code, registers) } == 0 {
        return Ok(());
    }
    let this = percpu::this();
    Err(Fault {
        esr: this.fault_esr.load(Ordering::Relaxed),
        far: this.fault_far.load(Ordering::Relaxed),
        elr: this.fault_elr.load(Ordering::Relaxed),
        spsr: this.fault_spsr.load(Ordering::Relaxed),
    })
}

/// Loads `width` bytes (1, 2, 4 or 8) at a virtual address.
///
/// # Errors
/// The exception that the load caused.
pub fn read(address: u64, width: u64) -> Result<u64, Fault> {
    let code: extern "C" fn() = match width {
        1 => probe_load1,
        2 => probe_load2,
        4 => probe_load4,
        _ => probe_load8,
    };
    let mut registers = [0; 30];
    registers[0] = address;
    call(code as usize as u64, &mut registers).map(|()| registers[0])
}

/// Stores the lowest `width` bytes (1, 2, 4 or 8) of `value` at a virtual
/// address, which must not be the guest's own memory in use.
///
/// # Errors
/// The exception that the store caused.
pub fn write(address: u64, width: u64, value: u64) -> Result<(), Fault> {
    let code: extern "C" fn() = match width {
        1 => probe_store1,
        2 => probe_store2,
        4 => probe_store4,
        _ => probe_store8,
    };
    let mut registers = [0; 30];
    registers[0] = address;
    registers[1] = value;
    call(code as usize as u64, &mut registers)
}

/// Jumps to a virtual address and returns what the code there leaves in x0.
///
/// # Errors
/// The exception that the fetch, or what was fetched, caused.
pub fn execute(address: u64) -> Result<u64, Fault> {
    let mut registers = [0; 30];
    call(address, &mut registers).map(|()| registers[0])
}
