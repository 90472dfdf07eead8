//! The registers that describe interrupts: what they hold and show.

use alloc::format;

use super::list;
use crate::Frame;
use crate::conformance::board::{
    ANY_VCPU, Board, ICACTIVER, ICENABLER, ICFGR, ICPENDR, IGROUPR, IPRIORITYR, IROUTER, ISACTIVER,
    ISENABLER, ISPENDR, Verdict, expect, require,
};
use crate::conformance::{Factory, Rule};
use vm_contract::Width;

pub(super) const RULES: &[Rule] = list![
    "GICD_ISENABLER<n>, GICD_ICENABLER<n>" => [
        enables_are_set_and_cleared_by_ones_only,
        enables_of_spis_are_clear_at_reset,
    ],
    "GICR_ISENABLER0, GICR_ICENABLER0" => [private_enables_belong_to_one_vcpu],
    "GICD_ISPENDR<n>, GICD_ICPENDR<n>" => [pending_bits_are_set_and_cleared_by_ones_only],
    "GICR_ISPENDR0, GICR_ICPENDR0" => [private_pending_bits_are_set_and_cleared],
    "GICD_ISACTIVER<n>, GICD_ICACTIVER<n>" => [active_bits_are_set_and_cleared_by_ones_only],
    "GICR_ISACTIVER0, GICR_ICACTIVER0" => [private_active_bits_are_set_and_cleared],
    "GICD_ISPENDR<n>, GICD_ISACTIVER<n>" => [nothing_is_pending_or_active_at_reset],
    "GICD_IGROUPR<n>" => [groups_read_as_written],
    "GICR_IGROUPR0" => [private_groups_belong_to_one_vcpu],
    "GICD_IPRIORITYR<n>" => [
        priorities_are_written_by_bytes_and_words,
        lowest_priority_bits_are_not_implemented_or_hold,
        at_least_sixteen_priorities_are_told_apart,
        all_priorities_implement_the_same_bits,
    ],
    "GICR_IPRIORITYR<n>" => [private_priorities_belong_to_one_vcpu],
    "GICD_ICFGR<n>" => [
        configuration_of_spis_reads_as_written,
        low_bits_of_configuration_fields_are_zero,
    ],
    "GICR_ICFGR0" => [sgis_are_edge_triggered_for_good],
    "GICR_ICFGR1" => [configuration_of_ppis_belongs_to_one_vcpu],
    "GICD_IROUTER<n>" => [
        routes_read_as_written_without_reserved_bits,
        routes_are_written_by_halves,
        every_spi_has_a_route_of_its_own,
    ],
];

/// Writes some bits through a pair of set and clear registers and looks at both.
fn check_pair(
    gic: &mut Board,
    frame: Frame,
    (set, clear): (u64, u64),
    (first, second): (u32, u32),
) -> Verdict {
    let mut step = |offset: u64, value: u32, shown: u32| -> Verdict {
        gic.write(frame, offset, Width::Word, value.into())?;
        for register in [set, clear] {
            let seen = gic.read(frame, register, Width::Word)?;
            expect(
                &format!("{register:#x} after {value:#x} at {offset:#x}"),
                seen,
                shown.into(),
            )?;
        }
        Ok(())
    };
    step(set, first, first)?;
    step(set, second, first | second)?;
    step(set, 0, first | second)?;
    step(clear, 0, first | second)?;
    step(clear, second, first & !second)?;
    step(clear, second, first & !second)?;
    step(clear, u32::MAX, 0)
}

const SOME_BITS: (u32, u32) = (0x8421_0F0F, 0x00FF_F001);

fn enables_are_set_and_cleared_by_ones_only(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 64)?;
    for bank in [4, 8] {
        let pair = (ISENABLER + bank, ICENABLER + bank);
        check_pair(&mut gic, Frame::Distributor, pair, SOME_BITS)?;
    }
    Ok(())
}

fn enables_of_spis_are_clear_at_reset(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::out_of_reset(make, &[0], 64);
    for bank in [4, 8] {
        expect("GICD_ISENABLER at reset", gic.gicd(ISENABLER + bank)?, 0)?;
    }
    Ok(())
}

/// Checks a pair of registers of vCPU 1, and that vCPU 0's stays as it was.
fn check_private_pair(make: &Factory<'_>, set: u64, clear: u64) -> Verdict {
    let mut gic = Board::awake(make, &[0, 1], 32)?;
    gic.set_sgi_base(0, set, 0x10)?;
    let base = 0x3_0000;
    check_pair(
        &mut gic,
        Frame::Redistributors,
        (base + set, base + clear),
        SOME_BITS,
    )?;
    expect("vCPU 0's register", gic.sgi_base(0, set)?, 0x10)
}

fn private_enables_belong_to_one_vcpu(make: &Factory<'_>) -> Verdict {
    check_private_pair(make, ISENABLER, ICENABLER)
}

