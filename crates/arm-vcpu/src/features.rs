//! Which optional parts of the architecture a CPU has, as far as EL2 must know.

use bitflags::bitflags;

use crate::SystemRegister;

bitflags! {
    /// Lists the optional features of a CPU on which the switch of guest
    /// context, or the setting of an EL2 control, depends.
    ///
    /// Accessing the registers of a feature that is absent is undefined, at
    /// EL2 too, so nothing outside this list is ever touched.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct CpuFeatures: u32 {
        /// Pointer authentication: the key registers exist.
        const PAUTH = 1 << 0;
        /// The RAS extension: error records and a virtual SError syndrome.
        const RAS = 1 << 1;
        /// SCXTNUM_EL0 and SCXTNUM_EL1 exist (FEAT_CSV2_2, FEAT_CSV2_1p2).
        const SCXTNUM = 1 << 2;
        /// The GIC CPU interface has system registers.
        const GIC_SYSTEM_REGISTERS = 1 << 3;
        /// Activity monitors.
        const AMU = 1 << 4;
        /// Memory partitioning and monitoring.
        const MPAM = 1 << 5;
        /// The Scalable Matrix Extension, and so TPIDR2_EL0.
        const SME = 1 << 6;
        /// A PMU by Arm's PMUv3 architecture.
        const PMU = 1 << 7;
        /// The Statistical Profiling Extension.
        const SPE = 1 << 8;
        /// Self-hosted trace: TRFCR_EL1.
        const TRACE_FILTER = 1 << 9;
        /// System registers of a trace unit.
        const TRACE_REGISTERS = 1 << 10;
        /// Limited ordering regions.
        const LOR = 1 << 11;
        /// HCRX_EL2 exists.
        const HCRX = 1 << 12;
        /// Fine-grained traps: HFGRTR_EL2 and its companions exist.
        const FINE_GRAINED_TRAPS = 1 << 13;
        /// Privileged access never.
        const PAN = 1 << 14;
        /// Speculative store bypass control in PSTATE.
        const SSBS = 1 << 15;
        /// The Memory Tagging Extension.
        const MTE = 1 << 16;
        /// The second set of fine-grained traps: HFGRTR2_EL2 and its companions.
        const FINE_GRAINED_TRAPS_2 = 1 << 17;
    }
}

/// One feature: present where a four-bit field of an ID register is neither
/// below `from` nor the value that says "not implemented as Arm specifies it".
struct Rule {
    feature: CpuFeatures,
    register: SystemRegister,
    shift: u32,
    from: u64,
}

const fn rule(feature: CpuFeatures, register: SystemRegister, shift: u32, from: u64) -> Rule {
    Rule {
        feature,
        register,
        shift,
        from,
    }
}

