//! More interrupts at once than any CPU has list registers.

use alloc::format;

use alloc::vec::Vec;

use super::list;
use crate::conformance::board::{Board, ICENABLER, ISENABLER, ISPENDR, Verdict, expect, require};
use crate::conformance::{Factory, IccRegister, Rule, SPURIOUS};

pub(super) const RULES: &[Rule] = list![
    "Interrupt prioritization" => [
        sixty_four_spis_come_once_each_in_order_of_priority,
        all_of_988_spis_pending_at_once_come_once_each,
        late_interrupt_of_the_highest_priority_goes_first,
        private_and_shared_interrupts_queue_together,
        new_priority_moves_up_in_the_queue,
    ],
    "Interrupt lifecycle" => [
        level_that_falls_in_the_queue_is_gone,
        interrupt_that_is_disabled_in_the_queue_waits,
        interrupt_that_becomes_pending_again_queues_again,
        edges_in_the_queue_merge,
    ],
    "ICC_EOIR1_EL1, EOImode 0" => [
        interrupts_nest_as_deep_as_priorities_go,
        nest_begun_in_eoi_mode_1_ends_in_mode_0,
    ],
    "ICC_EOIR1_EL1, EOImode 1" => [many_interrupts_can_be_active_at_once],
    "ICC_BPR0_EL1, ICC_BPR1_EL1" => [interrupts_nest_by_the_binary_points_of_their_groups],
    "ICC_PMR_EL1" => [masked_queue_comes_when_unmasked],
    "ICC_IGRPEN0_EL1, ICC_IGRPEN1_EL1" => [
        groups_can_be_disabled_while_interrupts_queue,
        pending_half_of_a_disabled_group_holds_nobody_up,
    ],
];

/// The priority that the rules give the SPI `intid`: mixed, of sixteen.
fn mixed(intid: u32) -> u8 {
    (intid * 37 % 15).to_le_bytes()[0] * 0x10
}

/// Takes what is pending until nothing is; all must be of `expected`, come once and
/// in order of priority.
fn drain(gic: &mut Board, expected: &[u32]) -> Verdict {
    let mut left = expected.to_vec();
    let mut last = 0;
    loop {
        let intid = u32::try_from(gic.icc(0, IccRegister::Iar1)).unwrap_or_default();
        if intid == SPURIOUS {
            break;
        }
        let Some(position) = left.iter().position(|&one| one == intid) else {
            return Err(crate::conformance::Failure::new(format!(
                "{intid} is taken, which is none of {left:?}"
            )));
        };
        left.remove(position);
        require(&format!("{intid} comes too late"), mixed(intid) >= last)?;
        last = mixed(intid);
        gic.spi(intid, false);
        gic.end(0, intid);
    }
    expect("interrupts that never came", left, Vec::new())
}

fn sixty_four_spis_come_once_each_in_order_of_priority(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Pmr, 0);
    let all: Vec<u32> = (32..96).collect();
    for &intid in &all {
        gic.set_priority(0, intid, mixed(intid))?;
        gic.spi(intid, true);
    }
    gic.set_icc(0, IccRegister::Pmr, 0xFF);
    drain(&mut gic, &all)
}

fn all_of_988_spis_pending_at_once_come_once_each(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 988)?;
    gic.enable_all()?;
    let all: Vec<u32> = (32..1020).collect();
    for &intid in &all {
        gic.set_priority(0, intid, mixed(intid))?;
    }
    for bank in 1..32 {
        gic.set_gicd(ISPENDR + 4 * bank, u32::MAX)?;
    }
    drain(&mut gic, &all)
}

fn late_interrupt_of_the_highest_priority_goes_first(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for intid in 40..70 {
        gic.spi(intid, true);
    }
    gic.set_priority(0, 90, 0x20)?;
    gic.spi(90, true);
    gic.take(0, 90)?;
    gic.nothing(0)?;
    gic.spi(90, false);
    gic.end(0, 90);
    gic.set_priority(0, 5, 0x40)?;
    gic.send(0, 5, 1);
    gic.take(0, 5)
}

fn private_and_shared_interrupts_queue_together(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Pmr, 0);
    let all: Vec<u32> = (0..48).collect();
    for &intid in &all {
        gic.set_priority(0, intid, mixed(intid))?;
        gic.set_bit(0, ISPENDR, intid)?;
    }
    gic.set_icc(0, IccRegister::Pmr, 0xFF);
    drain(&mut gic, &all)
}

