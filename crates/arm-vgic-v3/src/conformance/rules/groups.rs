//! Interrupt groups: who is forwarded, signalled and acknowledged how.

use super::list;
use crate::conformance::board::{Board, GICD_CTLR, ISPENDR, Verdict, expect};
use crate::conformance::{Factory, IccRegister, Rule, SPURIOUS, Signals};

pub(super) const RULES: &[Rule] = list![
    "Interrupt grouping" => [
        group_0_is_an_fiq_and_group_1_an_irq,
        each_group_is_acknowledged_by_its_own_register,
        groups_are_ordered_by_priority_only,
        group_0_preempts_group_1_by_priority_only,
        priorities_drop_in_the_group_that_runs,
    ],
    "GICD_IGROUPR<n>" => [new_group_moves_a_pending_interrupt],
    "GICR_IGROUPR0" => [new_group_moves_a_pending_private_interrupt],
    "GICD_CTLR.EnableGrp0, EnableGrp1" => [
        distributor_forwards_enabled_groups_only,
        distributor_forwards_private_interrupts_of_enabled_groups_only,
        disabling_a_group_retracts_it,
        disabling_a_group_leaves_what_is_active,
    ],
    "ICC_IGRPEN0_EL1, ICC_IGRPEN1_EL1" => [
        group_enables_of_the_interface_read_as_written,
        group_that_the_interface_disables_is_not_signalled,
        disabled_group_does_not_stand_before_the_other,
    ],
    "ICC_HPPIR0_EL1, ICC_HPPIR1_EL1" => [highest_pending_interrupt_shows_in_its_group_only],
];

const IRQ: Signals = Signals {
    irq: true,
    fiq: false,
};
const FIQ: Signals = Signals {
    irq: false,
    fiq: true,
};
const NONE: Signals = Signals {
    irq: false,
    fiq: false,
};

/// Makes an interrupt pending in a group, with a priority.
fn pend(gic: &mut Board, intid: u32, group1: bool, priority: u8) -> Verdict {
    gic.set_group(0, intid, group1)?;
    gic.set_priority(0, intid, priority)?;
    gic.set_bit(0, ISPENDR, intid)
}

fn group_0_is_an_fiq_and_group_1_an_irq(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for intid in [4, 20, 40] {
        pend(&mut gic, intid, false, 0x80)?;
        expect("signals of Group 0", gic.signals(0), FIQ)?;
        gic.acknowledge(0, IccRegister::Iar0, intid)?;
        gic.set_icc(0, IccRegister::Eoir0, intid.into());
        pend(&mut gic, intid, true, 0x80)?;
        expect("signals of Group 1", gic.signals(0), IRQ)?;
        gic.take_and_end(0, intid)?;
        expect("signals of none", gic.signals(0), NONE)?;
    }
    Ok(())
}

fn each_group_is_acknowledged_by_its_own_register(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    pend(&mut gic, 40, false, 0x80)?;
    gic.acknowledge(0, IccRegister::Iar1, SPURIOUS)?;
    gic.acknowledge(0, IccRegister::Iar0, 40)?;
    gic.set_icc(0, IccRegister::Eoir0, 40);
    pend(&mut gic, 41, true, 0x80)?;
    gic.acknowledge(0, IccRegister::Iar0, SPURIOUS)?;
    gic.take(0, 41)
}

fn groups_are_ordered_by_priority_only(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for (group0, group1) in [(0x40, 0x80), (0x80, 0x40)] {
        pend(&mut gic, 40, false, group0)?;
        pend(&mut gic, 41, true, group1)?;
        if group0 < group1 {
            gic.acknowledge(0, IccRegister::Iar1, SPURIOUS)?;
            gic.acknowledge(0, IccRegister::Iar0, 40)?;
            gic.set_icc(0, IccRegister::Eoir0, 40);
            gic.take_and_end(0, 41)?;
        } else {
            gic.acknowledge(0, IccRegister::Iar0, SPURIOUS)?;
            gic.take_and_end(0, 41)?;
            gic.acknowledge(0, IccRegister::Iar0, 40)?;
            gic.set_icc(0, IccRegister::Eoir0, 40);
        }
        gic.nothing(0)?;
    }
    Ok(())
}

fn group_0_preempts_group_1_by_priority_only(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    pend(&mut gic, 41, true, 0x80)?;
    gic.take(0, 41)?;
    pend(&mut gic, 40, false, 0x80)?;
    gic.nothing(0)?;
    pend(&mut gic, 40, false, 0x70)?;
    gic.acknowledge(0, IccRegister::Iar0, 40)
}

fn priorities_drop_in_the_group_that_runs(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    pend(&mut gic, 41, true, 0x80)?;
    gic.take(0, 41)?;
    pend(&mut gic, 40, false, 0x40)?;
    gic.acknowledge(0, IccRegister::Iar0, 40)?;
    pend(&mut gic, 42, true, 0x20)?;
    gic.take(0, 42)?;
    for (eoir, intid, next) in [
        (IccRegister::Eoir1, 42, 0x40),
        (IccRegister::Eoir0, 40, 0x80),
        (IccRegister::Eoir1, 41, 0xFF),
    ] {
        gic.set_icc(0, eoir, intid);
        expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), next)?;
    }
    for intid in 40..43 {
        gic.expect_active(0, intid, false)?;
    }
    Ok(())
}

