//! The registers of the distributor, one rule a test.

use arm_vgic_v2::{ShapeError, Vgic, VgicConfig, VgicError};
use vm_contract::{AccessError, VcpuId, Width};

use crate::machine::{
    CPENDSGIR, CTLR, ICENABLER, ICFGR, ICPENDR, IGROUPR, IPRIORITYR, ISACTIVER, ISENABLER, ISPENDR,
    ITARGETSR, Machine, SGIR, SPENDSGIR,
};

const TYPER: u64 = 0x004;
const WIDTHS: [Width; 4] = [Width::Byte, Width::Half, Width::Word, Width::Dword];

#[test]
fn type_register_counts_lines_and_cpus() {
    for (vcpu_count, spi_count, typer) in [
        (1, 32, 0x01),
        (2, 64, 0x22),
        (8, 988, 0xFF),
        (3, 0, 0x40),
        (4, 33, 0x62),
    ] {
        let shape = VgicConfig {
            vcpu_count,
            spi_count,
        };
        let mut vgic = Vgic::new(&shape).expect("a good shape");
        let read = vgic.read(VcpuId::new(0), TYPER, Width::Word);
        assert_eq!(read, Ok(typer), "{vcpu_count} vCPUs, {spi_count} SPIs");
    }
}

#[test]
fn impossible_shapes_are_refused() {
    let error = |vcpu_count, spi_count| {
        Vgic::new(&VgicConfig {
            vcpu_count,
            spi_count,
        })
        .err()
    };
    assert_eq!(error(9, 32), Some(VgicError::TooManyVcpus(9)));
    assert_eq!(error(0, 32), Some(ShapeError::VcpuCount(0).into()));
    assert_eq!(error(1, 989), Some(ShapeError::SpiCount(989).into()));
    assert_eq!(error(8, 988), None);
}

#[test]
fn identification_says_gicv2() {
    let mut machine = Machine::new(1, 4);
    assert_eq!(machine.read(0, 0xFE8, Width::Word) >> 4 & 0xF, 2, "ArchRev");
    assert_eq!(machine.read(0, 0x008, Width::Word), 0x4102_0000);
    let component: Vec<u32> = (0..4)
        .map(|n| machine.read(0, 0xFF0 + 4 * n, Width::Word))
        .collect();
    assert_eq!(component, [0x0D, 0xF0, 0x05, 0xB1]);
    machine.write(0, 0xFE8, Width::Word, 0);
    assert_eq!(machine.read(0, 0xFE8, Width::Word), 0x2B, "read-only");
}

#[test]
fn control_register_has_two_enables() {
    let mut machine = Machine::new(1, 4);
    assert_eq!(machine.read(0, CTLR, Width::Word), 0);
    for (written, read) in [(u32::MAX, 3), (2, 2), (1, 1), (0xFFFF_FFFC, 0)] {
        machine.write(0, CTLR, Width::Word, written);
        assert_eq!(machine.read(0, CTLR, Width::Word), read);
    }
}

#[test]
fn sgis_are_always_enabled_and_edge_triggered() {
    let mut machine = Machine::new(2, 4);
    for vcpu in 0..2 {
        assert_eq!(machine.read(vcpu, ISENABLER, Width::Word), 0xFFFF);
        machine.write(vcpu, ICENABLER, Width::Word, u32::MAX);
        assert_eq!(machine.read(vcpu, ICENABLER, Width::Word), 0xFFFF);
        machine.write(vcpu, ICFGR, Width::Word, 0);
        assert_eq!(machine.read(vcpu, ICFGR, Width::Word), 0xAAAA_AAAA);
    }
}

