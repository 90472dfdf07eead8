//! Edge, level, SGIs, routing, groups: one rule each.

use arm_vgic_v3::{FakeIch, Frame, Group, Kicks, SgiRegister, Vgic, VgicConfig};
use vm_contract::{VcpuId, Width};

use crate::machine::{
    BOOT, ICACTIVER, ICENABLER, ICPENDR, IGROUPR, ISACTIVER, ISENABLER, ISPENDR, Machine, SECOND,
    id,
};

#[test]
fn level_spi_is_delivered_until_its_wire_falls() {
    let mut machine = Machine::ready(1, 4);
    machine.line(33, true);
    assert_eq!(machine.ack(BOOT), Some(33));
    assert_eq!(machine.ack(BOOT), None, "active");
    machine.end(BOOT, 33);
    assert_eq!(machine.ack(BOOT), Some(33), "the wire is still high");
    machine.line(33, false);
    machine.end(BOOT, 33);
    assert_eq!(machine.ack(BOOT), None);
}

#[test]
fn wire_that_falls_retracts_the_pending_interrupt() {
    let mut machine = Machine::ready(1, 4);
    machine.line(33, true);
    assert_eq!(machine.cpus[0].signalled(), Some(Group::One));
    machine.line(33, false);
    assert_eq!(machine.cpus[0].signalled(), None);
}

#[test]
fn edge_stays_pending_after_the_wire_fell_and_comes_once() {
    let mut machine = Machine::ready(1, 4);
    machine.configure(40, true);
    machine.pulse(40);
    machine.pulse(40);
    assert_eq!(machine.ack(BOOT), Some(40));
    machine.end(BOOT, 40);
    assert_eq!(machine.ack(BOOT), None);
}

#[test]
fn edge_that_comes_while_active_is_delivered_after_the_eoi() {
    let mut machine = Machine::ready(1, 4);
    machine.configure(40, true);
    machine.pulse(40);
    assert_eq!(machine.ack(BOOT), Some(40));
    machine.pulse(40);
    let held = machine.cpus[0].list_registers()[0];
    assert!(held.is_active() && held.is_pending());
    assert_eq!(machine.ack(BOOT), None);
    machine.end(BOOT, 40);
    assert_eq!(machine.ack(BOOT), Some(40));
}

#[test]
fn sgis_from_several_senders_merge() {
    let mut machine = Machine::ready(3, 4);
    for sender in [BOOT, VcpuId::new(2), SECOND] {
        let kicks = machine
            .vgic
            .send_sgi(sender, SgiRegister::Sgi1, 7 << 24 | 0b10);
        assert_eq!(kicks.iter().collect::<Vec<_>>(), [SECOND]);
        machine.serve(kicks);
    }
    assert_eq!(machine.ack(SECOND), Some(7));
    machine.end(SECOND, 7);
    assert_eq!(machine.ack(SECOND), None);
}

#[test]
fn sgi_broadcast_spares_the_sender() {
    let mut machine = Machine::ready(4, 4);
    let kicks = machine
        .vgic
        .send_sgi(SECOND, SgiRegister::Sgi1, 1 << 40 | 3 << 24 | 0xFFFF);
    assert_eq!(kicks.iter().map(VcpuId::raw).collect::<Vec<_>>(), [0, 2, 3]);
}

#[test]
fn sgi_targets_are_found_by_all_affinity_fields() {
    let affinities = [0x0000_0000, 0x0000_0112, 0x0003_0100, 0x5_0003_0100];
    let config = VgicConfig {
        affinities: &affinities,
        spi_count: 0,
    };
    let mut vgic = Vgic::new(&config).expect("valid");
    for vcpu in 0..4 {
        vgic.load(VcpuId::new(vcpu), &mut FakeIch::new(4));
        for (offset, value) in [(0x1_0080, 0xFFFF), (0x1_0100, 0xFFFF)] {
            let offset = u64::from(vcpu) * 0x2_0000 + offset;
            let kicks = vgic.write(BOOT, Frame::Redistributors, offset, Width::Word, value);
            assert_eq!(kicks, Ok(Kicks::NONE));
        }
    }
    assert_eq!(
        vgic.write(BOOT, Frame::Distributor, 0, Width::Word, 2),
        Ok(Kicks::NONE)
    );
    for vcpu in 0..affinities.len() as u16 {
        let _ = vgic.set_awake(VcpuId::new(vcpu), true);
    }
    let mut sent = |value: u64| -> Vec<u16> {
        vgic.send_sgi(BOOT, SgiRegister::Sgi1, value)
            .iter()
            .map(VcpuId::raw)
            .collect()
    };
    assert_eq!(sent(1 << 24 | 1), [0]);
    assert_eq!(
        sent(2 << 24 | 1 << 44 | 1 << 16 | 0b100),
        [1],
        "Aff1 and RS"
    );
    assert_eq!(sent(3 << 24 | 3 << 32 | 1 << 16 | 1), [2], "Aff2");
    assert_eq!(sent(4 << 24 | 5 << 48 | 3 << 32 | 1 << 16 | 1), [3], "Aff3");
    assert!(
        sent(5 << 24 | 9 << 16 | 0xFFFF).is_empty(),
        "nobody is there"
    );
}

