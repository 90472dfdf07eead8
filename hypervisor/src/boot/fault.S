/*
 * An exception taken from EL2 itself. Always fatal. On entry x0 holds the slot
 * of the vector table and CNTHP_CVAL_EL2 the value that x0 had; everything else
 * is as it was. TPIDR_EL2 points to the top of this CPU's fault stack: the
 * ordinary stack may be what is broken.
 *
 * CNTVOFF_EL2 serves as a second scratch register: no guest runs here again.
 */
.text
.global el2_fault
el2_fault:
    add     x0, sp, x0                  /* the slot fits below the alignment */
    msr     cntvoff_el2, x0
    mrs     x0, tpidr_el2
    cbz     x0, park
    mov     sp, x0
    sub     sp, sp, #FAULT_FRAME_SIZE
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x2, cnthp_cval_el2
    stp     x2, x1, [sp, #0]
    mrs     x3, cntvoff_el2
    and     x4, x3, #0xf                /* slot */
    bic     x5, x3, #0xf                /* stack pointer at the fault */
    stp     x30, x5, [sp, #240]
    mrs     x6, elr_el2
    mrs     x7, spsr_el2
    stp     x6, x7, [sp, #256]
    mrs     x6, esr_el2
    mrs     x7, far_el2
    stp     x6, x7, [sp, #272]
    str     x4, [sp, #288]
    mov     x0, sp
    b       el2_fault_main
