//! Decodes loads and stores as an assembler encodes them.

use arm_vcpu::TrapFrame;
use arm_vcpu::exception::{AbortStatus, Exception};
use arm_vcpu::exit::{AxVCpuExitReason, UndecodedAccess};
use arm_vcpu::instruction::{AccessPlan, DecodeError, Transfer, decode_access};
use proptest::prelude::*;
use vm_contract::{GuestPhysAddr, Width};

/// EL1 with its own stack pointer.
const EL1H: u64 = 0x3C5;
/// What X2, SP and the PC hold: kernel addresses, in three pages.
const X2: u64 = 0xFFFF_8000_1000_0800;
const SP: u64 = 0xFFFF_8000_2000_0800;
const PC: u64 = 0xFFFF_8000_3000_0800;
/// The page that every one of these leads to.
const PAGE: usize = 0x0900_0000;

/// X1 is what stores write, X3 the index of register offsets: 16 in 64 bits,
/// and -16 in 32.
const X1: u64 = 0x8182_8384_8586_8788;
const X3: u64 = 0x10;
const X5: u64 = 0xFFFF_FFF0;

fn frame() -> TrapFrame {
    let mut frame = TrapFrame {
        elr: PC,
        spsr: EL1H,
        ..TrapFrame::default()
    };
    for (register, value) in [(1, X1), (2, X2), (3, X3), (5, X5)] {
        frame.set_gpr(register, value);
    }
    frame
}

fn fault(va: u64, is_write: bool) -> UndecodedAccess {
    let offset = usize::try_from(va & 0xFFF).expect("twelve bits");
    let address = GuestPhysAddr::from(PAGE + offset);
    UndecodedAccess::new(address, va, is_write)
}

/// Decodes an instruction that faults at `va`, of whichever direction it is.
fn decode_at(instruction: u32, va: u64) -> Result<AccessPlan, DecodeError> {
    match decode_access(instruction, &frame(), SP, &fault(va, false)) {
        Err(DecodeError::Mismatch) => decode_access(instruction, &frame(), SP, &fault(va, true)),
        other => other,
    }
}

/// What a table says of an instruction.
enum Does {
    /// Loads so many bytes; the register then holds, when ones were read, this.
    Loads(Width, u64),
    Stores(Width),
}
use Does::{Loads, Stores};
use Width::{Byte, Dword, Half, Word};

const W_ONES: u64 = 0xFFFF_FFFF;
const X_ONES: u64 = u64::MAX;