fn new_priority_moves_up_in_the_queue(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for intid in 40..70 {
        gic.spi(intid, true);
    }
    for (intid, priority) in [(69, 0x50), (55, 0x30)] {
        gic.set_priority(0, intid, priority)?;
    }
    for intid in [55, 69] {
        gic.take(0, intid)?;
        gic.spi(intid, false);
        gic.end(0, intid);
    }
    Ok(())
}

fn level_that_falls_in_the_queue_is_gone(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Pmr, 0);
    for intid in 32..96 {
        gic.set_priority(0, intid, mixed(intid))?;
        gic.spi(intid, true);
    }
    for intid in (32..96).step_by(2) {
        gic.spi(intid, false);
    }
    gic.set_icc(0, IccRegister::Pmr, 0xFF);
    let odd: Vec<u32> = (33..96).step_by(2).collect();
    drain(&mut gic, &odd)
}

fn interrupt_that_is_disabled_in_the_queue_waits(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Pmr, 0);
    for intid in 32..96 {
        gic.set_priority(0, intid, mixed(intid))?;
        gic.spi(intid, true);
    }
    gic.set_gicd(ICENABLER + 8, u32::MAX)?;
    gic.set_icc(0, IccRegister::Pmr, 0xFF);
    let (first, second): (Vec<u32>, _) = (32..96).partition(|&intid| intid < 64);
    drain(&mut gic, &first)?;
    gic.set_icc(0, IccRegister::Pmr, 0);
    gic.set_gicd(ISENABLER + 8, u32::MAX)?;
    gic.set_icc(0, IccRegister::Pmr, 0xFF);
    drain(&mut gic, &second)
}

fn interrupt_that_becomes_pending_again_queues_again(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for intid in 40..64 {
        gic.set_priority(0, intid, 0x10 + mixed(intid))?;
    }
    gic.set_priority(0, 70, 0)?;
    for intid in 40..64 {
        gic.set_bit(0, ISPENDR, intid)?;
    }
    for _ in 0..5 {
        gic.spi(70, true);
        gic.take(0, 70)?;
        gic.spi(70, false);
        gic.end(0, 70);
    }
    let all: Vec<u32> = (40..64).collect();
    drain(&mut gic, &all)
}

fn edges_in_the_queue_merge(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    let all: Vec<u32> = (40..70).collect();
    for &intid in &all {
        gic.configure(intid, true)?;
        gic.set_priority(0, intid, mixed(intid))?;
    }
    gic.set_icc(0, IccRegister::Pmr, 0);
    for &intid in all.iter().chain(&all) {
        gic.pulse(intid);
    }
    gic.set_icc(0, IccRegister::Pmr, 0xFF);
    drain(&mut gic, &all)
}

fn interrupts_nest_as_deep_as_priorities_go(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    // Fifteen levels, and as many that are pending below each.
    for (n, priority) in (0..15).zip((0..0xF0_u8).step_by(0x10).rev()) {
        for intid in [40 + n, 60 + n] {
            gic.set_priority(0, intid, priority)?;
        }
        gic.set_bit(0, ISPENDR, 40 + n)?;
        gic.take(0, 40 + n)?;
        gic.set_bit(0, ISPENDR, 60 + n)?;
        gic.nothing(0)?;
    }
    for n in (0..15).rev() {
        gic.expect_active(0, 40 + n, true)?;
        gic.end(0, 40 + n);
        gic.expect_active(0, 40 + n, false)?;
        gic.take_and_end(0, 60 + n)?;
    }
    gic.nothing(0)
}

fn nest_begun_in_eoi_mode_1_ends_in_mode_0(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Ctlr, 0b10);
    // Edges: nobody need look at a wire when one ends.
    for (sgi, priority) in (0..15).zip((0..0xF0_u8).step_by(0x10).rev()) {
        gic.set_priority(0, sgi, priority)?;
        gic.send(0, sgi, 1);
        gic.take(0, sgi)?;
    }
    gic.set_icc(0, IccRegister::Ctlr, 0);
    // No register is looked at in between.
    (0..15).rev().for_each(|sgi| gic.end(0, sgi));
    for sgi in 0..15 {
        gic.expect_active(0, sgi, false)?;
    }
    gic.nothing(0)
}

