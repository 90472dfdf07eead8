//! The active state: ended by EOI, by DIR, or written.

use super::list;
use crate::conformance::board::{Board, ICACTIVER, ISACTIVER, ISPENDR, Verdict, expect};
use crate::conformance::{Factory, IccRegister, Rule};

pub(super) const RULES: &[Rule] = list![
    "ICC_EOIR1_EL1, EOImode 0" => [
        end_drops_the_priority_and_deactivates,
        nested_interrupts_are_ended_inside_out,
        end_of_a_special_intid_ends_nothing,
    ],
    "ICC_EOIR0_EL1, EOImode 0" => [end_in_group_0_drops_the_priority_and_deactivates],
    "ICC_EOIR1_EL1, EOImode 1" => [
        end_leaves_the_interrupt_active_with_separate_deactivation,
        level_comes_again_only_after_its_deactivation,
    ],
    "ICC_DIR_EL1" => [
        interrupts_are_deactivated_in_any_order,
        deactivation_drops_no_priority,
        pending_half_comes_after_the_deactivation,
    ],
    "ICC_CTLR_EL1.EOImode" => [eoi_mode_reads_as_written],
    "GICD_ISACTIVER<n>" => [
        written_active_state_holds_the_interrupt_back,
        written_active_state_does_not_raise_the_running_priority,
    ],
    "GICD_ICACTIVER<n>" => [clearing_active_lets_the_interrupt_come],
    "GICR_ISACTIVER0, GICR_ICACTIVER0" => [active_state_of_private_interrupts_can_be_written],
];

/// ICC_CTLR_EL1 with EOImode set.
const SPLIT: u64 = 0b10;

fn end_drops_the_priority_and_deactivates(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for intid in [3, 20, 50] {
        gic.set_bit(0, ISPENDR, intid)?;
        gic.take(0, intid)?;
        gic.expect_active(0, intid, true)?;
        expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0xA0)?;
        gic.end(0, intid);
        gic.expect_active(0, intid, false)?;
        expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0xFF)?;
    }
    Ok(())
}

fn end_in_group_0_drops_the_priority_and_deactivates(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_group(0, 50, false)?;
    gic.set_bit(0, ISPENDR, 50)?;
    gic.acknowledge(0, IccRegister::Iar0, 50)?;
    expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0xA0)?;
    gic.set_icc(0, IccRegister::Eoir0, 50);
    gic.expect_active(0, 50, false)?;
    expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0xFF)
}

fn nested_interrupts_are_ended_inside_out(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    let nest = [(40, 0xC0), (41, 0x90), (42, 0x60), (43, 0x30)];
    for (intid, priority) in nest {
        gic.set_priority(0, intid, priority)?;
        gic.set_bit(0, ISPENDR, intid)?;
        gic.take(0, intid)?;
    }
    for (intid, priority) in nest.into_iter().rev() {
        expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), priority.into())?;
        gic.expect_active(0, intid, true)?;
        gic.end(0, intid);
        gic.expect_active(0, intid, false)?;
    }
    expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0xFF)
}

fn end_of_a_special_intid_ends_nothing(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_bit(0, ISPENDR, 50)?;
    gic.take(0, 50)?;
    gic.end(0, 1023);
    gic.expect_active(0, 50, true)?;
    expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0xA0)
}

fn end_leaves_the_interrupt_active_with_separate_deactivation(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Ctlr, SPLIT);
    for intid in [3, 20, 50] {
        gic.set_bit(0, ISPENDR, intid)?;
        gic.take(0, intid)?;
        gic.end(0, intid);
        expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0xFF)?;
        gic.expect_active(0, intid, true)?;
        // The same priority can now be taken.
        gic.set_bit(0, ISPENDR, 51)?;
        gic.take(0, 51)?;
        gic.end(0, 51);
        gic.set_icc(0, IccRegister::Dir, 51);
        gic.set_icc(0, IccRegister::Dir, intid.into());
        gic.expect_active(0, intid, false)?;
    }
    gic.nothing(0)
}

