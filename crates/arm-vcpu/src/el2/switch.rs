//! The world switch: from EL2 into a guest, and the vectors by which it
//! returns.
//!
//! The two halves share one record on the EL2 stack, laid out by [`Saved`]:
//! `enter_guest` pushes it and leaves to EL1 or EL0; the guest's next exception
//! finds it at SP_EL2, stores the guest's registers, pops it and goes on behind
//! `enter_guest`. So SP_EL2 is all that EL2 must remember of itself, and no register
//! is given up to it. What the code around needs, the compiler keeps: to it, all
//! registers but X19 and X29 are lost.

use core::arch::asm;
use core::mem::{offset_of, size_of};

use static_assertions::const_assert_eq;

use crate::TrapFrame;

/// What EL2 keeps of itself while a guest runs: the registers that the compiler
/// reserves, where the guest's belong, and where to go on.
#[repr(C)]
struct Saved {
    x19_x29: [u64; 2],
    frame: *mut TrapFrame,
    resume: u64,
    guest_x0: u64,
    unused: u64,
}

#[doc(hidden)]
pub const SAVED_SIZE: usize = size_of::<Saved>();
#[doc(hidden)]
pub const SAVED_FRAME: usize = offset_of!(Saved, frame);
#[doc(hidden)]
pub const SAVED_RESUME: usize = offset_of!(Saved, resume);
#[doc(hidden)]
pub const SAVED_GUEST_X0: usize = offset_of!(Saved, guest_x0);
#[doc(hidden)]
pub const FRAME_ELR: usize = offset_of!(TrapFrame, elr);

// The stack stays aligned; what moves as a pair lies side by side, registers from
// offset 0.
const_assert_eq!(SAVED_SIZE % 16, 0);
const_assert_eq!(offset_of!(Saved, x19_x29), 0);
const_assert_eq!(SAVED_RESUME, SAVED_FRAME + 8);
const_assert_eq!(offset_of!(TrapFrame, gpr), 0);
const_assert_eq!(offset_of!(TrapFrame, spsr), FRAME_ELR + 8);

/// Which vector brought a guest back: bits 1:0 of its slot's number.
pub(super) const EXIT_SYNCHRONOUS: u64 = 0;
/// An IRQ.
pub(super) const EXIT_IRQ: u64 = 1;
/// An FIQ.
pub(super) const EXIT_FIQ: u64 = 2;

/// Runs the guest whose registers are in `frame` until its next exception to
/// EL2, and returns the kind of that exception.
///
/// # Safety
/// `frame` points to a frame that nothing else uses meanwhile, and its `spsr`
/// selects EL1 or EL0. VBAR_EL2 holds a table made by `el2_vectors!`, SP_EL2
/// is the current stack (SPSel = 1), and interrupts are masked. HCR_EL2 and
/// VTTBR_EL2 confine the guest.
#[inline(always)]
pub(super) unsafe fn enter_guest(frame: *mut TrapFrame) -> u64 {
    let kind;
    // SAFETY: as the caller promises; the guest's vector restores SP, X19 and X29.
    unsafe {
        asm!(
            "stp x19, x29, [sp, #-{size}]!",
            "adr x1, 2f",
            "stp x0, x1, [sp, #{frame}]",
            "ldp x1, x2, [x0, #{elr}]",
            "msr elr_el2, x1",
            "msr spsr_el2, x2",
            "ldp x2, x3, [x0, #8 * 2]",
            "ldp x4, x5, [x0, #8 * 4]",
            "ldp x6, x7, [x0, #8 * 6]",
            "ldp x8, x9, [x0, #8 * 8]",
            "ldp x10, x11, [x0, #8 * 10]",
            "ldp x12, x13, [x0, #8 * 12]",
            "ldp x14, x15, [x0, #8 * 14]",
            "ldp x16, x17, [x0, #8 * 16]",
            "ldp x18, x19, [x0, #8 * 18]",
            "ldp x20, x21, [x0, #8 * 20]",
            "ldp x22, x23, [x0, #8 * 22]",
            "ldp x24, x25, [x0, #8 * 24]",
            "ldp x26, x27, [x0, #8 * 26]",
            "ldp x28, x29, [x0, #8 * 28]",
            "ldr x30, [x0, #8 * 30]",
            "ldp x0, x1, [x0]",
            "eret",
            // No speculation past the return.
            "dsb nsh",
            "isb",
            "2:",
            size = const SAVED_SIZE,
            frame = const SAVED_FRAME,
            elr = const FRAME_ELR,
            inout("x0") frame => kind,
            out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _,
            out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _,
            out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _,
            out("x16") _, out("x17") _, out("x18") _, out("x20") _, out("x21") _,
            out("x22") _, out("x23") _, out("x24") _, out("x25") _, out("x26") _,
            out("x27") _, out("x28") _, out("x30") _,
        );
    }
    kind
}

