//! Order, masks and preemption.

use super::list;
use crate::conformance::board::{Board, ISPENDR, USUAL, Verdict, expect, require};
use crate::conformance::{Factory, IccRegister, Rule};

pub(super) const RULES: &[Rule] = list![
    "Interrupt prioritization" => [
        higher_priority_is_taken_first,
        order_is_by_priority_whatever_the_kind,
        new_priority_reorders_what_is_pending,
        new_priority_does_not_change_what_is_running,
    ],
    "ICC_PMR_EL1" => [
        mask_lets_only_higher_priorities_pass,
        mask_of_zero_lets_nothing_pass,
        masked_interrupt_comes_when_unmasked,
        mask_implements_the_bits_of_priorities,
    ],
    "Preemption" => [
        higher_priority_preempts,
        equal_and_lower_priorities_wait,
        priority_drop_lets_the_next_come,
    ],
    "ICC_RPR_EL1" => [
        running_priority_is_that_of_the_interrupt_being_handled,
        running_priority_is_a_group_priority,
    ],
    "ICC_BPR1_EL1" => [
        subpriority_does_not_preempt_in_group_1,
        subpriority_orders_what_is_pending,
        each_binary_point_of_group_1_splits_where_it_says,
        binary_points_have_a_least_value,
    ],
    "ICC_BPR0_EL1" => [each_binary_point_of_group_0_splits_where_it_says],
    "ICC_CTLR_EL1.CBPR" => [
        common_binary_point_serves_both_groups,
        common_binary_point_shows_in_the_one_of_group_1,
    ],
    "ICC_HPPIR1_EL1" => [
        highest_pending_interrupt_is_shown_and_not_taken,
        highest_pending_interrupt_is_shown_though_masked,
    ],
];

/// Makes SPIs pending with these priorities.
fn pend(gic: &mut Board, interrupts: &[(u32, u8)]) -> Verdict {
    for &(intid, priority) in interrupts {
        gic.set_priority(0, intid, priority)?;
        gic.set_bit(0, ISPENDR, intid)?;
    }
    Ok(())
}

fn higher_priority_is_taken_first(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Pmr, 0);
    pend(
        &mut gic,
        &[(40, 0xE0), (41, 0x20), (42, 0x80), (43, 0x00), (44, 0x50)],
    )?;
    gic.set_icc(0, IccRegister::Pmr, 0xFF);
    for intid in [43, 41, 44, 42, 40] {
        gic.take_and_end(0, intid)?;
    }
    gic.nothing(0)
}

fn order_is_by_priority_whatever_the_kind(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Pmr, 0);
    pend(
        &mut gic,
        &[
            (3, 0xC0),
            (15, 0x30),
            (20, 0x60),
            (31, 0x10),
            (50, 0x40),
            (95, 0x00),
        ],
    )?;
    gic.set_icc(0, IccRegister::Pmr, 0xFF);
    for intid in [95, 31, 15, 50, 20, 3] {
        gic.take_and_end(0, intid)?;
    }
    gic.nothing(0)
}

fn new_priority_reorders_what_is_pending(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    pend(&mut gic, &[(40, 0x80), (41, 0x90), (42, 0xA0)])?;
    gic.set_priority(0, 42, 0x20)?;
    gic.set_priority(0, 40, 0xC0)?;
    for intid in [42, 41, 40] {
        gic.take_and_end(0, intid)?;
    }
    Ok(())
}

fn new_priority_does_not_change_what_is_running(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    pend(&mut gic, &[(40, 0x80)])?;
    gic.take(0, 40)?;
    gic.set_priority(0, 40, 0x20)?;
    expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0x80)?;
    pend(&mut gic, &[(41, 0x60)])?;
    gic.take_and_end(0, 41)?;
    gic.end(0, 40);
    gic.expect_active(0, 40, false)?;
    expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0xFF)
}

fn mask_lets_only_higher_priorities_pass(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    pend(&mut gic, &[(40, 0x80)])?;
    for mask in [0x10, 0x70, 0x80] {
        gic.set_icc(0, IccRegister::Pmr, mask);
        gic.nothing(0)?;
    }
    gic.set_icc(0, IccRegister::Pmr, 0x90);
    gic.take(0, 40)
}

