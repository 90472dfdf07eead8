//! Fills every register of the context, holds it, and looks at what is left.
//!
//! From the first pattern to the last look nothing but the assembly here and a
//! few instructions made for the round run on the CPU, with the MMU off and
//! interrupts masked. The stack pointer in use, SP_EL0 and SP_EL1 in turn, is
//! the only register that means something: it points to this CPU's frame, from
//! which the general registers come. Which frame that is depends on the round,
//! and after the hold its address is computed anew from MPIDR_EL1.

#![expect(unsafe_code, reason = "assembly, and memory that it shares")]

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

use test_guests::runtime::machine::MAX_CPUS;
use test_guests::runtime::{code, percpu};
use test_guests::sysreg;

use crate::registers::REGISTERS;

/// How many frames a CPU chooses from.
pub(crate) const FRAMES: usize = 16;
/// How many copies of the vector table there are.
pub(crate) const VECTOR_TABLES: u64 = 8;
/// The longest hold in instructions.
pub(crate) const LONGEST_HOLD: usize = 8;

const AREA_BYTES: usize = 0x3000;
const FRAME_FOUND: usize = 256;

/// General registers: what they are given, and what they are after the hold.
#[repr(C)]
pub(crate) struct Frame {
    pub(crate) given: [u64; 31],
    reserved: u64,
    pub(crate) found: [u64; 31],
    reserved_too: u64,
}

/// All other registers.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct State {
    pub(crate) vectors: [u64; 64],
    pub(crate) system: [u64; REGISTERS.len()],
    pub(crate) sctlr: u64,
    pub(crate) nzcv: u64,
    /// Which stack pointer is in use: 0 for SP_EL0, 1 for SP_EL1.
    pub(crate) sp_select: u64,
    /// The stack pointer in use: a frame of this CPU's.
    pub(crate) sp_used: u64,
    pub(crate) sp_other: u64,
}

impl State {
    pub(crate) const ZERO: Self = Self {
        vectors: [0; 64],
        system: [0; REGISTERS.len()],
        sctlr: 0,
        nzcv: 0,
        sp_select: 0,
        sp_used: 0,
        sp_other: 0,
    };
}

/// What the assembly and the rest of the program share on one CPU.
#[repr(C, align(4096))]
pub(crate) struct Area {
    /// Set if an exception ended the hold; then ESR, FAR, ELR and SPSR.
    pub(crate) faulted: u64,
    pub(crate) fault: [u64; 4],
    /// Routines that store all system registers to, and load them from, the
    /// memory at x0. They use x1.
    pub(crate) store_system: u64,
    pub(crate) load_system: u64,
    /// Loads the general registers from the frame and holds.
    pub(crate) program: u64,
    saved_sp: u64,
    saved_sctlr: u64,
    saved_system: [u64; REGISTERS.len()],
    pub(crate) given: State,
    pub(crate) found: State,
    pub(crate) frames: [Frame; FRAMES],
}

const _: () = assert!(size_of::<Area>() <= AREA_BYTES && AREA_BYTES.is_multiple_of(4096));
const _: () = assert!(size_of::<Area>() == AREA_BYTES);
const _: () = assert!(offset_of!(Frame, found) == FRAME_FOUND);
// An immediate of `add`.
const _: () = assert!(offset_of!(Area, found) + offset_of!(State, system) < 4096);

impl Area {
    pub(crate) const ZERO: Self = Self {
        faulted: 0,
        fault: [0; 4],
        store_system: 0,
        load_system: 0,
        program: 0,
        saved_sp: 0,
        saved_sctlr: 0,
        saved_system: [0; REGISTERS.len()],
        given: State::ZERO,
        found: State::ZERO,
        frames: [const {
            Frame {
                given: [0; 31],
                reserved: 0,
                found: [0; 31],
                reserved_too: 0,
            }
        }; FRAMES],
    };
}

#[repr(C, align(4096))]
struct Areas(UnsafeCell<[Area; MAX_CPUS]>);

// SAFETY: each CPU uses the element with its own index.
unsafe impl Sync for Areas {}

static AREAS: Areas = Areas(UnsafeCell::new([const { Area::ZERO }; MAX_CPUS]));