fn level_comes_again_only_after_its_deactivation(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Ctlr, SPLIT);
    gic.set_priority(0, 27, 0x40)?;
    gic.spi(50, true);
    gic.ppi(0, 27, true);
    gic.take(0, 27)?;
    gic.end(0, 27);
    gic.take(0, 50)?;
    gic.end(0, 50);
    gic.nothing(0)?;
    gic.set_icc(0, IccRegister::Dir, 50);
    gic.take(0, 50)?;
    gic.end(0, 50);
    gic.set_icc(0, IccRegister::Dir, 27);
    gic.take(0, 27)
}

fn interrupts_are_deactivated_in_any_order(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Ctlr, SPLIT);
    for intid in 40..60 {
        gic.set_bit(0, ISPENDR, intid)?;
        gic.take(0, intid)?;
        gic.end(0, intid);
    }
    let mut left = [true; 20];
    // Seven is prime to twenty.
    for n in (0..20_u32).map(|n| n * 7 % 20) {
        gic.set_icc(0, IccRegister::Dir, (40 + n).into());
        if let Some(active) = left.get_mut(n as usize) {
            *active = false;
        }
        for (intid, active) in (40..60).zip(left) {
            gic.expect_active(0, intid, active)?;
        }
    }
    gic.nothing(0)
}

fn deactivation_drops_no_priority(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Ctlr, SPLIT);
    gic.set_bit(0, ISPENDR, 50)?;
    gic.take(0, 50)?;
    gic.end(0, 50);
    gic.set_priority(0, 51, 0x80)?;
    gic.set_bit(0, ISPENDR, 51)?;
    gic.take(0, 51)?;
    gic.set_icc(0, IccRegister::Dir, 50);
    gic.expect_active(0, 50, false)?;
    expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0x80)?;
    gic.end(0, 51);
    gic.set_icc(0, IccRegister::Dir, 51);
    gic.expect_active(0, 51, false)?;
    gic.nothing(0)
}

fn pending_half_comes_after_the_deactivation(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Ctlr, SPLIT);
    gic.send(0, 5, 1);
    gic.take(0, 5)?;
    gic.send(0, 5, 1);
    gic.end(0, 5);
    gic.nothing(0)?;
    gic.set_icc(0, IccRegister::Dir, 5);
    gic.take(0, 5)?;
    gic.end(0, 5);
    gic.set_icc(0, IccRegister::Dir, 5);
    gic.nothing(0)
}

fn eoi_mode_reads_as_written(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 32)?;
    for value in [SPLIT, 0] {
        gic.set_icc(0, IccRegister::Ctlr, value);
        expect("ICC_CTLR_EL1", gic.icc(0, IccRegister::Ctlr) & 0b11, value)?;
    }
    Ok(())
}

fn written_active_state_holds_the_interrupt_back(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.spi(50, true);
    gic.set_bit(0, ISACTIVER, 50)?;
    gic.expect_active(0, 50, true)?;
    gic.expect_pending(0, 50, true)?;
    gic.nothing(0)?;
    gic.set_bit(0, ICACTIVER, 50)?;
    gic.take(0, 50)
}

fn written_active_state_does_not_raise_the_running_priority(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_bit(0, ISACTIVER, 50)?;
    expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0xFF)?;
    gic.spi(51, true);
    gic.take(0, 51)
}

fn clearing_active_lets_the_interrupt_come(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Ctlr, SPLIT);
    gic.spi(50, true);
    gic.take(0, 50)?;
    gic.end(0, 50);
    gic.nothing(0)?;
    gic.set_bit(0, ICACTIVER, 50)?;
    gic.expect_active(0, 50, false)?;
    gic.take(0, 50)
}

fn active_state_of_private_interrupts_can_be_written(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    for intid in [6, 20] {
        gic.set_bit(1, ISACTIVER, intid)?;
        gic.set_bit(1, ISPENDR, intid)?;
        gic.nothing(1)?;
        gic.set_bit(1, ICACTIVER, intid)?;
        gic.take_and_end(1, intid)?;
    }
    gic.nothing(1)
}