fn mask_of_zero_lets_nothing_pass(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Pmr, 0);
    pend(&mut gic, &[(40, 0)])?;
    gic.nothing(0)
}

fn masked_interrupt_comes_when_unmasked(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    pend(&mut gic, &[(40, 0x80)])?;
    require("an IRQ is signalled", gic.signals(0).irq)?;
    gic.set_icc(0, IccRegister::Pmr, 0x40);
    gic.nothing(0)?;
    gic.expect_pending(0, 40, true)?;
    gic.set_icc(0, IccRegister::Pmr, 0xFF);
    gic.take(0, 40)
}

fn mask_implements_the_bits_of_priorities(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_priority(0, 40, 0xFF)?;
    let all = gic.gicd(0x400 + 40)? & 0xFF;
    gic.set_icc(0, IccRegister::Pmr, 0xFF);
    expect("ICC_PMR_EL1", gic.icc(0, IccRegister::Pmr), all.into())?;
    gic.set_icc(0, IccRegister::Pmr, 0x50);
    expect("ICC_PMR_EL1", gic.icc(0, IccRegister::Pmr), 0x50)
}

fn higher_priority_preempts(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    pend(&mut gic, &[(40, 0x80)])?;
    gic.take(0, 40)?;
    pend(&mut gic, &[(41, 0x70)])?;
    require("an IRQ is signalled", gic.signals(0).irq)?;
    gic.take(0, 41)
}

fn equal_and_lower_priorities_wait(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    pend(&mut gic, &[(40, 0x80)])?;
    gic.take(0, 40)?;
    pend(&mut gic, &[(41, 0x80), (42, 0x90)])?;
    gic.nothing(0)?;
    gic.end(0, 40);
    gic.take_and_end(0, 41)?;
    gic.take_and_end(0, 42)
}

fn priority_drop_lets_the_next_come(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    pend(&mut gic, &[(40, 0xC0)])?;
    gic.take(0, 40)?;
    pend(&mut gic, &[(41, 0x40)])?;
    gic.take(0, 41)?;
    pend(&mut gic, &[(42, 0x80), (43, 0xC0)])?;
    gic.nothing(0)?;
    gic.end(0, 41);
    gic.take_and_end(0, 42)?;
    gic.nothing(0)?;
    gic.end(0, 40);
    gic.take(0, 43)
}

fn running_priority_is_that_of_the_interrupt_being_handled(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0xFF)?;
    pend(&mut gic, &[(40, 0x80)])?;
    expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0xFF)?;
    gic.take(0, 40)?;
    expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0x80)?;
    pend(&mut gic, &[(41, 0)])?;
    gic.take(0, 41)?;
    expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0)
}

fn running_priority_is_a_group_priority(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Bpr1, 6);
    pend(&mut gic, &[(40, 0xB0)])?;
    gic.take(0, 40)?;
    expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0x80)
}

fn subpriority_does_not_preempt_in_group_1(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Bpr1, 6);
    pend(&mut gic, &[(40, 0xB0)])?;
    gic.take(0, 40)?;
    pend(&mut gic, &[(41, 0x80)])?;
    gic.nothing(0)?;
    pend(&mut gic, &[(42, 0x70)])?;
    gic.take_and_end(0, 42)?;
    gic.end(0, 40);
    gic.take(0, 41)
}

fn subpriority_orders_what_is_pending(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Bpr1, 7);
    gic.set_icc(0, IccRegister::Pmr, 0);
    pend(&mut gic, &[(40, 0x70), (41, 0x30), (42, 0x50)])?;
    gic.set_icc(0, IccRegister::Pmr, 0xFF);
    for intid in [41, 42, 40] {
        gic.take_and_end(0, intid)?;
    }
    Ok(())
}

