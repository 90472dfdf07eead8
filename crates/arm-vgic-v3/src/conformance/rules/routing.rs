//! Where SPIs go.

use alloc::vec::Vec;

use super::list;
use crate::conformance::board::{
    ANY_VCPU, Board, ICACTIVER, IROUTER, ISACTIVER, ISENABLER, ISPENDR, Verdict, require,
};
use crate::conformance::{Factory, Rule};

pub(super) const RULES: &[Rule] = list![
    "GICD_IROUTER<n>" => [
        spi_goes_to_the_vcpu_of_its_affinity_and_no_other,
        all_affinity_levels_count,
        new_route_moves_a_pending_spi,
        new_route_leaves_an_active_spi_and_sends_it_elsewhere_next,
        route_to_nobody_keeps_the_spi_pending,
        route_written_by_halves_counts,
        new_route_moves_spis_that_wait_in_a_queue,
        route_of_one_spi_moves_no_other,
        active_spi_that_is_deactivated_by_a_write_goes_to_its_new_route,
    ],
    "GICD_IROUTER<n>.Interrupt_Routing_Mode" => [
        any_vcpu_means_exactly_one,
        any_vcpu_ignores_the_affinity,
        any_vcpu_can_become_a_certain_one,
    ],
    "GICD_TYPER.ITLinesNumber" => [every_one_of_988_spis_can_be_taken],
    "MPIDR_EL1, GICR_TYPER" => [each_of_256_vcpus_takes_its_own_spis],
];

fn spi_goes_to_the_vcpu_of_its_affinity_and_no_other(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 4)?;
    for target in [2, 0, 3, 1] {
        gic.route(50, target as u64)?;
        gic.set_bit(0, ISPENDR, 50)?;
        for vcpu in (0..4).filter(|&vcpu| vcpu != target) {
            gic.nothing(vcpu)?;
        }
        gic.take_and_end(target, 50)?;
    }
    Ok(())
}

fn all_affinity_levels_count(make: &Factory<'_>) -> Verdict {
    // They differ from each other in one level each.
    let affinities = [
        0x01_0002_0304,
        0x01_0002_0305,
        0x01_0002_0404,
        0x01_0003_0304,
        0x02_0002_0304,
        0,
        0xFF_00FF_FFFF,
    ];
    let mut gic = Board::awake(make, &affinities, 32)?;
    gic.enable_all()?;
    for (target, affinity) in affinities.into_iter().enumerate() {
        gic.route(40, affinity)?;
        gic.set_bit(0, ISPENDR, 40)?;
        for vcpu in (0..affinities.len()).filter(|&vcpu| vcpu != target) {
            gic.nothing(vcpu)?;
        }
        gic.take_and_end(target, 40)?;
    }
    Ok(())
}

fn new_route_moves_a_pending_spi(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.spi(50, true);
    require("an IRQ is signalled", gic.signals(0).irq)?;
    gic.route(50, 1)?;
    gic.nothing(0)?;
    gic.take(1, 50)
}

fn new_route_leaves_an_active_spi_and_sends_it_elsewhere_next(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.spi(50, true);
    gic.take(0, 50)?;
    gic.route(50, 1)?;
    gic.nothing(1)?;
    gic.expect_active(0, 50, true)?;
    gic.end(0, 50);
    gic.nothing(0)?;
    gic.take(1, 50)?;
    gic.spi(50, false);
    gic.end(1, 50);
    gic.expect_active(0, 50, false)
}

fn route_to_nobody_keeps_the_spi_pending(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 1)?;
    gic.route(50, 0x77)?;
    gic.spi(50, true);
    gic.nothing(0)?;
    gic.expect_pending(0, 50, true)?;
    gic.route(50, 0)?;
    gic.take(0, 50)
}

fn route_written_by_halves_counts(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0, 0x3_0000_0001], 32)?;
    gic.enable_all()?;
    gic.spi(40, true);
    gic.set_gicd(IROUTER + 8 * 40, 1)?;
    gic.nothing(0)?;
    gic.nothing(1)?;
    gic.set_gicd(IROUTER + 8 * 40 + 4, 3)?;
    gic.nothing(0)?;
    gic.take(1, 40)
}

