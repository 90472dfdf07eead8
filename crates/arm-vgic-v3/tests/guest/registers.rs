//! What the frames answer: values, widths, reserved places.

use arm_vgic_v3::{Frame, Kicks, ShapeError, Vgic, VgicConfig, VgicError};
use vm_contract::{AccessError, VcpuId, Width};

use crate::machine::{BOOT, ICENABLER, ICFGR, IGROUPR, IPRIORITYR, IROUTER, ISENABLER, Machine};

const GICD: Frame = Frame::Distributor;
const GICR: Frame = Frame::Redistributors;
/// The SGI_base frame of vCPU 1.
const SGI_BASE_1: u64 = 0x3_0000;

fn vgic(affinities: &[u64], spi_count: u16) -> Vgic {
    Vgic::new(&VgicConfig {
        affinities,
        spi_count,
    })
    .expect("a valid configuration")
}

fn read(vgic: &mut Vgic, frame: Frame, offset: u64) -> u64 {
    vgic.read(BOOT, frame, offset, Width::Word)
        .expect("a good access")
}

#[test]
fn distributor_says_what_it_is() {
    let mut vgic = vgic(&[0, 1], 256);
    assert_eq!(read(&mut vgic, GICD, 0), 0x50, "ARE and DS");
    assert_eq!(read(&mut vgic, GICD, 4) & 0x1F, 8, "INTIDs up to 287");
    assert_eq!(
        read(&mut vgic, GICD, 4) >> 19 & 0x1F,
        9,
        "ten bits of INTID"
    );
    assert_eq!(read(&mut vgic, GICD, 0xFFE8) >> 4 & 0xF, 3, "GICv3");
    assert_eq!(
        vgic.write(BOOT, GICD, 0, Width::Word, 0xFFFF_FFFF),
        Ok(Kicks::NONE)
    );
    assert_eq!(read(&mut vgic, GICD, 0), 0x53, "no write is ever pending");
}

#[test]
fn redistributors_carry_affinity_number_and_last() {
    let mut vgic = vgic(&[0x0, 0x7_0003_0201], 32);
    let typer = |vgic: &mut Vgic, vcpu: u64| {
        vgic.read(BOOT, GICR, vcpu * 0x2_0000 + 8, Width::Dword)
            .expect("a good access")
    };
    assert_eq!(typer(&mut vgic, 0), 0);
    assert_eq!(typer(&mut vgic, 1), 0x0703_0201 << 32 | 1 << 8 | 1 << 4);
    assert_eq!(read(&mut vgic, GICR, 0x2_000C), 0x0703_0201, "upper half");
    assert_eq!(read(&mut vgic, GICR, 0x2_0008), 0x110, "lower half");
    assert_eq!(read(&mut vgic, GICR, 0xFFE8) >> 4 & 0xF, 3, "GICv3");
    assert_eq!(
        vgic.read(BOOT, GICR, 0x4_0000, Width::Word),
        Err(AccessError::NoDevice)
    );
    assert_eq!(Frame::Redistributors.size_bytes(2), 0x4_0000);
}

#[test]
fn last_redistributor_of_each_region_says_so() {
    let last = |counts: &[usize]| -> Vec<u16> {
        let mut vgic =
            vgic(&[0, 1, 2, 3, 4], 32).with_redistributor_regions(counts.iter().copied());
        vgic.reset();
        let mut is_last = |vcpu: u16| {
            let typer = vgic.read(BOOT, GICR, u64::from(vcpu) * 0x2_0000 + 8, Width::Dword);
            typer.expect("a good access") >> 4 & 1 != 0
        };
        (0..5).filter(|&vcpu| is_last(vcpu)).collect()
    };
    assert_eq!(last(&[]), [4]);
    assert_eq!(last(&[5]), [4]);
    assert_eq!(last(&[3, 2]), [2, 4]);
    assert_eq!(last(&[1, 0, 1, 200]), [0, 1, 4]);
    assert_eq!(last(&[5, 7, usize::MAX]), [4]);
}

#[test]
fn waker_wakes_and_sleeps_at_once() {
    let mut machine = Machine::ready(1, 4);
    machine.write(GICR, 0x14, Width::Word, 0b010);
    assert_eq!(read(&mut machine.vgic, GICR, 0x14), 0b110);
    machine.write(GICR, 0x14, Width::Word, 0);
    assert_eq!(read(&mut machine.vgic, GICR, 0x14), 0);
    machine.write(GICR, 0x14, Width::Word, 0b010);
    assert_eq!(read(&mut machine.vgic, GICR, 0x14), 0b110);
}

