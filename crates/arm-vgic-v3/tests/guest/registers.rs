//! What the frames answer: values, widths, reserved places.

use arm_vgic_v3::{Frame, Kicks, ShapeError, Vgic, VgicConfig, VgicError};
use vm_contract::{AccessError, Width};

use crate::machine::{BOOT, IPRIORITYR, IROUTER, ISENABLER};

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
fn identity_is_the_one_that_is_documented() {
    let mut vgic = vgic(&[0, 1], 256);
    let kicks = vgic.write(BOOT, GICD, 0, Width::Word, 0xFFFF_FFFF);
    assert_eq!(kicks, Ok(Kicks::NONE));
    assert_eq!(read(&mut vgic, GICD, 0), 0x53, "both groups, ARE, DS");
    // RSS, A3V, ten bits of INTID, MBIS, INTIDs up to 287.
    assert_eq!(read(&mut vgic, GICD, 4), 0x0549_0008);
    assert_eq!(read(&mut vgic, GICD, 8), 0x4100_0000);
    assert_eq!(read(&mut vgic, GICR, 4), 0x4100_0000);
    for frame in [GICD, GICR] {
        let values: Vec<u64> = (0xFFD0..0x1_0000)
            .step_by(4)
            .map(|offset| read(&mut vgic, frame, offset))
            .collect();
        // PIDR4 to 7, PIDR0 to 3, CIDR0 to 3: a CoreSight component, GICv3.
        let expected = [0x44, 0, 0, 0, 0x92, 0xB4, 0x3B, 0, 0x0D, 0xF0, 0x05, 0xB1];
        assert_eq!(values, expected);
    }
    assert_eq!(Frame::Distributor.size_bytes(2), 0x1_0000);
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
