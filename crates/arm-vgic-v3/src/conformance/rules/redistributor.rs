//! The RD_base frames: identity and sleep.

use alloc::format;

use super::list;
use crate::Frame;
use crate::conformance::board::{
    ANY_VCPU, Board, CHILDREN_ASLEEP, GICR_TYPER, GICR_WAKER, ISENABLER, ISPENDR, PIDR2,
    PROCESSOR_SLEEP, SGI_BASE, Verdict, expect, rd_base, require,
};
use crate::conformance::{Factory, Failure, Outcome, Rule};
use vm_contract::Width;

pub(super) const RULES: &[Rule] = list![
    "GICR_TYPER" => [
        redistributors_carry_the_affinities_of_their_vcpus,
        processor_numbers_are_distinct,
        only_the_last_redistributor_ends_the_region,
        redistributor_type_reads_whole_and_by_halves,
    ],
    "GICR_PIDR2" => [architecture_revision_of_redistributors_is_the_same],
    "GICR_TYPER, GICR_IIDR, GICR_PIDR2" => [identification_of_redistributors_is_read_only],
    "GICR register map" => [
        reserved_places_of_redistributors_read_as_zero_and_ignore_writes,
        sgi_base_has_registers_for_32_interrupts_only,
    ],
    "GICR_CTLR, GICR_TYPER.PLPIS" => [lpi_registers_do_nothing_without_lpis],
    "GICR_WAKER" => [
        redistributors_sleep_at_reset,
        redistributor_wakes_and_sleeps_when_told,
        only_processor_sleep_can_be_written,
        sleeping_redistributor_holds_private_interrupts_back,
        sleeping_redistributor_holds_spis_back,
        falling_asleep_retracts_what_was_signalled,
        pending_half_of_an_active_interrupt_waits_as_well,
        each_redistributor_sleeps_for_itself,
        sleeping_redistributor_answers_accesses,
        any_vcpu_does_not_mean_a_sleeping_one,
    ],
];

fn type_of(gic: &mut Board, vcpu: usize) -> Result<u64, Failure> {
    let offset = rd_base(vcpu) + GICR_TYPER;
    gic.read(Frame::Redistributors, offset, Width::Dword)
}

fn redistributors_carry_the_affinities_of_their_vcpus(make: &Factory<'_>) -> Verdict {
    let affinities = [0, 0x0002_0304, 0x12_0034_5678, 0xFF_00FF_FFFF];
    let mut gic = Board::awake(make, &affinities, 32)?;
    for (vcpu, expected) in [0, 0x0002_0304, 0x1234_5678, 0xFFFF_FFFF]
        .into_iter()
        .enumerate()
    {
        let seen = type_of(&mut gic, vcpu)? >> 32;
        expect("GICR_TYPER.Affinity_Value", seen, expected)?;
    }
    Ok(())
}

fn processor_numbers_are_distinct(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[3, 2, 1, 0, 0x100], 32)?;
    let mut seen = 0_u64;
    for vcpu in 0..gic.vcpus() {
        let number = type_of(&mut gic, vcpu)? >> 8 & 0xFFFF;
        require(
            "GICR_TYPER.Processor_Number is below the number of vCPUs",
            number < 5,
        )?;
        require(
            "GICR_TYPER.Processor_Number is unique",
            seen >> number & 1 == 0,
        )?;
        seen |= 1 << number;
    }
    Ok(())
}

fn only_the_last_redistributor_ends_the_region(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0, 1, 2], 32)?;
    for (vcpu, last) in [0, 0, 1].into_iter().enumerate() {
        expect("GICR_TYPER.Last", type_of(&mut gic, vcpu)? >> 4 & 1, last)?;
    }
    Ok(())
}

fn redistributor_type_reads_whole_and_by_halves(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0, 0x7_0003_0201], 32)?;
    let whole = type_of(&mut gic, 1)?;
    let (low, high) = (gic.rd(1, GICR_TYPER)?, gic.rd(1, GICR_TYPER + 4)?);
    expect(
        "GICR_TYPER by halves",
        u64::from(high) << 32 | u64::from(low),
        whole,
    )
}

fn architecture_revision_of_redistributors_is_the_same(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::out_of_reset(make, &[0, 1], 32);
    for vcpu in 0..2 {
        expect("GICR_PIDR2.ArchRev", gic.rd(vcpu, PIDR2)? >> 4 & 0xF, 3)?;
    }
    Ok(())
}

fn identification_of_redistributors_is_read_only(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0, 1], 32)?;
    for offset in [0x4, GICR_TYPER, GICR_TYPER + 4, PIDR2] {
        let before = gic.rd(1, offset)?;
        for value in [0, u32::MAX] {
            gic.set_rd(1, offset, value)?;
            expect("a read-only register", gic.rd(1, offset)?, before)?;
        }
    }
    Ok(())
}

fn reserved_places_of_redistributors_read_as_zero_and_ignore_writes(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    // RD_base, then SGI_base.
    let places = [
        0x30,
        0x80,
        0x100,
        0x200,
        0x400,
        0xC00,
        0x6000,
        0xC000,
        SGI_BASE,
        SGI_BASE + 0x7C,
        SGI_BASE + 0x800,
        SGI_BASE + 0xD80,
        SGI_BASE + 0xFFC,
        SGI_BASE + 0x6100,
    ];
    for offset in places {
        gic.set_rd(1, offset, u32::MAX)?;
        expect(&format!("reserved {offset:#x}"), gic.rd(1, offset)?, 0)?;
    }
    gic.nothing(0)?;
    gic.nothing(1)
}