global_asm!(
    r#"
    .arch_extension simd
    .macro area_of_this_cpu
    mrs     x19, mpidr_el1
    and     x19, x19, #0xf
    mov     x20, #{area_bytes}
    mul     x19, x19, x20
    adrp    x20, {areas}
    add     x20, x20, :lo12:{areas}
    add     x19, x19, x20
    .endm

    // The area to memory and out of the cache.
    .macro clean_area
    mov     x1, x19
    add     x2, x19, #{area_bytes}
1:  dc      civac, x1
    add     x1, x1, #16
    cmp     x1, x2
    b.lo    1b
    dsb     sy
    .endm

    .text
    .global hold_in_area
hold_in_area:
    stp     x29, x30, [sp, #-96]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    str     x18, [sp, #-16]!
    mov     x19, x0
    add     x0, x19, #{saved_system}
    ldr     x1, [x19, #{store_system}]
    blr     x1
    mrs     x21, sctlr_el1
    str     x21, [x19, #{saved_sctlr}]
    mov     x1, sp
    str     x1, [x19, #{saved_sp}]
    clean_area
    bic     x21, x21, #(1 << 0)
    bic     x21, x21, #(1 << 2)
    msr     sctlr_el1, x21
    isb

    add     x0, x19, #({given} + {system})
    ldr     x1, [x19, #{load_system}]
    blr     x1
    ldr     x1, [x19, #({given} + {sctlr})]
    msr     sctlr_el1, x1
    isb
    add     x0, x19, #({given} + {vectors})
    ldp     q0, q1, [x0], #32
    ldp     q2, q3, [x0], #32
    ldp     q4, q5, [x0], #32
    ldp     q6, q7, [x0], #32
    ldp     q8, q9, [x0], #32
    ldp     q10, q11, [x0], #32
    ldp     q12, q13, [x0], #32
    ldp     q14, q15, [x0], #32
    ldp     q16, q17, [x0], #32
    ldp     q18, q19, [x0], #32
    ldp     q20, q21, [x0], #32
    ldp     q22, q23, [x0], #32
    ldp     q24, q25, [x0], #32
    ldp     q26, q27, [x0], #32
    ldp     q28, q29, [x0], #32
    ldp     q30, q31, [x0]
    ldr     x1, [x19, #({given} + {sp_other})]
    ldr     x2, [x19, #({given} + {sp_used})]
    ldr     x3, [x19, #({given} + {sp_select})]
    ldr     x4, [x19, #({given} + {nzcv})]
    ldr     x5, [x19, #{program}]
    cbz     x3, 2f
    msr     sp_el0, x1
    mov     sp, x2
    b       3f
2:  mov     sp, x1
    msr     sp_el0, x2
    msr     spsel, #0
3:  msr     nzcv, x4
    br      x5

    // The program of the round comes here.
    .global hold_is_over
hold_is_over:
    stp     x0, x1, [sp, #({frame_found} + 0)]
    stp     x2, x3, [sp, #({frame_found} + 16)]
    stp     x4, x5, [sp, #({frame_found} + 32)]
    stp     x6, x7, [sp, #({frame_found} + 48)]
    stp     x8, x9, [sp, #({frame_found} + 64)]
    stp     x10, x11, [sp, #({frame_found} + 80)]
    stp     x12, x13, [sp, #({frame_found} + 96)]
    stp     x14, x15, [sp, #({frame_found} + 112)]
    stp     x16, x17, [sp, #({frame_found} + 128)]
    stp     x18, x19, [sp, #({frame_found} + 144)]
    stp     x20, x21, [sp, #({frame_found} + 160)]
    stp     x22, x23, [sp, #({frame_found} + 176)]
    stp     x24, x25, [sp, #({frame_found} + 192)]
    stp     x26, x27, [sp, #({frame_found} + 208)]
    stp     x28, x29, [sp, #({frame_found} + 224)]
    str     x30, [sp, #({frame_found} + 240)]
    mrs     x0, nzcv
    mrs     x1, spsel
    mov     x2, sp
    msr     spsel, #1
    mov     x3, sp
    cbz     x1, 4f
    mrs     x3, sp_el0
4:  area_of_this_cpu
    str     x0, [x19, #({found} + {nzcv})]
    str     x1, [x19, #({found} + {sp_select})]
    str     x2, [x19, #({found} + {sp_used})]
    str     x3, [x19, #({found} + {sp_other})]
    add     x0, x19, #({found} + {vectors})
    stp     q0, q1, [x0], #32
    stp     q2, q3, [x0], #32
    stp     q4, q5, [x0], #32
    stp     q6, q7, [x0], #32
    stp     q8, q9, [x0], #32
    stp     q10, q11, [x0], #32
    stp     q12, q13, [x0], #32
    stp     q14, q15, [x0], #32
    stp     q16, q17, [x0], #32
    stp     q18, q19, [x0], #32
    stp     q20, q21, [x0], #32
    stp     q22, q23, [x0], #32
    stp     q24, q25, [x0], #32
    stp     q26, q27, [x0], #32
    stp     q28, q29, [x0], #32
    stp     q30, q31, [x0]
    add     x0, x19, #({found} + {system})
    ldr     x1, [x19, #{store_system}]
    blr     x1
    mrs     x1, sctlr_el1
    str     x1, [x19, #({found} + {sctlr})]

5:  add     x0, x19, #{saved_system}
    ldr     x1, [x19, #{load_system}]
    blr     x1
    ldr     x1, [x19, #{saved_sctlr}]
    ldr     x2, [x19, #{saved_sp}]
    mov     sp, x2
    tlbi    vmalle1
    dsb     sy
    msr     sctlr_el1, x1
    isb
    clean_area
    ldr     x18, [sp], #16
    ldp     x27, x28, [sp, #80]
    ldp     x25, x26, [sp, #64]
    ldp     x23, x24, [sp, #48]
    ldp     x21, x22, [sp, #32]
    ldp     x19, x20, [sp, #16]
    ldp     x29, x30, [sp], #96
    ret

    // No exception belongs here: what is left of the round is given up.
hold_exception:
    msr     spsel, #1
    area_of_this_cpu
    mov     x0, #1
    str     x0, [x19, #{faulted}]
    mrs     x0, esr_el1
    mrs     x1, far_el1
    stp     x0, x1, [x19, #{fault}]
    mrs     x0, elr_el1
    mrs     x1, spsr_el1
    stp     x0, x1, [x19, #({fault} + 16)]
    b       5b

    .balign 0x800
    .global hold_vectors
hold_vectors:
    .rept   {vector_tables} * 16
    b       hold_exception
    .balign 0x80
    .endr
    "#,
    areas = sym AREAS,
    area_bytes = const AREA_BYTES,
    frame_found = const FRAME_FOUND,
    vector_tables = const VECTOR_TABLES,
    faulted = const offset_of!(Area, faulted),
    fault = const offset_of!(Area, fault),
    store_system = const offset_of!(Area, store_system),
    load_system = const offset_of!(Area, load_system),
    program = const offset_of!(Area, program),
    saved_sp = const offset_of!(Area, saved_sp),
    saved_sctlr = const offset_of!(Area, saved_sctlr),
    saved_system = const offset_of!(Area, saved_system),
    given = const offset_of!(Area, given),
    found = const offset_of!(Area, found),
    vectors = const offset_of!(State, vectors),
    system = const offset_of!(State, system),
    sctlr = const offset_of!(State, sctlr),
    nzcv = const offset_of!(State, nzcv),
    sp_select = const offset_of!(State, sp_select),
    sp_used = const offset_of!(State, sp_used),
    sp_other = const offset_of!(State, sp_other),
);

unsafe extern "C" {
    fn hold_in_area(area: *mut Area);
    safe fn hold_is_over();
    safe fn hold_vectors();
}

/// Returns where copy `index` of the vector table lies.
pub(crate) fn vector_table(index: u64) -> u64 {
    let first: extern "C" fn() = hold_vectors;
    first as usize as u64 + index % VECTOR_TABLES * 0x800
}

/// Returns this CPU's area.
fn area() -> *mut Area {
    let areas: *mut Area = AREAS.0.get().cast();
    areas.wrapping_add(percpu::index())
}

/// Calls `work` with this CPU's area.
pub(crate) fn with_area<T>(work: impl FnOnce(&mut Area) -> T) -> T {
    // SAFETY: the index is below `MAX_CPUS`; the element is this CPU's own, and
    // callers do not nest.
    work(unsafe { &mut *area() })
}

/// Fills all registers with what the area gives, runs its program, and leaves in
/// the area what was found then.
pub(crate) fn hold() {
    with_area(|area| area.faulted = 0);
    // SAFETY: the area is this CPU's own; the assembly restores all that the
    // compiler and the runtime rely on.
    unsafe { hold_in_area(area()) };
}

/// Returns the SCTLR_EL1 to hold: MMU and data cache off, and what concerns EL0
/// alone by pattern.
pub(crate) fn sctlr(pattern: u64) -> u64 {
    // UMA, DZE, UCT, nTWI, nTWE, UCI.
    const FREE: u64 = 1 << 9 | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 18 | 1 << 26;
    sysreg!("sctlr_el1") & !(FREE | 1 << 0 | 1 << 2) | pattern & FREE
}

/// Writes this CPU's program: it loads the general registers from the frame,
/// executes `instructions` and ends the hold. Returns where it lies.
pub(crate) fn write_program(instructions: &[u32]) -> u64 {
    const LOADS: usize = 16;
    const SP: u32 = 31;
    let mut words = [code::NOP; LOADS + LONGEST_HOLD + 1];
    let pairs = (0..30).step_by(2).map(|register: u32| {
        // ldp x<n>, x<n + 1>, [sp, #8 * n]
        0xA940_0000 | register << 15 | (register + 1) << 10 | SP << 5 | register
    });
    // ldr x30, [sp, #240]
    let loads = pairs.chain([0xF940_0000 | 30 << 10 | SP << 5 | 30]);
    for (word, instruction) in words
        .iter_mut()
        .zip(loads.chain(instructions.iter().copied()))
    {
        *word = instruction;
    }
    let end: extern "C" fn() = hold_is_over;
    code::prepare_ending_in(&words, end as usize as u64)
}
