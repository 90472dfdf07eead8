//! Sanitises ID registers of real and of imaginary CPUs.

use arm_vcpu::{CpuFeatures, IdRegisters, SystemRegister as R};
use proptest::prelude::*;

const fn field(value: u64, shift: u32) -> u64 {
    value >> shift & 0xF
}

fn read(ids: &IdRegisters, register: R) -> u64 {
    ids.read(register).expect("an ID register")
}

/// All registers that are answered.
fn space() -> impl Iterator<Item = R> {
    (1..8).flat_map(|crm| (0..8).map(move |op2| R::new(3, 0, 0, crm, op2)))
}

/// A host all of whose fields have the same value.
fn uniform(field: u64) -> IdRegisters {
    IdRegisters::new(|_| field * 0x1111_1111_1111_1111, 48)
}

/// The shifts of fields that are hidden and read as zero then.
const HIDDEN: &[(R, &str, &[u32])] = &[
    // EL2, EL3, RAS, SVE, SEL2, MPAM, AMU, RME.
    (R::ID_AA64PFR0_EL1, "PFR0", &[8, 12, 28, 32, 36, 40, 44, 52]),
    // MTE, RAS_frac, MPAM_frac, SME, RNDR_trap, NMI, MTE_frac, GCS, THE, MTEX,
    // DF2, PFAR.
    (
        R::ID_AA64PFR1_EL1,
        "PFR1",
        &[8, 12, 16, 24, 28, 36, 40, 44, 48, 52, 56, 60],
    ),
    // TraceVer, PMUVer, PMSS, SEBEP, PMSVer, TraceFilt, TraceBuffer, MTPMU,
    // BRBE, ExtTrcBuff, HPMN0.
    (
        R::ID_AA64DFR0_EL1,
        "DFR0",
        &[4, 8, 16, 24, 32, 40, 44, 48, 52, 56, 60],
    ),
    // TME.
    (R::ID_AA64ISAR0_EL1, "ISAR0", &[24]),
    // LS64.
    (R::ID_AA64ISAR1_EL1, "ISAR1", &[60]),
    // WFxT, SYSREG_128, SYSINSTR_128, LUT, ATS1A.
    (R::ID_AA64ISAR2_EL1, "ISAR2", &[0, 32, 36, 56, 60]),
    // SNSMem, TGran16_2, TGran64_2, TGran4_2, FGT, ECV.
    (R::ID_AA64MMFR0_EL1, "MMFR0", &[12, 32, 36, 40, 56, 60]),
    // VH, LO, SpecSEI, TWED, HCX, CMOW.
    (R::ID_AA64MMFR1_EL1, "MMFR1", &[8, 16, 24, 32, 40, 56]),
    // IESB, VARange, NV, FWB, EVT.
    (R::ID_AA64MMFR2_EL1, "MMFR2", &[12, 16, 24, 40, 56]),
    // RAS and AMU of AArch32.
    (R::ID_PFR0_EL1, "AArch32 PFR0", &[20, 28]),
    // Security, Virtualization, Sec_frac, Virt_frac.
    (R::ID_PFR1_EL1, "AArch32 PFR1", &[4, 12, 20, 24]),
    // CopSDbg, CopTrc, MMapTrc, MProfDbg, PerfMon, TraceFilt.
    (R::ID_DFR0_EL1, "AArch32 DFR0", &[4, 8, 12, 16, 20, 24, 28]),
];

/// Registers that read as zero whatever the host has.
const HIDDEN_REGISTERS: &[R] = &[
    R::ID_AA64PFR2_EL1,
    R::ID_AA64ZFR0_EL1,
    R::ID_AA64SMFR0_EL1,
    R::ID_AA64FPFR0_EL1,
    R::ID_AA64DFR1_EL1,
    R::ID_AA64DFR2_EL1,
    R::ID_AA64AFR0_EL1,
    R::ID_AA64AFR1_EL1,
    R::ID_AA64ISAR3_EL1,
    R::ID_AA64MMFR3_EL1,
    R::ID_AA64MMFR4_EL1,
    R::ID_AFR0_EL1,
    R::ID_DFR1_EL1,
];