#[test]
fn set_and_clear_registers_read_the_same_state() {
    let mut machine = Machine::with_cpus(2, &arm_vgic_v3::FakeIch::new(4));
    machine.gicd(ISENABLER + 4, 0xF0F0);
    machine.gicd(ICENABLER + 4, 0x00F0);
    machine.gicr(1, ISENABLER, 0xFF);
    assert_eq!(read(&mut machine.vgic, GICD, ISENABLER + 4), 0xF000);
    assert_eq!(read(&mut machine.vgic, GICD, ICENABLER + 4), 0xF000);
    assert_eq!(read(&mut machine.vgic, GICR, SGI_BASE_1 + ICENABLER), 0xFF);
    assert_eq!(
        read(&mut machine.vgic, GICR, 0x1_0000 + ISENABLER),
        0,
        "each vCPU its own"
    );
}

#[test]
fn private_banks_of_the_distributor_read_as_zero() {
    let mut machine = Machine::ready(1, 4);
    for offset in [
        IGROUPR,
        ISENABLER,
        0x200,
        0x300,
        IPRIORITYR,
        ICFGR,
        ICFGR + 4,
    ] {
        machine.gicd(offset, u32::MAX);
        assert_eq!(read(&mut machine.vgic, GICD, offset), 0, "{offset:#x}");
    }
    assert_eq!(machine.ack(BOOT), None, "nor did ISPENDR0 do anything");
}

#[test]
fn priorities_keep_their_implemented_bits_by_byte_and_word() {
    let mut machine = Machine::with_cpus(1, &arm_vgic_v3::FakeIch::new(4));
    machine.write(GICD, IPRIORITYR + 33, Width::Byte, 0xFF);
    machine.write(GICD, IPRIORITYR + 36, Width::Word, 0x1122_3344);
    assert_eq!(read(&mut machine.vgic, GICD, IPRIORITYR + 32), 0xF800);
    assert_eq!(read(&mut machine.vgic, GICD, IPRIORITYR + 36), 0x1020_3040);
    let byte = machine.vgic.read(BOOT, GICD, IPRIORITYR + 39, Width::Byte);
    assert_eq!(byte, Ok(0x10));
    let config = VgicConfig {
        affinities: &[0],
        spi_count: 32,
    };
    let mut fine = Vgic::new(&config).expect("valid").with_priority_bits(7);
    let kicks = fine.write(BOOT, GICD, IPRIORITYR + 32, Width::Byte, 0xFF);
    assert_eq!(kicks, Ok(Kicks::NONE));
    assert_eq!(read(&mut fine, GICD, IPRIORITYR + 32), 0xFE);
}

#[test]
fn configuration_of_sgis_is_fixed_and_of_others_is_not() {
    let mut machine = Machine::with_cpus(2, &arm_vgic_v3::FakeIch::new(4));
    machine.gicr(1, ICFGR, 0);
    machine.gicr(1, ICFGR + 4, 0x8000_0003);
    machine.gicd(ICFGR + 8, 0xFFFF_FFFF);
    assert_eq!(
        read(&mut machine.vgic, GICR, SGI_BASE_1 + ICFGR),
        0xAAAA_AAAA
    );
    assert_eq!(
        read(&mut machine.vgic, GICR, SGI_BASE_1 + ICFGR + 4),
        0x8000_0002
    );
    assert_eq!(read(&mut machine.vgic, GICD, ICFGR + 8), 0xAAAA_AAAA);
}

#[test]
fn routers_are_written_whole_and_by_halves() {
    let mut machine = Machine::with_cpus(1, &arm_vgic_v3::FakeIch::new(4));
    let router = IROUTER + 8 * 40;
    machine.write(GICD, router, Width::Dword, u64::MAX);
    let whole = machine.vgic.read(BOOT, GICD, router, Width::Dword);
    assert_eq!(whole, Ok(0xFF_80FF_FFFF), "affinities and the routing mode");
    machine.write(GICD, router, Width::Word, 3);
    assert_eq!(read(&mut machine.vgic, GICD, router), 3);
    assert_eq!(read(&mut machine.vgic, GICD, router + 4), 0xFF);
    machine.write(GICD, router + 4, Width::Word, 0x12);
    assert_eq!(
        machine.vgic.read(BOOT, GICD, router, Width::Dword),
        Ok(0x12_0000_0003)
    );
    machine.write(GICD, IROUTER + 8 * 5, Width::Dword, 1);
    assert_eq!(read(&mut machine.vgic, GICD, IROUTER + 8 * 5), 0, "no SPI");
}

