//! How interrupts become pending and what becomes of them: edge and level.

use super::list;
use crate::conformance::board::{Board, ICENABLER, ICPENDR, ISENABLER, ISPENDR, Verdict, require};
use crate::conformance::{Factory, Rule};

pub(super) const RULES: &[Rule] = list![
    "Interrupt lifecycle, level-sensitive" => [
        level_interrupt_comes_again_while_its_wire_is_high,
        level_interrupt_goes_when_its_wire_falls,
        level_interrupt_is_pending_and_active_while_its_wire_is_high,
        level_interrupt_whose_wire_fell_in_between_is_done_with_its_end,
        level_that_rises_again_while_active_comes_after_the_end,
        repeated_level_means_nothing,
        ppi_levels_belong_to_one_vcpu,
    ],
    "Interrupt lifecycle, edge-triggered" => [
        edge_stays_pending_when_the_wire_falls,
        edges_before_the_acknowledgement_merge,
        edge_while_active_comes_after_the_end,
        edge_is_not_repeated_by_a_wire_that_stays_high,
        acknowledged_edge_is_active_and_not_pending,
        edge_of_a_disabled_interrupt_is_remembered,
    ],
    "ICC_IAR1_EL1" => [
        nothing_pending_reads_as_spurious,
        interrupt_that_went_before_the_acknowledgement_is_spurious,
        each_interrupt_is_acknowledged_once,
    ],
    "GICD_ISPENDR<n>" => [
        pending_written_to_a_level_interrupt_lasts_until_it_is_taken,
        pending_written_to_a_level_interrupt_outlives_its_wire,
        pending_can_be_written_while_active,
    ],
    "GICD_ICPENDR<n>" => [
        clearing_pending_withdraws_an_edge,
        clearing_pending_leaves_what_a_wire_asserts,
        clearing_pending_leaves_the_active_state,
        clearing_pending_ends_a_written_pending_state,
    ],
    "GICR_ISPENDR0, GICR_ICPENDR0" => [
        pending_sgi_can_be_written_and_withdrawn,
        pending_ppi_cannot_be_cleared_while_its_wire_is_high,
    ],
    "GICD_ICENABLER<n>" => [
        disabled_interrupt_stays_pending_and_comes_when_enabled,
        disabling_retracts_a_pending_interrupt,
        disabling_leaves_an_active_interrupt_alone,
    ],
    "GICR_ICENABLER0" => [disabled_private_interrupt_waits],
];

fn level_interrupt_comes_again_while_its_wire_is_high(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.spi(33, true);
    for _ in 0..3 {
        gic.take(0, 33)?;
        gic.nothing(0)?;
        gic.end(0, 33);
    }
    gic.spi(33, false);
    gic.nothing(0)
}

fn level_interrupt_goes_when_its_wire_falls(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.spi(33, true);
    require("an IRQ is signalled", gic.signals(0).irq)?;
    gic.expect_pending(0, 33, true)?;
    gic.spi(33, false);
    gic.expect_pending(0, 33, false)?;
    gic.nothing(0)
}

fn level_interrupt_is_pending_and_active_while_its_wire_is_high(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.spi(33, true);
    gic.take(0, 33)?;
    gic.expect_active(0, 33, true)?;
    gic.expect_pending(0, 33, true)?;
    gic.spi(33, false);
    gic.expect_active(0, 33, true)?;
    gic.expect_pending(0, 33, false)
}

fn level_interrupt_whose_wire_fell_in_between_is_done_with_its_end(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.spi(33, true);
    gic.take(0, 33)?;
    gic.spi(33, false);
    gic.end(0, 33);
    gic.expect_active(0, 33, false)?;
    gic.nothing(0)
}

fn level_that_rises_again_while_active_comes_after_the_end(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.spi(33, true);
    gic.take(0, 33)?;
    gic.spi(33, false);
    gic.spi(33, true);
    gic.nothing(0)?;
    gic.end(0, 33);
    gic.take(0, 33)
}

