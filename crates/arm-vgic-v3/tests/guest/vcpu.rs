//! What the hypervisor does with vCPUs: it saves, loads, resets and wakes them, and
//! makes interrupts pending on its own account.

use arm_vgic_v3::{FakeIch, Frame, Group, IchRegs, Kicks, SgiRegister};
use vm_contract::{VcpuId, Width};

use crate::machine::{
    BOOT, ICENABLER, ICPENDR, IGROUPR, ISACTIVER, ISENABLER, ISPENDR, Machine, SECOND, id,
};

/// The vCPUs in `kicks`.
fn kicked(kicks: Kicks) -> Vec<u16> {
    kicks.iter().map(VcpuId::raw).collect()
}

#[test]
fn those_who_must_look_are_kicked_and_nobody_else() {
    let mut machine = Machine::ready(4, 4);
    let vgic = &mut machine.vgic;
    let sgi = |targets: u64| vgic.send_sgi(SECOND, SgiRegister::Sgi1, targets | 3 << 24);
    let [listed, again, broadcast] = [0b1001, 0b1001, 1 << 40].map(sgi).map(kicked);
    assert_eq!(listed, [0, 3]);
    assert_eq!(again, [], "they have been told");
    assert_eq!(broadcast, [2], "neither the sender nor those who know");
    machine.route(50, 2);
    assert_eq!(kicked(machine.vgic.set_spi_level(id(50), true)), [2]);
    let moved = machine
        .vgic
        .write(BOOT, Frame::Distributor, 0x6190, Width::Dword, 1)
        .expect("a good access");
    assert_eq!(kicked(moved), [1], "vCPU 2 never saw it");
    machine.serve(moved);
    let moved = machine
        .vgic
        .write(BOOT, Frame::Distributor, 0x6190, Width::Dword, 3)
        .expect("a good access");
    assert_eq!(kicked(moved), [1], "it has to give it up first");
    assert_eq!(
        kicked(machine.vgic.set_ppi_level(SECOND, id(20), true)),
        [1]
    );
}

#[test]
fn what_changes_nothing_for_a_vcpu_does_not_kick_it() {
    let mut machine = Machine::ready(3, 4);
    for (spi, route) in [(50, 1), (51, 2)] {
        machine.route(spi, route);
        machine.line(spi, true);
    }
    let enabled = machine
        .vgic
        .write(
            BOOT,
            Frame::Distributor,
            ISENABLER + 4,
            Width::Word,
            u64::MAX,
        )
        .expect("a good access");
    assert_eq!(kicked(enabled), [], "they were enabled before");
    assert_eq!(kicked(machine.vgic.set_spi_level(id(50), false)), [1]);
    machine.refresh(SECOND);
    assert_eq!(kicked(machine.vgic.set_spi_level(id(50), false)), []);
}

#[test]
fn interrupt_made_active_by_a_register_is_held_where_it_would_go() {
    // What the guest ends without a trap must be in its own list registers.
    let mut machine = Machine::with_cpus(2, &FakeIch::new(4).without_dir_trap());
    machine.enable_all();
    machine.route(50, 1);
    machine.set_bit(0, ISACTIVER, 50);
    assert!(machine.bit(0, ISACTIVER, 50));
    machine.cpus[1].set_eoi_mode(true);
    assert!(machine.cpus[1].deactivate(50), "there is no trap");
    assert!(!machine.bit(0, ISACTIVER, 50));
}

#[test]
fn deactivation_without_separate_priority_drop_is_ignored() {
    let mut machine = Machine::ready(1, 4);
    machine.line(50, true);
    assert_eq!(machine.ack(BOOT), Some(50));
    for split in [false, true] {
        machine.cpus[0].set_eoi_mode(split);
        assert!(!machine.cpus[0].deactivate(50), "it traps");
        machine.refresh(BOOT);
        assert!(machine.vgic.deactivate(BOOT, 50).kicks.is_empty());
        assert_eq!(machine.bit(0, ISACTIVER, 50), !split);
    }
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
    // ICC_BPR0_EL1 = 7: to preempt, all of Group 0 counts as the highest priority.
    let vmcr = machine.cpus[0].read_vmcr();
    machine.cpus[0].write_vmcr(vmcr | 7 << 21);
    machine.gicr(0, IGROUPR, !(1 << 3));
    machine.set_priority(0, 3, 0xA8);
    machine.inject(0, 3);
    machine.set_priority(0, 51, 0xA0);
    assert!(!machine.rebind(BOOT), "held back by what comes first");
}

#[test]
fn loaded_vcpu_may_be_woken_by_any_of_its_list_registers() {
    let mut machine = Machine::ready(1, 4);
    machine.gicr(0, IGROUPR, !(1 << 3));
    machine.cpus[0].set_group_enabled(Group::Zero, false);
    machine.inject(0, 3);
    machine.refresh(BOOT);
    assert!(!machine.vgic.deliverable(BOOT), "group disabled");
    machine.line(50, true);
    let listed = machine.cpus[0].list_registers();
    assert_eq!([listed[0].intid(), listed[1].intid()], [3, 50]);
    assert!(machine.vgic.deliverable(BOOT));
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
fn unchanged_control_register_is_not_written_again() {
    let mut machine = Machine::ready(1, 4);
    // An EOI without a list register is counted, which nobody has asked about.
    let counted = machine.cpus[0].read_hcr() + (1 << 27);
    machine.cpus[0].write_hcr(counted);
    machine.inject(0, 3);
    assert_eq!(machine.ack(BOOT), Some(3));
    assert_eq!(machine.cpus[0].read_hcr(), counted);
}

#[test]
fn what_is_pending_in_a_list_register_shows_before_it_is_folded() {
    let mut machine = Machine::ready(2, 4);
    machine.route(40, 1);
    machine.inject(1, 40);
    machine.sgi(BOOT, 3 << 24 | 0b10);
    machine.fire(SECOND, 27);
    let mut shown = |frame, offset| {
        let value = machine.vgic.read(BOOT, frame, offset, Width::Word);
        value.expect("a good access")
    };
    let private = 0x3_0000 + ISPENDR;
    assert_eq!(shown(Frame::Redistributors, private), 1 << 27 | 1 << 3);
    assert_eq!(shown(Frame::Distributor, ISPENDR + 4), 1 << 8);
    // The same again, which nobody has looked at yet.
    let _ = machine.vgic.set_pending(SECOND, id(40));
    let _ = machine.vgic.set_pending(SECOND, id(27));
    let _ = machine
        .vgic
        .send_sgi(BOOT, SgiRegister::Sgi1, 3 << 24 | 0b10);
    let mut shown = |frame, offset| {
        let value = machine.vgic.read(BOOT, frame, offset, Width::Word);
        value.expect("a good access")
    };
    assert_eq!(shown(Frame::Redistributors, private), 1 << 27 | 1 << 3);
    assert_eq!(shown(Frame::Distributor, ISPENDR + 4), 1 << 8);
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
