//! Checks device accesses of every addressing form, most of which come without
//! a valid syndrome: pairs, write-back, sign extension, register offsets, SP
//! as the base, XZR as the target; by identity addresses, through the upper
//! half, with the MMU off, and from code that itself lies elsewhere.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod cases;
#[cfg(target_os = "none")]
mod encode;

test_guests::guest!("mmio", run);

#[cfg(target_os = "none")]
use test_guests::{
    check_eq,
    runtime::{code, mmu, probe},
    say, sysreg,
};

/// From where and through what a case is run.
#[cfg(target_os = "none")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Identity,
    UpperHalf,
    CodeInUpperHalf,
    MmuOff,
    StackPointer,
}

#[cfg(target_os = "none")]
fn run() {
    test_guests::runtime::gic::init_distributor();
    known_identification();
    for manner in [
        Manner::Identity,
        Manner::UpperHalf,
        Manner::CodeInUpperHalf,
        Manner::MmuOff,
        Manner::StackPointer,
    ] {
        let mut count = 0;
        cases::loads(|case| {
            count += u32::from(run_load(case, manner));
        });
        cases::stores(|case| {
            count += u32::from(run_store(case, manner));
        });
        say!("{manner:?}: {count} cases");
    }
}

/// What plain word loads must show, before the other forms are compared with
/// them.
#[cfg(target_os = "none")]
fn known_identification() {
    use test_guests::runtime::mmio::read32;
    // The second word of the peripheral id's revision nibble is free.
    for (part, base) in [(0x11, cases::UART), (0x31, cases::RTC)] {
        let id = [0xFE0, 0xFE4, 0xFE8, 0xFEC].map(|offset| read32(base + offset));
        check_eq!(
            [id[0], id[1], id[2] & 0xF, id[3]],
            [part, 0x10, 4, 0],
            "id at {base:#x}"
        );
        let cell = [0xFF0, 0xFF4, 0xFF8, 0xFFC].map(|offset| read32(base + offset));
        check_eq!(cell, [0x0D, 0xF0, 0x05, 0xB1], "PrimeCell id at {base:#x}");
    }
    let pidr2 = read32(cases::GICD + 0xFFE8);
    check_eq!(pidr2 >> 4 & 0xF, 3, "architecture revision in GICD_PIDR2");
}

/// Runs one instruction whose base register is x2; returns the registers, or
/// `None` if the manner does not fit the case.
#[cfg(target_os = "none")]
fn perform(instruction: u32, form: &cases::Form, manner: Manner) -> Option<probe::Registers> {
    let mut registers: probe::Registers =
        core::array::from_fn(|index| 0x5A5A_0000_A5A5_0000 + index as u64);
    registers[1] = form.data[1];
    registers[0] = form.data[0];
    registers[3] = form.index;
    registers[2] = match manner {
        Manner::Identity | Manner::MmuOff | Manner::StackPointer => form.base,
        Manner::UpperHalf | Manner::CodeInUpperHalf => mmu::window(form.base, mmu::Kind::Device),
    };
    let outcome = match manner {
        Manner::Identity | Manner::UpperHalf => code::run(&[instruction], &mut registers),
        Manner::CodeInUpperHalf => {
            let code = mmu::alias(code::prepare(&[instruction]), mmu::Kind::Cached);
            probe::call(code, &mut registers)
        }
        Manner::MmuOff => {
            const SCTLR_EL1: u32 = code::encoding(3, 0, 1, 0, 0);
            let sctlr = sysreg!("sctlr_el1");
            // M, C off.
            registers[10] = sctlr & !0b101;
            registers[11] = sctlr;
            let sequence = [
                code::msr(SCTLR_EL1, 10),
                code::ISB,
                instruction,
                code::msr(SCTLR_EL1, 11),
                code::ISB,
            ];
            let outcome = code::run(&sequence, &mut registers);
            registers[10] = 0x5A5A_0000_A5A5_000A;
            registers[11] = 0x5A5A_0000_A5A5_000B;
            outcome
        }
        Manner::StackPointer => {
            let by_sp = encode::with_sp_base(instruction);
            // An SP that is not aligned faults before any access.
            if !form.base.is_multiple_of(16) || encode::names_base_otherwise(instruction) {
                return None;
            }
            let sequence = [
                encode::MSR_SPSEL_0,
                encode::MOV_SP_X2,
                by_sp,
                encode::MOV_X2_SP,
                encode::MSR_SPSEL_1,
            ];
            code::run(&sequence, &mut registers)
        }
    };
    check_eq!(
        outcome,
        Ok(()),
        "{} ({instruction:#010x}), {manner:?}",
        form.what
    );
    // Back to one frame of reference.
    if matches!(manner, Manner::UpperHalf | Manner::CodeInUpperHalf)
        && registers[2] >> 39 == 0x1FF_FFFF
    {
        let window = mmu::window(0, mmu::Kind::Device);
        registers[2] = registers[2].wrapping_sub(window);
    }
    for (index, value) in (0_u64..).zip(&registers).skip(4) {
        let expected = 0x5A5A_0000_A5A5_0000 + index;
        check_eq!(*value, expected, "x{index} after {}, {manner:?}", form.what);
    }
    check_eq!(
        registers[3],
        form.index,
        "x3 after {}, {manner:?}",
        form.what
    );
    Some(registers)
}

#[cfg(target_os = "none")]
fn run_load(case: &cases::Load, manner: Manner) -> bool {
    let Some(registers) = perform(case.form.instruction, &case.form, manner) else {
        return false;
    };
    let what = case.form.what;
    check_eq!(
        registers[0],
        case.expected[0],
        "x0 after {what}, {manner:?}"
    );
    check_eq!(
        registers[1],
        case.expected[1],
        "x1 after {what}, {manner:?}"
    );
    let base = case.base_after.unwrap_or(case.form.base);
    check_eq!(registers[2], base, "base after {what}, {manner:?}");
    true
}

#[cfg(target_os = "none")]
fn run_store(case: &cases::Store, manner: Manner) -> bool {
    for (address, _) in case.expected {
        cases::prepare_word(address);
    }
    let Some(registers) = perform(case.form.instruction, &case.form, manner) else {
        return false;
    };
    let what = case.form.what;
    check_eq!(
        registers[0],
        case.form.data[0],
        "x0 after {what}, {manner:?}"
    );
    check_eq!(
        registers[1],
        case.form.data[1],
        "x1 after {what}, {manner:?}"
    );
    let base = case.base_after.unwrap_or(case.form.base);
    check_eq!(registers[2], base, "base after {what}, {manner:?}");
    for (address, word) in case.expected {
        let value = test_guests::runtime::mmio::read32(address);
        check_eq!(value, word, "{address:#x} after {what}, {manner:?}");
    }
    true
}