/// Encoding, text, address and what is done there. The register is 1, and 3 as
/// well in pairs.
#[rustfmt::skip]
const FORMS: &[(u32, &str, u64, Does)] = &[
    (0xB900_0041, "str w1, [x2]", X2, Stores(Word)),
    (0x3940_1441, "ldrb w1, [x2, #5]", X2 + 5, Loads(Byte, 0xFF)),
    (0x7940_0C41, "ldrh w1, [x2, #6]", X2 + 6, Loads(Half, 0xFFFF)),
    (0x3980_0441, "ldrsb x1, [x2, #1]", X2 + 1, Loads(Byte, X_ONES)),
    (0x39C0_0441, "ldrsb w1, [x2, #1]", X2 + 1, Loads(Byte, W_ONES)),
    (0x7980_0441, "ldrsh x1, [x2, #2]", X2 + 2, Loads(Half, X_ONES)),
    (0x79C0_0441, "ldrsh w1, [x2, #2]", X2 + 2, Loads(Half, W_ONES)),
    (0xB980_0441, "ldrsw x1, [x2, #4]", X2 + 4, Loads(Word, X_ONES)),
    (0xF97F_FC41, "ldr x1, [x2, #32760]", X2 + 32760, Loads(Dword, X_ONES)),
    (0xB81F_D041, "stur w1, [x2, #-3]", X2 - 3, Stores(Word)),
    (0xB89F_C041, "ldursw x1, [x2, #-4]", X2 - 4, Loads(Word, X_ONES)),
    (0xF840_8841, "ldtr x1, [x2, #8]", X2 + 8, Loads(Dword, X_ONES)),
    (0x781F_E841, "sttrh w1, [x2, #-2]", X2 - 2, Stores(Half)),
    (0x38C0_0841, "ldtrsb w1, [x2]", X2, Loads(Byte, W_ONES)),
    (0xB863_6841, "ldr w1, [x2, x3]", X2 + 16, Loads(Word, W_ONES)),
    (0xF863_7841, "ldr x1, [x2, x3, lsl #3]", X2 + 128, Loads(Dword, X_ONES)),
    (0xB823_5841, "str w1, [x2, w3, uxtw #2]", X2 + 64, Stores(Word)),
    (0x3823_C841, "strb w1, [x2, w3, sxtw]", X2 + 16, Stores(Byte)),
    (0x3825_C841, "strb w1, [x2, w5, sxtw]", X2 - 16, Stores(Byte)),
    (0x3825_4841, "strb w1, [x2, w5, uxtw]", X2 + X5, Stores(Byte)),
    (0x78A3_F841, "ldrsh x1, [x2, x3, sxtx #1]", X2 + 32, Loads(Half, X_ONES)),
    (0x1800_0041, "ldr w1, .+8", PC + 8, Loads(Word, W_ONES)),
    (0x58FF_FF81, "ldr x1, .-16", PC - 16, Loads(Dword, X_ONES)),
    (0x9800_0021, "ldrsw x1, .+4", PC + 4, Loads(Word, X_ONES)),
    (0x88DF_FC41, "ldar w1, [x2]", X2, Loads(Word, W_ONES)),
    (0x08DF_FC41, "ldarb w1, [x2]", X2, Loads(Byte, 0xFF)),
    (0xC89F_FC41, "stlr x1, [x2]", X2, Stores(Dword)),
    (0x489F_FFE1, "stlrh w1, [sp]", SP, Stores(Half)),
    (0xC8DF_7C41, "ldlar x1, [x2]", X2, Loads(Dword, X_ONES)),
    (0x889F_7C41, "stllr w1, [x2]", X2, Stores(Word)),
    (0xB8BF_C041, "ldapr w1, [x2]", X2, Loads(Word, W_ONES)),
    (0x38BF_C041, "ldaprb w1, [x2]", X2, Loads(Byte, 0xFF)),
    (0xD95F_9041, "ldapur x1, [x2, #-7]", X2 - 7, Loads(Dword, X_ONES)),
    (0x19C0_1041, "ldapursb w1, [x2, #1]", X2 + 1, Loads(Byte, W_ONES)),
    (0x9980_4041, "ldapursw x1, [x2, #4]", X2 + 4, Loads(Word, X_ONES)),
    (0x5900_2041, "stlurh w1, [x2, #2]", X2 + 2, Stores(Half)),
    (0xF800_8441, "str x1, [x2], #8", X2, Stores(Dword)),
    (0xB85F_C441, "ldr w1, [x2], #-4", X2, Loads(Word, W_ONES)),
    (0xB801_0C41, "str w1, [x2, #16]!", X2 + 16, Stores(Word)),
    (0x389F_FC41, "ldrsb x1, [x2, #-1]!", X2 - 1, Loads(Byte, X_ONES)),
    (0x3850_0FE1, "ldrb w1, [sp, #-256]!", SP - 256, Loads(Byte, 0xFF)),
    (0xF84F_F7E1, "ldr x1, [sp], #255", SP, Loads(Dword, X_ONES)),
    (0x2940_0C41, "ldp w1, w3, [x2]", X2, Loads(Word, W_ONES)),
    (0xA95F_8C41, "ldp x1, x3, [x2, #504]", X2 + 504, Loads(Dword, X_ONES)),
    (0xA9A0_0C41, "stp x1, x3, [x2, #-512]!", X2 - 512, Stores(Dword)),
    (0x2881_0FE1, "stp w1, w3, [sp], #8", SP, Stores(Word)),
    (0x697F_8C41, "ldpsw x1, x3, [x2, #-4]", X2 - 4, Loads(Word, X_ONES)),
    (0x68C1_0C41, "ldpsw x1, x3, [x2], #8", X2, Loads(Word, X_ONES)),
    (0xA841_0C41, "ldnp x1, x3, [x2, #16]", X2 + 16, Loads(Dword, X_ONES)),
    (0x283F_0C41, "stnp w1, w3, [x2, #-8]", X2 - 8, Stores(Word)),
];

/// Pairs have bits 29:27 = 101.
fn is_pair(instruction: u32) -> bool {
    instruction >> 27 & 0b111 == 0b101
}