#[test]
fn group0_registers_reach_group0_sgis_only() {
    let mut machine = Machine::ready(2, 4);
    for register in [SgiRegister::Sgi0, SgiRegister::Asgi1] {
        assert!(
            machine
                .vgic
                .send_sgi(BOOT, register, 5 << 24 | 0b10)
                .is_empty()
        );
    }
    assert!(!machine.bit(1, ISPENDR, 5));
    machine.gicr(1, IGROUPR, !(1 << 5));
    let kicks = machine
        .vgic
        .send_sgi(BOOT, SgiRegister::Sgi0, 5 << 24 | 0b10);
    machine.serve(kicks);
    assert_eq!(machine.cpus[1].signalled(), Some(Group::Zero));
    assert_eq!(machine.ack_group(SECOND, Group::Zero), Some(5));
    machine.end_group(SECOND, Group::Zero, 5);
    machine.sgi(BOOT, 5 << 24 | 0b10);
    assert_eq!(
        machine.ack_group(SECOND, Group::Zero),
        Some(5),
        "ICC_SGI1R reaches both"
    );
}

#[test]
fn disabled_spi_stays_pending() {
    let mut machine = Machine::ready(1, 4);
    machine.set_bit(0, ICENABLER, 50);
    machine.line(50, true);
    assert_eq!(machine.ack(BOOT), None);
    assert!(machine.bit(0, ISPENDR, 50));
    machine.set_bit(0, ISENABLER, 50);
    assert_eq!(machine.ack(BOOT), Some(50));
}

#[test]
fn disabling_retracts_what_is_in_a_list_register() {
    let mut machine = Machine::ready(2, 4);
    machine.route(50, 1);
    machine.line(50, true);
    machine.sgi(BOOT, 4 << 24 | 0b10);
    assert_eq!(machine.cpus[1].signalled(), Some(Group::One));
    machine.set_bit(0, ICENABLER, 50);
    machine.set_bit(1, ICENABLER, 4);
    assert_eq!(machine.cpus[1].signalled(), None);
    machine.set_bit(1, ISENABLER, 4);
    assert_eq!(machine.ack(SECOND), Some(4), "nothing was dropped");
}

#[test]
fn new_route_moves_a_pending_interrupt_and_leaves_an_active_one() {
    let mut machine = Machine::ready(2, 4);
    machine.line(50, true);
    machine.line(51, true);
    assert_eq!(machine.ack(BOOT), Some(50));
    machine.route(50, 1);
    machine.route(51, 1);
    assert_eq!(machine.ack(SECOND), Some(51));
    machine.end(SECOND, 51);
    machine.line(51, false);
    machine.end(BOOT, 50);
    assert_eq!(machine.ack(BOOT), None);
    assert_eq!(
        machine.ack(SECOND),
        Some(50),
        "active on the old one, then pending on the new"
    );
}

#[test]
fn route_to_nobody_keeps_the_interrupt_pending() {
    let mut machine = Machine::ready(1, 4);
    machine.route(50, 0x77);
    machine.line(50, true);
    assert_eq!(machine.ack(BOOT), None);
    assert!(machine.bit(0, ISPENDR, 50));
    machine.route(50, 0);
    assert_eq!(machine.ack(BOOT), Some(50));
}

#[test]
fn one_of_n_goes_to_the_first_vcpu_that_is_awake() {
    let mut machine = Machine::ready(2, 4);
    machine.write(Frame::Redistributors, 0x14, Width::Word, 0b010);
    machine.route(50, 1 << 31);
    machine.line(50, true);
    assert_eq!(machine.cpus[1].signalled(), Some(Group::One));
    machine.write(Frame::Redistributors, 0x14, Width::Word, 0);
    assert_eq!(
        (machine.cpus[0].signalled(), machine.cpus[1].signalled()),
        (Some(Group::One), None)
    );
}

