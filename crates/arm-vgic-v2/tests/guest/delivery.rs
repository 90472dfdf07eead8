//! From the source to the acknowledging vCPU, one rule a test.

use vm_contract::Width;

use crate::machine::{
    CPENDSGIR, CTLR, ICACTIVER, ICENABLER, ICFGR, IGROUPR, IPRIORITYR, ISACTIVER, ISPENDR,
    ITARGETSR, Machine, SGIR, vcpu,
};

const NONE: u32 = 1023;

#[test]
fn an_sgi_names_its_sender() {
    let mut machine = Machine::ready(3, 4);
    machine.write(2, SGIR, Width::Word, 0b001 << 16 | 7);
    assert_eq!(machine.acknowledge(1), NONE);
    assert_eq!(machine.acknowledge(0), 2 << 10 | 7);
    machine.end(0, 2 << 10 | 7);
    assert_eq!(machine.acknowledge(0), NONE);
}

#[test]
fn each_sender_of_one_sgi_is_delivered() {
    let mut machine = Machine::ready(4, 2);
    for sender in [3, 1, 2, 1] {
        machine.write(sender, SGIR, Width::Word, 0b001 << 16 | 4);
    }
    for sender in 1..4 {
        let iar = machine.acknowledge(0);
        assert_eq!(iar, sender << 10 | 4);
        assert_eq!(machine.acknowledge(0), NONE, "the first is still active");
        machine.end(0, iar);
    }
    assert_eq!(machine.acknowledge(0), NONE);
    assert_eq!(machine.read(0, ISPENDR, Width::Word), 0);
}

#[test]
fn sgi_filters_pick_their_targets() {
    for (filter, expected) in [
        (0b110 << 16, [false, true, true]),
        (0b01 << 24 | 0b010 << 16, [true, false, true]),
        (0b10 << 24 | 0b101 << 16, [false, true, false]),
        (0b11 << 24 | 0b111 << 16, [false, false, false]),
        (0xF8 << 16, [false, false, false]),
    ] {
        let mut machine = Machine::ready(3, 4);
        machine.write(1, SGIR, Width::Word, filter | 9);
        let got = [0, 1, 2].map(|index| machine.acknowledge(index) == (1 << 10 | 9));
        assert_eq!(got, expected, "{filter:#x}");
    }
}

#[test]
fn an_sgi_that_is_withdrawn_does_not_come() {
    let mut machine = Machine::ready(2, 4);
    machine.write(0, SGIR, Width::Word, 0b10 << 16 | 4);
    machine.write(1, SGIR, Width::Word, 0b10 << 16 | 4);
    machine.write(1, CPENDSGIR + 4, Width::Byte, 0b01);
    assert_eq!(machine.acknowledge(1), 1 << 10 | 4);
    machine.end(1, 1 << 10 | 4);
    assert_eq!(machine.acknowledge(1), NONE);
}

#[test]
fn the_hypervisors_own_sgi_counts_as_sent_by_the_first_vcpu() {
    let mut machine = Machine::ready(2, 4);
    let kicks = machine.vgic.set_pending(vcpu(1), crate::machine::id(3));
    machine.serve(kicks);
    assert_eq!(machine.acknowledge(1), 3);
}

#[test]
fn an_spi_goes_to_its_lowest_target_and_to_nobody_without_one() {
    let mut machine = Machine::ready(4, 4);
    machine.write(0, ITARGETSR + 40, Width::Byte, 0b1100);
    machine.line(40, true);
    assert_eq!([0, 1, 3].map(|n| machine.acknowledge(n)), [NONE; 3]);
    machine.write(0, ITARGETSR + 40, Width::Byte, 0);
    assert_eq!(machine.acknowledge(2), NONE);
    machine.write(0, ITARGETSR + 40, Width::Byte, 0b1000);
    assert_eq!(machine.acknowledge(3), 40);
}

#[test]
fn an_active_spi_stays_where_it_is_until_its_end() {
    let mut machine = Machine::ready(2, 4);
    machine.line(40, true);
    assert_eq!(machine.acknowledge(0), 40);
    machine.write(0, ITARGETSR + 40, Width::Byte, 0b10);
    assert_eq!(machine.acknowledge(1), NONE);
    machine.end(0, 40);
    assert_eq!(machine.acknowledge(0), NONE);
    assert_eq!(machine.acknowledge(1), 40, "its wire is still high");
}

#[test]
fn groups_are_forwarded_as_the_distributor_says() {
    let mut machine = Machine::ready(1, 4);
    machine.write(0, IGROUPR + 4, Width::Word, 1 << 9);
    machine.line(40, true);
    machine.line(41, true);
    machine.write(0, CTLR, Width::Word, 0b10);
    assert_eq!(machine.acknowledge(0), 41);
    assert_eq!(machine.acknowledge(0), NONE);
    machine.write(0, CTLR, Width::Word, 0b01);
    machine.end(0, 41);
    assert_eq!(machine.acknowledge(0), 40);
}

