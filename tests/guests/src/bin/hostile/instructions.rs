//! Odd instructions, and ordinary ones in odd places.

use test_guests::runtime::code::{self, ISB, NOP};
use test_guests::runtime::mmu::{self, Kind};
use test_guests::runtime::{machine, probe::Fault, random::Random, smccc};
use test_guests::{check, check_eq, say};

pub(crate) fn check_all() {
    exceptions_of_every_kind();
    illegal_returns();
    hints();
    memory_operations();
    random_words();
}

/// `hlt`, `brk`, `dcps1`–`3`, `udf`, and the unallocated neighbours of HVC and
/// SMC.
fn exceptions_of_every_kind() {
    let mut faults = 0;
    for opcode in 0..8 {
        for kind in 0..4 {
            for immediate in [0, 1, 0xF000, 0xFFFF] {
                let word = 0xD400_0000 | opcode << 21 | immediate << 5 | kind;
                // HVC and SMC have their own tests; SVC is our own affair.
                if opcode == 0 && kind != 0 {
                    continue;
                }
                let outcome = code::run(&[word], &mut [0; 30]);
                check!(outcome.is_err(), "{word:#010x} does nothing");
                faults += 1;
            }
        }
    }
    for word in [0, 1, 0xFFFF, 0xD69F_03E0, 0xD6BF_03E0] {
        let sequence = [MSR_ELR_X0, MSR_SPSR_X1, ISB, word];
        // ELR and SPSR: an address that faults, EL1h with all masked.
        let mut registers = [0; 30];
        registers[0] = machine::ram_end();
        registers[1] = 0x3C5;
        let outcome = code::run(&sequence, &mut registers);
        check!(outcome.is_err(), "{word:#010x} does nothing");
    }
    say!("exceptions: {faults} taken");
}

/// `msr elr_el1, x0`.
const MSR_ELR_X0: u32 = code::msr(code::encoding(3, 0, 4, 0, 1), 0);
/// `msr spsr_el1, x1`.
const MSR_SPSR_X1: u32 = code::msr(code::encoding(3, 0, 4, 0, 0), 1);
/// `eret`.
const ERET: u32 = 0xD69F_03E0;

/// ERET to EL2, EL3, reserved modes, AArch32: an illegal state, in which the
/// next instruction faults, or a lower level whose first fetch faults.
fn illegal_returns() {
    let mut classes = 0_u64;
    let mut random = Random::new(5);
    let modes = (0..32).chain((0..200).map(|_| random.draw() & 0xFFFF_FFFF));
    for mode in modes {
        // EL1t and EL1h, legally: would go on here.
        let masked = mode | 0x3C0;
        let legal = masked & 0x10 == 0 && matches!(masked & 0xF, 4 | 5) && masked & 1 << 20 == 0;
        if legal || masked & 1 << 21 != 0 {
            continue;
        }
        let mut registers = [0; 30];
        registers[1] = masked;
        let sequence = [ADR_X0_20, MSR_ELR_X0, MSR_SPSR_X1, ISB, ERET, NOP];
        match code::run(&sequence, &mut registers) {
            Ok(()) => check!(false, "a return to state {masked:#x} goes on"),
            Err(fault) => {
                classes |= 1 << fault.class();
                let illegal = matches!(masked & 0x1F, 8..=15);
                if illegal {
                    check_eq!(fault.class(), Fault::ILLEGAL_STATE, "return to {masked:#x}");
                }
            }
        }
    }
    // An illegal return leaves PSTATE.IL to whatever comes next: a call.
    let mut registers = [0; 30];
    registers[1] = 0x3C9;
    let mut sequence = [ADR_X0_20, MSR_ELR_X0, MSR_SPSR_X1, ISB, ERET, 0xD400_0002];
    for call in [0xD400_0002, 0xD400_0003, 0xD53B_E040] {
        sequence[5] = call;
        let fault = code::run(&sequence, &mut registers.clone()).err();
        check_eq!(
            fault.map(|fault| fault.class()),
            Some(Fault::ILLEGAL_STATE),
            "{call:#x} in an illegal state"
        );
    }
    check_eq!(
        smccc::psci(smccc::PSCI_VERSION, [0; 3]) > 0,
        true,
        "PSCI after illegal states"
    );
    say!("illegal returns: exception classes {classes:#x}");
}

/// `adr x0, .+20`.
const ADR_X0_20: u32 = 0x1000_00A0;

/// All hints but WFE and WFI, and all barriers.
fn hints() {
    for number in 0..128 {
        if matches!(number, 2 | 3) {
            continue;
        }
        // Pointer authentication may spoil x30: return through x15.
        let hint = 0xD503_201F | number << 5;
        let sequence = [MOV_X15_X30, hint, RET_X15];
        let _ = code::run(&sequence, &mut [0; 30]);
    }
    for number in 0..128 {
        let _ = code::run(&[0xD503_301F | number << 5], &mut [0; 30]);
    }
}

