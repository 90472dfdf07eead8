//! System registers that the `aarch64-cpu` crate lacks, or that the target's
//! assembler does not know by name.

use core::arch::asm;

use crate::SystemRegister;

macro_rules! system_registers {
    ($($(#[$doc:meta])* $name:ident = $encoding:literal $([$access:ident])+;)+) => {$(
        $(#[$doc])*
        pub(super) mod $name {
            $(system_registers!(@$access $encoding);)+
        }
    )+};
    (@get $encoding:literal) => {
        #[inline]
        pub(in crate::el2) fn get() -> u64 {
            let value: u64;
            // SAFETY: a system register read has no effect on memory; the
            // callers ask only for registers that the CPU has.
            unsafe {
                core::arch::asm!(
                    concat!("mrs {}, ", $encoding),
                    out(reg) value,
                    options(nomem, nostack, preserves_flags)
                );
            }
            value
        }
    };
    (@set $encoding:literal) => {
        #[inline]
        pub(in crate::el2) fn set(value: u64) {
            // SAFETY: each of these registers holds guest state or a control
            // of the guest's execution; none changes how EL2 itself executes
            // or what memory it sees.
            unsafe {
                core::arch::asm!(
                    concat!("msr ", $encoding, ", {}"),
                    in(reg) value,
                    options(nomem, nostack, preserves_flags)
                );
            }
        }
    };
}

system_registers! {
    /// VPIDR_EL2.
    vpidr_el2 = "S3_4_C0_C0_0" [set];
    /// HSTR_EL2.
    hstr_el2 = "S3_4_C1_C1_3" [get] [set];
    /// HCRX_EL2.
    hcrx_el2 = "S3_4_C1_C2_2" [get] [set];
    /// HFGRTR_EL2.
    hfgrtr_el2 = "S3_4_C1_C1_4" [get] [set];
    /// HFGWTR_EL2.
    hfgwtr_el2 = "S3_4_C1_C1_5" [get] [set];
    /// HFGITR_EL2.
    hfgitr_el2 = "S3_4_C1_C1_6" [get] [set];
    /// HDFGRTR_EL2.
    hdfgrtr_el2 = "S3_4_C3_C1_4" [get] [set];
    /// HDFGWTR_EL2.
    hdfgwtr_el2 = "S3_4_C3_C1_5" [get] [set];
    /// HDFGRTR2_EL2.
    hdfgrtr2_el2 = "S3_4_C3_C1_0" [get] [set];
    /// HDFGWTR2_EL2.
    hdfgwtr2_el2 = "S3_4_C3_C1_1" [get] [set];
    /// HFGRTR2_EL2.
    hfgrtr2_el2 = "S3_4_C3_C1_2" [get] [set];
    /// HFGWTR2_EL2.
    hfgwtr2_el2 = "S3_4_C3_C1_3" [get] [set];
    /// HFGITR2_EL2.
    hfgitr2_el2 = "S3_4_C3_C1_7" [get] [set];
    /// MPAM2_EL2.
    mpam2_el2 = "S3_4_C10_C5_0" [get] [set];
    /// VSESR_EL2.
    vsesr_el2 = "S3_4_C5_C2_3" [get] [set];
    /// VDISR_EL2.
    vdisr_el2 = "S3_4_C12_C1_1" [get] [set];
    /// ICC_SRE_EL1.
    icc_sre_el1 = "S3_0_C12_C12_5" [get] [set];
    /// PMCR_EL0.
    pmcr_el0 = "S3_3_C9_C12_0" [get];
    /// SCXTNUM_EL0.
    scxtnum_el0 = "S3_3_C13_C0_7" [get] [set];
    /// SCXTNUM_EL1.
    scxtnum_el1 = "S3_0_C13_C0_7" [get] [set];
    /// TPIDR2_EL0.
    tpidr2_el0 = "S3_3_C13_C0_5" [get] [set];
    /// APIAKeyLo_EL1.
    apiakeylo_el1 = "S3_0_C2_C1_0" [get] [set];
    /// APIAKeyHi_EL1.
    apiakeyhi_el1 = "S3_0_C2_C1_1" [get] [set];
    /// APIBKeyLo_EL1.
    apibkeylo_el1 = "S3_0_C2_C1_2" [get] [set];
    /// APIBKeyHi_EL1.
    apibkeyhi_el1 = "S3_0_C2_C1_3" [get] [set];
    /// APDAKeyLo_EL1.
    apdakeylo_el1 = "S3_0_C2_C2_0" [get] [set];
    /// APDAKeyHi_EL1.
    apdakeyhi_el1 = "S3_0_C2_C2_1" [get] [set];
    /// APDBKeyLo_EL1.
    apdbkeylo_el1 = "S3_0_C2_C2_2" [get] [set];
    /// APDBKeyHi_EL1.
    apdbkeyhi_el1 = "S3_0_C2_C2_3" [get] [set];
    /// APGAKeyLo_EL1.
    apgakeylo_el1 = "S3_0_C2_C3_0" [get] [set];
    /// APGAKeyHi_EL1.
    apgakeyhi_el1 = "S3_0_C2_C3_1" [get] [set];
}

macro_rules! debug_points {
    ($name:ident, $value:literal, $control:literal, $($index:literal)+) => {
        /// Writes debug point `index`, value first: it is disabled meanwhile.
        pub(super) fn $name(index: usize, value: u64, control: u64) {
            match index {
                // SAFETY: debug exceptions belong to EL1 (MDCR_EL2.TDE is
                // zero), so no setting can stop EL2.
                $($index => unsafe {
                    asm!(
                        concat!("msr ", $control, $index, "_EL1, xzr"),
                        concat!("msr ", $value, $index, "_EL1, {value}"),
                        concat!("msr ", $control, $index, "_EL1, {control}"),
                        value = in(reg) value,
                        control = in(reg) control,
                        options(nomem, nostack, preserves_flags)
                    );
                },)+
                _ => {}
            }
        }
    };
}

debug_points!(set_breakpoint, "DBGBVR", "DBGBCR", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
debug_points!(set_watchpoint, "DBGWVR", "DBGWCR", 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);

macro_rules! id_space {
    ($register:ident, $($crm:literal)+) => {
        match ($register.crm(), $register.op2()) {
            $(
                ($crm, 0) => id_space!(@read $crm, 0),
                ($crm, 1) => id_space!(@read $crm, 1),
                ($crm, 2) => id_space!(@read $crm, 2),
                ($crm, 3) => id_space!(@read $crm, 3),
                ($crm, 4) => id_space!(@read $crm, 4),
                ($crm, 5) => id_space!(@read $crm, 5),
                ($crm, 6) => id_space!(@read $crm, 6),
                ($crm, 7) => id_space!(@read $crm, 7),
            )+
            _ => 0,
        }
    };
    (@read $crm:literal, $op2:literal) => {{
        let value: u64;
        // SAFETY: an ID register can always be read at EL2, and those not yet
        // allocated read as zero.
        unsafe {
            asm!(
                concat!("mrs {}, S3_0_C0_C", $crm, "_", $op2),
                out(reg) value,
                options(nomem, nostack, preserves_flags)
            );
        }
        value
    }};
}

/// Reads one of this CPU's identification registers (op0 = 3, op1 = 0,
/// CRn = 0, CRm = 1 to 7); any other register reads as zero.
///
/// What it returns is the host's truth: a guest is shown an
/// [`IdRegisters`](crate::IdRegisters) made from it.
#[must_use]
pub fn read_id_register(register: SystemRegister) -> u64 {
    if (register.op0(), register.op1(), register.crn()) != (3, 0, 0) {
        return 0;
    }
    id_space!(register, 1 2 3 4 5 6 7)
}