#[test]
fn every_form_accesses_what_its_text_says() {
    for (instruction, text, va, does) in FORMS {
        let plan = decode_at(*instruction, *va).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(plan.second().is_some(), is_pair(*instruction), "{text}");
        let stored = [X1, X3];
        for (position, element) in plan.elements().enumerate() {
            let (width, value) = match (element.transfer, does) {
                (Transfer::Load(target), Loads(width, ones)) => {
                    assert_eq!(target.register(), [1, 3][position], "{text}");
                    assert_eq!(target.extend(u64::MAX), *ones, "{text}");
                    assert_eq!(target.extend(0), 0, "{text}");
                    (*width, None)
                }
                (Transfer::Store { value, .. }, Stores(width)) => (*width, Some(value)),
                _ => panic!("{text}: wrong direction"),
            };
            assert_eq!(element.transfer.width(), width, "{text}");
            let stored = width.truncate(stored[position]);
            assert!(value.is_none_or(|value| value == stored), "{text}");
            let va = va + position as u64 * width.bytes();
            assert_eq!(element.virtual_address, va, "{text}");
            let offset = (usize::from(element.address) - PAGE) as u64;
            assert_eq!(offset, va & 0xFFF, "{text}");
        }
    }
}

/// Encoding, text, then the base register and the stack pointer afterwards.
#[rustfmt::skip]
const WRITE_BACKS: &[(u32, &str, u64, u64, Option<u64>)] = &[
    (0xF800_8441, "str x1, [x2], #8", X2, X2 + 8, None),
    (0xB85F_C441, "ldr w1, [x2], #-4", X2, X2 - 4, None),
    (0xB801_0C41, "str w1, [x2, #16]!", X2 + 16, X2 + 16, None),
    (0xA9A0_0C41, "stp x1, x3, [x2, #-512]!", X2 - 512, X2 - 512, None),
    (0x68C1_0C41, "ldpsw x1, x3, [x2], #8", X2, X2 + 8, None),
    (0x3850_0FE1, "ldrb w1, [sp, #-256]!", SP - 256, X2, Some(SP - 256)),
    (0xF84F_F7E1, "ldr x1, [sp], #255", SP, X2, Some(SP + 255)),
    (0x2881_0FE1, "stp w1, w3, [sp], #8", SP, X2, Some(SP + 8)),
    (0xB900_0041, "str w1, [x2]", X2, X2, None),
    (0xF840_8841, "ldtr x1, [x2, #8]", X2 + 8, X2, None),
    (0x489F_FFE1, "stlrh w1, [sp]", SP, X2, None),
];

#[test]
fn the_base_is_written_back_where_the_form_says_so() {
    for (instruction, text, va, x2, sp) in WRITE_BACKS {
        let plan = decode_at(*instruction, *va).unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut after = frame();
        assert_eq!(plan.finish([0; 2], &mut after), *sp, "{text}");
        assert_eq!(after.gpr(2), *x2, "{text}");
        assert_eq!(after.elr, PC + 4, "{text}");
    }
}

#[test]
fn a_finished_pair_has_loaded_both_registers() {
    let plan = decode_at(0x68C1_0C41, X2).expect("ldpsw x1, x3, [x2], #8");
    let mut after = frame();
    assert_eq!(plan.finish([0x8000_0000, 7], &mut after), None);
    assert_eq!(after.gpr(1), 0xFFFF_FFFF_8000_0000);
    assert_eq!(after.gpr(3), 7);
    assert_eq!(after.gpr(2), X2 + 8);
}

#[test]
fn a_pair_with_xzr_stores_zero_and_loses_what_it_loads() {
    let plan = decode_at(0xA9A0_7C41, X2 - 512).expect("stp x1, xzr, [x2, #-512]!");
    let second = plan.second().expect("a pair");
    assert!(matches!(second.transfer, Transfer::Store { value: 0, .. }));

    let plan = decode_at(0xA940_7C41, X2).expect("ldp x1, xzr, [x2]");
    let mut after = frame();
    let expected = TrapFrame {
        elr: PC + 4,
        ..after.clone()
    };
    assert_eq!(plan.finish([X1, 99], &mut after), None);
    assert_eq!(after, expected);
}

#[test]
fn an_element_becomes_the_exit_of_a_single_access() {
    let plan = decode_at(0x2881_0FE1, SP).expect("stp w1, w3, [sp], #8");
    let second = plan.second().expect("a pair").as_exit();
    let AxVCpuExitReason::MmioWrite(write) = second else {
        panic!("{second:?}");
    };
    assert_eq!(usize::from(write.address()), 0x0900_0804);
    assert_eq!((write.width(), write.value()), (Word, X3));
    assert_eq!(write.virtual_address(), SP + 4);

    let plan = decode_at(0x3980_0441, X2 + 1).expect("ldrsb x1, [x2, #1]");
    let first = plan.first().as_exit();
    let AxVCpuExitReason::MmioRead(read) = first else {
        panic!("{first:?}");
    };
    assert_eq!(usize::from(read.address()), 0x0900_0801);
    assert_eq!(read.extend(0x80), X_ONES - 0x7F);
}

