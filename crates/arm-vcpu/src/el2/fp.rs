//! Moves the SIMD and floating-point registers. EL2 is compiled for a target
//! that has none, so between these two functions they hold the guest's values.

use core::arch::naked_asm;
use core::mem::offset_of;

use static_assertions::const_assert_eq;

use crate::FpRegisters;

const_assert_eq!(offset_of!(FpRegisters, v), 0);
const_assert_eq!(offset_of!(FpRegisters, fpsr), 32 * 16);
const_assert_eq!(
    offset_of!(FpRegisters, fpcr),
    offset_of!(FpRegisters, fpsr) + 8
);

/// Stores V0 to V31, FPSR and FPCR.
///
/// # Safety
/// CPTR_EL2.TFP is zero, and `registers` can be written.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn save_fp(registers: *mut FpRegisters) {
    naked_asm!(
        ".arch_extension fp",
        ".arch_extension simd",
        "st1 {{v0.2d, v1.2d, v2.2d, v3.2d}}, [x0], #64",
        "st1 {{v4.2d, v5.2d, v6.2d, v7.2d}}, [x0], #64",
        "st1 {{v8.2d, v9.2d, v10.2d, v11.2d}}, [x0], #64",
        "st1 {{v12.2d, v13.2d, v14.2d, v15.2d}}, [x0], #64",
        "st1 {{v16.2d, v17.2d, v18.2d, v19.2d}}, [x0], #64",
        "st1 {{v20.2d, v21.2d, v22.2d, v23.2d}}, [x0], #64",
        "st1 {{v24.2d, v25.2d, v26.2d, v27.2d}}, [x0], #64",
        "st1 {{v28.2d, v29.2d, v30.2d, v31.2d}}, [x0], #64",
        "mrs x1, fpsr",
        "mrs x2, fpcr",
        "stp x1, x2, [x0]",
        "ret",
        ".arch_extension nosimd",
        ".arch_extension nofp",
    )
}

/// Loads V0 to V31, FPSR and FPCR.
///
/// # Safety
/// CPTR_EL2.TFP is zero, and the registers hold nothing that is still wanted.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn load_fp(registers: *const FpRegisters) {
    naked_asm!(
        ".arch_extension fp",
        ".arch_extension simd",
        "ld1 {{v0.2d, v1.2d, v2.2d, v3.2d}}, [x0], #64",
        "ld1 {{v4.2d, v5.2d, v6.2d, v7.2d}}, [x0], #64",
        "ld1 {{v8.2d, v9.2d, v10.2d, v11.2d}}, [x0], #64",
        "ld1 {{v12.2d, v13.2d, v14.2d, v15.2d}}, [x0], #64",
        "ld1 {{v16.2d, v17.2d, v18.2d, v19.2d}}, [x0], #64",
        "ld1 {{v20.2d, v21.2d, v22.2d, v23.2d}}, [x0], #64",
        "ld1 {{v24.2d, v25.2d, v26.2d, v27.2d}}, [x0], #64",
        "ld1 {{v28.2d, v29.2d, v30.2d, v31.2d}}, [x0], #64",
        "ldp x1, x2, [x0]",
        "msr fpsr, x1",
        "msr fpcr, x2",
        "ret",
        ".arch_extension nosimd",
        ".arch_extension nofp",
    )
}
