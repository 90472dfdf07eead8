//! Delivers exceptions and compares with what the pseudocode makes of them.

use arm_vcpu::exception::{AbortStatus, Exception, ExceptionRegisters, inject};
use arm_vcpu::{CpuFeatures, TrapFrame};
use proptest::prelude::*;

const VBAR: u64 = 0xFFFF_8000_0801_0000;
const PC: u64 = 0xFFFF_8000_0812_3454;
const FAR: u64 = 0xFFFF_8000_1234_5678;
const OLD_FAR: u64 = 0x1111;

const SPAN: u64 = 1 << 23;
const DSSBS: u64 = 1 << 44;

const EL0: u64 = 0x0;
const EL1T: u64 = 0x4;
const EL1H: u64 = 0x5;
const AARCH32_USER: u64 = 0x10;
const DAIF: u64 = 0x3C0;
const SSBS: u64 = 1 << 12;
const ALLINT: u64 = 1 << 13;
const BTYPE: u64 = 0b11 << 10;
const IL: u64 = 1 << 20;
const SS: u64 = 1 << 21;
const PAN: u64 = 1 << 22;
const UAO: u64 = 1 << 23;
const DIT: u64 = 1 << 24;
const TCO: u64 = 1 << 25;
const NZCV: u64 = 0xF << 28;

fn deliver(
    exception: Exception,
    spsr: u64,
    sctlr: u64,
    features: CpuFeatures,
) -> (TrapFrame, ExceptionRegisters) {
    let mut frame = TrapFrame {
        elr: PC,
        spsr,
        ..TrapFrame::default()
    };
    frame.set_gpr(0, 42);
    let mut registers = ExceptionRegisters {
        esr: 0xDEAD,
        far: OLD_FAR,
        elr: 0xDEAD,
        spsr: 0xDEAD,
        vbar: VBAR,
        sctlr,
    };
    inject(exception, &mut frame, &mut registers, features);
    assert_eq!(frame.gpr(0), 42);
    (frame, registers)
}

#[test]
fn the_vector_depends_on_where_the_guest_was() {
    for (from, offset) in [
        (EL1T, 0x000),
        (EL1H, 0x200),
        (EL0, 0x400),
        (AARCH32_USER, 0x600),
        (AARCH32_USER | 1 << 5, 0x600),
    ] {
        let (frame, registers) = deliver(Exception::Undefined, from, 0, CpuFeatures::empty());
        assert_eq!(frame.elr, VBAR + offset, "{from:#x}");
        assert_eq!(registers.elr, PC);
        assert_eq!(registers.spsr, from);
        assert_eq!(frame.spsr, EL1H | DAIF, "{from:#x}");
    }
}

#[test]
fn res0_bits_of_vbar_do_not_count() {
    let mut frame = TrapFrame::default();
    let mut registers = ExceptionRegisters {
        vbar: 0x8_07FF,
        ..ExceptionRegisters::default()
    };
    inject(
        Exception::Undefined,
        &mut frame,
        &mut registers,
        CpuFeatures::empty(),
    );
    assert_eq!(frame.elr, 0x8_0400);
}

fn data_abort(status: AbortStatus, is_write: bool) -> Exception {
    Exception::DataAbort {
        address: Some(FAR),
        status,
        is_write,
        is_cache_maintenance: false,
    }
}

#[test]
fn the_syndrome_is_that_of_the_exception() {
    let instruction_abort = Exception::InstructionAbort {
        address: Some(FAR),
        status: AbortStatus::External,
    };
    let unknown_address = Exception::DataAbort {
        address: None,
        status: AbortStatus::External,
        is_write: true,
        is_cache_maintenance: false,
    };
    let maintenance = Exception::DataAbort {
        address: Some(FAR),
        status: AbortStatus::Translation(2),
        is_write: false,
        is_cache_maintenance: true,
    };
    // The exception, ESR_EL1 from EL0 and from EL1.
    let table = [
        (Exception::Undefined, 0x0200_0000, 0x0200_0000),
        (Exception::IllegalState, 0x3A00_0000, 0x3A00_0000),
        (instruction_abort, 0x8200_0010, 0x8600_0010),
        (
            data_abort(AbortStatus::External, false),
            0x9200_0010,
            0x9600_0010,
        ),
        (
            data_abort(AbortStatus::External, true),
            0x9200_0050,
            0x9600_0050,
        ),
        (unknown_address, 0x9200_0450, 0x9600_0450),
        (
            data_abort(AbortStatus::Alignment, false),
            0x9200_0021,
            0x9600_0021,
        ),
        (
            data_abort(AbortStatus::AddressSize(0), false),
            0x9200_0000,
            0x9600_0000,
        ),
        (
            data_abort(AbortStatus::Translation(3), false),
            0x9200_0007,
            0x9600_0007,
        ),
        (
            data_abort(AbortStatus::AccessFlag(1), true),
            0x9200_0049,
            0x9600_0049,
        ),
        (
            data_abort(AbortStatus::Permission(3), true),
            0x9200_004F,
            0x9600_004F,
        ),
        (
            data_abort(AbortStatus::UnsupportedAtomic, true),
            0x9200_0075,
            0x9600_0075,
        ),
        (maintenance, 0x9200_0146, 0x9600_0146),
    ];
    for (exception, from_el0, from_el1) in table {
        for (from, esr) in [
            (EL0, from_el0),
            (AARCH32_USER, from_el0),
            (EL1T, from_el1),
            (EL1H, from_el1),
        ] {
            let (_, registers) = deliver(exception, from, 0, CpuFeatures::empty());
            assert_eq!(registers.esr, esr, "{exception:?} from {from:#x}");
        }
    }
}