#[test]
fn private_registers_are_banked_and_shared_ones_are_not() {
    let mut machine = Machine::new(2, 4);
    for register in [IGROUPR, ISENABLER, ISPENDR, ISACTIVER] {
        machine.write(1, register, Width::Word, 1 << 20);
        assert_eq!(machine.read(0, register, Width::Word) >> 20 & 1, 0);
        assert_eq!(machine.read(1, register, Width::Word) >> 20 & 1, 1);
        machine.write(1, register + 4, Width::Word, 1 << 3);
        assert_eq!(machine.read(0, register + 4, Width::Word), 1 << 3);
    }
    machine.write(1, IPRIORITYR + 20, Width::Byte, 0x88);
    assert_eq!(machine.read(0, IPRIORITYR + 20, Width::Byte), 0);
    assert_eq!(machine.read(1, IPRIORITYR + 20, Width::Byte), 0x88);
    machine.write(1, ICFGR + 4, Width::Word, u32::MAX);
    assert_eq!(machine.read(0, ICFGR + 4, Width::Word), 0);
    assert_eq!(machine.read(1, ICFGR + 4, Width::Word), 0xAAAA_AAAA);
}

#[test]
fn priorities_are_read_and_written_by_byte_halfword_and_word() {
    let mut machine = Machine::new(1, 4);
    machine.write(0, IPRIORITYR + 40, Width::Word, 0xFFEE_DDCC);
    assert_eq!(
        machine.read(0, IPRIORITYR + 40, Width::Word),
        0xF8E8_D8C8,
        "five bits"
    );
    assert_eq!(machine.read(0, IPRIORITYR + 42, Width::Half), 0xF8E8);
    assert_eq!(machine.read(0, IPRIORITYR + 41, Width::Byte), 0xD8);
    machine.write(0, IPRIORITYR + 42, Width::Half, 0x1020);
    machine.write(0, IPRIORITYR + 41, Width::Byte, 0x30);
    assert_eq!(machine.read(0, IPRIORITYR + 40, Width::Word), 0x1020_30C8);
}

#[test]
fn targets_of_private_interrupts_name_the_reader() {
    let mut machine = Machine::new(3, 4);
    for vcpu in 0..3 {
        machine.write(vcpu, ITARGETSR, Width::Word, u32::MAX);
        let own = 0x0101_0101 << vcpu;
        assert_eq!(machine.read(vcpu, ITARGETSR, Width::Word), own);
        assert_eq!(machine.read(vcpu, ITARGETSR + 28, Width::Word), own);
        assert_eq!(machine.read(vcpu, ITARGETSR + 31, Width::Byte), own & 0xFF);
    }
}

#[test]
fn targets_of_spis_keep_the_bits_of_vcpus_that_exist() {
    let mut machine = Machine::new(3, 4);
    assert_eq!(machine.read(0, ITARGETSR + 40, Width::Word), 0);
    machine.write(2, ITARGETSR + 40, Width::Word, 0xFF06_0104);
    assert_eq!(machine.read(1, ITARGETSR + 40, Width::Word), 0x0706_0104);
    machine.write(0, ITARGETSR + 41, Width::Byte, 0x06);
    machine.write(0, ITARGETSR + 42, Width::Half, 0x0102);
    assert_eq!(machine.read(1, ITARGETSR + 40, Width::Word), 0x0102_0604);
    assert_eq!(
        machine.read(0, ITARGETSR + 96, Width::Word),
        0,
        "beyond the SPIs"
    );
    machine.write(0, ITARGETSR + 96, Width::Word, u32::MAX);
    assert_eq!(machine.read(0, ITARGETSR + 96, Width::Word), 0);
}

#[test]
fn a_uniprocessor_has_no_targets_and_gets_everything() {
    let mut machine = Machine::new(1, 4);
    machine.write(0, CTLR, Width::Word, 1);
    machine.write(0, ISENABLER + 4, Width::Word, 1 << 8);
    machine.write(0, ITARGETSR + 40, Width::Byte, 0);
    assert_eq!(machine.read(0, ITARGETSR, Width::Word), 0);
    assert_eq!(machine.read(0, ITARGETSR + 40, Width::Word), 0);
    machine.line(40, true);
    assert_eq!(machine.acknowledge(0), 40);
}

#[test]
fn pending_sgis_cannot_be_written_by_ispendr_and_icpendr() {
    let mut machine = Machine::new(1, 4);
    machine.write(0, ISPENDR, Width::Word, u32::MAX);
    assert_eq!(machine.read(0, ISPENDR, Width::Word), 0xFFFF_0000);
    machine.write(0, SPENDSGIR, Width::Byte, 1);
    machine.write(0, ICPENDR, Width::Word, u32::MAX);
    assert_eq!(machine.read(0, ISPENDR, Width::Word), 1);
}