fn new_route_moves_spis_that_wait_in_a_queue(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    // More than any CPU has list registers, each of another priority or two.
    for (n, intid) in (0..40_u8).zip(40..80) {
        gic.set_priority(0, intid, n / 3 * 0x10)?;
        gic.set_bit(0, ISPENDR, intid)?;
    }
    for intid in (40..80).step_by(2) {
        gic.route(intid, 1)?;
    }
    for vcpu in [0, 1] {
        let mut taken = 0_u64;
        for _ in 0..20 {
            let intid = u32::try_from(gic.icc(vcpu, crate::conformance::IccRegister::Iar1));
            let intid = intid.unwrap_or_default();
            let mine = (40..80).contains(&intid) && intid as usize % 2 != vcpu;
            require("each vCPU takes the SPIs routed to it", mine)?;
            taken |= 1 << (intid - 40);
            gic.end(vcpu, intid);
        }
        require("none is taken twice", taken.count_ones() == 20)?;
        gic.nothing(vcpu)?;
    }
    Ok(())
}

fn route_of_one_spi_moves_no_other(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.set_bit(0, ISPENDR, 50)?;
    gic.set_bit(0, ISPENDR, 82)?;
    gic.route(50, 1)?;
    gic.take(0, 82)?;
    gic.nothing(0)?;
    gic.take(1, 50)?;
    gic.nothing(1)
}

fn active_spi_that_is_deactivated_by_a_write_goes_to_its_new_route(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.set_bit(0, ISACTIVER, 50)?;
    gic.spi(50, true);
    gic.route(50, 1)?;
    gic.nothing(0)?;
    gic.nothing(1)?;
    gic.set_bit(0, ICACTIVER, 50)?;
    gic.nothing(0)?;
    gic.take(1, 50)
}

fn any_vcpu_means_exactly_one(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 4)?;
    gic.route(50, ANY_VCPU)?;
    for _ in 0..3 {
        gic.set_bit(0, ISPENDR, 50)?;
        let signalled: Vec<usize> = (0..4).filter(|&vcpu| gic.signals(vcpu).irq).collect();
        let [target] = *signalled else {
            return Err(crate::conformance::Failure::new(alloc::format!(
                "an SPI for any one vCPU is signalled to {signalled:?}"
            )));
        };
        gic.take_and_end(target, 50)?;
        for vcpu in 0..4 {
            gic.nothing(vcpu)?;
        }
    }
    Ok(())
}

fn any_vcpu_ignores_the_affinity(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 2)?;
    gic.route(50, ANY_VCPU | 0x77)?;
    gic.spi(50, true);
    let signalled = (0..2).filter(|&vcpu| gic.signals(vcpu).irq).count();
    require("one vCPU is signalled", signalled == 1)
}

fn any_vcpu_can_become_a_certain_one(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::ready(make, 3)?;
    gic.route(50, ANY_VCPU)?;
    gic.spi(50, true);
    for target in [2, 1, 0] {
        gic.route(50, target as u64)?;
        for vcpu in 0..3 {
            let signalled = gic.signals(vcpu).irq;
            require(
                "only the certain one is signalled",
                signalled == (vcpu == target),
            )?;
        }
    }
    Ok(())
}

fn every_one_of_988_spis_can_be_taken(make: &Factory<'_>) -> Verdict {
    let mut gic = Board::awake(make, &[0], 988)?;
    gic.enable_all()?;
    for intid in 32..1020 {
        gic.spi(intid, true);
        gic.take(0, intid)?;
        gic.spi(intid, false);
        gic.end(0, intid);
    }
    gic.nothing(0)
}

fn each_of_256_vcpus_takes_its_own_spis(make: &Factory<'_>) -> Verdict {
    // 4 × 4 × 4 × 4, on all levels.
    let affinity = |n: u64| {
        let level = |shift: u32| n >> shift & 3;
        level(6) << 32 | level(4) << 16 | level(2) << 8 | level(0)
    };
    let affinities: Vec<u64> = (0..256).map(affinity).collect();
    let mut gic = Board::awake(make, &affinities, 32)?;
    gic.set_gicd(0x84, 1 << 8)?;
    gic.set_gicd(ISENABLER + 4, 1 << 8)?;
    for (vcpu, affinity) in affinities.iter().enumerate() {
        gic.route(40, *affinity)?;
        gic.set_bit(0, ISPENDR, 40)?;
        gic.nothing((vcpu + 1) % 256)?;
        gic.nothing((vcpu + 16) % 256)?;
        gic.take_and_end(vcpu, 40)?;
    }
    Ok(())
}
