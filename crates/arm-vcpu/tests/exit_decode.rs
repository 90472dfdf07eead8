//! Decodes syndromes: each reason by hand, and everything else at random.
#![expect(clippy::panic, reason = "a helper of a test says what it got instead")]

use arm_vcpu::exception::Exception;
use arm_vcpu::exit::{
    AxVCpuExitReason, FaultKind, MmioRead, MmioWrite, RawExit, Stage2Fault, Syndrome, decode,
    instruction_length,
};
use arm_vcpu::{SystemRegister, TrapFrame};
use proptest::prelude::*;
use vm_contract::{Access, Width};

const IL: u64 = 1 << 25;
const ISV: u64 = 1 << 24;
const SSE: u64 = 1 << 21;
const SF: u64 = 1 << 15;
const FNV: u64 = 1 << 10;
const CM: u64 = 1 << 8;
const S1PTW: u64 = 1 << 7;
const WNR: u64 = 1 << 6;
const TRANSLATION_L2: u64 = 0b00_0110;
const PERMISSION_L3: u64 = 0b00_1111;

const FAR: u64 = 0xFFFF_8000_0012_3458;
/// Leads to 0x0A00_0458.
const HPFAR: u64 = 0xA_0000;
const ADDRESS: usize = 0x0A00_0458;

fn frame() -> TrapFrame {
    let mut frame = TrapFrame::default();
    for register in 0..31 {
        frame.set_gpr(register, 0x0102_0304_0506_0700 + register as u64);
    }
    frame
}

const fn class(ec: u64) -> u64 {
    ec << 26 | IL
}
const DATA_ABORT: u64 = class(0x24);
const INSTRUCTION_ABORT: u64 = class(0x20);

fn decode_esr(esr: u64) -> AxVCpuExitReason {
    let syndrome = Syndrome {
        esr,
        far: FAR,
        hpfar: HPFAR,
    };
    decode(&RawExit::Synchronous(syndrome), &frame())
}

fn mmio_read(esr: u64) -> MmioRead {
    match decode_esr(esr) {
        AxVCpuExitReason::MmioRead(read) => read,
        other => panic!("{esr:#x}: {other:?}"),
    }
}

fn mmio_write(esr: u64) -> MmioWrite {
    match decode_esr(esr) {
        AxVCpuExitReason::MmioWrite(write) => write,
        other => panic!("{esr:#x}: {other:?}"),
    }
}

fn stage2_fault(esr: u64) -> Stage2Fault {
    match decode_esr(esr) {
        AxVCpuExitReason::Stage2Fault(fault) => fault,
        other => panic!("{esr:#x}: {other:?}"),
    }
}

#[test]
fn calls_carry_their_immediate() {
    assert_eq!(
        decode_esr(class(0x16) | 0xBEEF),
        AxVCpuExitReason::Hypercall { immediate: 0xBEEF }
    );
    assert_eq!(
        decode_esr(class(0x17) | 1),
        AxVCpuExitReason::SecureMonitorCall { immediate: 1 }
    );
}

#[test]
fn interrupts_do_not_look_at_the_syndrome() {
    let frame = frame();
    assert_eq!(
        decode(&RawExit::Irq, &frame),
        AxVCpuExitReason::ExternalInterrupt
    );
    assert_eq!(
        decode(&RawExit::Fiq, &frame),
        AxVCpuExitReason::FastInterrupt
    );
    let esr = 0xBE00_0011;
    assert_eq!(
        decode(&RawExit::SError { esr }, &frame),
        AxVCpuExitReason::SError { esr }
    );
}

#[test]
fn waiting_is_for_an_interrupt_or_only_a_while() {
    for (trapped, reason) in [
        (0b00, AxVCpuExitReason::WaitForInterrupt),
        (0b01, AxVCpuExitReason::WaitForEvent),
        (0b10, AxVCpuExitReason::WaitForEvent),
        (0b11, AxVCpuExitReason::WaitForEvent),
    ] {
        assert_eq!(decode_esr(class(0x01) | 0xE << 20 | trapped), reason);
    }
}

