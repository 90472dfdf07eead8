//! Pointer authentication, where it is shown.

use test_guests::runtime::code::{self, ISB, encoding, msr};
use test_guests::{check, check_eq, say, sysreg};

use super::features::read;

const ISAR1: u32 = encoding(3, 0, 0, 6, 1);
const ISAR2: u32 = encoding(3, 0, 0, 6, 2);
const SCTLR: u32 = encoding(3, 0, 1, 0, 0);
const EN_IA: u64 = 1 << 31;
/// `pacia x4, x5`.
const PACIA: u32 = 0xDAC1_00A4;
/// `autia x4, x5`.
const AUTIA: u32 = 0xDAC1_10A4;
/// `hvc #0`.
const HVC: u32 = 0xD400_0002;

/// Tells whether addresses can be authenticated.
pub(crate) fn is_shown() -> bool {
    let isar1 = read(ISAR1).unwrap_or(0);
    let isar2 = read(ISAR2).unwrap_or(0);
    isar1 >> 4 & 0xFF != 0 || isar2 >> 12 & 0xF != 0
}

/// Signs, makes a hypercall, authenticates: the keys must still be there.
pub(crate) fn check_round_trips() {
    if !is_shown() {
        let key = read(encoding(3, 0, 2, 1, 0));
        check!(
            key.is_err(),
            "pointer authentication is denied, its keys are there"
        );
        return;
    }
    say!("pointer authentication is there");
    for (half, value) in (0..).zip([0x0123_4567_89AB_CDEF_u64, 0xFEDC_BA98_7654_3210]) {
        let mut registers = [0; 30];
        registers[0] = value;
        let outcome = code::run(&[msr(encoding(3, 0, 2, 1, half), 0), ISB], &mut registers);
        check_eq!(outcome, Ok(()), "key half {half}");
    }
    let pointer = 0x4020_0000;
    let mut registers = [0; 30];
    registers[0] = 0x8400_0000;
    registers[4] = pointer;
    registers[5] = 0x1234_5678;
    registers[10] = sysreg!("sctlr_el1") | EN_IA;
    registers[11] = sysreg!("sctlr_el1");
    // `mov x6, x4` keeps the signed pointer.
    let sequence = [
        msr(SCTLR, 10),
        ISB,
        PACIA,
        0xAA04_03E6,
        HVC,
        AUTIA,
        msr(SCTLR, 11),
        ISB,
    ];
    let outcome = code::run(&sequence, &mut registers);
    check_eq!(outcome, Ok(()), "signing and authenticating");
    check_eq!(registers[4], pointer, "the authenticated pointer");
    check!(registers[6] != pointer, "a signature that does not show");

    // A wrong signature does not pass.
    registers[4] = registers[6] ^ 1 << 50;
    let outcome = code::run(
        &[msr(SCTLR, 10), ISB, AUTIA, msr(SCTLR, 11), ISB],
        &mut registers,
    );
    sysreg!("sctlr_el1", registers[11]);
    check!(
        outcome.is_err() || registers[4] != pointer,
        "a wrong signature passes"
    );
}