fn new_group_moves_a_pending_interrupt(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.spi(40, true);
    expect("signals of Group 1", gic.signals(0), IRQ)?;
    gic.set_group(0, 40, false)?;
    expect("signals of Group 0", gic.signals(0), FIQ)?;
    gic.set_group(0, 40, true)?;
    gic.take(0, 40)
}

fn new_group_moves_a_pending_private_interrupt(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.send(0, 4, 1);
    expect("signals of Group 1", gic.signals(0), IRQ)?;
    gic.set_group(0, 4, false)?;
    expect("signals of Group 0", gic.signals(0), FIQ)?;
    gic.acknowledge(0, IccRegister::Iar0, 4)
}

fn distributor_forwards_enabled_groups_only(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    pend(&mut gic, 40, false, 0x40)?;
    pend(&mut gic, 41, true, 0x80)?;
    for (groups, signals) in [(0, NONE), (0b10, IRQ), (0b01, FIQ), (0b11, FIQ)] {
        gic.set_gicd(GICD_CTLR, 0x50 | groups)?;
        expect("signals", gic.signals(0), signals)?;
        gic.expect_pending(0, 40, true)?;
        gic.expect_pending(0, 41, true)?;
    }
    Ok(())
}

fn distributor_forwards_private_interrupts_of_enabled_groups_only(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.set_group(1, 4, false)?;
    gic.ppi(1, 20, true);
    gic.send(0, 4, 0b10);
    gic.set_priority(1, 4, 0x40)?;
    for (groups, signals) in [(0, NONE), (0b10, IRQ), (0b01, FIQ), (0b11, FIQ)] {
        gic.set_gicd(GICD_CTLR, 0x50 | groups)?;
        expect("signals to vCPU 1", gic.signals(1), signals)?;
        expect("signals to vCPU 0", gic.signals(0), NONE)?;
    }
    Ok(())
}

fn disabling_a_group_retracts_it(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.spi(40, true);
    expect("signals", gic.signals(0), IRQ)?;
    gic.set_gicd(GICD_CTLR, 0x51)?;
    gic.nothing(0)?;
    gic.set_gicd(GICD_CTLR, 0x53)?;
    gic.take(0, 40)
}

fn disabling_a_group_leaves_what_is_active(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_bit(0, ISPENDR, 40)?;
    gic.take(0, 40)?;
    gic.set_gicd(GICD_CTLR, 0x50)?;
    gic.expect_active(0, 40, true)?;
    expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0xA0)?;
    gic.end(0, 40);
    gic.expect_active(0, 40, false)
}

fn group_enables_of_the_interface_read_as_written(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 32)?;
    for (register, other) in [
        (IccRegister::Igrpen0, IccRegister::Igrpen1),
        (IccRegister::Igrpen1, IccRegister::Igrpen0),
    ] {
        for value in [0, 1] {
            gic.set_icc(0, register, value);
            expect("a group enable", gic.icc(0, register), value)?;
            expect("the other group enable", gic.icc(0, other), 1)?;
        }
    }
    Ok(())
}

fn group_that_the_interface_disables_is_not_signalled(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    pend(&mut gic, 41, true, 0x80)?;
    gic.set_icc(0, IccRegister::Igrpen1, 0);
    gic.nothing(0)?;
    expect("ICC_HPPIR1_EL1", gic.icc(0, IccRegister::Hppir1), 1023)?;
    gic.set_icc(0, IccRegister::Igrpen1, 1);
    gic.take_and_end(0, 41)?;
    pend(&mut gic, 40, false, 0x80)?;
    gic.set_icc(0, IccRegister::Igrpen0, 0);
    gic.nothing(0)?;
    gic.set_icc(0, IccRegister::Igrpen0, 1);
    gic.acknowledge(0, IccRegister::Iar0, 40)
}

fn disabled_group_does_not_stand_before_the_other(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    // More than any CPU has list registers.
    for intid in 40..60 {
        pend(&mut gic, intid, true, 0x40)?;
    }
    pend(&mut gic, 70, false, 0x80)?;
    gic.set_icc(0, IccRegister::Igrpen1, 0);
    expect("signals", gic.signals(0), FIQ)?;
    gic.acknowledge(0, IccRegister::Iar0, 70)?;
    gic.set_icc(0, IccRegister::Eoir0, 70);
    gic.set_icc(0, IccRegister::Igrpen1, 1);
    expect("signals", gic.signals(0), IRQ)
}

fn highest_pending_interrupt_shows_in_its_group_only(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    pend(&mut gic, 40, false, 0x40)?;
    expect("ICC_HPPIR0_EL1", gic.icc(0, IccRegister::Hppir0), 40)?;
    expect("ICC_HPPIR1_EL1", gic.icc(0, IccRegister::Hppir1), 1023)?;
    pend(&mut gic, 41, true, 0x20)?;
    expect("ICC_HPPIR0_EL1", gic.icc(0, IccRegister::Hppir0), 1023)?;
    expect("ICC_HPPIR1_EL1", gic.icc(0, IccRegister::Hppir1), 41)
}