#[test]
fn every_size_sign_and_register_of_a_load_is_read() {
    const VALUE: u64 = 0x8182_8384_8586_8788;
    for size in 0..4_u64 {
        for srt in 0..32_u64 {
            for (sign, bits64) in [(false, false), (false, true), (true, false), (true, true)] {
                let esr = DATA_ABORT
                    | ISV
                    | size << 22
                    | srt << 16
                    | if sign { SSE } else { 0 }
                    | if bits64 { SF } else { 0 }
                    | TRANSLATION_L2;
                let read = mmio_read(esr);
                assert_eq!(usize::from(read.address()), ADDRESS);
                assert_eq!(read.virtual_address(), FAR);
                assert_eq!(read.width().bytes(), 1 << size);
                assert_eq!(read.target().register() as u64, srt);
                assert_eq!(read.instruction_length(), 4);
                let expected = match (size, sign, bits64) {
                    (0, false, _) => 0x88,
                    (1, false, _) => 0x8788,
                    (2, false, _) => 0x8586_8788,
                    (0, true, false) => 0xFFFF_FF88,
                    (1, true, false) => 0xFFFF_8788,
                    (2, true, false) => 0x8586_8788,
                    (0, true, true) => 0xFFFF_FFFF_FFFF_FF88,
                    (1, true, true) => 0xFFFF_FFFF_FFFF_8788,
                    (2, true, true) => 0xFFFF_FFFF_8586_8788,
                    // No instruction loads 64 bits into Wt, whatever the sign.
                    (_, true, false) => 0x8586_8788,
                    _ => VALUE,
                };
                assert_eq!(read.extend(VALUE), expected, "{esr:#x}");
            }
        }
    }
}

#[test]
fn a_store_carries_the_register_cut_to_its_width() {
    let store = |size: u64, srt: u64| {
        mmio_write(DATA_ABORT | ISV | size << 22 | srt << 16 | WNR | TRANSLATION_L2)
    };
    for (size, value) in [
        (0, 0x1E),
        (1, 0x071E),
        (2, 0x0506_071E),
        (3, 0x0102_0304_0506_071E),
    ] {
        let write = store(size, 30);
        assert_eq!(usize::from(write.address()), ADDRESS);
        assert_eq!((write.width().bytes(), write.value()), (1 << size, value));
        assert_eq!(store(size, 31).value(), 0, "XZR");
    }
}

#[test]
fn every_level_of_translation_fault_is_an_access() {
    for status in [0b00_0100, 0b00_0101, 0b00_0110, 0b00_0111, 0b10_1011] {
        let _ = mmio_read(DATA_ABORT | ISV | status);
    }
}

#[test]
fn an_access_without_isv_is_left_to_the_instruction() {
    for (bit, is_write) in [(0, false), (WNR, true)] {
        let reason = decode_esr(DATA_ABORT | bit | TRANSLATION_L2);
        let AxVCpuExitReason::UndecodedAccess(access) = reason else {
            panic!("{reason:?}");
        };
        assert_eq!(usize::from(access.address()), ADDRESS);
        assert_eq!(access.virtual_address(), FAR);
        assert_eq!(access.is_write(), is_write);
    }
}

#[test]
fn an_address_has_up_to_56_bits() {
    let syndrome = Syndrome {
        esr: DATA_ABORT | ISV | TRANSLATION_L2,
        far: u64::MAX,
        hpfar: u64::MAX,
    };
    let AxVCpuExitReason::MmioRead(read) = decode(&RawExit::Synchronous(syndrome), &frame()) else {
        panic!("a load");
    };
    assert_eq!(usize::from(read.address()), (1 << 56) - 1);
}

#[test]
fn cache_maintenance_is_no_access() {
    let reason = decode_esr(DATA_ABORT | CM | WNR | TRANSLATION_L2);
    let AxVCpuExitReason::CacheMaintenance(maintenance) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(usize::from(maintenance.address()), ADDRESS);
    assert_eq!(maintenance.virtual_address(), FAR);
    assert_eq!(maintenance.instruction_length(), 4);

    let fault = stage2_fault(DATA_ABORT | CM | WNR | PERMISSION_L3);
    assert!(fault.is_cache_maintenance());
    assert_eq!(fault.access(), Access::Write);
}

#[test]
fn a_stage_2_fault_of_a_table_walk_is_no_access() {
    for class in [DATA_ABORT, INSTRUCTION_ABORT] {
        let fault = stage2_fault(class | S1PTW | TRANSLATION_L2);
        assert!(fault.is_table_walk());
        let page = fault.address().map(usize::from);
        assert_eq!(page, Some(ADDRESS & !0xFFF), "the table's page");
        assert_eq!(fault.virtual_address(), FAR);
    }
    // Even where the syndrome would describe the access behind it.
    let fault = stage2_fault(DATA_ABORT | ISV | S1PTW | TRANSLATION_L2);
    assert!(fault.into_access(ADDRESS.into(), &frame()).is_err());
}

#[test]
fn a_permission_fault_knows_its_address_only_in_a_table_walk() {
    assert_eq!(stage2_fault(DATA_ABORT | PERMISSION_L3).address(), None);
    assert!(
        stage2_fault(DATA_ABORT | S1PTW | PERMISSION_L3)
            .address()
            .is_some()
    );
    assert!(
        stage2_fault(DATA_ABORT | 0b00_1001).address().is_some(),
        "access flag"
    );
    assert!(
        stage2_fault(DATA_ABORT | 0b00_0001).address().is_some(),
        "address size"
    );
    assert_eq!(
        stage2_fault(DATA_ABORT | 0b10_0001).address(),
        None,
        "alignment"
    );
}