fn many_interrupts_can_be_active_at_once(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Ctlr, 0b10);
    for intid in 32..96 {
        gic.spi(intid, true);
        gic.take(0, intid)?;
        gic.end(0, intid);
    }
    gic.nothing(0)?;
    for intid in (32..96).rev() {
        gic.expect_active(0, intid, true)?;
        gic.set_icc(0, IccRegister::Dir, intid.into());
        gic.take(0, intid)?;
        gic.spi(intid, false);
        gic.end(0, intid);
        gic.set_icc(0, IccRegister::Dir, intid.into());
        gic.expect_active(0, intid, false)?;
    }
    gic.nothing(0)
}

fn masked_queue_comes_when_unmasked(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Pmr, 0x10);
    for intid in 40..70 {
        gic.set_priority(0, intid, 0x10 + mixed(intid))?;
        gic.set_bit(0, ISPENDR, intid)?;
    }
    gic.nothing(0)?;
    gic.set_icc(0, IccRegister::Pmr, 0xFF);
    let highest = (40..70).map(mixed).min().unwrap_or_default();
    let intid = u32::try_from(gic.icc(0, IccRegister::Iar1)).unwrap_or_default();
    expect("the priority that comes first", mixed(intid), highest)
}

fn groups_can_be_disabled_while_interrupts_queue(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    let (even, odd): (Vec<u32>, Vec<u32>) = (40..90).partition(|intid| intid % 2 == 0);
    gic.set_icc(0, IccRegister::Igrpen1, 0);
    for intid in 40..90 {
        gic.set_group(0, intid, intid % 2 != 0)?;
        gic.set_priority(0, intid, mixed(intid))?;
        gic.set_bit(0, ISPENDR, intid)?;
    }
    for _ in &even {
        require("an FIQ is signalled", gic.signals(0).fiq)?;
        let intid = gic.icc(0, IccRegister::Iar0);
        require(
            "Group 0 is taken",
            (40..90).contains(&intid) && intid % 2 == 0,
        )?;
        gic.set_icc(0, IccRegister::Eoir0, intid);
    }
    gic.nothing(0)?;
    gic.set_icc(0, IccRegister::Igrpen1, 1);
    drain(&mut gic, &odd)
}

fn pending_half_of_a_disabled_group_holds_nobody_up(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_group(0, 2, false)?;
    gic.set_priority(0, 2, 0x40)?;
    gic.set_bit(0, ISPENDR, 2)?;
    gic.acknowledge(0, IccRegister::Iar0, 2)?;
    gic.set_icc(0, IccRegister::Igrpen0, 0);
    gic.set_bit(0, ISPENDR, 2)?;
    for intid in 40..60 {
        gic.set_bit(0, ISPENDR, intid)?;
    }
    gic.set_icc(0, IccRegister::Eoir0, 2);
    for _ in 40..60 {
        require("an IRQ is signalled", gic.signals(0).irq)?;
        let intid = gic.icc(0, IccRegister::Iar1);
        require("Group 1 is taken", (40..60).contains(&intid))?;
        gic.set_icc(0, IccRegister::Eoir1, intid);
    }
    gic.nothing(0)?;
    gic.set_icc(0, IccRegister::Igrpen0, 1);
    gic.acknowledge(0, IccRegister::Iar0, 2)
}

fn interrupts_nest_by_the_binary_points_of_their_groups(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    // Group 0 preempts Group 1 at the same priority: its own counts as 0x80.
    gic.set_icc(0, IccRegister::Bpr0, 5);
    gic.set_bit(0, ISPENDR, 2)?;
    gic.take(0, 2)?;
    gic.set_group(0, 50, false)?;
    gic.set_bit(0, ISPENDR, 50)?;
    gic.acknowledge(0, IccRegister::Iar0, 50)?;
    // What has a higher priority takes the list registers.
    for intid in 60..80 {
        gic.set_priority(0, intid, 0x90)?;
        gic.set_bit(0, ISPENDR, intid)?;
    }
    gic.set_icc(0, IccRegister::Eoir0, 50);
    gic.expect_active(0, 50, false)?;
    gic.expect_active(0, 2, true)
}