#[test]
fn interrupts_that_do_not_exist_cannot_be_touched() {
    let mut vgic = vgic(&[0], 988);
    assert_eq!(read(&mut vgic, GICD, 4) & 0x1F, 31);
    for offset in [ISENABLER + 0x7C, IPRIORITYR + 1020, IROUTER + 8 * 1019] {
        let kicks = vgic.write(BOOT, GICD, offset, Width::Word, 0xFFFF_FFFF);
        assert_eq!(kicks, Ok(Kicks::NONE));
    }
    assert_eq!(read(&mut vgic, GICD, ISENABLER + 0x7C), 0x0FFF_FFFF);
    assert_eq!(read(&mut vgic, GICD, IPRIORITYR + 1020), 0);
    let mut none = self::vgic(&[0], 0);
    assert_eq!(
        none.write(BOOT, GICD, ISENABLER + 4, Width::Word, 1),
        Ok(Kicks::NONE)
    );
    assert_eq!(read(&mut none, GICD, ISENABLER + 4), 0);
}

#[test]
fn wrong_widths_and_alignments_are_told_apart() {
    let mut vgic = vgic(&[0], 32);
    let mut result = |offset, width| vgic.read(BOOT, GICD, offset, width);
    assert_eq!(result(0, Width::Byte), Err(AccessError::InvalidWidth));
    assert_eq!(result(0, Width::Dword), Err(AccessError::InvalidWidth));
    assert_eq!(
        result(ISENABLER + 4, Width::Half),
        Err(AccessError::InvalidWidth)
    );
    assert_eq!(
        result(IPRIORITYR + 32, Width::Half),
        Err(AccessError::InvalidWidth)
    );
    assert_eq!(
        result(IROUTER + 8 * 32, Width::Byte),
        Err(AccessError::InvalidWidth)
    );
    assert_eq!(result(2, Width::Word), Err(AccessError::Misaligned));
    assert_eq!(result(0x1_0000, Width::Word), Err(AccessError::NoDevice));
    assert_eq!(result(0x5000, Width::Word), Ok(0), "reserved");
    let halfword = vgic.write(BOOT, GICD, 0x40, Width::Half, 33);
    assert_eq!(halfword, Ok(Kicks::NONE), "SETSPI takes halfwords");
}

#[test]
fn only_pending_and_active_registers_need_a_fold() {
    for (offset, needed) in [
        (0, false),
        (ISENABLER + 4, false),
        (0x204, true),
        (0x284, true),
        (0x304, true),
    ] {
        assert_eq!(Vgic::needs_fold(GICD, offset), needed, "{offset:#x}");
        assert_eq!(
            Vgic::needs_fold(GICR, SGI_BASE_1 + (offset & !4)),
            needed,
            "{offset:#x}"
        );
        assert!(!Vgic::needs_fold(GICR, offset), "RD_base");
    }
    assert!(
        !Vgic::needs_fold(GICR, SGI_BASE_1 + 0x204),
        "there is one bank only"
    );
}

#[test]
fn impossible_shapes_are_refused() {
    let error = |affinities: &[u64], spi_count| {
        Vgic::new(&VgicConfig {
            affinities,
            spi_count,
        })
        .err()
    };
    assert_eq!(error(&[], 32), Some(ShapeError::VcpuCount(0).into()));
    assert_eq!(
        error(&[0; 257], 32),
        Some(ShapeError::VcpuCount(257).into())
    );
    assert_eq!(error(&[0], 989), Some(ShapeError::SpiCount(989).into()));
    assert_eq!(error(&[5, 5], 32), Some(VgicError::DuplicateAffinity(5)));
}

#[test]
fn largest_vgic_works_to_its_last_vcpu_and_interrupt() {
    let affinities: Vec<u64> = (0..256).map(|n| (n / 16 * 0x100) + n % 16).collect();
    let mut vgic = vgic(&affinities, 988);
    assert_eq!(
        vgic.write(BOOT, GICD, IROUTER + 8 * 1019, Width::Dword, 0xF0F),
        Ok(Kicks::NONE)
    );
    assert_eq!(
        vgic.write(BOOT, GICD, ISENABLER + 0x7C, Width::Word, 1 << 27),
        Ok(Kicks::NONE)
    );
    assert_eq!(vgic.write(BOOT, GICD, 0, Width::Word, 1), Ok(Kicks::NONE));
    let asleep = vgic.set_spi_level(crate::machine::id(1019), true);
    assert!(asleep.is_empty());
    let kicks = vgic.set_awake(VcpuId::new(255), true);
    assert_eq!(kicks.iter().map(VcpuId::raw).collect::<Vec<_>>(), [255]);
}
