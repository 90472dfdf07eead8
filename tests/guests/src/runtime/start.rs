//! Entry from the boot loader and from PSCI CPU_ON.

#![expect(unsafe_code, reason = "the first instructions have no stack yet")]

use core::arch::global_asm;
use core::cell::UnsafeCell;

use super::{console, cpu, machine, mmu, percpu, smp, timer, verdict};

/// The stack of one CPU in bytes.
const STACK_BYTES: usize = 0x1_0000;

#[repr(C, align(4096))]
struct Stacks(UnsafeCell<[[u8; STACK_BYTES]; machine::MAX_CPUS]>);

// SAFETY: each CPU uses the element with its own index, through SP alone.
unsafe impl Sync for Stacks {}

static STACKS: Stacks = Stacks(UnsafeCell::new([[0; STACK_BYTES]; machine::MAX_CPUS]));

global_asm!(
    r#"
    .section .text.start, "ax"
    .global _start
_start:
    msr     daifset, #0xf
    mov     x19, x0
    // A flat binary may lie anywhere, far enough from where it is linked.
    adr     x0, _start
    ldr     x1, =__image_start
    ldr     x2, =__load_end
    cmp     x0, x1
    b.eq    in_place
    mov     x3, x1
1:  ldp     x4, x5, [x0], #16
    stp     x4, x5, [x3], #16
    cmp     x3, x2
    b.lo    1b
    dsb     sy
    ic      iallu
    dsb     sy
    isb
    ldr     x1, =in_place
    br      x1
in_place:
    adrp    x0, __bss_start
    add     x0, x0, :lo12:__bss_start
    adrp    x1, __bss_end
    add     x1, x1, :lo12:__bss_end
1:  stp     xzr, xzr, [x0], #16
    cmp     x0, x1
    b.lo    1b
    mov     x20, xzr
    b       3f

    // PSCI CPU_ON comes here with the CPU's index as the context.
    .global secondary_start
secondary_start:
    msr     daifset, #0xf
    mov     x20, x0
    mov     x19, xzr
3:  msr     spsel, #1
    adrp    x2, {stacks}
    add     x2, x2, :lo12:{stacks}
    add     x3, x20, #1
    mov     x4, #{stack_bytes}
    madd    x2, x3, x4, x2
    mov     sp, x2
    mov     x2, #(3 << 20)
    msr     cpacr_el1, x2           // FP and SIMD are not trapped
    adrp    x2, exception_vectors
    add     x2, x2, :lo12:exception_vectors
    msr     vbar_el1, x2
    isb
    mov     x29, xzr
    mov     x0, x20
    mov     x1, x19
    bl      {enter}
4:  wfi
    b       4b
    .ltorg
    .text
    "#,
    stacks = sym STACKS,
    stack_bytes = const STACK_BYTES,
    enter = sym enter,
);

unsafe extern "Rust" {
    /// The guest's own work, defined by `guest!`.
    safe fn guest_main();
}

/// Takes over from the assembly: `index` is this CPU's, `device_tree` is what
/// the boot loader left in x0 (for CPU 0).
extern "C" fn enter(index: usize, device_tree: u64) -> ! {
    // Up to `mmu::enable` memory is Device memory here: loads and stores work,
    // atomic read-modify-write need not.
    percpu::install(index);
    if index != 0 {
        mmu::enable();
        smp::secondary();
    }
    console::take_over();
    machine::discover(device_tree);
    mmu::build();
    mmu::enable();
    machine::name_boot_cpu(cpu::mpidr());
    timer::init();
    guest_main();
    verdict::pass();
}

/// Returns the address of the entry point for PSCI CPU_ON.
#[must_use]
pub(super) fn secondary_entry() -> u64 {
    unsafe extern "C" {
        safe fn secondary_start();
    }
    let entry: extern "C" fn() = secondary_start;
    entry as usize as u64
}
