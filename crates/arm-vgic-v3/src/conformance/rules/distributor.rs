//! What the distributor says of itself.

use super::list;
use crate::Frame;
use crate::conformance::board::{
    ANY_VCPU, Board, GICD_CTLR, GICD_TYPER, ICFGR, IGROUPR, IPRIORITYR, IROUTER, ISACTIVER,
    ISENABLER, ISPENDR, PIDR2, Verdict, expect, require,
};
use crate::conformance::{Factory, IccRegister, Rule};
use vm_contract::Width;

pub(super) const RULES: &[Rule] = list![
    "GICD_CTLR" => [
        one_security_state_and_affinity_routing_are_fixed,
        group_enables_read_as_written,
        no_write_to_the_distributor_stays_pending,
        groups_are_disabled_at_reset,
    ],
    "GICD_TYPER" => [
        lines_number_tells_the_last_interrupt,
        id_bits_suffice_for_all_spis,
        message_support_is_told_truly,
        affinity_level_3_is_valid_where_it_is_used,
        range_selectors_are_supported_where_they_are_needed,
        no_second_security_state_is_told,
    ],
    "GICD_PIDR2" => [architecture_revision_is_gicv3],
    "GICD_TYPER, GICD_IIDR, GICD_PIDR2" => [identification_of_the_distributor_is_read_only],
    "GICD register map" => [
        reserved_places_of_the_distributor_read_as_zero_and_ignore_writes,
        security_registers_do_nothing_with_one_security_state,
        interrupts_beyond_lines_number_do_not_exist,
        intids_1020_to_1023_cannot_be_touched,
    ],
    "GICD_CTLR.ARE" => [
        private_interrupts_are_not_in_the_distributor,
        gicv2_registers_do_nothing_with_affinity_routing,
    ],
];

fn one_security_state_and_affinity_routing_are_fixed(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 32)?;
    const ARE_AND_DS: u32 = 0x50;
    for value in [0x13, 0x53, u32::MAX] {
        gic.set_gicd(GICD_CTLR, value)?;
        let seen = gic.gicd(GICD_CTLR)? & ARE_AND_DS;
        expect("GICD_CTLR.DS and ARE", seen, ARE_AND_DS)?;
    }
    Ok(())
}

fn group_enables_read_as_written(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 32)?;
    for groups in [0, 1, 2, 3] {
        gic.set_gicd(GICD_CTLR, 0x50 | groups)?;
        expect(
            "EnableGrp0 and EnableGrp1",
            gic.gicd(GICD_CTLR)? & 3,
            groups,
        )?;
    }
    Ok(())
}

fn no_write_to_the_distributor_stays_pending(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_gicd(ISENABLER + 4, u32::MAX)?;
    expect("GICD_CTLR.RWP", gic.gicd(GICD_CTLR)? >> 31, 0)
}

fn groups_are_disabled_at_reset(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::out_of_reset(make, &[0], 32);
    expect("group enables at reset", gic.gicd(GICD_CTLR)? & 3, 0)
}

fn lines_number_tells_the_last_interrupt(make: &Factory<'_>) -> Verdict {
    for (spi_count, lines) in [(32, 1), (64, 2), (256, 8), (480, 15), (988, 31)] {
        let mut gic = Board::awake(make, &[0], spi_count)?;
        let seen = gic.gicd(GICD_TYPER)? & 0x1F;
        expect("GICD_TYPER.ITLinesNumber", seen, lines)?;
        let last = 31 + u32::from(spi_count);
        gic.set_bit(0, ISENABLER, last)?;
        require("the last SPI can be enabled", gic.bit(0, ISENABLER, last)?)?;
    }
    Ok(())
}

fn id_bits_suffice_for_all_spis(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 988)?;
    let bits = (gic.gicd(GICD_TYPER)? >> 19 & 0x1F) + 1;
    require(
        "GICD_TYPER.IDbits is 10 to 24 bits",
        (10..=24).contains(&bits),
    )
}

fn message_support_is_told_truly(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    let told = gic.gicd(GICD_TYPER)? >> 16 & 1 != 0;
    gic.set_gicd(0x40, 40)?;
    let works = gic.bit(0, ISPENDR, 40)?;
    expect("GICD_TYPER.MBIS", told, works)
}

fn affinity_level_3_is_valid_where_it_is_used(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0, 1 << 32], 32)?;
    expect("GICD_TYPER.A3V", gic.gicd(GICD_TYPER)? >> 24 & 1, 1)
}

fn range_selectors_are_supported_where_they_are_needed(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0, 0x25], 32)?;
    gic.set_icc(0, IccRegister::Sgi1r, 3 << 24 | 2 << 44 | 1 << 5);
    let reached = gic.bit(1, ISPENDR, 3)?;
    expect(
        "GICD_TYPER.RSS",
        gic.gicd(GICD_TYPER)? >> 26 & 1,
        reached.into(),
    )?;
    require("a vCPU of Aff0 above 15 can be sent SGIs", reached)
}