#[test]
fn clearing_pending_leaves_what_the_wire_asserts() {
    let mut machine = Machine::ready(1, 4);
    machine.set_bit(0, ISPENDR, 50);
    machine.line(51, true);
    machine.set_bit(0, ICPENDR, 50);
    machine.set_bit(0, ICPENDR, 51);
    assert!(!machine.bit(0, ISPENDR, 50));
    assert!(machine.bit(0, ISPENDR, 51));
    assert_eq!(machine.ack(BOOT), Some(51));
}

#[test]
fn pending_written_to_a_level_interrupt_lasts_until_it_is_acknowledged() {
    let mut machine = Machine::ready(1, 4);
    machine.set_bit(0, ISPENDR, 50);
    assert_eq!(machine.ack(BOOT), Some(50));
    assert!(!machine.bit(0, ISPENDR, 50));
    machine.end(BOOT, 50);
    assert_eq!(machine.ack(BOOT), None);
}

#[test]
fn active_state_can_be_written() {
    let mut machine = Machine::ready(2, 4);
    machine.set_bit(0, ISACTIVER, 50);
    machine.line(50, true);
    assert_eq!(machine.ack(BOOT), None, "active");
    machine.route(50, 1);
    machine.set_bit(0, ICACTIVER, 50);
    assert_eq!(machine.ack(SECOND), Some(50));
}

#[test]
fn message_spi_stays_pending_until_it_is_withdrawn() {
    let mut machine = Machine::ready(1, 4);
    machine.gicd(0x40, 60);
    assert_eq!(machine.ack(BOOT), Some(60));
    machine.end(BOOT, 60);
    machine.line(60, true);
    machine.line(60, false);
    assert_eq!(machine.ack(BOOT), Some(60), "the wire does not withdraw it");
    machine.write(Frame::Distributor, 0x48, Width::Half, 60);
    machine.end(BOOT, 60);
    assert_eq!(machine.ack(BOOT), None);
}

#[test]
fn distributor_that_forwards_nothing_delivers_nothing() {
    let mut machine = Machine::ready(1, 4);
    machine.line(50, true);
    machine.gicd(0, 0b01);
    assert_eq!(machine.ack(BOOT), None);
    machine.gicd(0, 0b11);
    assert_eq!(machine.ack(BOOT), Some(50));
}

#[test]
fn new_priority_reorders_what_is_pending() {
    let mut machine = Machine::ready(1, 2);
    (50..54).for_each(|spi| machine.line(spi, true));
    machine.set_priority(0, 53, 0x20);
    assert_eq!(machine.ack(BOOT), Some(53));
}

#[test]
fn waiting_vcpu_is_woken_only_by_what_would_be_signalled() {
    let mut machine = Machine::ready(1, 4);
    assert!(!machine.rebind(BOOT));
    machine.line(50, true);
    assert!(machine.rebind(BOOT));
    machine.cpus[0].set_priority_mask(0xA0);
    assert!(!machine.rebind(BOOT), "masked");
    machine.cpus[0].set_priority_mask(0xFF);
    machine.cpus[0].set_group_enabled(Group::One, false);
    assert!(!machine.rebind(BOOT), "group disabled");
    machine.cpus[0].set_group_enabled(Group::One, true);
    assert_eq!(machine.ack(BOOT), Some(50));
    machine.line(51, true);
    assert!(!machine.rebind(BOOT), "not above the running priority");
    machine.set_priority(0, 51, 0x80);
    assert!(machine.rebind(BOOT), "preempts");
}

#[test]
fn what_a_vcpu_handles_travels_with_it() {
    let mut machine = Machine::ready(1, 4);
    machine.line(50, true);
    assert_eq!(machine.ack(BOOT), Some(50));
    let ich = &mut machine.cpus[0];
    assert!(machine.vgic.save(BOOT, ich).kicks.is_empty());
    *ich = FakeIch::new(4);
    machine.vgic.load(BOOT, ich);
    assert_eq!(machine.ack(BOOT), None);
    machine.line(50, false);
    machine.end(BOOT, 50);
    machine.line(51, true);
    assert_eq!(machine.ack(BOOT), Some(51));
}

