//! Software-generated interrupts.

use alloc::vec::Vec;

use super::list;
use crate::conformance::board::{
    Board, ICENABLER, IGROUPR, ISENABLER, ISPENDR, Verdict, expect, require,
};
use crate::conformance::{Factory, Failure, IccRegister, Rule};

pub(super) const RULES: &[Rule] = list![
    "ICC_SGI1R_EL1.TargetList" => [
        sgi_reaches_exactly_its_targets,
        vcpu_can_send_to_itself,
        empty_target_list_reaches_nobody,
        targets_that_do_not_exist_are_passed_over,
    ],
    "ICC_SGI1R_EL1.INTID" => [every_sgi_can_be_sent],
    "ICC_SGI1R_EL1.Aff3, Aff2, Aff1" => [sgi_targets_are_of_the_cluster_named],
    "ICC_SGI1R_EL1.RS" => [range_selector_reaches_every_aff0],
    "ICC_SGI1R_EL1.IRM" => [
        broadcast_reaches_all_but_the_sender,
        broadcast_ignores_the_targets,
        broadcast_reaches_256_vcpus,
    ],
    "ICC_SGI1R_EL1" => [
        sgi1_reaches_sgis_of_group_1,
        sgis_of_several_senders_merge,
        sgi_sent_while_active_comes_again,
        sgi_that_is_disabled_at_its_target_waits_there,
        sgis_to_different_targets_are_independent,
        reserved_bits_mean_nothing,
    ],
    "ICC_SGI0R_EL1" => [
        sgi0_reaches_sgis_of_group_0,
        sgi0_reaches_no_sgi_of_group_1,
        sgi0_asks_the_group_of_each_target,
    ],
    "ICC_ASGI1R_EL1" => [asgi1_reaches_no_sgi_of_group_1],
];

/// Returns the vCPUs with this SGI pending, as a bit set.
fn pending_at(gic: &mut Board, intid: u32) -> Result<u64, Failure> {
    let mut set = 0;
    for vcpu in 0..gic.vcpus().min(64) {
        set |= u64::from(gic.bit(vcpu, ISPENDR, intid)?) << vcpu;
    }
    Ok(set)
}

fn sgi_reaches_exactly_its_targets(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 4)?;
    for (intid, targets) in [(1, 0b0010), (2, 0b1001), (3, 0b1111), (4, 0b0100)] {
        gic.send(0, intid, targets);
        expect("targets", pending_at(&mut gic, intid)?, targets.into())?;
        for vcpu in (0..4).filter(|vcpu| targets >> vcpu & 1 != 0) {
            gic.take_and_end(vcpu, intid)?;
        }
        for vcpu in 0..4 {
            gic.nothing(vcpu)?;
        }
    }
    Ok(())
}

fn vcpu_can_send_to_itself(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.send(1, 7, 0b10);
    gic.nothing(0)?;
    gic.take(1, 7)
}

fn empty_target_list_reaches_nobody(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.send(0, 7, 0);
    gic.nothing(0)?;
    gic.nothing(1)
}

fn targets_that_do_not_exist_are_passed_over(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.send(0, 7, 0xFFFE);
    gic.nothing(0)?;
    gic.take_and_end(1, 7)?;
    gic.set_icc(0, IccRegister::Sgi1r, 7 << 24 | 9 << 16 | 0xFFFF);
    gic.nothing(0)?;
    gic.nothing(1)
}

fn every_sgi_can_be_sent(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    for intid in 0..16 {
        gic.send(0, intid, 0b10);
        let pending = gic.sgi_base(1, ISPENDR)?;
        expect("GICR_ISPENDR0", pending, 1 << intid)?;
        gic.take_and_end(1, intid)?;
    }
    gic.nothing(0)
}

fn sgi_targets_are_of_the_cluster_named(make: &Factory<'_>) -> Verdict {
    let affinities = [
        0x01_0002_0300,
        0x01_0002_0400,
        0x01_0003_0300,
        0x02_0002_0300,
        0,
    ];
    let mut gic = Board::awake(make, &affinities, 32)?;
    gic.enable_all()?;
    for (n, affinity) in affinities.into_iter().enumerate() {
        let [_, aff1, aff2, _, aff3, ..] = affinity.to_le_bytes().map(u64::from);
        let cluster = aff3 << 48 | aff2 << 32 | aff1 << 16;
        gic.set_icc(0, IccRegister::Sgi1r, cluster | 5 << 24 | 1);
        expect("targets", pending_at(&mut gic, 5)?, 1 << n)?;
        gic.take_and_end(n, 5)?;
    }
    Ok(())
}