/// Fields that do not grow with what a CPU has, or are set to a value of ours.
/// TGran64 and TGran4 and FP and AdvSIMD are signed.
fn is_unsigned(register: R, shift: u32) -> bool {
    !matches!(
        (register, shift),
        (R::ID_AA64PFR0_EL1, 4 | 16 | 20)
            | (R::ID_AA64DFR0_EL1, 36)
            | (R::ID_AA64MMFR0_EL1, 24 | 28)
    )
}

#[test]
fn a_guest_of_a_cortex_a53_sees_nearly_all_of_it() {
    // As its Technical Reference Manual gives them, with AArch32 and the GIC
    // interface on.
    let ids = IdRegisters::new(
        |register| match register {
            R::ID_AA64PFR0_EL1 => 0x0000_0000_0100_2222,
            R::ID_AA64DFR0_EL1 => 0x0000_0000_1030_5106,
            R::ID_AA64ISAR0_EL1 => 0x0000_0000_0001_1120,
            R::ID_AA64MMFR0_EL1 => 0x0000_0000_0000_1122,
            R::ID_ISAR5_EL1 => 0x0001_1121,
            R::ID_PFR1_EL1 => 0x1001_1011,
            _ => 0,
        },
        40,
    );
    assert_eq!(read(&ids, R::ID_AA64PFR0_EL1), 0x0100_0012);
    // No PMU and no double lock.
    assert_eq!(read(&ids, R::ID_AA64DFR0_EL1), 0xF0_1030_5006);
    assert_eq!(read(&ids, R::ID_AA64ISAR0_EL1), 0x0001_1120);
    // No secure memory.
    assert_eq!(read(&ids, R::ID_AA64MMFR0_EL1), 0x0000_0122);
    assert_eq!(read(&ids, R::ID_ISAR5_EL1), 0x0001_1121);
    assert_eq!(read(&ids, R::ID_PFR1_EL1), 0x1001_0001);
}

#[test]
fn hidden_fields_and_registers_read_as_zero() {
    for value in [1, 2, 7, 15] {
        let ids = uniform(value);
        for (register, name, shifts) in HIDDEN {
            for shift in *shifts {
                let seen = field(read(&ids, *register), *shift);
                assert_eq!(seen, 0, "{name} at {shift}, host has {value}");
            }
        }
        for register in HIDDEN_REGISTERS {
            assert_eq!(read(&ids, *register), 0, "{register}");
        }
    }
}

#[test]
fn el1_is_aarch64_only_and_there_is_no_level_above() {
    for value in [1, 2] {
        let pfr0 = read(&uniform(value), R::ID_AA64PFR0_EL1);
        assert_eq!(pfr0 & 0xFFF0, 0x0010);
        assert_eq!(field(pfr0, 0), value, "EL0 is the host's");
    }
}

#[test]
fn aarch32_is_described_only_where_el0_has_it() {
    let aarch32 = |ids: &IdRegisters| {
        let mut described = space().filter(|register| register.crm() < 4);
        described.any(|register| read(ids, register) != 0)
    };
    assert!(aarch32(&uniform(2)));
    assert!(!aarch32(&uniform(1)));
}

#[test]
fn missing_floating_point_stays_missing() {
    let pfr0 = read(&uniform(0xF), R::ID_AA64PFR0_EL1);
    assert_eq!((field(pfr0, 16), field(pfr0, 20)), (0xF, 0xF));
    let pfr0 = read(&uniform(2), R::ID_AA64PFR0_EL1);
    assert_eq!((field(pfr0, 16), field(pfr0, 20)), (1, 1));
}

