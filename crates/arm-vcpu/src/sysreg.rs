//! Names and encodings of system registers (Arm DDI 0487, "AArch64 System
//! Register Encoding").

use core::fmt;

mod names;

/// Names one system register, or one system instruction, by the five numbers
/// of its encoding.
///
/// The numbers lie as the syndrome of a trapped access has them
/// (ESR_EL2.ISS for EC 0x18), so a trap is matched without unpacking it. The
/// associated constants carry Arm's own names and serve as patterns.
///
/// ```
/// use arm_vcpu::SystemRegister;
///
/// let sgi = SystemRegister::new(3, 0, 12, 11, 5);
/// assert!(matches!(sgi, SystemRegister::ICC_SGI1R_EL1));
/// assert_eq!(sgi.to_string(), "ICC_SGI1R_EL1");
/// assert_eq!(SystemRegister::new(3, 0, 15, 1, 2).to_string(), "S3_0_C15_C1_2");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemRegister(u32);

const OP0_SHIFT: u32 = 20;
const OP2_SHIFT: u32 = 17;
const OP1_SHIFT: u32 = 14;
const CRN_SHIFT: u32 = 10;
const CRM_SHIFT: u32 = 1;
/// Everything but Rt (bits 9:5) and the direction (bit 0).
const ENCODING: u32 = 0b11 << OP0_SHIFT
    | 0b111 << OP2_SHIFT
    | 0b111 << OP1_SHIFT
    | 0xF << CRN_SHIFT
    | 0xF << CRM_SHIFT;

impl SystemRegister {
    /// Returns the register with this encoding. Only as many low bits of each
    /// number count as the instruction has room for: two of `op0`, three of
    /// `op1` and `op2`, four of `crn` and `crm`.
    #[must_use]
    pub const fn new(op0: u8, op1: u8, crn: u8, crm: u8, op2: u8) -> Self {
        Self(
            (op0 as u32 & 0b11) << OP0_SHIFT
                | (op2 as u32 & 0b111) << OP2_SHIFT
                | (op1 as u32 & 0b111) << OP1_SHIFT
                | (crn as u32 & 0xF) << CRN_SHIFT
                | (crm as u32 & 0xF) << CRM_SHIFT,
        )
    }

    /// Returns the register that the syndrome of a trapped MSR, MRS or system
    /// instruction names.
    #[inline]
    #[must_use]
    pub const fn from_iss(iss: u32) -> Self {
        Self(iss & ENCODING)
    }

    /// Returns breakpoint value register `n`, `DBGBVR<n>_EL1`; `n` counts modulo 16.
    #[must_use]
    pub const fn dbgbvr(n: u8) -> Self {
        Self::new(2, 0, 0, n, 4)
    }

    /// Returns breakpoint control register `n`, `DBGBCR<n>_EL1`; `n` counts modulo 16.
    #[must_use]
    pub const fn dbgbcr(n: u8) -> Self {
        Self::new(2, 0, 0, n, 5)
    }

    /// Returns watchpoint value register `n`, `DBGWVR<n>_EL1`; `n` counts modulo 16.
    #[must_use]
    pub const fn dbgwvr(n: u8) -> Self {
        Self::new(2, 0, 0, n, 6)
    }

    /// Returns watchpoint control register `n`, `DBGWCR<n>_EL1`; `n` counts modulo 16.
    #[must_use]
    pub const fn dbgwcr(n: u8) -> Self {
        Self::new(2, 0, 0, n, 7)
    }

    /// Returns `op0`, 0 to 3: 2 for debug and trace registers, 3 for other
    /// registers, 1 for system instructions.
    #[must_use]
    pub const fn op0(self) -> u8 {
        self.field(OP0_SHIFT, 0b11)
    }

    /// Returns `op1`, 0 to 7.
    #[must_use]
    pub const fn op1(self) -> u8 {
        self.field(OP1_SHIFT, 0b111)
    }

    /// Returns `CRn`, 0 to 15.
    #[must_use]
    pub const fn crn(self) -> u8 {
        self.field(CRN_SHIFT, 0xF)
    }

    /// Returns `CRm`, 0 to 15.
    #[must_use]
    pub const fn crm(self) -> u8 {
        self.field(CRM_SHIFT, 0xF)
    }

    /// Returns `op2`, 0 to 7.
    #[must_use]
    pub const fn op2(self) -> u8 {
        self.field(OP2_SHIFT, 0b111)
    }

    /// Tells whether this lies in the space of ID registers, `op0` 3, `op1` 0,
    /// `CRn` 0. What is unallocated there reads as zero.
    #[must_use]
    pub const fn is_id_register(self) -> bool {
        self.op0() == 3 && self.op1() == 0 && self.crn() == 0
    }

    /// Tells whether this is a register of self-hosted or external debug.
    #[must_use]
    pub const fn is_debug(self) -> bool {
        // op1 = 1 is the trace unit's.
        self.op0() == 2 && self.op1() != 1
    }

