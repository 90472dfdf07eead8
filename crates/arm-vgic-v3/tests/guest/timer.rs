//! Interrupts linked to a physical one, as the virtual timer's is.

use arm_vgic_v3::Group;

use crate::machine::{
    BOOT, ICACTIVER, ICENABLER, ICPENDR, ISENABLER, ISPENDR, Machine, SECOND, id,
};

const TIMER: u32 = 27;

#[test]
fn guest_eoi_deactivates_the_physical_interrupt() {
    let mut machine = Machine::ready(1, 4);
    machine.fire(BOOT, TIMER);
    assert_eq!(machine.ack(BOOT), Some(TIMER));
    assert!(machine.take_deactivated().is_empty());
    machine.end(BOOT, TIMER);
    assert_eq!(machine.take_deactivated(), [TIMER]);
    machine.refresh(BOOT);
    assert_eq!(machine.vgic.link(BOOT, id(TIMER)), None);
    assert!(machine.take_deactivated().is_empty(), "once");
}

#[test]
fn timer_fires_again_and_again_without_a_fold_in_between() {
    let mut machine = Machine::ready(1, 4);
    for _ in 0..3 {
        machine.fire(BOOT, TIMER);
        assert_eq!(machine.ack(BOOT), Some(TIMER));
        machine.cpus[0].end(Group::One, TIMER);
        assert!(
            !machine.cpus[0].maintenance(),
            "a timer tick costs no maintenance exit"
        );
        assert_eq!(machine.take_deactivated(), [TIMER]);
    }
}

#[test]
fn timer_seen_active_by_a_fold_still_costs_no_maintenance_exit() {
    let mut machine = Machine::ready(1, 4);
    machine.fire(BOOT, TIMER);
    assert_eq!(machine.ack(BOOT), Some(TIMER));
    machine.refresh(BOOT);
    machine.cpus[0].end(Group::One, TIMER);
    assert!(!machine.cpus[0].maintenance());
    assert_eq!(machine.take_deactivated(), [TIMER], "by its list register");
}

#[test]
fn timer_found_low_is_taken_back_and_its_physical_interrupt_returned() {
    let mut machine = Machine::ready(1, 4);
    machine.set_bit(0, ICENABLER, TIMER);
    machine.fire(BOOT, TIMER);
    assert!(
        machine.bit(0, ISPENDR, TIMER),
        "the level shows though disabled"
    );
    assert!(machine.vgic.is_linked_pending(BOOT, id(TIMER)));
    assert_eq!(machine.vgic.lower_linked(BOOT, id(TIMER)), Some(id(TIMER)));
    assert_eq!(machine.vgic.lower_linked(BOOT, id(TIMER)), None);
    machine.set_bit(0, ISENABLER, TIMER);
    assert_eq!(machine.ack(BOOT), None);
    machine.fire(BOOT, TIMER);
    assert_eq!(machine.ack(BOOT), Some(TIMER));
}

#[test]
fn listed_or_active_timer_is_not_taken_back() {
    let mut machine = Machine::ready(1, 4);
    machine.fire(BOOT, TIMER);
    assert!(!machine.vgic.is_linked_pending(BOOT, id(TIMER)), "listed");
    assert_eq!(machine.vgic.lower_linked(BOOT, id(TIMER)), None);
    assert_eq!(machine.ack(BOOT), Some(TIMER));
    machine.refresh(BOOT);
    assert_eq!(machine.vgic.lower_linked(BOOT, id(TIMER)), None, "active");
}

#[test]
fn pending_timer_is_not_cleared_by_a_register() {
    let mut machine = Machine::ready(1, 4);
    machine.fire(BOOT, TIMER);
    machine.set_bit(0, ICPENDR, TIMER);
    assert_eq!(machine.ack(BOOT), Some(TIMER));
}

#[test]
fn timer_made_pending_while_active_is_kept_out_of_its_list_register() {
    let mut machine = Machine::ready(1, 4);
    machine.fire(BOOT, TIMER);
    assert_eq!(machine.ack(BOOT), Some(TIMER));
    machine.set_bit(0, ISPENDR, TIMER);
    let held = machine.cpus[0].list_registers()[0];
    assert!(held.is_active() && !held.is_pending() && !held.is_linked());
    machine.end(BOOT, TIMER);
    assert_eq!(machine.take_deactivated(), [TIMER], "by order of the fold");
    assert_eq!(machine.ack(BOOT), Some(TIMER), "the pending half");
    machine.end(BOOT, TIMER);
    assert!(machine.take_deactivated().is_empty());
}

#[test]
fn timer_deactivated_by_a_register_counts_as_asserted_until_looked_at() {
    let mut machine = Machine::ready(1, 4);
    machine.fire(BOOT, TIMER);
    assert_eq!(machine.ack(BOOT), Some(TIMER));
    machine.set_bit(0, ICENABLER, TIMER);
    machine.set_bit(0, ICACTIVER, TIMER);
    assert!(machine.vgic.is_linked_pending(BOOT, id(TIMER)));
    assert_eq!(machine.vgic.lower_linked(BOOT, id(TIMER)), Some(id(TIMER)));
}

#[test]
fn spi_handed_back_after_its_end_is_not_handed_back_with_the_next_one() {
    let mut machine = Machine::ready(1, 4);
    machine.fire(BOOT, 50);
    assert_eq!(machine.ack(BOOT), Some(50));
    machine.set_bit(0, ISPENDR, 50);
    machine.end(BOOT, 50);
    assert_eq!(machine.take_deactivated(), [50], "by order of the fold");
    machine.set_bit(0, ICPENDR, 50);
    machine.fire(BOOT, 51);
    assert_eq!(machine.ack(BOOT), Some(51));
    machine.set_bit(0, ICACTIVER, 51);
    machine.refresh(BOOT);
    assert_eq!(machine.take_deactivated(), [51]);
}

#[test]
fn spis_ended_by_another_vcpu_are_all_handed_back() {
    let mut machine = Machine::ready(2, 16);
    machine.cpus[1].set_eoi_mode(true);
    for spi in 40..52 {
        machine.route(spi, 1);
        machine.fire(BOOT, spi);
        assert_eq!(machine.ack(SECOND), Some(spi));
        machine.end(SECOND, spi);
    }
    // More than one fold reports: whoever has them is kicked again for the rest.
    machine.gicd(ICACTIVER + 4, u32::MAX);
    let mut deactivated = machine.take_deactivated();
    deactivated.sort_unstable();
    assert!(deactivated.iter().copied().eq(40..52), "{deactivated:?}");
}

#[test]
fn link_survives_a_reset_until_its_source_is_found_low() {
    let mut machine = Machine::ready(1, 4);
    machine.fire(BOOT, TIMER);
    assert_eq!(machine.ack(BOOT), Some(TIMER));
    assert!(
        machine
            .vgic
            .save(BOOT, &mut machine.cpus[0])
            .kicks
            .is_empty()
    );
    machine.vgic.reset();
    assert!(machine.vgic.is_linked_pending(BOOT, id(TIMER)));
    assert_eq!(machine.vgic.lower_linked(BOOT, id(TIMER)), Some(id(TIMER)));
}

#[test]
fn sgis_and_lpis_cannot_be_linked() {
    let mut machine = Machine::ready(1, 4);
    assert!(machine.vgic.raise_linked(BOOT, id(3), id(3)).is_empty());
    assert!(
        machine
            .vgic
            .raise_linked(BOOT, id(TIMER), id(8192))
            .is_empty()
    );
    assert_eq!(machine.vgic.link(BOOT, id(TIMER)), None);
}