#[test]
fn nothing_is_signalled_after_a_save_even_of_a_vcpu_that_was_not_loaded() {
    let mut machine = Machine::ready(1, 4);
    machine.line(50, true);
    let mut other_cpu = machine.cpus[0].clone();
    assert!(machine.rebind(BOOT));
    let mut vgic = machine.vgic;
    assert!(vgic.save(BOOT, &mut machine.cpus[0]).kicks.is_empty());
    assert_eq!(machine.cpus[0].signalled(), None);
    assert_eq!(other_cpu.signalled(), Some(Group::One), "left as it was");
    assert!(vgic.save(BOOT, &mut other_cpu).kicks.is_empty());
    assert_eq!(other_cpu.signalled(), None);
    vgic.load(BOOT, &mut machine.cpus[0]);
    assert_eq!(machine.cpus[0].signalled(), Some(Group::One), "none lost");
}

#[test]
fn cpu_interface_reset_forgets_masks_but_no_interrupt() {
    let mut machine = Machine::ready(1, 4);
    machine.line(50, true);
    assert!(
        machine
            .vgic
            .save(BOOT, &mut machine.cpus[0])
            .kicks
            .is_empty()
    );
    machine.vgic.reset_cpu_interface(BOOT);
    assert!(!machine.vgic.deliverable(BOOT));
    machine.vgic.load(BOOT, &mut machine.cpus[0]);
    assert_eq!(machine.ack(BOOT), None, "the priority mask is zero");
    machine.cpus[0].open();
    assert_eq!(machine.ack(BOOT), Some(50));
}

#[test]
fn reset_silences_everything_but_wires() {
    let mut machine = Machine::ready(1, 4);
    machine.line(50, true);
    machine.sgi(BOOT, 1 << 24 | 1);
    assert!(
        machine
            .vgic
            .save(BOOT, &mut machine.cpus[0])
            .kicks
            .is_empty()
    );
    machine.vgic.reset();
    machine.vgic.load(BOOT, &mut machine.cpus[0]);
    machine.cpus[0].open();
    machine.enable_all();
    assert_eq!(machine.ack(BOOT), None, "the redistributor sleeps");
    machine.write(Frame::Redistributors, 0x14, Width::Word, 0);
    assert_eq!(machine.ack(BOOT), Some(50));
    machine.line(50, false);
    machine.end(BOOT, 50);
    assert_eq!(machine.ack(BOOT), None, "the SGI is gone");
}

#[test]
fn unchanged_list_registers_are_not_written_again() {
    let mut machine = Machine::ready(1, 4);
    machine.line(50, true);
    let before = machine.cpus[0].lr_writes();
    machine.refresh(BOOT);
    assert_eq!(machine.cpus[0].lr_writes(), before);
    let kicks = machine.vgic.set_spi_level(id(50), true);
    assert!(kicks.is_empty(), "a repeated level has no effect");
}

#[test]
fn interrupts_made_pending_by_software_are_taken_once_where_they_belong() {
    let mut machine = Machine::ready(2, 4);
    machine.route(50, 1);
    for intid in [3, 20, 50] {
        machine.inject(0, intid);
        machine.inject(0, intid);
    }
    let mut taken = |vcpu| -> Vec<u32> {
        let next = || {
            let intid = machine.ack(vcpu)?;
            machine.end(vcpu, intid);
            Some(intid)
        };
        std::iter::from_fn(next).collect()
    };
    assert_eq!(taken(BOOT), [3, 20]);
    assert_eq!(taken(SECOND), [50]);
    assert_eq!(taken(BOOT), [], "no wire holds them up");
}

#[test]
fn software_interrupt_waits_like_any_other_and_can_be_withdrawn() {
    let mut machine = Machine::ready(1, 4);
    machine.set_bit(0, ICENABLER, 20);
    assert!(machine.vgic.set_pending(BOOT, id(20)).is_empty());
    assert!(machine.bit(0, ISPENDR, 20));
    machine.set_bit(0, ISENABLER, 20);
    machine.set_bit(0, ICPENDR, 20);
    assert_eq!(machine.ack(BOOT), None);
    machine.inject(0, 20);
    assert_eq!(machine.ack(BOOT), Some(20));
    machine.inject(0, 20);
    machine.end(BOOT, 20);
    assert_eq!(machine.ack(BOOT), Some(20), "came while it was handled");
}

#[test]
fn software_interrupts_that_do_not_exist_are_ignored() {
    let mut machine = Machine::ready(1, 4);
    for (vcpu, intid) in [
        (1, 3),
        (1, 20),
        (0, 96),
        (0, 1019),
        (0, 8192),
        (0, 0xFF_FFFF),
    ] {
        let kicks = machine.vgic.set_pending(VcpuId::new(vcpu), id(intid));
        assert!(kicks.is_empty(), "{intid} of vCPU {vcpu}");
    }
    machine.refresh(BOOT);
    assert_eq!(machine.ack(BOOT), None);
}