#[test]
fn a_group_1_interrupt_is_not_acknowledged_without_ack_ctl() {
    let mut machine = Machine::ready(1, 4);
    machine.write(0, IGROUPR + 4, Width::Word, 1 << 9);
    machine.gicv(0).write_ctlr(0b011);
    machine.line(41, true);
    assert_eq!(machine.acknowledge(0), 1022);
    machine.gicv(0).write_ctlr(0b111);
    assert_eq!(machine.acknowledge(0), 41);
}

#[test]
fn a_disabled_interrupt_stays_pending() {
    let mut machine = Machine::ready(1, 4);
    machine.write(0, ICENABLER + 4, Width::Word, 1 << 8);
    machine.line(40, true);
    assert_eq!(machine.acknowledge(0), NONE);
    assert_eq!(machine.read(0, ISPENDR + 4, Width::Word), 1 << 8);
}

#[test]
fn a_level_comes_again_and_an_edge_does_not() {
    let mut machine = Machine::ready(1, 4);
    machine.write(0, ICFGR + 8, Width::Word, 0b10 << 18);
    machine.line(40, true);
    machine.line(41, true);
    for intid in [40, 41, 40] {
        assert_eq!(machine.acknowledge(0), intid);
        if intid == 40 {
            machine.end(0, 40);
            assert!(machine.gicv(0).is_signalled());
            machine.write(0, IPRIORITYR + 40, Width::Byte, 0xB0);
        } else {
            machine.end(0, 41);
        }
    }
}

#[test]
fn sixty_four_at_once_come_once_each_in_priority_order() {
    for lr_count in [1, 2, 4] {
        let mut machine = Machine::ready(1, lr_count);
        let priority = |spi: u32| ((spi - 32) * 37 % 30) << 3;
        for spi in 32..96 {
            machine.write(0, IPRIORITYR + u64::from(spi), Width::Byte, priority(spi));
            machine.write(
                0,
                ISPENDR + 4 * u64::from(spi / 32),
                Width::Word,
                1 << (spi % 32),
            );
        }
        let mut taken = Vec::new();
        for _ in 32..96 {
            let spi = machine.acknowledge(0);
            machine.end(0, spi);
            taken.push(spi);
        }
        assert_eq!(machine.acknowledge(0), NONE);
        assert!(taken.is_sorted_by_key(|spi| priority(*spi)), "{taken:?}");
        taken.sort_unstable();
        assert!(taken.into_iter().eq(32..96));
    }
}

#[test]
fn separate_deactivation_in_any_order_finds_its_interrupt() {
    let mut machine = Machine::ready(1, 2);
    machine.gicv(0).write_ctlr(0x207);
    for spi in 40..46 {
        machine.write(0, ISPENDR + 4, Width::Word, 1 << (spi - 32));
        assert_eq!(machine.acknowledge(0), spi);
        machine.end(0, spi);
    }
    for spi in [43, 40, 45, 41, 44, 42] {
        let active = |machine: &mut Machine| {
            machine.read(0, ISACTIVER + 4, Width::Word) >> (spi - 32) & 1 != 0
        };
        assert!(active(&mut machine));
        machine.deactivate(0, spi);
        assert!(!active(&mut machine), "{spi}");
    }
}

#[test]
fn deactivation_without_eoi_mode_is_ignored() {
    let mut machine = Machine::ready(1, 4);
    machine.line(40, true);
    assert_eq!(machine.acknowledge(0), 40);
    machine.deactivate(0, 40);
    assert_eq!(machine.read(0, ISACTIVER + 4, Width::Word), 1 << 8);
}

#[test]
fn an_sgi_is_deactivated_whoever_sent_it() {
    let mut machine = Machine::ready(2, 4);
    machine.gicv(0).write_ctlr(0x207);
    machine.write(1, SGIR, Width::Word, 0b01 << 16 | 4);
    let iar = machine.acknowledge(0);
    machine.end(0, iar);
    assert_eq!(machine.read(0, ISACTIVER, Width::Word), 1 << 4);
    machine.deactivate(0, iar);
    assert_eq!(machine.read(0, ISACTIVER, Width::Word), 0);
}

#[test]
fn the_timers_physical_interrupt_is_deactivated_with_the_guests() {
    let mut machine = Machine::ready(2, 4);
    machine.fire(1, 27);
    assert_eq!(machine.acknowledge(1), 27);
    assert!(machine.take_deactivated().is_empty());
    machine.end(1, 27);
    assert_eq!(machine.take_deactivated(), [27]);
}