#[test]
fn a_write_to_read_only_memory_can_become_a_device_access() {
    let esr = DATA_ABORT | ISV | 1 << 22 | 5 << 16 | WNR | PERMISSION_L3;
    let reason = stage2_fault(esr).into_access(0x1234.into(), &frame());
    let Ok(AxVCpuExitReason::MmioWrite(write)) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(usize::from(write.address()), 0x1234);
    assert_eq!((write.width(), write.value()), (Width::Half, 0x0705));

    let fetch = stage2_fault(INSTRUCTION_ABORT | PERMISSION_L3);
    assert!(fetch.into_access(0x1234.into(), &frame()).is_err());
}

#[test]
fn an_instruction_abort_is_a_refused_fetch() {
    let fault = stage2_fault(INSTRUCTION_ABORT | TRANSLATION_L2);
    assert_eq!(fault.access(), Access::Execute);
    assert_eq!(fault.kind(), FaultKind::Translation(2));
    assert_eq!(fault.address().map(usize::from), Some(ADDRESS));
    // ISS bits that only data aborts have do not count.
    let noise = stage2_fault(INSTRUCTION_ABORT | ISV | CM | WNR | TRANSLATION_L2);
    assert_eq!(noise.access(), Access::Execute);
    assert!(!noise.is_cache_maintenance());
}

#[test]
fn every_status_has_its_kind() {
    let external = |status| {
        matches!(
            decode_esr(DATA_ABORT | status),
            AxVCpuExitReason::ExternalAbort(_)
        )
    };
    for (status, kind) in [
        (0b00_0000, FaultKind::AddressSize(0)),
        (0b00_0011, FaultKind::AddressSize(3)),
        (0b10_1001, FaultKind::AddressSize(-1)),
        (0b00_1001, FaultKind::AccessFlag(1)),
        (0b00_1110, FaultKind::Permission(2)),
        (0b10_0001, FaultKind::Alignment),
        (0b11_0000, FaultKind::TlbConflict),
        (0b11_0101, FaultKind::UnsupportedAtomic),
        (0b01_0001, FaultKind::Other(0b01_0001)),
        (0b11_1111, FaultKind::Other(0b11_1111)),
    ] {
        assert_eq!(stage2_fault(DATA_ABORT | ISV | status).kind(), kind);
        assert!(!external(status));
    }
    let walk = stage2_fault(INSTRUCTION_ABORT | 0b10_1011);
    assert_eq!(walk.kind(), FaultKind::Translation(-1));
    for status in [
        0b01_0000, 0b01_0011, 0b01_0100, 0b01_0111, 0b01_1000, 0b01_1011, 0b01_1100, 0b01_1111,
    ] {
        assert!(external(status), "{status:#b}");
    }
}

#[test]
fn an_external_abort_says_whether_a_walk_met_it_and_whether_far_counts() {
    let abort = |esr| match decode_esr(esr) {
        AxVCpuExitReason::ExternalAbort(abort) => abort,
        other => panic!("{other:?}"),
    };
    let access = abort(DATA_ABORT | WNR | 0b01_0000);
    assert_eq!(access.virtual_address(), Some(FAR));
    assert_eq!(access.access(), Access::Write);
    assert!(!access.is_table_walk());
    assert_eq!(abort(DATA_ABORT | FNV | 0b01_0000).virtual_address(), None);
    assert_eq!(
        abort(INSTRUCTION_ABORT | 0b01_0000).access(),
        Access::Execute
    );
    for walk in [0b01_0011, 0b01_0101, 0b01_1011, 0b01_1110] {
        assert!(abort(DATA_ABORT | walk).is_table_walk(), "{walk:#b}");
    }
    assert!(!abort(DATA_ABORT | 0b01_1000).is_table_walk(), "parity");
}

/// MSR or MRS of ICC_SGI1R_EL1 (S3_0_C12_C11_5) with Rt.
const fn system_register(rt: u64, read: u64) -> u64 {
    class(0x18) | 3 << 20 | 5 << 17 | 12 << 10 | rt << 5 | 11 << 1 | read
}

#[test]
fn system_register_accesses_name_register_and_value() {
    let reason = decode_esr(system_register(7, 0));
    let AxVCpuExitReason::SystemRegisterWrite(write) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(write.register(), SystemRegister::ICC_SGI1R_EL1);
    assert_eq!(write.value(), 0x0102_0304_0506_0707);

    let reason = decode_esr(system_register(31, 0));
    assert!(matches!(reason, AxVCpuExitReason::SystemRegisterWrite(write) if write.value() == 0));

    let reason = decode_esr(system_register(9, 1));
    let AxVCpuExitReason::SystemRegisterRead(read) = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(read.register(), SystemRegister::ICC_SGI1R_EL1);
    assert_eq!(read.target(), 9);
}