#[test]
fn granules_keep_their_meaning_without_52_bit_addresses() {
    // TGran64 0xF and TGran4 0xF: not implemented. TGran4 1: with 52 bits.
    let granules = |mmfr0: u64| {
        let host = move |register| {
            if register == R::ID_AA64MMFR0_EL1 {
                mmfr0
            } else {
                0
            }
        };
        read(&IdRegisters::new(host, 48), R::ID_AA64MMFR0_EL1) >> 20 & 0xFFF
    };
    assert_eq!(granules(0xFF00_0005), 0xFF0);
    assert_eq!(granules(0x1020_0006), 0x001);
    assert_eq!(granules(0x0010_0002), 0x001);
}

#[test]
fn the_physical_address_size_fits_the_guest_and_the_host() {
    let range = |host: u64, ipa_bits| {
        let host = move |register| {
            if register == R::ID_AA64MMFR0_EL1 {
                host
            } else {
                0
            }
        };
        field(
            read(&IdRegisters::new(host, ipa_bits), R::ID_AA64MMFR0_EL1),
            0,
        )
    };
    assert_eq!(range(5, 40), 2);
    assert_eq!(range(5, 41), 2, "the next lower size");
    assert_eq!(range(1, 40), 1, "the host has only 36 bits");
    assert_eq!(range(6, 64), 5, "never 52 bits");
    assert_eq!(range(5, 0), 0);
}

#[test]
fn context_numbers_are_never_announced() {
    // CSV2 = 2 and CSV2_frac = 2 come with SCXTNUM_ELx.
    let ids = uniform(3);
    assert_eq!(field(read(&ids, R::ID_AA64PFR0_EL1), 56), 1);
    assert_eq!(field(read(&ids, R::ID_AA64PFR1_EL1), 32), 1);
}

#[test]
fn only_the_space_of_id_registers_is_answered() {
    let ids = uniform(1);
    for register in space() {
        assert!(ids.read(register).is_some(), "{register}");
    }
    for register in [
        R::MIDR_EL1,
        R::MPIDR_EL1,
        R::REVIDR_EL1,
        R::new(3, 0, 0, 8, 0),
        R::new(3, 0, 0, 15, 7),
        R::new(3, 1, 0, 4, 0),
        R::new(2, 0, 0, 4, 0),
        R::CTR_EL0,
        R::ACTLR_EL1,
    ] {
        assert_eq!(ids.read(register), None, "{register}");
    }
}

#[test]
fn what_a_guest_sees_contains_no_feature_whose_registers_are_not_switched() {
    let ids = uniform(1);
    let visible = CpuFeatures::detect(|register| read(&ids, register));
    assert_eq!(
        visible,
        CpuFeatures::PAUTH
            | CpuFeatures::GIC_SYSTEM_REGISTERS
            | CpuFeatures::PAN
            | CpuFeatures::SSBS
    );
}

#[test]
fn the_default_is_a_bare_cpu() {
    let ids = IdRegisters::default();
    assert_eq!(read(&ids, R::ID_AA64PFR0_EL1), 0x11);
    assert_eq!(read(&ids, R::ID_AA64DFR0_EL1), 0xF0_0000_0006);
    assert_eq!(read(&ids, R::ID_AA64MMFR0_EL1), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_field_exceeds_the_hosts(values: [u64; 32], more: [u64; 32], ipa_bits in 32..64_u32) {
        let host = |register: R| {
            let index = usize::from((register.crm() & 7) * 8 + register.op2());
            let all = values.iter().chain(&more);
            all.copied().nth(index).unwrap_or(0)
        };
        let ids = IdRegisters::new(host, ipa_bits);
        for register in space() {
            let guest = read(&ids, register);
            for shift in (0..64).step_by(4) {
                if is_unsigned(register, shift) {
                    prop_assert!(
                        field(guest, shift) <= field(host(register), shift),
                        "{} at {}", register, shift
                    );
                }
            }
        }
        for (register, name, shifts) in HIDDEN {
            for shift in *shifts {
                prop_assert_eq!(field(read(&ids, *register), *shift), 0, "{}", name);
            }
        }
        let again = IdRegisters::new(|register| read(&ids, register), ipa_bits);
        prop_assert_eq!(again, ids, "a guest of the guest sees the same");
    }
}
