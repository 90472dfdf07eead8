/*
 * memcpy as a plain function of C, in place of the one that comes with the
 * language, which copies word by word: guests' images are tens of megabytes.
 * Memory is mapped as normal wherever Rust runs, so nothing need be aligned.
 *
 * x0: to, x1: from, x2: bytes. Returns x0.
 */
.text
.global memcpy
.type memcpy, %function
memcpy:
    mov     x3, x0
1:  subs    x2, x2, #64
    b.lo    2f
    ldp     x4, x5, [x1], #64
    ldp     x6, x7, [x1, #-48]
    ldp     x8, x9, [x1, #-32]
    ldp     x10, x11, [x1, #-16]
    stp     x4, x5, [x3], #64
    stp     x6, x7, [x3, #-48]
    stp     x8, x9, [x3, #-32]
    stp     x10, x11, [x3, #-16]
    b       1b

    /* The low six bits of x2 say what is left. */
2:  tbz     x2, #5, 3f
    ldp     x4, x5, [x1], #32
    ldp     x6, x7, [x1, #-16]
    stp     x4, x5, [x3], #32
    stp     x6, x7, [x3, #-16]
3:  tbz     x2, #4, 4f
    ldp     x4, x5, [x1], #16
    stp     x4, x5, [x3], #16
4:  tbz     x2, #3, 5f
    ldr     x4, [x1], #8
    str     x4, [x3], #8
5:  tbz     x2, #2, 6f
    ldr     w4, [x1], #4
    str     w4, [x3], #4
6:  tbz     x2, #1, 7f
    ldrh    w4, [x1], #2
    strh    w4, [x3], #2
7:  tbz     x2, #0, 8f
    ldrb    w4, [x1]
    strb    w4, [x3]
8:  ret
.size memcpy, . - memcpy
