//! ID registers: all can be read, and what they deny is undefined.

use test_guests::runtime::code::{self, encoding, mrs};
use test_guests::runtime::probe::Fault;
use test_guests::{check, say, sysreg};

const PFR0: u32 = encoding(3, 0, 0, 4, 0);
const PFR1: u32 = encoding(3, 0, 0, 4, 1);
const DFR0: u32 = encoding(3, 0, 0, 5, 0);
const ISAR0: u32 = encoding(3, 0, 0, 6, 0);
const ISAR1: u32 = encoding(3, 0, 0, 6, 1);
const MMFR1: u32 = encoding(3, 0, 0, 7, 1);
const MMFR2: u32 = encoding(3, 0, 0, 7, 2);

/// What an ID field says about an instruction.
struct Feature {
    name: &'static str,
    register: u32,
    shift: u32,
    /// The lowest value that means present; 0xF never does.
    least: u64,
    instruction: u32,
    /// Whether a hypervisor that hides it has the means to make it undefined.
    hidden_is_undefined: bool,
}

const fn feature(name: &'static str, id: (u32, u32, u64), instruction: u32) -> Feature {
    let (register, shift, least) = id;
    Feature {
        name,
        register,
        shift,
        least,
        instruction,
        hidden_is_undefined: true,
    }
}

/// A feature whose instructions cannot be trapped.
const fn untrapped(name: &'static str, id: (u32, u32, u64), instruction: u32) -> Feature {
    let (register, shift, least) = id;
    Feature {
        name,
        register,
        shift,
        least,
        instruction,
        hidden_is_undefined: false,
    }
}

const FEATURES: [Feature; 26] = [
    feature("SVE", (PFR0, 32, 1), 0x04BF_5000),
    feature("SME", (PFR1, 24, 1), 0x04BF_5800),
    feature("MTE", (PFR1, 8, 2), mrs(encoding(3, 0, 1, 0, 6), 0)),
    feature("RAS", (PFR0, 28, 1), mrs(encoding(3, 0, 5, 3, 0), 0)),
    feature("AMU", (PFR0, 44, 1), mrs(encoding(3, 3, 13, 2, 1), 0)),
    feature("MPAM", (PFR0, 40, 1), mrs(encoding(3, 0, 10, 5, 0), 0)),
    feature("PMU", (DFR0, 8, 1), mrs(encoding(3, 3, 9, 12, 0), 0)),
    feature("PMU events", (DFR0, 8, 1), mrs(encoding(3, 3, 14, 8, 0), 0)),
    feature("SPE", (DFR0, 32, 1), mrs(encoding(3, 0, 9, 9, 7), 0)),
    feature(
        "trace buffer",
        (DFR0, 44, 1),
        mrs(encoding(3, 0, 9, 11, 7), 0),
    ),
    feature(
        "trace filter",
        (DFR0, 40, 1),
        mrs(encoding(3, 0, 1, 2, 1), 0),
    ),
    feature("trace unit", (DFR0, 4, 1), mrs(encoding(2, 1, 0, 0, 6), 0)),
    feature("BRBE", (DFR0, 52, 1), mrs(encoding(2, 1, 9, 0, 0), 0)),
    feature("LOR", (MMFR1, 16, 1), mrs(encoding(3, 0, 10, 4, 7), 0)),
    feature(
        "GIC registers",
        (PFR0, 24, 1),
        mrs(encoding(3, 0, 12, 12, 5), 0),
    ),
    untrapped("SCXTNUM", (PFR0, 56, 2), mrs(encoding(3, 0, 13, 0, 7), 0)),
    untrapped("DIT", (PFR0, 48, 1), mrs(encoding(3, 3, 4, 2, 5), 0)),
    untrapped("SSBS", (PFR1, 4, 2), mrs(encoding(3, 3, 4, 2, 6), 0)),
    untrapped("RNG", (ISAR0, 60, 1), mrs(encoding(3, 3, 2, 4, 0), 0)),
    untrapped("LSE", (ISAR0, 20, 2), 0x3820_0041),
    untrapped("CRC32", (ISAR0, 16, 1), 0x1AC0_4000),
    untrapped("AES", (ISAR0, 4, 1), 0x4E28_4820),
    untrapped("dot product", (ISAR0, 44, 1), 0x6E80_9400),
    untrapped("SB", (ISAR1, 36, 1), 0xD503_30FF),
    untrapped("PAN", (MMFR1, 20, 1), mrs(encoding(3, 0, 4, 2, 3), 0)),
    untrapped("UAO", (MMFR2, 4, 1), mrs(encoding(3, 0, 4, 2, 4), 0)),
];