/// What is not carried out, and the error that says why.
#[rustfmt::skip]
const REFUSED: &[(u32, &str, DecodeError)] = &[
    (0x885F_7C41, "ldxr w1, [x2]", DecodeError::Exclusive),
    (0xC804_7C41, "stxr w4, x1, [x2]", DecodeError::Exclusive),
    (0xC87F_8C41, "ldaxp x1, x3, [x2]", DecodeError::Exclusive),
    (0x8824_8C41, "stlxp w4, w1, w3, [x2]", DecodeError::Exclusive),
    (0x88A1_7C43, "cas w1, w3, [x2]", DecodeError::Atomic),
    (0x4824_7C46, "casp x4, x5, x6, x7, [x2]", DecodeError::Atomic),
    (0xF821_8043, "swp x1, x3, [x2]", DecodeError::Atomic),
    (0xB821_0043, "ldadd w1, w3, [x2]", DecodeError::Atomic),
    (0xF8E1_3043, "ldsetal x1, x3, [x2]", DecodeError::Atomic),
    (0xF821_005F, "stadd x1, [x2]", DecodeError::Atomic),
    (0xF83F_D044, "ld64b x4, [x2]", DecodeError::Atomic),
    (0xF83F_9044, "st64b x4, [x2]", DecodeError::Atomic),
    (0x3DC0_0041, "ldr q1, [x2]", DecodeError::SimdRegister),
    (0xFC00_8441, "str d1, [x2], #8", DecodeError::SimdRegister),
    (0x2D40_0C41, "ldp s1, s3, [x2]", DecodeError::SimdRegister),
    (0x4C40_7041, "ld1 {v1.16b}, [x2]", DecodeError::SimdRegister),
    (0x1C00_0041, "ldr s1, .+8", DecodeError::SimdRegister),
    (0x3C00_1041, "stur b1, [x2, #1]", DecodeError::SimdRegister),
    (0x1D40_0841, "ldapur b1, [x2]", DecodeError::SimdRegister),
    (0xD50B_7421, "dc zva, x1", DecodeError::CacheZero),
    (0xD50B_7461, "dc gva, x1", DecodeError::CacheZero),
    (0xD50B_7481, "dc gzva, x1", DecodeError::CacheZero),
    (0xF820_0441, "ldraa x1, [x2]", DecodeError::Unsupported),
    (0xF8A0_1C41, "ldrab x1, [x2, #8]!", DecodeError::Unsupported),
    (0xD920_0841, "stg x1, [x2]", DecodeError::Unsupported),
    (0xD960_0041, "ldg x1, [x2]", DecodeError::Unsupported),
    (0x6900_0C41, "stgp x1, x3, [x2]", DecodeError::Unsupported),
    (0x1902_0461, "cpyfp [x1]!, [x2]!, x3!", DecodeError::Unsupported),
    (0x19C3_0441, "setp [x1]!, x2!, x3", DecodeError::Unsupported),
    (0x9943_1841, "ldiapp w1, w3, [x2]", DecodeError::Unsupported),
    (0xF980_0040, "prfm pldl1keep, [x2]", DecodeError::NotAnAccess),
    (0xF880_1040, "prfum pldl1keep, [x2, #1]", DecodeError::NotAnAccess),
    (0xD800_0040, "prfm pldl1keep, .+8", DecodeError::NotAnAccess),
    (0xF8A3_6840, "prfm pldl1keep, [x2, x3]", DecodeError::NotAnAccess),
    (0xD50B_7E21, "dc civac, x1", DecodeError::NotAnAccess),
    (0xD503_201F, "nop", DecodeError::NotAnAccess),
    (0x8B03_0041, "add x1, x2, x3", DecodeError::NotAnAccess),
    (0xD65F_03C0, "ret", DecodeError::NotAnAccess),
    (0xB863_0841, "ldr w1, [x2, x3] with option 000", DecodeError::NotAnAccess),
    (0xE940_0C41, "ldp with opc 11", DecodeError::NotAnAccess),
    (0x6840_0C41, "ldnp with opc 01", DecodeError::NotAnAccess),
    (0x0000_0000, "udf #0", DecodeError::NotAnAccess),
    (0xFFFF_FFFF, "all ones", DecodeError::NotAnAccess),
];