fn pending_bits_are_set_and_cleared_by_ones_only(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 64)?;
    check_pair(
        &mut gic,
        Frame::Distributor,
        (ISPENDR + 4, ICPENDR + 4),
        SOME_BITS,
    )?;
    check_pair(
        &mut gic,
        Frame::Distributor,
        (ISPENDR + 8, ICPENDR + 8),
        SOME_BITS,
    )
}

fn private_pending_bits_are_set_and_cleared(make: &Factory<'_>) -> Verdict {
    check_private_pair(make, ISPENDR, ICPENDR)
}

fn active_bits_are_set_and_cleared_by_ones_only(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 64)?;
    check_pair(
        &mut gic,
        Frame::Distributor,
        (ISACTIVER + 4, ICACTIVER + 4),
        SOME_BITS,
    )?;
    check_pair(
        &mut gic,
        Frame::Distributor,
        (ISACTIVER + 8, ICACTIVER + 8),
        SOME_BITS,
    )
}

fn private_active_bits_are_set_and_cleared(make: &Factory<'_>) -> Verdict {
    check_private_pair(make, ISACTIVER, ICACTIVER)
}

fn nothing_is_pending_or_active_at_reset(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::out_of_reset(make, &[0, 1], 32);
    for register in [ISPENDR, ISACTIVER] {
        expect("SPIs at reset", gic.gicd(register + 4)?, 0)?;
        for vcpu in 0..2 {
            expect("SGIs and PPIs at reset", gic.sgi_base(vcpu, register)?, 0)?;
        }
    }
    Ok(())
}

fn groups_read_as_written(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 64)?;
    for value in [0xF0F0_1234, 0, u32::MAX] {
        gic.set_gicd(IGROUPR + 4, value)?;
        gic.set_gicd(IGROUPR + 8, !value)?;
        expect("GICD_IGROUPR1", gic.gicd(IGROUPR + 4)?, value)?;
        expect("GICD_IGROUPR2", gic.gicd(IGROUPR + 8)?, !value)?;
    }
    Ok(())
}

fn private_groups_belong_to_one_vcpu(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0, 1], 32)?;
    gic.set_sgi_base(0, IGROUPR, 0x1234_5678)?;
    gic.set_sgi_base(1, IGROUPR, 0x8765_4321)?;
    expect(
        "GICR_IGROUPR0 of vCPU 0",
        gic.sgi_base(0, IGROUPR)?,
        0x1234_5678,
    )?;
    expect(
        "GICR_IGROUPR0 of vCPU 1",
        gic.sgi_base(1, IGROUPR)?,
        0x8765_4321,
    )
}

fn priorities_are_written_by_bytes_and_words(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 64)?;
    let base = IPRIORITYR + 60;
    gic.set_gicd(base, 0x1020_3040)?;
    gic.write(Frame::Distributor, base + 1, Width::Byte, 0xC0)?;
    gic.write(Frame::Distributor, base + 7, Width::Byte, 0xD0)?;
    expect("GICD_IPRIORITYR15", gic.gicd(base)?, 0x1020_C040)?;
    expect("GICD_IPRIORITYR16", gic.gicd(base + 4)?, 0xD000_0000)?;
    for (n, expected) in [0x40, 0xC0, 0x20, 0x10].into_iter().enumerate() {
        let seen = gic.read(Frame::Distributor, base + n as u64, Width::Byte)?;
        expect("a priority byte", seen, expected)?;
    }
    Ok(())
}

fn lowest_priority_bits_are_not_implemented_or_hold(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 32)?;
    gic.set_priority(0, 33, 0xFF)?;
    let all = gic.read(Frame::Distributor, IPRIORITYR + 33, Width::Byte)?;
    let unimplemented = !all & 0xFF;
    require(
        "unimplemented bits are the lowest",
        unimplemented & (unimplemented + 1) == 0,
    )?;
    gic.set_priority(0, 33, 0)?;
    gic.set_priority(0, 34, 0x55)?;
    let seen = gic.read(Frame::Distributor, IPRIORITYR + 34, Width::Byte)?;
    expect("a priority", seen, 0x55 & all)?;
    let seen = gic.read(Frame::Distributor, IPRIORITYR + 33, Width::Byte)?;
    expect("a priority", seen, 0)
}

fn at_least_sixteen_priorities_are_told_apart(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 32)?;
    for priority in (0..=0xF0).step_by(0x10) {
        gic.set_priority(0, 40, priority)?;
        let seen = gic.read(Frame::Distributor, IPRIORITYR + 40, Width::Byte)?;
        expect("a priority", seen, priority.into())?;
    }
    Ok(())
}