fn sgi_base_has_registers_for_32_interrupts_only(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for offset in [
        0x84, 0x104, 0x184, 0x204, 0x284, 0x304, 0x384, 0x420, 0xC08, 0xD00, 0xE00,
    ] {
        gic.set_sgi_base(0, offset, u32::MAX)?;
        expect(
            &format!("SGI_base {offset:#x}"),
            gic.sgi_base(0, offset)?,
            0,
        )?;
    }
    gic.nothing(0)
}

fn lpi_registers_do_nothing_without_lpis(make: &Factory<'_>) -> Result<Outcome, Failure> {
    let mut gic = Board::ready(make, 1)?;
    if type_of(&mut gic, 0)? & 1 != 0 {
        return Ok(Outcome::DoesNotApply);
    }
    // CTLR, SETLPIR, CLRLPIR, PROPBASER, PENDBASER, INVLPIR, INVALLR, SYNCR.
    for offset in [0x0, 0x40, 0x48, 0x70, 0x78, 0xA0, 0xB0, 0xC0] {
        gic.set_rd(0, offset, 1)?;
        expect(&format!("RD_base {offset:#x}"), gic.rd(0, offset)?, 0)?;
    }
    Ok(Outcome::Kept)
}

fn redistributors_sleep_at_reset(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::out_of_reset(make, &[0, 1], 32);
    for vcpu in 0..2 {
        let asleep = PROCESSOR_SLEEP | CHILDREN_ASLEEP;
        expect(
            "GICR_WAKER at reset",
            gic.rd(vcpu, GICR_WAKER)? & asleep,
            asleep,
        )?;
    }
    Ok(())
}

fn redistributor_wakes_and_sleeps_when_told(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::out_of_reset(make, &[0], 32);
    for _ in 0..2 {
        gic.wake(0)?;
        expect(
            "ProcessorSleep",
            gic.rd(0, GICR_WAKER)? & PROCESSOR_SLEEP,
            0,
        )?;
        gic.sleep(0)?;
        let asleep = gic.rd(0, GICR_WAKER)? & PROCESSOR_SLEEP;
        expect("ProcessorSleep", asleep, PROCESSOR_SLEEP)?;
    }
    Ok(())
}

fn only_processor_sleep_can_be_written(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 32)?;
    gic.set_rd(0, GICR_WAKER, 0x7FFF_FFF8 | CHILDREN_ASLEEP)?;
    expect("GICR_WAKER", gic.rd(0, GICR_WAKER)?, 0)
}

fn sleeping_redistributor_holds_private_interrupts_back(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.set_priority(1, 3, 0x40)?;
    gic.sleep(1)?;
    gic.send(0, 3, 0b10);
    gic.ppi(1, 20, true);
    gic.nothing(1)?;
    gic.expect_pending(1, 3, true)?;
    gic.expect_pending(1, 20, true)?;
    gic.wake(1)?;
    gic.take_and_end(1, 3)?;
    gic.take(1, 20)
}

fn sleeping_redistributor_holds_spis_back(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.route(50, 1)?;
    gic.sleep(1)?;
    gic.spi(50, true);
    gic.nothing(1)?;
    gic.nothing(0)?;
    gic.expect_pending(0, 50, true)?;
    gic.wake(1)?;
    gic.take(1, 50)
}

fn falling_asleep_retracts_what_was_signalled(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_priority(0, 3, 0x40)?;
    gic.spi(50, true);
    gic.send(0, 3, 1);
    require("an IRQ is signalled", gic.signals(0).irq)?;
    gic.sleep(0)?;
    gic.nothing(0)?;
    gic.wake(0)?;
    gic.take_and_end(0, 3)?;
    gic.take(0, 50)
}

fn pending_half_of_an_active_interrupt_waits_as_well(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for intid in [3, 50] {
        gic.set_bit(0, ISPENDR, intid)?;
        gic.take(0, intid)?;
        gic.set_bit(0, ISPENDR, intid)?;
        gic.sleep(0)?;
        gic.end(0, intid);
        gic.nothing(0)?;
        gic.wake(0)?;
        gic.take_and_end(0, intid)?;
    }
    Ok(())
}

fn each_redistributor_sleeps_for_itself(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.sleep(1)?;
    gic.send(0, 3, 0b11);
    gic.take(0, 3)?;
    gic.nothing(1)
}

fn sleeping_redistributor_answers_accesses(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0, 1], 32)?;
    gic.sleep(1)?;
    gic.set_sgi_base(1, ISENABLER, 0x8001)?;
    expect(
        "GICR_ISENABLER0",
        gic.sgi_base(1, ISENABLER)? & 0x8001,
        0x8001,
    )
}

fn any_vcpu_does_not_mean_a_sleeping_one(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.route(50, ANY_VCPU)?;
    gic.sleep(0)?;
    gic.spi(50, true);
    gic.nothing(0)?;
    gic.take_and_end(1, 50)?;
    gic.spi(50, false);
    gic.wake(0)?;
    gic.sleep(1)?;
    gic.spi(50, true);
    gic.nothing(1)?;
    gic.take(0, 50)
}