#[test]
fn what_is_not_carried_out_says_why() {
    for (instruction, text, error) in REFUSED {
        assert_eq!(decode_at(*instruction, X2), Err(*error), "{text}");
    }
}

#[test]
fn another_access_than_the_one_that_faulted_is_a_mismatch() {
    const LDP_X: u32 = 0xA940_0C41;
    let decode = |va, is_write| decode_access(LDP_X, &frame(), SP, &fault(va, is_write));
    assert!(decode(X2, false).is_ok());
    assert!(decode(X2 + 15, false).is_ok());
    assert_eq!(decode(X2, true), Err(DecodeError::Mismatch));
    assert_eq!(decode(X2 + 16, false), Err(DecodeError::Mismatch));
    assert_eq!(decode(X2 - 1, false), Err(DecodeError::Mismatch));
}

#[test]
fn a_fault_in_the_second_half_of_a_pair_leads_back_to_the_first() {
    let plan = decode_at(0xA940_0C41, X2 + 8).expect("ldp x1, x3, [x2]");
    assert_eq!(usize::from(plan.first().address), 0x0900_0800);
    assert_eq!(
        usize::from(plan.second().expect("a pair").address),
        0x0900_0808
    );
}

#[test]
fn a_tag_in_the_base_does_not_matter() {
    let mut tagged = frame();
    tagged.set_gpr(2, 0x5A00_8000_1000_0800);
    let va = 0x0000_8000_1000_0800;
    let plan =
        decode_access(0x2940_0C41, &tagged, SP, &fault(va, false)).expect("ldp w1, w3, [x2]");
    assert_eq!(usize::from(plan.first().address), 0x0900_0800);
}

#[test]
fn an_access_across_a_page_boundary_is_refused() {
    let mut frame = frame();
    for (va, allowed) in [(0x1FF0_u64, true), (0x1FF8, false), (0x1FFC, false)] {
        frame.set_gpr(2, va);
        for fault_at in [va, va + 8] {
            let plan = decode_access(0xA940_0C41, &frame, SP, &fault(fault_at, false));
            assert_eq!(plan.is_ok(), allowed, "{va:#x}");
            assert!(allowed || plan == Err(DecodeError::CrossesPage));
        }
    }
}

#[test]
fn an_access_from_aarch32_state_is_refused() {
    let mut user = frame();
    user.spsr = 0x10;
    let plan = decode_access(0x2940_0C41, &user, SP, &fault(X2, false));
    assert_eq!(plan, Err(DecodeError::Aarch32));
}

#[test]
fn a_refusal_tells_what_the_guest_gets() {
    let fault = fault(X2, true);
    assert_eq!(DecodeError::Mismatch.exception(&fault), None);
    assert_eq!(
        DecodeError::SimdRegister.exception(&fault),
        Some(Exception::external_data_abort(X2, true))
    );
    assert!(matches!(
        DecodeError::Atomic.exception(&fault),
        Some(Exception::DataAbort {
            status: AbortStatus::UnsupportedAtomic,
            ..
        })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn whatever_the_instruction_a_plan_stays_in_the_page_that_faulted(
        instruction: u32,
        gpr: [u64; 31],
        elr: u64,
        sp: u64,
        address in 0..1_usize << 56,
        offset in 0..32_u64,
        is_write: bool,
    ) {
        let frame = TrapFrame { gpr, elr, spsr: EL1H };
        // Aim at the base register, so that more than chance decodes.
        let rn = (instruction >> 5 & 0x1F) as usize;
        let base = if rn == 31 { sp } else { frame.gpr(rn) };
        let fault = UndecodedAccess::new(address.into(), base.wrapping_add(offset), is_write);
        if let Ok(plan) = decode_access(instruction, &frame, sp, &fault) {
            let page = (address >> 12) as u64;
            for element in plan.elements() {
                let start = usize::from(element.address) as u64;
                let last = start + element.transfer.width().bytes() - 1;
                prop_assert_eq!(start >> 12, page);
                prop_assert_eq!(last >> 12, page);
                let is_store = matches!(element.transfer, Transfer::Store { .. });
                prop_assert_eq!(is_store, is_write);
            }
            let mut after = frame.clone();
            let _ = plan.finish([0; 2], &mut after);
            prop_assert_eq!(after.elr, elr.wrapping_add(4));
        }
    }
}