fn range_selector_reaches_every_aff0(make: &Factory<'_>) -> Verdict {
    let affinities = [0x00, 0x0F, 0x10, 0x1F, 0x25, 0xF0, 0xFF];
    let mut gic = Board::awake(make, &affinities, 32)?;
    gic.enable_all()?;
    for (n, aff0) in affinities.into_iter().enumerate() {
        let value = 5 << 24 | (aff0 / 16) << 44 | 1 << (aff0 % 16);
        gic.set_icc(0, IccRegister::Sgi1r, value);
        expect("targets", pending_at(&mut gic, 5)?, 1 << n)?;
        gic.take_and_end(n, 5)?;
    }
    gic.set_icc(0, IccRegister::Sgi1r, 5 << 24 | 1 << 44 | 0xFFFF);
    expect("targets", pending_at(&mut gic, 5)?, 0b1100)
}

fn broadcast_reaches_all_but_the_sender(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 4)?;
    for sender in 0..4 {
        gic.set_icc(sender, IccRegister::Sgi1r, 1 << 40 | 6 << 24);
        expect("targets", pending_at(&mut gic, 6)?, 0b1111 & !(1 << sender))?;
        for vcpu in (0..4).filter(|&vcpu| vcpu != sender) {
            gic.take_and_end(vcpu, 6)?;
        }
        gic.nothing(sender)?;
    }
    Ok(())
}

fn broadcast_ignores_the_targets(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 3)?;
    let elsewhere = 1 << 48 | 2 << 44 | 3 << 32 | 4 << 16 | 0xFFFF;
    gic.set_icc(1, IccRegister::Sgi1r, 1 << 40 | 6 << 24 | elsewhere);
    expect("targets", pending_at(&mut gic, 6)?, 0b101)
}

fn broadcast_reaches_256_vcpus(make: &Factory<'_>) -> Verdict {
    let affinities: Vec<u64> = (0..256).map(|n| (n / 16) << 8 | (n % 16)).collect();
    let mut gic = Board::awake(make, &affinities, 32)?;
    gic.set_icc(77, IccRegister::Sgi1r, 1 << 40 | 6 << 24);
    for vcpu in 0..256 {
        gic.expect_pending(vcpu, 6, vcpu != 77)?;
    }
    Ok(())
}

fn sgi1_reaches_sgis_of_group_1(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.send(0, 5, 0b10);
    require("an IRQ is signalled", gic.signals(1).irq)?;
    gic.take(1, 5)
}

fn sgis_of_several_senders_merge(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 3)?;
    for sender in [0, 2, 1] {
        gic.send(sender, 7, 0b010);
    }
    gic.take_and_end(1, 7)?;
    gic.nothing(1)
}

fn sgi_sent_while_active_comes_again(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.send(0, 7, 0b10);
    gic.take(1, 7)?;
    gic.send(0, 7, 0b10);
    gic.send(1, 7, 0b10);
    gic.nothing(1)?;
    gic.expect_pending(1, 7, true)?;
    gic.end(1, 7);
    gic.take_and_end(1, 7)?;
    gic.nothing(1)
}

fn sgi_that_is_disabled_at_its_target_waits_there(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.set_bit(1, ICENABLER, 7)?;
    gic.send(0, 7, 0b11);
    gic.take_and_end(0, 7)?;
    gic.nothing(1)?;
    gic.expect_pending(1, 7, true)?;
    gic.set_bit(1, ISENABLER, 7)?;
    gic.take(1, 7)
}

fn sgis_to_different_targets_are_independent(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.send(0, 7, 0b11);
    gic.take_and_end(0, 7)?;
    gic.expect_pending(1, 7, true)?;
    gic.expect_pending(0, 7, false)?;
    gic.take(1, 7)?;
    gic.expect_active(0, 7, false)?;
    gic.expect_active(1, 7, true)
}

fn reserved_bits_mean_nothing(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    let reserved = 0xFF << 56 | 0b111 << 41 | 0xF << 28;
    gic.set_icc(0, IccRegister::Sgi1r, reserved | 7 << 24 | 0b10);
    expect("targets", pending_at(&mut gic, 7)?, 0b10)
}

fn sgi0_reaches_sgis_of_group_0(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.set_group(1, 5, false)?;
    gic.set_icc(0, IccRegister::Sgi0r, 5 << 24 | 0b10);
    require("an FIQ is signalled", gic.signals(1).fiq)?;
    gic.acknowledge(1, IccRegister::Iar0, 5)
}

fn sgi0_reaches_no_sgi_of_group_1(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.set_icc(0, IccRegister::Sgi0r, 5 << 24 | 0b11);
    expect("targets", pending_at(&mut gic, 5)?, 0)
}

fn sgi0_asks_the_group_of_each_target(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 4)?;
    gic.set_sgi_base(1, IGROUPR, !(1 << 5))?;
    gic.set_sgi_base(3, IGROUPR, !(1 << 6))?;
    gic.set_icc(0, IccRegister::Sgi0r, 1 << 40 | 5 << 24);
    expect("targets", pending_at(&mut gic, 5)?, 0b0010)
}

fn asgi1_reaches_no_sgi_of_group_1(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.set_icc(0, IccRegister::Asgi1r, 5 << 24 | 0b11);
    expect("targets", pending_at(&mut gic, 5)?, 0)
}