fn repeated_level_means_nothing(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.configure(40, true)?;
    for intid in [33, 40] {
        gic.spi(intid, true);
        gic.spi(intid, true);
        gic.take(0, intid)?;
        gic.spi(intid, true);
        gic.spi(intid, false);
        gic.spi(intid, false);
        gic.end(0, intid);
        gic.nothing(0)?;
    }
    Ok(())
}

fn ppi_levels_belong_to_one_vcpu(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.ppi(1, 27, true);
    gic.ppi(0, 30, true);
    gic.expect_pending(0, 27, false)?;
    gic.expect_pending(1, 30, false)?;
    gic.take(1, 27)?;
    gic.nothing(1)?;
    gic.end(1, 27);
    gic.take(1, 27)?;
    gic.ppi(1, 27, false);
    gic.end(1, 27);
    gic.nothing(1)?;
    gic.take(0, 30)
}

fn edge_stays_pending_when_the_wire_falls(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.configure(40, true)?;
    gic.pulse(40);
    gic.expect_pending(0, 40, true)?;
    gic.take_and_end(0, 40)?;
    gic.nothing(0)
}

fn edges_before_the_acknowledgement_merge(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.configure(40, true)?;
    for _ in 0..3 {
        gic.pulse(40);
    }
    gic.take_and_end(0, 40)?;
    gic.nothing(0)
}

fn edge_while_active_comes_after_the_end(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.configure(40, true)?;
    gic.pulse(40);
    gic.take(0, 40)?;
    gic.pulse(40);
    gic.expect_pending(0, 40, true)?;
    gic.expect_active(0, 40, true)?;
    gic.nothing(0)?;
    gic.end(0, 40);
    gic.take_and_end(0, 40)?;
    gic.nothing(0)
}

fn edge_is_not_repeated_by_a_wire_that_stays_high(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.configure(40, true)?;
    gic.spi(40, true);
    gic.take_and_end(0, 40)?;
    gic.expect_pending(0, 40, false)?;
    gic.nothing(0)?;
    gic.spi(40, false);
    gic.nothing(0)?;
    gic.spi(40, true);
    gic.take(0, 40)
}

fn acknowledged_edge_is_active_and_not_pending(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.configure(40, true)?;
    gic.spi(40, true);
    gic.take(0, 40)?;
    gic.expect_pending(0, 40, false)?;
    gic.expect_active(0, 40, true)?;
    gic.end(0, 40);
    gic.expect_active(0, 40, false)
}

fn edge_of_a_disabled_interrupt_is_remembered(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.configure(40, true)?;
    gic.set_bit(0, ICENABLER, 40)?;
    gic.pulse(40);
    gic.nothing(0)?;
    gic.set_bit(0, ISENABLER, 40)?;
    gic.take(0, 40)
}

fn nothing_pending_reads_as_spurious(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.nothing(0)?;
    gic.nothing(1)
}

fn interrupt_that_went_before_the_acknowledgement_is_spurious(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.spi(33, true);
    gic.spi(34, true);
    gic.spi(33, false);
    gic.take_and_end(0, 34)?;
    gic.spi(34, false);
    gic.nothing(0)
}

fn each_interrupt_is_acknowledged_once(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for (intid, priority) in [(33, 0x80), (34, 0x60), (20, 0x40), (3, 0x20)] {
        gic.set_priority(0, intid, priority)?;
        gic.set_bit(0, ISPENDR, intid)?;
        gic.take(0, intid)?;
        gic.nothing(0)?;
    }
    Ok(())
}

fn pending_written_to_a_level_interrupt_lasts_until_it_is_taken(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_bit(0, ISPENDR, 50)?;
    gic.expect_pending(0, 50, true)?;
    gic.take(0, 50)?;
    gic.expect_pending(0, 50, false)?;
    gic.end(0, 50);
    gic.nothing(0)
}

fn pending_written_to_a_level_interrupt_outlives_its_wire(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_bit(0, ISPENDR, 50)?;
    gic.spi(50, true);
    gic.spi(50, false);
    gic.expect_pending(0, 50, true)?;
    gic.take(0, 50)
}

