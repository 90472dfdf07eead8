//! A vCPU that moves to another CPU takes everything along. GICs that cannot move
//! vCPUs keep these rules by doing nothing.

use super::list;
use crate::conformance::board::{Board, ISPENDR, Verdict, expect};
use crate::conformance::{Factory, IccRegister, Rule, Signals};

pub(super) const RULES: &[Rule] = list![
    "Virtual machine context" => [
        pending_interrupts_move_with_their_vcpu,
        active_interrupts_move_with_their_vcpu,
        nested_interrupts_move_with_their_vcpu,
        separately_deactivated_interrupts_move_with_their_vcpu,
        settings_of_the_cpu_interface_move_with_their_vcpu,
        queue_moves_with_its_vcpu,
        other_vcpus_do_not_notice_a_move,
    ],
];

fn pending_interrupts_move_with_their_vcpu(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    for (intid, priority) in [(5, 0x30), (20, 0x20), (50, 0x10)] {
        gic.set_priority(1, intid, priority)?;
    }
    gic.route(50, 1)?;
    gic.send(0, 5, 0b10);
    gic.ppi(1, 20, true);
    gic.spi(50, true);
    gic.move_vcpu(1);
    gic.take(1, 50)?;
    gic.spi(50, false);
    gic.move_vcpu(1);
    gic.end(1, 50);
    gic.take(1, 20)?;
    gic.ppi(1, 20, false);
    gic.end(1, 20);
    gic.move_vcpu(1);
    gic.take_and_end(1, 5)?;
    gic.nothing(1)
}

fn active_interrupts_move_with_their_vcpu(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    for intid in [5, 27, 50] {
        gic.set_bit(0, ISPENDR, intid)?;
        gic.take(0, intid)?;
        gic.move_vcpu(0);
        gic.nothing(0)?;
        gic.expect_active(0, intid, true)?;
        expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), 0xA0)?;
        gic.end(0, intid);
        gic.expect_active(0, intid, false)?;
    }
    Ok(())
}

fn nested_interrupts_move_with_their_vcpu(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    let nest: [(u32, u8); 4] = [(40, 0xC0), (5, 0x90), (42, 0x60), (27, 0x30)];
    gic.set_group(0, 42, false)?;
    let registers = |intid: u32| match intid {
        42 => (IccRegister::Iar0, IccRegister::Eoir0),
        _ => (IccRegister::Iar1, IccRegister::Eoir1),
    };
    for (intid, priority) in nest {
        gic.set_priority(0, intid, priority)?;
        gic.set_bit(0, ISPENDR, intid)?;
        gic.acknowledge(0, registers(intid).0, intid)?;
        gic.move_vcpu(0);
    }
    for (intid, priority) in nest.into_iter().rev() {
        expect("ICC_RPR_EL1", gic.icc(0, IccRegister::Rpr), priority.into())?;
        gic.set_icc(0, registers(intid).1, intid.into());
        gic.expect_active(0, intid, false)?;
        gic.move_vcpu(0);
    }
    gic.nothing(0)
}

fn separately_deactivated_interrupts_move_with_their_vcpu(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Ctlr, 0b10);
    for intid in 40..60 {
        gic.set_bit(0, ISPENDR, intid)?;
        gic.take(0, intid)?;
        gic.end(0, intid);
        gic.move_vcpu(0);
    }
    for intid in 40..60 {
        gic.expect_active(0, intid, true)?;
        gic.set_icc(0, IccRegister::Dir, intid.into());
        gic.move_vcpu(0);
        gic.expect_active(0, intid, false)?;
    }
    gic.nothing(0)
}

fn settings_of_the_cpu_interface_move_with_their_vcpu(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    let settings = [
        (IccRegister::Pmr, 0x60),
        (IccRegister::Bpr0, 5),
        (IccRegister::Bpr1, 6),
        (IccRegister::Ctlr, 0b10),
        (IccRegister::Igrpen0, 0),
        (IccRegister::Igrpen1, 1),
    ];
    for (register, value) in settings {
        gic.set_icc(1, register, value);
    }
    gic.move_vcpu(1);
    for (register, value) in settings {
        expect("a setting after a move", gic.icc(1, register), value)?;
    }
    gic.send(0, 5, 0b11);
    gic.nothing(1)?;
    gic.take(0, 5)
}

fn queue_moves_with_its_vcpu(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.set_icc(0, IccRegister::Pmr, 0);
    for (n, intid) in (0..15_u8).zip(40..) {
        gic.set_priority(0, intid, n * 0x10)?;
        gic.set_bit(0, ISPENDR, intid)?;
    }
    gic.set_icc(0, IccRegister::Pmr, 0xFF);
    for intid in 40..55 {
        gic.move_vcpu(0);
        gic.take(0, intid)?;
        gic.move_vcpu(0);
        gic.end(0, intid);
    }
    gic.nothing(0)
}

fn other_vcpus_do_not_notice_a_move(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.spi(50, true);
    gic.take(0, 50)?;
    gic.send(1, 5, 0b01);
    gic.move_vcpu(1);
    gic.nothing(1)?;
    gic.expect_active(0, 50, true)?;
    expect("signals to vCPU 0", gic.signals(0), Signals::default())?;
    gic.spi(50, false);
    gic.end(0, 50);
    gic.take(0, 5)
}