/// The type of an EL2 vector table: 16 slots of 32 instructions.
#[repr(C, align(2048))]
pub struct VectorTable([u32; 16 * 32]);

const_assert_eq!(size_of::<VectorTable>(), 2048);

impl VectorTable {
    /// Returns where the table lies: what VBAR_EL2 shall hold.
    #[must_use]
    pub fn address(&'static self) -> usize {
        core::ptr::from_ref(&self.0).addr()
    }
}

/// Defines the EL2 vector table of a hypervisor: a static of type
/// [`VectorTable`](crate::el2::VectorTable), whose address
/// [`Aarch64PerCpu`](crate::Aarch64PerCpu) takes.
///
/// `name` is that static, and the linker symbol too. Exceptions from a guest,
/// AArch64 or AArch32, end the `enter` which the guest runs in. An exception
/// from EL2 itself, in which the machine's own software is at fault, goes to
/// `host_fault`, which shall be naked and not return: it is entered by a branch,
/// on the stack of whoever was interrupted (perhaps overrun), with X0 holding
/// the number of the vector slot (0 to 3 with SP_EL0, 4 to 7 with SP_EL2; in
/// each the order is synchronous, IRQ, FIQ, SError), every other register as it
/// was, and the interrupted X0 in CNTHP_CVAL_EL2, a register that nobody misses
/// any more. TPIDR_EL2 is left alone throughout.
///
/// ```ignore
/// arm_vcpu::el2_vectors!(name: EL2_VECTORS, host_fault: host_fault);
///
/// let mut cpu = Aarch64PerCpu::new(El2::new(), EL2_VECTORS.address());
/// cpu.hardware_enable()?;
/// ```
#[macro_export]
macro_rules! el2_vectors {
    (name: $name:ident, host_fault: $host_fault:path) => {
        ::core::arch::global_asm!(
            ".macro arm_vcpu_host_slot number",
            ".balign 128",
            "msr cnthp_cval_el2, x0",
            "mov x0, #\\number",
            "b {host_fault}",
            ".endm",
            ".macro arm_vcpu_guest_slot kind",
            ".balign 128",
            "str x0, [sp, #{guest_x0}]",
            "ldr x0, [sp, #{frame}]",
            "stp x1, x2, [x0, #8 * 1]",
            "stp x3, x4, [x0, #8 * 3]",
            "stp x5, x6, [x0, #8 * 5]",
            "stp x7, x8, [x0, #8 * 7]",
            "stp x9, x10, [x0, #8 * 9]",
            "stp x11, x12, [x0, #8 * 11]",
            "stp x13, x14, [x0, #8 * 13]",
            "stp x15, x16, [x0, #8 * 15]",
            "stp x17, x18, [x0, #8 * 17]",
            "stp x19, x20, [x0, #8 * 19]",
            "stp x21, x22, [x0, #8 * 21]",
            "stp x23, x24, [x0, #8 * 23]",
            "stp x25, x26, [x0, #8 * 25]",
            "stp x27, x28, [x0, #8 * 27]",
            "stp x29, x30, [x0, #8 * 29]",
            "ldr x1, [sp, #{guest_x0}]",
            "mrs x2, elr_el2",
            "mrs x3, spsr_el2",
            "str x1, [x0]",
            "stp x2, x3, [x0, #{elr}]",
            "mov x0, #\\kind",
            "ldr x1, [sp, #{resume}]",
            "ldp x19, x29, [sp], #{size}",
            "br x1",
            ".endm",
            concat!(".pushsection .text.", stringify!($name), ", \"ax\""),
            ".balign 2048",
            concat!(".global ", stringify!($name)),
            concat!(stringify!($name), ":"),
            ".irp number, 0, 1, 2, 3, 4, 5, 6, 7",
            "arm_vcpu_host_slot \\number",
            ".endr",
            ".irp kind, 0, 1, 2, 3, 0, 1, 2, 3",
            "arm_vcpu_guest_slot \\kind",
            ".endr",
            ".balign 128",
            concat!(".size ", stringify!($name), ", . - ", stringify!($name)),
            ".popsection",
            ".purgem arm_vcpu_host_slot",
            ".purgem arm_vcpu_guest_slot",
            host_fault = sym $host_fault,
            guest_x0 = const $crate::el2::SAVED_GUEST_X0,
            frame = const $crate::el2::SAVED_FRAME,
            resume = const $crate::el2::SAVED_RESUME,
            size = const $crate::el2::SAVED_SIZE,
            elr = const $crate::el2::FRAME_ELR,
        );

        unsafe extern "C" {
            safe static $name: $crate::el2::VectorTable;
        }
    };
}