fn all_priorities_implement_the_same_bits(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0, 1], 32)?;
    gic.set_gicd(IPRIORITYR + 32, u32::MAX)?;
    let expected = gic.gicd(IPRIORITYR + 32)?;
    for n in 0..8 {
        gic.set_gicd(IPRIORITYR + 32 + 4 * n, u32::MAX)?;
        expect(
            "GICD_IPRIORITYR",
            gic.gicd(IPRIORITYR + 32 + 4 * n)?,
            expected,
        )?;
        gic.set_sgi_base(1, IPRIORITYR + 4 * n, u32::MAX)?;
        let seen = gic.sgi_base(1, IPRIORITYR + 4 * n)?;
        expect("GICR_IPRIORITYR", seen, expected)?;
    }
    Ok(())
}

fn private_priorities_belong_to_one_vcpu(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0, 1], 32)?;
    for n in 0..8 {
        gic.set_sgi_base(0, IPRIORITYR + 4 * n, 0x1020_3040)?;
        gic.set_sgi_base(1, IPRIORITYR + 4 * n, 0x5060_7080)?;
    }
    for n in 0..8 {
        let seen = (
            gic.sgi_base(0, IPRIORITYR + 4 * n)?,
            gic.sgi_base(1, IPRIORITYR + 4 * n)?,
        );
        expect("priorities of both vCPUs", seen, (0x1020_3040, 0x5060_7080))?;
    }
    Ok(())
}

fn configuration_of_spis_reads_as_written(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 64)?;
    // INTIDs 32–47, 48–63, 64–79, 80–95.
    let values = [0x8000_0002, 0x0AA0_0000, 0xAAAA_AAAA, 0];
    for (n, value) in (2..).zip(values) {
        gic.set_gicd(ICFGR + 4 * n, value)?;
    }
    for (n, value) in (2..).zip(values) {
        expect("GICD_ICFGR", gic.gicd(ICFGR + 4 * n)?, value)?;
    }
    Ok(())
}

fn low_bits_of_configuration_fields_are_zero(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 32)?;
    gic.set_gicd(ICFGR + 8, u32::MAX)?;
    expect("GICD_ICFGR2", gic.gicd(ICFGR + 8)?, 0xAAAA_AAAA)?;
    gic.set_gicd(ICFGR + 8, 0x5555_5555)?;
    expect("GICD_ICFGR2", gic.gicd(ICFGR + 8)?, 0)
}

fn sgis_are_edge_triggered_for_good(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0, 1], 32)?;
    for value in [0, u32::MAX] {
        gic.set_sgi_base(1, ICFGR, value)?;
        expect("GICR_ICFGR0", gic.sgi_base(1, ICFGR)?, 0xAAAA_AAAA)?;
    }
    Ok(())
}

fn configuration_of_ppis_belongs_to_one_vcpu(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0, 1], 32)?;
    let before = gic.sgi_base(0, ICFGR + 4)?;
    for value in [0x8000_0002, 0x2A00_00A8] {
        gic.set_sgi_base(1, ICFGR + 4, value)?;
        // Whether PPIs can be configured is the implementation's choice.
        let seen = gic.sgi_base(1, ICFGR + 4)?;
        require(
            "GICR_ICFGR1 holds or is fixed",
            seen == value || seen == before,
        )?;
        expect("vCPU 0's GICR_ICFGR1", gic.sgi_base(0, ICFGR + 4)?, before)?;
    }
    Ok(())
}

fn routes_read_as_written_without_reserved_bits(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 64)?;
    let router = IROUTER + 8 * 40;
    for (value, expected) in [
        (u64::MAX, 0xFF_80FF_FFFF),
        (0x12_0034_5678, 0x12_0034_5678),
        (ANY_VCPU, ANY_VCPU),
        (0, 0),
    ] {
        gic.write(Frame::Distributor, router, Width::Dword, value)?;
        let seen = gic.read(Frame::Distributor, router, Width::Dword)?;
        expect("GICD_IROUTER40", seen, expected)?;
    }
    Ok(())
}

fn routes_are_written_by_halves(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 64)?;
    let router = IROUTER + 8 * 40;
    gic.set_gicd(router, 0x8001_0203)?;
    gic.set_gicd(router + 4, 0x04)?;
    let whole = gic.read(Frame::Distributor, router, Width::Dword)?;
    expect("GICD_IROUTER40", whole, 0x04_8001_0203)?;
    gic.set_gicd(router, 7)?;
    expect("the lower half", gic.gicd(router)?, 7)?;
    expect("the upper half", gic.gicd(router + 4)?, 4)
}

fn every_spi_has_a_route_of_its_own(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 988)?;
    for intid in 32..1020 {
        gic.route(intid, intid.into())?;
    }
    for intid in 32..1020_u64 {
        let seen = gic.read(Frame::Distributor, IROUTER + 8 * intid, Width::Dword)?;
        // Aff1 and Aff0.
        expect("a route", seen, intid)?;
    }
    Ok(())
}
