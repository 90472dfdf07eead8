//! What a guest may know: an allow-list by field.
//!
//! A field is here if what it announces needs nothing of EL2, or if this crate
//! virtualises it; the limit is the highest value for which that is so. What is
//! not here reads as zero, which in nearly every field means "not implemented".
//! `Is` covers the others.

use super::SystemRegister as R;

/// Says what becomes of the four-bit field at a shift.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// An unsigned field: the host's value, but at most this.
    AtMost(u32, u64),
    /// A signed field, where 0xF means "not implemented" and 0 means that it
    /// is: the host's value, but at most this.
    SignedAtMost(u32, u64),
    /// Always this, whatever the host has.
    Is(u32, u64),
}

use Rule::{AtMost, Is, SignedAtMost};

/// Every value of the field is harmless.
const ANY: u64 = 0xF;

/// The shift of ID_AA64PFR0_EL1.EL0.
pub(super) const EL0: u32 = 0;
/// The shift of ID_AA64MMFR0_EL1.PARange.
pub(super) const PA_RANGE: u32 = 0;

/// A register whose fields are all harmless.
const MIRROR: &[Rule] = &[
    AtMost(0, ANY),
    AtMost(4, ANY),
    AtMost(8, ANY),
    AtMost(12, ANY),
    AtMost(16, ANY),
    AtMost(20, ANY),
    AtMost(24, ANY),
    AtMost(28, ANY),
];

pub(super) const POLICY: &[(R, &[Rule])] = &[
    (R::ID_AA64PFR0_EL1, AA64PFR0),
    (R::ID_AA64PFR1_EL1, AA64PFR1),
    (R::ID_AA64DFR0_EL1, AA64DFR0),
    (R::ID_AA64ISAR0_EL1, AA64ISAR0),
    (R::ID_AA64ISAR1_EL1, AA64ISAR1),
    (R::ID_AA64ISAR2_EL1, AA64ISAR2),
    (R::ID_AA64MMFR0_EL1, AA64MMFR0),
    (R::ID_AA64MMFR1_EL1, AA64MMFR1),
    (R::ID_AA64MMFR2_EL1, AA64MMFR2),
    // AArch32, which EL0 may have.
    (R::ID_PFR0_EL1, PFR0),
    (R::ID_PFR1_EL1, PFR1),
    (R::ID_PFR2_EL1, PFR2),
    (R::ID_DFR0_EL1, DFR0),
    (R::ID_MMFR0_EL1, MIRROR),
    (R::ID_MMFR1_EL1, MIRROR),
    (R::ID_MMFR2_EL1, MIRROR),
    (R::ID_MMFR3_EL1, MIRROR),
    (R::ID_MMFR4_EL1, MMFR4),
    (R::ID_MMFR5_EL1, MMFR5),
    (R::ID_ISAR0_EL1, MIRROR),
    (R::ID_ISAR1_EL1, MIRROR),
    (R::ID_ISAR2_EL1, MIRROR),
    (R::ID_ISAR3_EL1, MIRROR),
    (R::ID_ISAR4_EL1, MIRROR),
    (R::ID_ISAR5_EL1, MIRROR),
    (R::ID_ISAR6_EL1, ISAR6),
    (R::MVFR0_EL1, MIRROR),
    (R::MVFR1_EL1, MIRROR),
    (R::MVFR2_EL1, MIRROR),
];

/// Not here: EL2 and EL3, RAS, SVE, SEL2, MPAM, AMU, RME.
const AA64PFR0: &[Rule] = &[
    AtMost(EL0, 2),
    // EL1: AArch64 only.
    Is(4, 1),
    // FP and AdvSIMD.
    SignedAtMost(16, 1),
    SignedAtMost(20, 1),
    // GIC: system registers of GICv3 and GICv4.0.
    AtMost(24, 1),
    // DIT.
    AtMost(48, 1),
    // CSV2: 2 would bring SCXTNUM_ELx.
    AtMost(56, 1),
    // CSV3.
    AtMost(60, 1),
];

/// Not here: MTE, RAS_frac, MPAM_frac, SME, RNDR_trap, NMI, GCS, THE, DF2, PFAR.
const AA64PFR1: &[Rule] = &[
    // BT.
    AtMost(0, 1),
    // SSBS.
    AtMost(4, 2),
    // CSV2_frac: 2 would bring SCXTNUM_ELx.
    AtMost(32, 1),
];

/// Not here: trace, PMU, SPE, BRBE, TRBE.
const AA64DFR0: &[Rule] = &[
    // DebugVer: at least Armv8.0's, at most Armv8.4's. Later ones select banks
    // of breakpoints.
    AtMost(0, 9),
    // BRPs, WRPs and CTX_CMPs.
    AtMost(12, ANY),
    AtMost(20, ANY),
    AtMost(28, ANY),
    // DoubleLock: not implemented.
    Is(36, 0xF),
];

/// Not here: TME.
const AA64ISAR0: &[Rule] = &[
    // AES, SHA1, SHA2, CRC32.
    AtMost(4, 2),
    AtMost(8, 1),
    AtMost(12, 2),
    AtMost(16, 1),
    // Atomic: 3 would bring 128-bit atomics.
    AtMost(20, 2),
    // RDM, SHA3, SM3, SM4, DP, FHM, TS.
    AtMost(28, 1),
    AtMost(32, 1),
    AtMost(36, 1),
    AtMost(40, 1),
    AtMost(44, 1),
    AtMost(48, 1),
    AtMost(52, 2),
    // TLB: outer shareable and range maintenance.
    AtMost(56, 2),
    // RNDR.
    AtMost(60, 1),
];