/// Reads a register by its encoding.
pub(crate) fn read(register: u32) -> Result<u64, Fault> {
    let mut registers = [0; 30];
    code::run(&[mrs(register, 0)], &mut registers).map(|()| registers[0])
}

pub(crate) fn check_all() {
    every_id_register_reads();
    what_is_denied_is_undefined();
    el2_is_out_of_reach();
    super::pauth::check_round_trips();
}

fn every_id_register_reads() {
    // The identification space: reserved ones read as zero.
    for crm in 1..8 {
        for op2 in 0..8 {
            let value = read(encoding(3, 0, 0, crm, op2));
            check!(value.is_ok(), "S3_0_C0_C{crm}_{op2} ends in {value:?}");
        }
    }
    say!(
        "MIDR {:#x} MPIDR {:#x}",
        sysreg!("midr_el1"),
        sysreg!("mpidr_el1")
    );
    for (name, register) in [
        ("PFR0", PFR0),
        ("PFR1", PFR1),
        ("DFR0", DFR0),
        ("ISAR0", ISAR0),
        ("ISAR1", ISAR1),
        ("MMFR0", encoding(3, 0, 0, 7, 0)),
        ("MMFR1", MMFR1),
        ("MMFR2", MMFR2),
    ] {
        say!("ID_AA64{name}_EL1 {:#018x}", read(register).unwrap_or(0));
    }
    // FP and SIMD are there, EL1 is 64-bit.
    let pfr0 = read(PFR0).unwrap_or(0);
    check!(pfr0 >> 4 & 0xF != 0, "no EL1 in ID_AA64PFR0_EL1");
    check!(pfr0 >> 16 & 0xFF != 0xFF, "no FP in ID_AA64PFR0_EL1");
}

fn what_is_denied_is_undefined() {
    static SCRATCH: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);
    // SVE and SME are not trapped to EL1 itself.
    let cpacr = sysreg!("cpacr_el1");
    sysreg!("cpacr_el1", cpacr | 3 << 24 | 3 << 16);
    for feature in &FEATURES {
        let field = read(feature.register).unwrap_or(0) >> feature.shift & 0xF;
        let present = field >= feature.least && field != 0xF;
        let mut registers = [0; 30];
        registers[2] = core::ptr::from_ref(&SCRATCH) as u64;
        let outcome = code::run(&[feature.instruction], &mut registers);
        let name = feature.name;
        match outcome {
            Ok(()) if present => {}
            Ok(()) => check!(!feature.hidden_is_undefined, "{name} is denied but there"),
            Err(fault) if present => check!(false, "{name} is shown but ends in {fault:?}"),
            Err(fault) => {
                check!(
                    fault.class() == Fault::UNDEFINED,
                    "{name} is denied: {fault:?}"
                );
            }
        }
        if present {
            say!("{name} is there");
        }
    }
    sysreg!("cpacr_el1", cpacr);
}

/// All registers of EL2 and EL3 are undefined at EL1.
fn el2_is_out_of_reach() {
    for op1 in [4, 6] {
        for (crn, crm, op2) in [
            (0, 0, 0),
            (0, 0, 5),
            (1, 0, 0),
            (1, 1, 0),
            (2, 0, 0),
            (2, 1, 2),
            (6, 0, 4),
            (12, 0, 0),
        ] {
            let outcome = read(encoding(3, op1, crn, crm, op2));
            let class = outcome.err().map(|fault| fault.class());
            check!(
                class == Some(Fault::UNDEFINED),
                "S3_{op1}_C{crn}_C{crm}_{op2} ends in {outcome:?}"
            );
        }
    }
    for register in [encoding(3, 4, 12, 11, 0), encoding(3, 4, 12, 12, 0)] {
        check!(read(register).is_err(), "a GIC hypervisor register answers");
    }
}