/// `mov x15, x30`.
const MOV_X15_X30: u32 = 0xAA1E_03EF;
/// `ret x15`.
const RET_X15: u32 = 0xD65F_01E0;

/// Every kind of load and store, on device registers, holes and the space
/// beyond RAM: exclusives, atomics, pairs, SIMD, write-back, unprivileged.
fn memory_operations() {
    const OPERATIONS: [(&str, u32); 44] = [
        ("LDXR", 0xC85F_7C40),
        ("LDAXRB", 0x085F_FC40),
        ("STXR", 0xC803_7C40),
        ("STLXRH", 0x4803_FC40),
        ("LDXP", 0xC87F_0440),
        ("STXP", 0xC823_0440),
        ("LDAR", 0xC8DF_FC40),
        ("STLR", 0xC89F_FC40),
        ("LDLAR", 0xC8DF_7C40),
        ("LDAPR", 0xF8BF_C040),
        ("LDAPUR", 0xD940_0040),
        ("LDADDAL", 0xF8E3_0040),
        ("LDCLR W", 0xB823_1040),
        ("LDSETB", 0x3823_3040),
        ("SWPAL", 0xF8E3_8040),
        ("STADD", 0xF823_005F),
        ("CASAL", 0xC8E3_FC40),
        ("CASB", 0x08A3_7C40),
        ("CASPAL", 0x4864_FC40),
        ("LDP X post", 0xA8C1_0440),
        ("STP X pre", 0xA9BF_0440),
        ("LDPSW", 0x6940_0440),
        ("LDNP", 0xA840_0440),
        ("LDTR", 0xF840_0840),
        ("STTR", 0xF800_0840),
        ("LDRSB W post", 0x38C0_1440),
        ("LDR X pre", 0xF840_8C40),
        ("STR X post", 0xF800_8440),
        ("LDR Q", 0x3DC0_0040),
        ("STR Q", 0x3D80_0040),
        ("LDR B post", 0x3C40_1440),
        ("STP Q", 0xAD00_0440),
        ("LDP D pre", 0x6DC1_0440),
        ("LD1 4 registers", 0x4C40_2040),
        ("ST4", 0x4C00_0040),
        ("LD1R", 0x4D40_CC40),
        ("ST1 lane post", 0x4D9F_8040),
        ("PRFM", 0xF980_0040),
        ("LDRAA", 0xF820_0440),
        ("DC ZVA", 0xD50B_7422),
        ("DC CIVAC", 0xD50B_7E22),
        ("DC IVAC", 0xD508_7622),
        ("IC IVAU", 0xD50B_7522),
        ("AT S1E1W", 0xD508_7822),
    ];
    let (mut done, mut faults) = (0, 0);
    let places = [
        0x0800_0000,
        0x0800_0104,
        0x0800_6800,
        0x080A_0008,
        0x080B_0100,
        0x0900_0FE0,
        0x0901_0004,
        0x0A00_0000,
        0x0A00_0004,
        0x0A00_0100,
        0x0B00_0000,
        0x3FFF_FFF0,
        machine::ram_end(),
        machine::ram_end() + 0x100_0000,
        1 << 40,
    ];
    for physical in places {
        for kind in [Kind::Device, Kind::Uncached, Kind::Cached] {
            for offset in [0, 1, 5] {
                let place = mmu::window(physical, kind) + offset;
                for (_, word) in OPERATIONS {
                    let mut registers = [0; 30];
                    registers[2] = place;
                    match code::run(&[word], &mut registers) {
                        Ok(()) => done += 1,
                        Err(_) => faults += 1,
                    }
                }
            }
        }
    }
    super::interrupts::recover("odd loads and stores");
    say!("odd loads and stores: {done} done, {faults} faults");
}

/// Words at random in the load and store space, the base at a device. Whatever
/// does not name x2 as its base is made to.
fn random_words() {
    let mut random = Random::new(6);
    let (mut done, mut faults) = (0, 0);
    let mut registers = [0; 30];
    for _ in 0..20_000 {
        #[expect(clippy::cast_possible_truncation, reason = "an instruction is 32 bits")]
        let word = random.draw() as u32;
        // x1x0: loads and stores; base x2, index x3, never x30 as a target.
        let word = word & !(1 << 25) | 1 << 27;
        let word = word & !(0x1F << 5) | 2 << 5;
        // A literal load has no base, and MTE's tags no business here.
        let literal = word & 0x3B00_0000 == 0x1800_0000;
        if literal || word & 0x1F == 30 || word >> 10 & 0x1F == 30 || word >> 16 & 0x1F == 30 {
            continue;
        }
        registers.fill(0);
        registers[2] = 0x0901_0000;
        match code::run(&[word], &mut registers) {
            Ok(()) => done += 1,
            Err(_) => faults += 1,
        }
    }
    say!("random loads and stores: {done} done, {faults} faults");
}