#[test]
fn active_state_can_be_written() {
    let mut machine = Machine::ready(1, 4);
    machine.write(0, ISACTIVER + 4, Width::Word, 1 << 8);
    machine.line(40, true);
    assert_eq!(machine.acknowledge(0), NONE);
    machine.write(0, ICACTIVER + 4, Width::Word, 1 << 8);
    assert_eq!(machine.acknowledge(0), 40);
}

#[test]
fn what_a_vcpu_handles_travels_with_it() {
    let mut machine = Machine::ready(2, 4);
    machine.write(1, SGIR, Width::Word, 0b01 << 16 | 4);
    let iar = machine.acknowledge(0);
    assert!(!machine.move_to_cpu_with(0, 1));
    machine.line(40, true);
    assert_eq!(machine.acknowledge(0), NONE, "of the same priority");
    machine.end(0, iar);
    assert!(machine.move_to_cpu_with(0, 3));
    assert_eq!(machine.acknowledge(0), 40);
}

#[test]
fn reset_silences_everything_but_wires() {
    let mut machine = Machine::ready(1, 4);
    machine.line(40, true);
    machine.write(0, SGIR, Width::Word, 0b01 << 16 | 4);
    machine.write(0, IGROUPR, Width::Word, u32::MAX);
    machine.move_to_cpu_with(0, 4);
    let mut fresh = Machine::new(1, 4);
    fresh.line(40, true);
    machine.reset();
    for offset in (0..0x1000).step_by(4) {
        let read = machine.try_read(0, offset, Width::Word);
        assert_eq!(read, fresh.try_read(0, offset, Width::Word), "{offset:#x}");
    }
    machine.write(0, CTLR, Width::Word, 1);
    machine.gicv(0).open();
    assert_eq!(machine.acknowledge(0), NONE, "the SGI is gone");
}

/// A machine with EOImode set in which vCPU 0 has taken SPI 40 and dropped its
/// priority, and nobody knows but its list registers.
fn spi_in_hand() -> Machine {
    let mut machine = Machine::ready(2, 4);
    machine.write(0, ICFGR + 8, Width::Word, 0b10 << 16);
    (0..2).for_each(|index| machine.gicv(index).write_ctlr(0x207));
    machine.line(40, true);
    assert_eq!(machine.acknowledge(0), 40);
    machine.end(0, 40);
    machine
}

/// Sends another edge, which must come.
fn comes_again(machine: &mut Machine) {
    machine.line(40, false);
    machine.line(40, true);
    assert_eq!(machine.acknowledge(0), 40);
}

#[test]
fn another_vcpu_deactivates_by_register_what_one_has_just_taken() {
    let mut machine = spi_in_hand();
    machine.write(1, ICACTIVER + 4, Width::Word, 1 << 8);
    assert_eq!(machine.read(0, ISACTIVER + 4, Width::Word), 0);
    comes_again(&mut machine);
}

#[test]
fn another_vcpu_deactivates_by_gicc_dir_what_one_has_just_taken() {
    let mut machine = spi_in_hand();
    machine.deactivate(1, 40);
    assert_eq!(machine.read(0, ISACTIVER + 4, Width::Word), 0);
    comes_again(&mut machine);
}

#[test]
fn an_interrupt_that_ended_elsewhere_and_was_made_active_again_stays_so() {
    let mut machine = spi_in_hand();
    machine.write(1, ICACTIVER + 4, Width::Word, 1 << 8);
    machine.write(1, ISACTIVER + 4, Width::Word, 1 << 8);
    assert_eq!(machine.read(0, ISACTIVER + 4, Width::Word), 1 << 8);
}

#[test]
fn what_another_vcpu_has_taken_is_seen_once_it_was_asked() {
    let mut machine = spi_in_hand();
    let offset = ISACTIVER + 4;
    assert_eq!(machine.vgic.read(vcpu(1), offset, Width::Word), Ok(0));
    let kicks = machine.vgic.look_again(vcpu(1), offset);
    assert!(kicks.contains(vcpu(0)) && !kicks.contains(vcpu(1)));
    machine.serve(kicks);
    assert_eq!(machine.vgic.read(vcpu(1), offset, Width::Word), Ok(1 << 8));
    // Nothing of other registers is in list registers.
    assert!(machine.vgic.look_again(vcpu(1), ITARGETSR).is_empty());
    assert!(machine.vgic.look_again(vcpu(1), offset + 4).is_empty());
}

#[test]
fn withdrawing_one_sgi_leaves_the_hypervisors_own_beside_it() {
    let mut machine = Machine::ready(2, 4);
    let kicks = machine.vgic.set_pending(vcpu(1), crate::machine::id(3));
    machine.serve(kicks);
    assert_eq!(machine.read(1, CPENDSGIR, Width::Word), 1 << 24);
    machine.write(1, CPENDSGIR, Width::Word, 0xFF << 16);
    assert_eq!(machine.acknowledge(1), 3);
}
