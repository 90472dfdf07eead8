/*
 * Entry of the boot CPU and of the secondary CPUs, and the change of
 * translation tables. Nothing here touches memory through a cache that may be
 * stale: the early table is written with the MMU off and invalidated before
 * use; everything else is written with MMU and caches on.
 */

/* Arm64 boot protocol ("Booting AArch64 Linux"): the header of an Image. */
.section .head, "ax"
.global _start
_start:
    b       boot_entry
    .word   0
    .quad   0                           /* text_offset */
    .quad   __image_bytes               /* image_size */
    .quad   0b1010                      /* little-endian, 4 KiB pages, anywhere */
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"
    .word   0

.text

/* Leaves CurrentEL != EL2 for good: there is nothing that could be run there. */
.macro require_el2
    mrs     x9, CurrentEL
    cmp     x9, #(2 << 2)
    b.ne    park
.endm

/* x0: device tree blob. */
boot_entry:
    msr     DAIFSet, #0xf
    require_el2
    cbz     x0, park                    /* no device tree, no machine */
    mov     x19, x0
    bl      plain_el2

    /*
     * The early table: one level-1 table of 1 GiB blocks (39-bit addresses).
     * Only the gibibytes that hold this image and the device tree are mapped,
     * as normal memory: a device must never be mapped so.
     */
    adrp    x20, early_table
    add     x20, x20, :lo12:early_table
    bl      forget_early_table
    mov     x9, x20
    add     x10, x20, #4096
1:  stp     xzr, xzr, [x9], #16
    cmp     x9, x10
    b.lo    1b

    adrp    x9, __image_start
    bl      map_gibibyte
    adrp    x9, __image_end
    bl      map_gibibyte
    mov     x9, x19
    bl      map_gibibyte
    add     x9, x19, #0x200000          /* a blob has at most 2 MiB */
    bl      map_gibibyte

    bl      forget_early_table
    mov     x0, x20
    ldr     x1, =EARLY_TCR
    ldr     x2, =EARLY_MAIR
    ldr     x3, =EARLY_SCTLR
    bl      el2_switch_tables

    adrp    x9, __boot_stack_top
    add     x9, x9, :lo12:__boot_stack_top
    mov     sp, x9
    adrp    x9, __boot_fault_stack_top
    add     x9, x9, :lo12:__boot_fault_stack_top
    msr     tpidr_el2, x9
    adrp    x9, el2_vectors
    add     x9, x9, :lo12:el2_vectors
    msr     vbar_el2, x9

    adrp    x9, __bss_start
    add     x9, x9, :lo12:__bss_start
    adrp    x10, __bss_end
    add     x10, x10, :lo12:__bss_end
3:  cmp     x9, x10
    b.hs    4f
    stp     xzr, xzr, [x9], #16
    b       3b

    /* Every dynamic relocation of a static PIE is R_AARCH64_RELATIVE (1027). */
4:  adrp    x9, __relocations_start
    add     x9, x9, :lo12:__relocations_start
    adrp    x10, __relocations_end
    add     x10, x10, :lo12:__relocations_end
    adrp    x11, __image_start
5:  cmp     x9, x10
    b.hs    6f
    ldp     x12, x13, [x9], #16         /* offset, info */
    ldr     x14, [x9], #8               /* addend */
    cmp     x13, #1027
    b.ne    park
    add     x14, x14, x11
    str     x14, [x12, x11]
    b       5b

6:  dsb     sy
    ic      iallu
    dsb     sy
    isb
    mov     x0, x19
    mov     x29, xzr                    /* end of the frame chain */
    mov     x30, xzr
    b       boot_main

/*
 * Drops what caches hold of the early table: before it is written, so that no
 * stale line is written back over it, and after, so that none is read.
 * Clobbers x9–x12.
 */
forget_early_table:
    dsb     sy
    mov     x9, x20
    add     x10, x20, #4096
    mrs     x11, ctr_el0                /* DminLine: log2 of words */
    ubfx    x11, x11, #16, #4
    mov     x12, #4
    lsl     x11, x12, x11
2:  dc      ivac, x9
    add     x9, x9, x11
    cmp     x9, x10
    b.lo    2b
    dsb     sy
    ret

/* HCR_EL2: no E2H, which would change the form of TCR_EL2; EL1 is AArch64. */
plain_el2:
    mov     x9, #(1 << 31)
    msr     hcr_el2, x9
    isb
    ret

/* Maps the gibibyte of address x9 in the table at x20. Clobbers x10–x12. */
map_gibibyte:
    lsr     x10, x9, #30
    cmp     x10, #512
    b.hs    park
    lsl     x11, x10, #30
    mov     x12, #EARLY_BLOCK
    orr     x11, x11, x12
    str     x11, [x20, x10, lsl #3]
    ret

/*
 * A CPU turned on by PSCI: x0 is the physical address of its SecondaryBoot,
 * cleaned to the point of coherency by the CPU that wrote it.
 */
.global secondary_entry
secondary_entry:
    msr     DAIFSet, #0xf
    require_el2
    mov     x19, x0
    bl      plain_el2
    ldp     x0, x1, [x19, #0]           /* TTBR0_EL2, TCR_EL2 */
    ldp     x2, x3, [x19, #16]          /* MAIR_EL2, SCTLR_EL2 */
    bl      el2_switch_tables
    ldp     x9, x10, [x19, #32]         /* stack, fault stack */
    mov     sp, x9
    msr     tpidr_el2, x10
    adrp    x9, el2_vectors
    add     x9, x9, :lo12:el2_vectors
    msr     vbar_el2, x9
    mov     x0, x19
    mov     x29, xzr
    mov     x30, xzr
    b       secondary_main

/*
 * Turns the MMU off, if it was on, and on again with other tables: x0 TTBR0_EL2,
 * x1 TCR_EL2, x2 MAIR_EL2, x3 SCTLR_EL2. Registers only; the code is mapped at
 * its physical address by both tables. No TLB entry of the old ones survives,
 * so break-before-make is kept even where block sizes differ.
 */
.global el2_switch_tables
el2_switch_tables:
    dsb     sy
    mrs     x9, sctlr_el2
    bic     x9, x9, #1                  /* SCTLR_EL2.M */
    bic     x9, x9, #(1 << 2)           /* SCTLR_EL2.C */
    msr     sctlr_el2, x9
    isb
    msr     ttbr0_el2, x0
    msr     tcr_el2, x1
    msr     mair_el2, x2
    isb
    tlbi    alle2
    tlbi    alle1                       /* whoever ran here before */
    dsb     nsh
    ic      iallu
    dsb     nsh
    isb
    msr     sctlr_el2, x3
    isb
    ret

.global park
park:
    wfe
    b       park

.section .early, "aw", @nobits
.balign 4096
early_table:
    .space  4096