#[test]
fn what_the_guest_does_not_have_is_undefined() {
    // FP, SVE, SME, PAuth, LD64B, ERET, 128-bit registers, breakpoints and
    // steps, BRK, and AArch32's accesses and calls, of 32 and of 16 bits.
    for ec in [
        0x00, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0C, 0x0D, 0x11, 0x12, 0x13, 0x14,
        0x15, 0x19, 0x1A, 0x1C, 0x1D, 0x22, 0x26, 0x27, 0x28, 0x2C, 0x30, 0x32, 0x34, 0x38, 0x3A,
        0x3C, 0x3F,
    ] {
        for length in [0, IL] {
            assert_eq!(
                decode_esr(ec << 26 | length | 0x1F_FFFF),
                AxVCpuExitReason::Injected(Exception::Undefined),
                "EC {ec:#x}"
            );
        }
    }
    assert_eq!(
        decode_esr(class(0x0E)),
        AxVCpuExitReason::Injected(Exception::IllegalState)
    );
}

#[test]
fn a_fault_of_el2_itself_is_not_the_guests() {
    for ec in [0x21, 0x25] {
        let reason = decode_esr(class(ec) | ISV | TRANSLATION_L2);
        assert!(matches!(reason, AxVCpuExitReason::HypervisorFault(_)));
    }
}

#[test]
fn a_thumb_access_is_as_long_as_its_syndrome_says() {
    let read = mmio_read((DATA_ABORT | ISV | TRANSLATION_L2) & !IL);
    assert_eq!(read.instruction_length(), 2);
    assert_eq!(instruction_length(IL), 4);
}

#[test]
fn all_ones_and_all_zeros_have_a_reason() {
    for esr in [0, u64::MAX, u64::from(u32::MAX)] {
        let _ = decode_esr(esr);
    }
}

#[test]
fn a_reason_is_small_enough_to_be_returned_cheaply() {
    assert!(size_of::<AxVCpuExitReason>() <= 5 * size_of::<u64>());
}

/// Asks a reason everything it can tell.
fn interrogate(reason: AxVCpuExitReason, frame: &TrapFrame) {
    let text = format!("{reason:?}");
    assert!(!text.is_empty());
    match reason {
        AxVCpuExitReason::MmioRead(read) => {
            assert!(usize::from(read.address()) < 1 << 56);
            assert!(read.target().register() < 32);
            let ones = read.extend(u64::MAX);
            assert_eq!(read.width().truncate(ones), read.width().mask() & ones);
            assert!(read.target().is_sign_extended() || ones == read.width().mask());
        }
        AxVCpuExitReason::MmioWrite(write) => {
            assert_eq!(write.width().truncate(write.value()), write.value());
        }
        AxVCpuExitReason::Stage2Fault(fault) => {
            let _ = (fault.address(), fault.kind(), fault.access());
            let _ = fault.into_access(0.into(), frame);
        }
        AxVCpuExitReason::ExternalAbort(abort) => {
            let _ = (abort.virtual_address(), abort.is_table_walk());
        }
        AxVCpuExitReason::SystemRegisterRead(read) => assert!(read.target() < 32),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn every_syndrome_has_a_reason(
        esr: u64, far: u64, hpfar: u64, gpr: [u64; 31], elr: u64, spsr: u64,
    ) {
        let frame = TrapFrame { gpr, elr, spsr };
        let exit = RawExit::Synchronous(Syndrome { esr, far, hpfar });
        interrogate(decode(&exit, &frame), &frame);
    }

    #[test]
    fn every_class_has_a_reason_whatever_its_iss(ec in 0..64_u64, iss in 0..1_u64 << 25, il: bool) {
        let esr = ec << 26 | u64::from(il) << 25 | iss;
        interrogate(decode_esr(esr), &frame());
    }

    #[test]
    fn only_translation_faults_of_data_become_accesses(ec in 0..64_u64, iss in 0..1_u64 << 25) {
        let is_access = matches!(
            decode_esr(class(ec) | iss),
            AxVCpuExitReason::MmioRead(_)
                | AxVCpuExitReason::MmioWrite(_)
                | AxVCpuExitReason::UndecodedAccess(_)
        );
        let status = iss & 0x3F;
        let translation = (0b00_0100..=0b00_0111).contains(&status) || status == 0b10_1011;
        prop_assert_eq!(is_access, ec == 0x24 && translation && iss & (CM | S1PTW) == 0);
    }
}