/// The highest algorithm of pointer authentication without FEAT_PAuth_LR.
const PAUTH: u64 = 5;

/// Not here: LS64.
const AA64ISAR1: &[Rule] = &[
    // DPB.
    AtMost(0, 2),
    // APA and API.
    AtMost(4, PAUTH),
    AtMost(8, PAUTH),
    // JSCVT, FCMA.
    AtMost(12, 1),
    AtMost(16, 1),
    // LRCPC: 3 has more load and store forms than the decoder.
    AtMost(20, 2),
    // GPA and GPI.
    AtMost(24, 1),
    AtMost(28, 1),
    // FRINTTS, SB.
    AtMost(32, 1),
    AtMost(36, 1),
    // SPECRES: 2 would bring COSP RCTX.
    AtMost(40, 1),
    // BF16, DGH, I8MM, XS.
    AtMost(44, 2),
    AtMost(48, 1),
    AtMost(52, 1),
    AtMost(56, 1),
];

/// Not here: WFxT, SYSREG_128, SYSINSTR_128, LUT, ATS1A.
const AA64ISAR2: &[Rule] = &[
    // RPRES.
    AtMost(4, 1),
    // GPA3 and APA3.
    AtMost(8, 1),
    AtMost(12, PAUTH),
    // MOPS; works with HCRX_EL2.MSCEn set.
    AtMost(16, 1),
    // BC, PAC_frac, CLRBHB.
    AtMost(20, 1),
    AtMost(24, 1),
    AtMost(28, 1),
    // PRFMSLC, RPRFM, CSSC.
    AtMost(40, 1),
    AtMost(48, 1),
    AtMost(52, 1),
];

/// Not here: SNSMem, stage-2 granules, FGT, ECV.
const AA64MMFR0: &[Rule] = &[
    // PARange, capped further for each guest; 48 bits.
    AtMost(PA_RANGE, 5),
    // ASIDBits, BigEnd.
    AtMost(4, 2),
    AtMost(8, 1),
    // BigEndEL0.
    AtMost(16, 1),
    // TGran16, TGran64, TGran4, without 52-bit addresses.
    AtMost(20, 1),
    SignedAtMost(24, 0),
    SignedAtMost(28, 0),
    // ExS.
    AtMost(44, 1),
];

/// Not here: VH, LO, SpecSEI, TWED, HCX, CMOW.
const AA64MMFR1: &[Rule] = &[
    // HAFDBS: access flag and dirty state.
    AtMost(0, 2),
    // VMIDBits.
    AtMost(4, 2),
    // HPDS, PAN, XNX.
    AtMost(12, 2),
    AtMost(20, 3),
    AtMost(28, 1),
    // ETS, AFP, nTLBPA, TIDCP1, ECBHB.
    AtMost(36, 3),
    AtMost(44, 1),
    AtMost(48, 1),
    AtMost(52, 1),
    AtMost(60, 1),
];

/// Not here: IESB, VARange, NV, FWB, EVT.
const AA64MMFR2: &[Rule] = &[
    // CnP, UAO, LSM.
    AtMost(0, 1),
    AtMost(4, 1),
    AtMost(8, 1),
    // CCIDX: the format of CCSIDR_EL1, which is the host's.
    AtMost(20, 1),
    // ST, AT, IDS.
    AtMost(28, 1),
    AtMost(32, 1),
    AtMost(36, 1),
    // TTL, BBM, E0PD.
    AtMost(48, 1),
    AtMost(52, 2),
    AtMost(60, 1),
];

/// Not here: AMU, RAS.
const PFR0: &[Rule] = &[
    // State0 to State3.
    AtMost(0, ANY),
    AtMost(4, ANY),
    AtMost(8, ANY),
    AtMost(12, ANY),
    // CSV2, DIT.
    AtMost(16, 1),
    AtMost(24, 1),
];

/// Not here: Security, Virtualization and their fractions.
const PFR1: &[Rule] = &[
    // ProgMod, MProgMod.
    AtMost(0, 1),
    AtMost(8, 2),
    // GenTimer, GIC.
    AtMost(16, 2),
    AtMost(28, 1),
];

/// Not here: RAS_frac.
const PFR2: &[Rule] = &[
    // CSV3, SSBS.
    AtMost(0, 1),
    AtMost(4, 1),
];

/// Not here: CopSDbg, trace, PerfMon.
const DFR0: &[Rule] = &[
    // CopDbg, as DebugVer.
    AtMost(0, 9),
];

/// Not here: SpecSEI, EVT.
const MMFR4: &[Rule] = &[
    // AC2, XNX, CnP, HPDS, LSM, CCIDX.
    AtMost(4, 1),
    AtMost(8, 1),
    AtMost(12, 1),
    AtMost(16, 2),
    AtMost(20, 1),
    AtMost(24, 1),
];

const MMFR5: &[Rule] = &[
    // ETS, nTLBPA.
    AtMost(0, 3),
    AtMost(4, 1),
];

/// Not here: CLRBHB and later.
const ISAR6: &[Rule] = &[
    // JSCVT, DP, FHM, SB, SPECRES, BF16, I8MM.
    AtMost(0, 1),
    AtMost(4, 1),
    AtMost(8, 1),
    AtMost(12, 1),
    AtMost(16, 1),
    AtMost(20, 1),
    AtMost(24, 1),
];