#[test]
fn far_is_written_by_aborts_whose_address_is_known() {
    let far = |exception| deliver(exception, EL1H, 0, CpuFeatures::empty()).1.far;
    assert_eq!(far(data_abort(AbortStatus::External, false)), FAR);
    assert_eq!(far(Exception::external_instruction_abort(FAR)), FAR);
    assert_eq!(far(Exception::Undefined), OLD_FAR);
    let unknown = Exception::InstructionAbort {
        address: None,
        status: AbortStatus::External,
    };
    assert_eq!(far(unknown), OLD_FAR);
}

#[test]
fn pstate_becomes_what_the_pseudocode_makes_of_it() {
    let all = CpuFeatures::PAN | CpuFeatures::SSBS | CpuFeatures::MTE;
    let none = CpuFeatures::empty();
    // PSTATE before, SCTLR_EL1, features, and PSTATE after but for EL1h and DAIF.
    let table = [
        // Flags and DIT stay; IL, SS, UAO, BTYPE, ALLINT and SSBS go.
        (EL1H | NZCV | DIT, 0, none, NZCV | DIT),
        (EL1H | IL | SS | UAO | BTYPE | ALLINT | SSBS, 0, none, 0),
        // PAN: set unless SCTLR_EL1.SPAN, which leaves it.
        (EL0, 0, all, PAN | TCO),
        (EL0, SPAN, all, TCO),
        (EL1H | PAN, SPAN, all, PAN | TCO),
        (EL1H, 0, CpuFeatures::PAN, PAN),
        (EL1H, 0, CpuFeatures::SSBS, 0),
        // SSBS: as SCTLR_EL1.DSSBS says.
        (EL1H | SSBS, SPAN, CpuFeatures::SSBS, 0),
        (EL1H, SPAN | DSSBS, CpuFeatures::SSBS, SSBS),
        (EL1H, SPAN | DSSBS, none, 0),
        // Masks are set whatever they were.
        (EL1H | DAIF, SPAN, none, 0),
    ];
    for (from, sctlr, features, to) in table {
        let (frame, registers) = deliver(Exception::Undefined, from, sctlr, features);
        assert_eq!(frame.spsr, to | EL1H | DAIF, "from {from:#x}, {features:?}");
        assert_eq!(registers.spsr, from);
    }
}

#[test]
fn state_of_aarch32_does_not_leak_into_that_of_aarch64() {
    // Q, IT, GE, E, A, I, F, T and user mode; DIT is bit 21 here.
    let from = NZCV | 1 << 27 | 0b11 << 25 | 0xF << 16 | 0xFFE0 | AARCH32_USER;
    let (frame, registers) = deliver(Exception::Undefined, from, SPAN, CpuFeatures::empty());
    assert_eq!(frame.spsr, NZCV | EL1H | DAIF);
    assert_eq!(registers.spsr, from);
    let (frame, _) = deliver(
        Exception::Undefined,
        from | 1 << 21 | PAN,
        SPAN,
        CpuFeatures::PAN,
    );
    assert_eq!(frame.spsr, NZCV | DIT | PAN | EL1H | DAIF);
}

#[test]
fn an_illegal_state_is_recorded_as_such() {
    let (frame, registers) = deliver(Exception::IllegalState, EL1H, SPAN, CpuFeatures::empty());
    assert_eq!(registers.spsr, EL1H | IL);
    assert_eq!(frame.spsr & IL, 0);
}

proptest! {
    #[test]
    fn whatever_pstate_was_the_guest_arrives_masked_at_el1(
        spsr: u64, sctlr: u64, vbar: u64, elr: u64, features: u32,
    ) {
        let mut frame = TrapFrame { elr, spsr, ..TrapFrame::default() };
        let mut registers = ExceptionRegisters { vbar, sctlr, ..ExceptionRegisters::default() };
        let features = CpuFeatures::from_bits_truncate(features);
        inject(Exception::external_data_abort(FAR, false), &mut frame, &mut registers, features);
        prop_assert_eq!(frame.spsr & 0x3FF, EL1H | DAIF);
        prop_assert_eq!(frame.spsr >> 32, 0);
        prop_assert_eq!(registers.elr, elr);
        prop_assert_eq!(registers.spsr, spsr);
        let offset = frame.elr.wrapping_sub(vbar & !0x7FF);
        prop_assert!([0x000, 0x200, 0x400, 0x600].contains(&offset));
    }
}