fn no_second_security_state_is_told(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 32)?;
    expect(
        "GICD_TYPER.SecurityExtn",
        gic.gicd(GICD_TYPER)? >> 10 & 1,
        0,
    )
}

fn architecture_revision_is_gicv3(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::out_of_reset(make, &[0], 32);
    expect("GICD_PIDR2.ArchRev", gic.gicd(PIDR2)? >> 4 & 0xF, 3)
}

fn identification_of_the_distributor_is_read_only(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 32)?;
    for offset in [GICD_TYPER, 0x8, PIDR2] {
        let before = gic.gicd(offset)?;
        for value in [0, u32::MAX] {
            gic.set_gicd(offset, value)?;
            expect("a read-only register", gic.gicd(offset)?, before)?;
        }
    }
    Ok(())
}

fn reserved_places_of_the_distributor_read_as_zero_and_ignore_writes(
    make: &Factory<'_>,
) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    // Before the interrupts, between them and the routers, behind those.
    let places = [
        0x20, 0x3C, 0x50, 0x60, 0x7C, 0xD80, 0xFFC, 0x1F00, 0x5FFC, 0xBFFC, 0xC000,
    ];
    for offset in places {
        gic.set_gicd(offset, u32::MAX)?;
        expect(
            &alloc::format!("reserved {offset:#x}"),
            gic.gicd(offset)?,
            0,
        )?;
    }
    gic.nothing(0)
}

fn security_registers_do_nothing_with_one_security_state(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    // SETSPI_SR, CLRSPI_SR, IGRPMODR, NSACR.
    for offset in [0x50, 0x58, 0xD04, 0xE08] {
        gic.set_gicd(offset, 40)?;
        expect(
            &alloc::format!("register {offset:#x}"),
            gic.gicd(offset)?,
            0,
        )?;
    }
    gic.nothing(0)
}

fn interrupts_beyond_lines_number_do_not_exist(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    // INTID 96 is the first that is not there.
    let places = [
        IGROUPR + 12,
        ISENABLER + 12,
        ISPENDR + 12,
        ISACTIVER + 12,
        IPRIORITYR + 96,
        ICFGR + 24,
        IROUTER + 8 * 96,
    ];
    for offset in places {
        gic.set_gicd(offset, u32::MAX)?;
        expect(
            &alloc::format!("register {offset:#x}"),
            gic.gicd(offset)?,
            0,
        )?;
    }
    gic.nothing(0)
}

fn intids_1020_to_1023_cannot_be_touched(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 988)?;
    for register in [IGROUPR, ISENABLER, ISPENDR, ISACTIVER] {
        gic.set_gicd(register + 0x7C, u32::MAX)?;
        let seen = gic.gicd(register + 0x7C)?;
        expect("interrupts of the last bank", seen, 0x0FFF_FFFF)?;
    }
    gic.set_gicd(IPRIORITYR + 1020, u32::MAX)?;
    expect("priorities behind 1019", gic.gicd(IPRIORITYR + 1020)?, 0)?;
    // INTIDs 1008 to 1019 can be configured.
    gic.set_gicd(ISENABLER + 0x7C, 0)?;
    gic.set_gicd(ICFGR + 0xFC, u32::MAX)?;
    expect(
        "configuration",
        gic.gicd(ICFGR + 0xFC)? & !0x5555_5555,
        0x00AA_AAAA,
    )?;
    gic.write(
        Frame::Distributor,
        IROUTER + 8 * 1020,
        Width::Dword,
        ANY_VCPU,
    )?;
    let behind = gic.read(Frame::Distributor, IROUTER + 8 * 1020, Width::Dword)?;
    expect("the router behind 1019", behind, 0)
}

fn private_interrupts_are_not_in_the_distributor(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    let places = [
        IGROUPR,
        ISENABLER,
        0x180,
        ISPENDR,
        0x280,
        ISACTIVER,
        0x380,
        IPRIORITYR,
        IPRIORITYR + 28,
        ICFGR,
        ICFGR + 4,
        IROUTER + 8 * 31,
    ];
    for offset in places {
        expect(
            &alloc::format!("register {offset:#x}"),
            gic.gicd(offset)?,
            0,
        )?;
        gic.set_gicd(offset, u32::MAX)?;
        expect(
            &alloc::format!("register {offset:#x}"),
            gic.gicd(offset)?,
            0,
        )?;
    }
    gic.nothing(0)?;
    let enabled = gic.sgi_base(0, ISENABLER)?;
    expect("the redistributor's enables", enabled, u32::MAX)
}

fn gicv2_registers_do_nothing_with_affinity_routing(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    // ITARGETSR, SGIR, CPENDSGIR, SPENDSGIR.
    for offset in [0x800, 0x820, 0x840, 0xF00, 0xF10, 0xF20] {
        gic.set_gicd(offset, 0x0101_0101)?;
        expect(
            &alloc::format!("register {offset:#x}"),
            gic.gicd(offset)?,
            0,
        )?;
    }
    gic.nothing(0)
}