    /// Tells whether this is a register of the performance monitors.
    #[must_use]
    pub const fn is_performance_monitor(self) -> bool {
        let control = self.crn() == 9 && self.crm() >= 12 && self.crm() <= 14;
        let counter = self.op1() == 3 && self.crn() == 14 && self.crm() >= 8;
        self.op0() == 3 && (counter || control && (self.op1() == 0 || self.op1() == 3))
    }

    /// Tells whether this lies in the space that Arm leaves to implementations.
    #[must_use]
    pub const fn is_implementation_defined(self) -> bool {
        (self.op0() == 3 || self.op0() == 1) && (self.crn() == 11 || self.crn() == 15)
    }

    const fn field(self, shift: u32, mask: u32) -> u8 {
        (self.0 >> shift & mask & 0xFF) as u8
    }
}

impl fmt::Display for SystemRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = names::name(*self) {
            return f.pad(name);
        }
        if self.op0() == 2 && self.op1() == 0 && self.crn() == 0 {
            let kind = match self.op2() {
                4 => Some("DBGBVR"),
                5 => Some("DBGBCR"),
                6 => Some("DBGWVR"),
                7 => Some("DBGWCR"),
                _ => None,
            };
            if let Some(kind) = kind {
                return write!(f, "{kind}{}_EL1", self.crm());
            }
        }
        write!(
            f,
            "S{}_{}_C{}_C{}_{}",
            self.op0(),
            self.op1(),
            self.crn(),
            self.crm(),
            self.op2()
        )
    }
}

impl fmt::Debug for SystemRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use super::*;

    #[test]
    fn the_five_numbers_survive_the_packing() {
        let encodings = (0..4).flat_map(|op0| (0..8).map(move |op1| (op0, op1)));
        for (op0, op1) in encodings {
            for (crn, crm) in (0..16).flat_map(|crn| (0..16).map(move |crm| (crn, crm))) {
                for op2 in 0..8 {
                    let register = SystemRegister::new(op0, op1, crn, crm, op2);
                    assert_eq!((register.op0(), register.op1()), (op0, op1));
                    assert_eq!((register.crn(), register.crm()), (crn, crm));
                    assert_eq!(register.op2(), op2);
                }
            }
        }
    }

    #[test]
    fn a_syndrome_names_the_register_whatever_rt_and_the_direction() {
        // MRS X17, CNTPCT_EL0: op0 3, op2 1, op1 3, CRn 14, Rt 17, CRm 0, read.
        let iss = 3 << 20 | 1 << 17 | 3 << 14 | 14 << 10 | 17 << 5 | 1;
        assert_eq!(SystemRegister::from_iss(iss), SystemRegister::CNTPCT_EL0);
        assert_eq!(
            SystemRegister::from_iss(iss ^ (0x1F << 5 | 1)),
            SystemRegister::CNTPCT_EL0
        );
        assert_eq!(
            SystemRegister::from_iss(u32::MAX).to_string(),
            "S3_7_C15_C15_7"
        );
    }

    #[test]
    fn registers_print_their_names_or_their_encoding() {
        assert_eq!(
            SystemRegister::new(3, 0, 0, 4, 0).to_string(),
            "ID_AA64PFR0_EL1"
        );
        assert_eq!(SystemRegister::dbgbvr(3).to_string(), "DBGBVR3_EL1");
        assert_eq!(SystemRegister::dbgwcr(15).to_string(), "DBGWCR15_EL1");
        assert_eq!(
            SystemRegister::new(3, 0, 4, 15, 6).to_string(),
            "S3_0_C4_C15_6"
        );
    }

    #[test]
    fn groups_hold_their_registers_and_no_neighbours() {
        use SystemRegister as R;
        assert!(R::ID_AA64MMFR2_EL1.is_id_register() && R::MIDR_EL1.is_id_register());
        assert!(!R::CCSIDR_EL1.is_id_register() && !R::ACTLR_EL1.is_id_register());
        assert!(R::MDSCR_EL1.is_debug() && R::OSLAR_EL1.is_debug() && R::MDCCSR_EL0.is_debug());
        assert!(!R::new(2, 1, 0, 0, 1).is_debug(), "the trace unit's");
        for register in [
            R::PMCR_EL0,
            R::PMINTENSET_EL1,
            R::PMMIR_EL1,
            R::PMCCFILTR_EL0,
        ] {
            assert!(register.is_performance_monitor(), "{register}");
        }
        for register in [R::CNTP_CTL_EL0, R::PMSCR_EL1, R::TRBLIMITR_EL1] {
            assert!(!register.is_performance_monitor(), "{register}");
        }
        assert!(R::new(3, 1, 15, 2, 0).is_implementation_defined());
        assert!(!R::ICC_SGI1R_EL1.is_implementation_defined());
    }
}