const RULES: &[Rule] = &[
    rule(CpuFeatures::PAUTH, SystemRegister::ID_AA64ISAR1_EL1, 4, 1),
    rule(CpuFeatures::PAUTH, SystemRegister::ID_AA64ISAR1_EL1, 8, 1),
    rule(CpuFeatures::PAUTH, SystemRegister::ID_AA64ISAR2_EL1, 12, 1),
    rule(CpuFeatures::RAS, SystemRegister::ID_AA64PFR0_EL1, 28, 1),
    rule(CpuFeatures::SCXTNUM, SystemRegister::ID_AA64PFR0_EL1, 56, 2),
    rule(CpuFeatures::SCXTNUM, SystemRegister::ID_AA64PFR1_EL1, 32, 2),
    rule(
        CpuFeatures::GIC_SYSTEM_REGISTERS,
        SystemRegister::ID_AA64PFR0_EL1,
        24,
        1,
    ),
    rule(CpuFeatures::AMU, SystemRegister::ID_AA64PFR0_EL1, 44, 1),
    rule(CpuFeatures::MPAM, SystemRegister::ID_AA64PFR0_EL1, 40, 1),
    rule(CpuFeatures::MPAM, SystemRegister::ID_AA64PFR1_EL1, 16, 1),
    rule(CpuFeatures::SME, SystemRegister::ID_AA64PFR1_EL1, 24, 1),
    rule(CpuFeatures::SSBS, SystemRegister::ID_AA64PFR1_EL1, 4, 1),
    rule(CpuFeatures::MTE, SystemRegister::ID_AA64PFR1_EL1, 8, 2),
    rule(CpuFeatures::PMU, SystemRegister::ID_AA64DFR0_EL1, 8, 1),
    rule(CpuFeatures::SPE, SystemRegister::ID_AA64DFR0_EL1, 32, 1),
    rule(
        CpuFeatures::TRACE_REGISTERS,
        SystemRegister::ID_AA64DFR0_EL1,
        4,
        1,
    ),
    rule(
        CpuFeatures::TRACE_FILTER,
        SystemRegister::ID_AA64DFR0_EL1,
        40,
        1,
    ),
    rule(
        CpuFeatures::FINE_GRAINED_TRAPS,
        SystemRegister::ID_AA64MMFR0_EL1,
        56,
        1,
    ),
    rule(
        CpuFeatures::FINE_GRAINED_TRAPS_2,
        SystemRegister::ID_AA64MMFR0_EL1,
        56,
        2,
    ),
    rule(CpuFeatures::LOR, SystemRegister::ID_AA64MMFR1_EL1, 16, 1),
    rule(CpuFeatures::PAN, SystemRegister::ID_AA64MMFR1_EL1, 20, 1),
    rule(CpuFeatures::HCRX, SystemRegister::ID_AA64MMFR1_EL1, 40, 1),
];

impl CpuFeatures {
    /// Reads the features out of a CPU's ID registers, which `read` supplies.
    ///
    /// ```
    /// use arm_vcpu::{CpuFeatures, SystemRegister};
    ///
    /// let neoverse_n1 = CpuFeatures::detect(|register| match register {
    ///     SystemRegister::ID_AA64PFR0_EL1 => 0x1100_0000_1111_1112,
    ///     _ => 0,
    /// });
    /// assert_eq!(
    ///     neoverse_n1,
    ///     CpuFeatures::RAS | CpuFeatures::GIC_SYSTEM_REGISTERS
    /// );
    /// ```
    #[must_use]
    pub fn detect(read: impl Fn(SystemRegister) -> u64) -> Self {
        RULES.iter().fold(Self::empty(), |found, rule| {
            let field = read(rule.register) >> rule.shift & 0xF;
            // PMUVer, and no other field here, uses 0xF for "not Arm's".
            if field >= rule.from && field != 0xF {
                found | rule.feature
            } else {
                found
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_whose_id_registers_are_zero_has_nothing_optional() {
        assert_eq!(CpuFeatures::detect(|_| 0), CpuFeatures::empty());
    }

    #[test]
    fn a_performance_monitor_not_by_arm_is_none() {
        let features = CpuFeatures::detect(|register| {
            if register == SystemRegister::ID_AA64DFR0_EL1 {
                0xF00
            } else {
                0
            }
        });
        assert_eq!(features, CpuFeatures::empty());
    }

    #[test]
    fn either_context_number_scheme_brings_the_registers() {
        let with = |wanted, value| {
            CpuFeatures::detect(move |register| if register == wanted { value } else { 0 })
        };
        let pfr0 = SystemRegister::ID_AA64PFR0_EL1;
        let pfr1 = SystemRegister::ID_AA64PFR1_EL1;
        assert_eq!(with(pfr0, 1 << 56), CpuFeatures::empty());
        assert_eq!(with(pfr0, 2 << 56), CpuFeatures::SCXTNUM);
        assert_eq!(with(pfr1, 2 << 32), CpuFeatures::SCXTNUM);
        assert_eq!(with(pfr1, 1 << 32), CpuFeatures::empty());
    }
}