#[test]
fn sgi_sources_are_set_and_cleared_by_byte_halfword_and_word() {
    let mut machine = Machine::new(4, 4);
    machine.write(2, SPENDSGIR + 4, Width::Word, 0xFF08_0201);
    assert_eq!(machine.read(2, SPENDSGIR + 4, Width::Word), 0x0F08_0201);
    assert_eq!(machine.read(2, CPENDSGIR + 4, Width::Word), 0x0F08_0201);
    assert_eq!(machine.read(2, ISPENDR, Width::Word), 0xF0);
    assert_eq!(machine.read(1, SPENDSGIR + 4, Width::Word), 0, "banked");
    machine.write(2, CPENDSGIR + 7, Width::Byte, 0x05);
    machine.write(2, CPENDSGIR + 4, Width::Half, 0xFFFF);
    assert_eq!(machine.read(2, SPENDSGIR + 6, Width::Half), 0x0A08);
    assert_eq!(machine.read(2, SPENDSGIR + 4, Width::Byte), 0);
    assert_eq!(machine.read(2, ISPENDR, Width::Word), 0xC0);
}

#[test]
fn every_offset_answers_at_every_width() {
    let mut machine = Machine::ready(2, 2);
    for offset in 0..0x1010 {
        for width in WIDTHS {
            let read = machine.try_read(1, offset, width);
            if let Some(value) = read {
                assert_eq!(width.truncate(value), value, "{offset:#x} {width:?}");
            }
            let written = machine.try_write(1, offset, width, u64::MAX);
            assert_eq!(read.is_some(), written, "{offset:#x} {width:?}");
        }
    }
    machine.check_list_registers();
}

#[test]
fn wrong_accesses_are_told_apart() {
    let mut machine = Machine::new(2, 4);
    let mut answer = |offset, width| machine.vgic.read(VcpuId::new(0), offset, width).err();
    assert_eq!(answer(0x1000, Width::Word), Some(AccessError::NoDevice));
    assert_eq!(answer(0x002, Width::Word), Some(AccessError::Misaligned));
    assert_eq!(answer(0x401, Width::Half), Some(AccessError::Misaligned));
    for (offset, width) in [
        (CTLR, Width::Byte),
        (TYPER, Width::Half),
        (0x008, Width::Dword),
        (ISENABLER, Width::Byte),
        (ICFGR, Width::Half),
        (IPRIORITYR, Width::Dword),
        (ITARGETSR, Width::Dword),
        (SPENDSGIR, Width::Dword),
        (SGIR, Width::Byte),
        (0xFE8, Width::Half),
    ] {
        let expected = Some(AccessError::InvalidWidth);
        assert_eq!(answer(offset, width), expected, "{offset:#x} {width:?}");
    }
    for (offset, width) in [
        (0x010, Width::Dword),
        (0x00C, Width::Byte),
        (0xE00, Width::Word),
        (0xFC0, Width::Half),
    ] {
        assert_eq!(answer(offset, width), None, "{offset:#x} is reserved");
    }
}

#[test]
fn only_pending_and_active_registers_need_a_fold() {
    let folded: Vec<u64> = (0..0x1000)
        .filter(|offset| Vgic::needs_fold(*offset))
        .collect();
    let expected = (0x200..0x400).chain(0xF10..0xF30);
    assert!(folded.into_iter().eq(expected));
}

#[test]
fn what_lies_beyond_the_last_spi_is_reserved() {
    let mut machine = Machine::new(2, 4);
    for register in [IGROUPR, ISENABLER, ISPENDR, ISACTIVER] {
        machine.write(0, register + 12, Width::Word, u32::MAX);
        assert_eq!(machine.read(0, register + 12, Width::Word), 0);
    }
    machine.write(0, IPRIORITYR + 96, Width::Word, u32::MAX);
    assert_eq!(machine.read(0, IPRIORITYR + 96, Width::Word), 0);
}