fn pending_can_be_written_while_active(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for intid in [50, 20, 3] {
        gic.set_bit(0, ISPENDR, intid)?;
        gic.take(0, intid)?;
        gic.set_bit(0, ISPENDR, intid)?;
        gic.expect_pending(0, intid, true)?;
        gic.expect_active(0, intid, true)?;
        gic.nothing(0)?;
        gic.end(0, intid);
        gic.take_and_end(0, intid)?;
        gic.nothing(0)?;
    }
    Ok(())
}

fn clearing_pending_withdraws_an_edge(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.configure(40, true)?;
    gic.spi(40, true);
    gic.set_bit(0, ICPENDR, 40)?;
    gic.expect_pending(0, 40, false)?;
    gic.nothing(0)
}

fn clearing_pending_leaves_what_a_wire_asserts(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.spi(50, true);
    gic.set_bit(0, ICPENDR, 50)?;
    gic.expect_pending(0, 50, true)?;
    gic.take(0, 50)
}

fn clearing_pending_leaves_the_active_state(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.configure(40, true)?;
    gic.pulse(40);
    gic.take(0, 40)?;
    gic.pulse(40);
    gic.set_bit(0, ICPENDR, 40)?;
    gic.expect_active(0, 40, true)?;
    gic.expect_pending(0, 40, false)?;
    gic.end(0, 40);
    gic.nothing(0)
}

fn clearing_pending_ends_a_written_pending_state(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_bit(0, ISPENDR, 50)?;
    gic.spi(50, true);
    gic.set_bit(0, ICPENDR, 50)?;
    gic.spi(50, false);
    gic.expect_pending(0, 50, false)?;
    gic.nothing(0)
}

fn pending_sgi_can_be_written_and_withdrawn(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.set_bit(1, ISPENDR, 9)?;
    gic.set_bit(1, ISPENDR, 10)?;
    gic.set_bit(1, ICPENDR, 9)?;
    gic.take_and_end(1, 10)?;
    gic.nothing(1)?;
    gic.nothing(0)
}

fn pending_ppi_cannot_be_cleared_while_its_wire_is_high(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for ppi in [20, 27] {
        gic.ppi(0, ppi, true);
        gic.set_bit(0, ICPENDR, ppi)?;
        gic.expect_pending(0, ppi, true)?;
        gic.take(0, ppi)?;
        gic.ppi(0, ppi, false);
        gic.end(0, ppi);
        gic.nothing(0)?;
    }
    Ok(())
}

fn disabled_interrupt_stays_pending_and_comes_when_enabled(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_bit(0, ICENABLER, 50)?;
    gic.spi(50, true);
    gic.nothing(0)?;
    gic.expect_pending(0, 50, true)?;
    gic.set_bit(0, ISENABLER, 50)?;
    gic.take(0, 50)
}

fn disabling_retracts_a_pending_interrupt(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.spi(50, true);
    require("an IRQ is signalled", gic.signals(0).irq)?;
    gic.set_bit(0, ICENABLER, 50)?;
    gic.nothing(0)?;
    gic.set_bit(0, ISENABLER, 50)?;
    gic.take(0, 50)
}

fn disabling_leaves_an_active_interrupt_alone(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.spi(50, true);
    gic.take(0, 50)?;
    gic.set_bit(0, ICENABLER, 50)?;
    gic.expect_active(0, 50, true)?;
    gic.end(0, 50);
    gic.expect_active(0, 50, false)?;
    gic.nothing(0)?;
    gic.set_bit(0, ISENABLER, 50)?;
    gic.take(0, 50)
}

fn disabled_private_interrupt_waits(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for intid in [4, 27] {
        gic.set_bit(0, ICENABLER, intid)?;
    }
    gic.send(0, 4, 1);
    gic.ppi(0, 27, true);
    gic.nothing(0)?;
    for intid in [4, 27] {
        gic.expect_pending(0, intid, true)?;
        gic.set_bit(0, ISENABLER, intid)?;
        gic.take(0, intid)?;
        gic.end(0, intid);
    }
    gic.take(0, 27)
}