/// Checks which priorities preempt 0xF0 in a group, by how many low bits it ignores.
fn check_split(gic: &mut Board, group1: bool, ignored_bits: u64) -> Verdict {
    let (iar, eoir) = if group1 {
        (IccRegister::Iar1, IccRegister::Eoir1)
    } else {
        (IccRegister::Iar0, IccRegister::Eoir0)
    };
    for intid in [40, 41] {
        gic.set_group(0, intid, group1)?;
    }
    pend(gic, &[(40, 0xF0)])?;
    gic.acknowledge(0, iar, 40)?;
    for priority in (0..0xF0).step_by(0x10) {
        pend(gic, &[(41, priority)])?;
        let preempts = u64::from(priority) >> ignored_bits < 0xF0 >> ignored_bits;
        let signals = gic.signals(0);
        let what = alloc::format!("{priority:#x} is signalled, ignoring {ignored_bits} bits");
        expect(&what, signals.irq || signals.fiq, preempts)?;
        if preempts {
            gic.acknowledge(0, iar, 41)?;
            gic.set_icc(0, eoir, 41);
        }
    }
    gic.set_icc(0, eoir, 40);
    // Whatever could not preempt.
    if gic.icc(0, iar) == 41 {
        gic.set_icc(0, eoir, 41);
    }
    gic.nothing(0)
}

fn each_binary_point_of_group_1_splits_where_it_says(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for point in 4..8 {
        gic.set_icc(0, IccRegister::Bpr1, point);
        expect("ICC_BPR1_EL1", gic.icc(0, IccRegister::Bpr1), point)?;
        check_split(&mut gic, true, point)?;
    }
    Ok(())
}

fn each_binary_point_of_group_0_splits_where_it_says(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for point in 3..8 {
        gic.set_icc(0, IccRegister::Bpr0, point);
        expect("ICC_BPR0_EL1", gic.icc(0, IccRegister::Bpr0), point)?;
        check_split(&mut gic, false, point + 1)?;
    }
    Ok(())
}

fn binary_points_have_a_least_value(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 32)?;
    gic.set_icc(0, IccRegister::Bpr0, 0);
    gic.set_icc(0, IccRegister::Bpr1, 0);
    let (point0, point1) = (gic.icc(0, IccRegister::Bpr0), gic.icc(0, IccRegister::Bpr1));
    require("the least ICC_BPR0_EL1 is at most 3", point0 <= 3)?;
    expect("the least ICC_BPR1_EL1", point1, point0 + 1)
}

fn common_binary_point_serves_both_groups(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Bpr1, 4);
    gic.set_icc(0, IccRegister::Bpr0, 5);
    gic.set_icc(0, IccRegister::Ctlr, 1);
    expect("ICC_CTLR_EL1.CBPR", gic.icc(0, IccRegister::Ctlr) & 0b11, 1)?;
    check_split(&mut gic, true, 6)?;
    check_split(&mut gic, false, 6)?;
    gic.set_icc(0, IccRegister::Ctlr, 0);
    check_split(&mut gic, true, 4)
}

fn common_binary_point_shows_in_the_one_of_group_1(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 32)?;
    gic.set_icc(0, IccRegister::Bpr1, 4);
    gic.set_icc(0, IccRegister::Ctlr, 1);
    for (point0, shown) in [(5, 6), (6, 7), (7, 7)] {
        gic.set_icc(0, IccRegister::Bpr0, point0);
        expect("ICC_BPR1_EL1", gic.icc(0, IccRegister::Bpr1), shown)?;
    }
    gic.set_icc(0, IccRegister::Bpr1, 3);
    gic.set_icc(0, IccRegister::Ctlr, 0);
    expect("ICC_BPR1_EL1", gic.icc(0, IccRegister::Bpr1), 4)
}

fn highest_pending_interrupt_is_shown_and_not_taken(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    expect("ICC_HPPIR1_EL1", gic.icc(0, IccRegister::Hppir1), 1023)?;
    pend(&mut gic, &[(40, 0x80), (41, 0x40)])?;
    for _ in 0..2 {
        expect("ICC_HPPIR1_EL1", gic.icc(0, IccRegister::Hppir1), 41)?;
        expect("ICC_HPPIR0_EL1", gic.icc(0, IccRegister::Hppir0), 1023)?;
    }
    gic.take(0, 41)?;
    expect("ICC_HPPIR1_EL1", gic.icc(0, IccRegister::Hppir1), 40)
}

fn highest_pending_interrupt_is_shown_though_masked(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Pmr, 0x40);
    pend(&mut gic, &[(40, USUAL)])?;
    gic.nothing(0)?;
    expect("ICC_HPPIR1_EL1", gic.icc(0, IccRegister::Hppir1), 40)
}
