//! What each command does, and what makes it wrong.

use arm_vgic_v3::its::{CommandError, STEPS_PER_ACCESS};

use crate::machine::{
    CBASER, CREADR, CTLR, CWRITER, EVENTS, FIRST_LPI, LPIS, Machine, QUEUE, RAM, VALID, VCPUS,
    clear, discard, int, inv, invall, mapc, mapd, mapi, mapti, movall, movi, sync, unmapc, unmapd,
};

/// Submits one command that must be passed over for this reason.
#[track_caller]
fn refuse(machine: &mut Machine, command: [u64; 4], reason: CommandError) {
    let before = machine.its.rejected();
    machine.submit(&[command]);
    assert_eq!(machine.its.last_error(), Some(reason));
    assert_eq!(machine.its.rejected(), before + 1);
}

/// Submits commands that must be obeyed.
#[track_caller]
fn obey(machine: &mut Machine, commands: &[[u64; 4]]) {
    let before = machine.its.rejected();
    machine.submit(commands);
    assert_eq!(
        machine.its.rejected(),
        before,
        "{:?}",
        machine.its.last_error()
    );
}

#[test]
fn an_event_reaches_the_vcpu_of_its_collection_as_its_lpi() {
    let mut machine = Machine::mapped();
    obey(&mut machine, &[mapti(5, 3, 8200, 2), mapti(5, 4, 8201, 0)]);
    assert_eq!(machine.signal(5, 3), Some((2, 8200)));
    assert_eq!(machine.signal(5, 4), Some((0, 8201)));
    assert_eq!(machine.pending(), [(0, 8201), (2, 8200)]);
}

#[test]
fn an_event_that_is_not_mapped_is_dropped() {
    let mut machine = Machine::mapped();
    obey(&mut machine, &[mapti(5, 3, 8200, 2)]);
    assert_eq!(machine.signal(5, 2), None, "no such event");
    assert_eq!(machine.signal(4, 3), None, "no such device");
    assert_eq!(machine.signal(5, 32), None, "beyond the device's events");
    assert_eq!(machine.signal(u32::MAX, u32::MAX), None);
    assert_eq!(machine.pending(), []);
    assert_eq!(machine.its.rejected(), 0, "devices send no commands");
}

#[test]
fn a_disabled_its_translates_nothing() {
    let mut machine = Machine::mapped();
    obey(&mut machine, &[mapti(5, 3, 8200, 2)]);
    assert!(machine.signal(5, 3).is_some());
    machine.set_word(CTLR, 0);
    assert_eq!(machine.signal(5, 3), None, "not even what it remembers");
}

#[test]
fn mapi_takes_the_event_for_the_lpi() {
    let mut machine = Machine::mapped();
    obey(
        &mut machine,
        &[mapd(6, 13, EVENTS - 0x1_0000), mapi(6, 8193, 1)],
    );
    assert_eq!(machine.signal(6, 8193), Some((1, 8193)));
    refuse(&mut machine, mapi(6, 7, 1), CommandError::NoLpi(7));
}

#[test]
fn mapping_an_event_again_changes_what_it_means() {
    let mut machine = Machine::mapped();
    obey(&mut machine, &[mapti(5, 3, 8200, 2)]);
    assert_eq!(machine.signal(5, 3), Some((2, 8200)));
    obey(&mut machine, &[mapti(5, 3, 8222, 1)]);
    assert_eq!(machine.signal(5, 3), Some((1, 8222)));
}

#[test]
fn only_lpis_that_exist_are_mapped() {
    let mut machine = Machine::mapped();
    for intid in [0, 32, 1023, FIRST_LPI - 1, FIRST_LPI + LPIS, u32::MAX] {
        refuse(
            &mut machine,
            mapti(5, 0, intid, 0),
            CommandError::NoLpi(intid),
        );
    }
    obey(&mut machine, &[mapti(5, 0, FIRST_LPI + LPIS - 1, 0)]);
}

#[test]
fn an_event_must_be_one_of_its_device() {
    let mut machine = Machine::mapped();
    obey(&mut machine, &[mapti(5, 31, 8200, 0)]);
    refuse(
        &mut machine,
        mapti(5, 32, 8200, 0),
        CommandError::EventOutOfRange(32),
    );
    refuse(
        &mut machine,
        mapti(7, 0, 8200, 0),
        CommandError::DeviceUnmapped(7),
    );
}

#[test]
fn a_device_must_be_in_the_table_and_have_a_possible_size() {
    let mut machine = Machine::mapped();
    obey(&mut machine, &[mapd(511, 15, EVENTS)]);
    for device in [512, 0x1_0000, u32::MAX] {
        refuse(
            &mut machine,
            mapd(device, 0, EVENTS),
            CommandError::DeviceOutOfRange(device),
        );
    }
    refuse(
        &mut machine,
        mapd(1, 16, EVENTS),
        CommandError::EventBits(17),
    );
    assert_eq!(machine.signal(1, 0), None);
}

#[test]
fn an_unmapped_device_has_no_events() {
    let mut machine = Machine::mapped();
    obey(&mut machine, &[mapti(5, 3, 8200, 2)]);
    assert!(machine.signal(5, 3).is_some());
    obey(&mut machine, &[unmapd(5)]);
    assert_eq!(machine.signal(5, 3), None);
    refuse(&mut machine, int(5, 3), CommandError::DeviceUnmapped(5));
}

#[test]
fn a_device_mapped_elsewhere_has_other_events() {
    let mut machine = Machine::mapped();
    obey(&mut machine, &[mapti(5, 3, 8200, 2)]);
    assert!(machine.signal(5, 3).is_some());
    obey(&mut machine, &[mapd(5, 4, EVENTS + 0x1000)]);
    assert_eq!(machine.signal(5, 3), None);
}

#[test]
fn a_collection_must_be_in_the_table_and_its_redistributor_exist() {
    let mut machine = Machine::mapped();
    obey(&mut machine, &[mapc(511, 3)]);
    refuse(
        &mut machine,
        mapc(512, 3),
        CommandError::CollectionOutOfRange(512),
    );
    for target in [u64::from(VCPUS), 0x1_0000, 0x7_FFFF_FFFF] {
        refuse(
            &mut machine,
            mapc(0, target),
            CommandError::NoRedistributor(target),
        );
        refuse(
            &mut machine,
            sync(target),
            CommandError::NoRedistributor(target),
        );
    }
}

#[test]
fn a_collection_that_moves_takes_its_events_along() {
    let mut machine = Machine::mapped();
    obey(&mut machine, &[mapti(5, 3, 8200, 2)]);
    assert_eq!(machine.signal(5, 3), Some((2, 8200)));
    obey(&mut machine, &[mapc(2, 1)]);
    assert_eq!(machine.signal(5, 3), Some((1, 8200)));
    obey(&mut machine, &[unmapc(2)]);
    assert_eq!(machine.signal(5, 3), None);
    refuse(&mut machine, int(5, 3), CommandError::CollectionUnmapped(2));
}

#[test]
fn an_event_can_be_mapped_before_its_collection() {
    let mut machine = Machine::mapped();
    obey(&mut machine, &[mapti(5, 3, 8200, 9)]);
    assert_eq!(machine.signal(5, 3), None);
    obey(&mut machine, &[mapc(9, 3)]);
    assert_eq!(machine.signal(5, 3), Some((3, 8200)));
    refuse(
        &mut machine,
        mapti(5, 4, 8201, 512),
        CommandError::CollectionOutOfRange(512),
    );
}

#[test]
fn int_makes_pending_and_clear_undoes_it() {
    let mut machine = Machine::mapped();
    obey(&mut machine, &[mapti(5, 3, 8200, 2), int(5, 3)]);
    assert_eq!(machine.pending(), [(2, 8200)]);
    obey(&mut machine, &[clear(5, 3)]);
    assert_eq!(machine.pending(), []);
    for command in [int(5, 4), clear(5, 4), inv(5, 4), movi(5, 4, 0)] {
        refuse(&mut machine, command, CommandError::EventUnmapped(4));
    }
}

#[test]
fn discard_forgets_the_event_and_that_it_is_pending() {
    let mut machine = Machine::mapped();
    obey(&mut machine, &[mapti(5, 3, 8200, 2)]);
    assert!(machine.signal(5, 3).is_some());
    obey(&mut machine, &[discard(5, 3)]);
    assert_eq!(machine.pending(), []);
    assert_eq!(machine.signal(5, 3), None);
    refuse(&mut machine, discard(5, 3), CommandError::EventUnmapped(3));
}

#[test]
fn movi_moves_the_event_and_what_is_pending_of_it() {
    let mut machine = Machine::mapped();
    obey(&mut machine, &[mapti(5, 3, 8200, 2), mapti(5, 4, 8201, 2)]);
    assert!(machine.signal(5, 3).is_some() && machine.signal(5, 4).is_some());
    obey(&mut machine, &[movi(5, 3, 0)]);
    assert_eq!(machine.pending(), [(0, 8200), (2, 8201)]);
    assert_eq!(machine.signal(5, 3), Some((0, 8200)));
    refuse(
        &mut machine,
        movi(5, 3, 40),
        CommandError::CollectionUnmapped(40),
    );
    assert_eq!(machine.signal(5, 3), Some((0, 8200)), "it stays");
}

#[test]
fn movall_moves_all_that_is_pending_at_one_redistributor() {
    let mut machine = Machine::mapped();
    for (event, lpi) in [(0, FIRST_LPI), (1, 8300), (2, FIRST_LPI + LPIS - 1)] {
        obey(&mut machine, &[mapti(5, event, lpi, 1), int(5, event)]);
    }
    obey(&mut machine, &[mapti(5, 9, 8400, 0), int(5, 9)]);
    obey(&mut machine, &[movall(1, 3)]);
    assert_eq!(
        machine.pending(),
        [
            (0, 8400),
            (3, FIRST_LPI),
            (3, 8300),
            (3, FIRST_LPI + LPIS - 1)
        ]
    );
    assert_eq!(
        machine.signal(5, 1),
        Some((1, 8300)),
        "collections stay where they are"
    );
    for (from, to, bad) in [(4, 0, 4), (0, 77, 77)] {
        refuse(
            &mut machine,
            movall(from, to),
            CommandError::NoRedistributor(bad),
        );
    }
}

#[test]
fn properties_are_read_when_an_event_is_mapped_and_when_it_is_invalidated() {
    let mut machine = Machine::mapped();
    machine.set_property(8200, 0xA1);
    obey(&mut machine, &[mapti(5, 3, 8200, 2)]);
    assert_eq!(machine.redistributors.properties.get(&8200), Some(&0xA1));
    machine.set_property(8200, 0x40);
    assert_eq!(machine.redistributors.properties.get(&8200), Some(&0xA1));
    obey(&mut machine, &[inv(5, 3)]);
    assert_eq!(machine.redistributors.properties.get(&8200), Some(&0x40));
    assert_eq!(machine.redistributors.properties.len(), 1);
}

#[test]
fn invall_reads_the_properties_of_all_lpis() {
    let mut machine = Machine::mapped();
    for lpi in [FIRST_LPI, 8333, FIRST_LPI + LPIS - 1] {
        machine.set_property(lpi, 0x81);
    }
    obey(&mut machine, &[invall(1)]);
    let properties = &machine.redistributors.properties;
    assert_eq!(properties.len() as u32, LPIS);
    assert_eq!(properties.values().filter(|byte| **byte == 0x81).count(), 3);
    assert_eq!(properties[&8333], 0x81);
    refuse(
        &mut machine,
        invall(100),
        CommandError::CollectionUnmapped(100),
    );
}

#[test]
fn properties_of_a_redistributor_without_lpis_are_not_read() {
    let mut machine = Machine::mapped();
    machine.redistributors.tables.clear();
    obey(&mut machine, &[mapti(5, 3, 8200, 2), inv(5, 3), invall(2)]);
    assert_eq!(machine.redistributors.properties.len(), 0);
    assert_eq!(machine.pending(), []);
}

#[test]
fn commands_that_do_not_exist_are_passed_over() {
    let mut machine = Machine::mapped();
    for number in [0x00, 0x02, 0x06, 0x07, 0x10, 0x21, 0x2A, 0xFF] {
        refuse(
            &mut machine,
            [number.into(), u64::MAX, u64::MAX, u64::MAX],
            CommandError::Unknown(number),
        );
    }
    obey(&mut machine, &[mapti(5, 3, 8200, 2)]);
}

#[test]
fn a_queue_outside_memory_is_read_to_its_end() {
    let mut machine = Machine::new();
    machine.set(CBASER, VALID | (RAM - 0x1_0000));
    machine.set_word(CTLR, 1);
    machine.set(CWRITER, 0x60);
    assert_eq!(machine.get(CREADR), 0x60);
    assert_eq!(machine.its.rejected(), 3);
    assert_eq!(machine.its.last_error(), Some(CommandError::Unreachable));
}

#[test]
fn without_a_valid_queue_nothing_is_read() {
    let mut machine = Machine::new();
    machine.set(CBASER, QUEUE);
    machine.set_word(CTLR, 1);
    machine.set(CWRITER, 0x60);
    assert_eq!(machine.get(CREADR), 0);
    assert!(!machine.its.has_work());
}

#[test]
fn a_write_pointer_beyond_the_queue_stops_it_until_it_is_right() {
    let mut machine = Machine::mapped();
    let at = machine.queue(&[mapti(5, 3, 8200, 2)]);
    let reader = machine.get(CREADR);
    machine.set(CWRITER, 0x1000);
    assert_eq!(machine.get(CREADR), reader);
    assert!(!machine.its.has_work());
    machine.set(CWRITER, at);
    assert_eq!(machine.get(CREADR), at);
    assert!(machine.signal(5, 3).is_some());
}

#[test]
fn the_queue_wraps_around() {
    let mut machine = Machine::mapped();
    for n in 0..300 {
        let lpi = FIRST_LPI + n % LPIS;
        obey(&mut machine, &[mapti(5, n % 32, lpi, (n % 4) as u16)]);
        assert_eq!(machine.signal(5, n % 32), Some(((n % 4) as u16, lpi)));
    }
}

#[test]
fn commands_wait_while_the_its_is_disabled() {
    let mut machine = Machine::mapped();
    machine.set_word(CTLR, 0);
    let at = machine.queue(&[mapti(5, 3, 8200, 2), int(5, 3)]);
    machine.set(CWRITER, at);
    assert_eq!(machine.pending(), []);
    machine.set_word(CTLR, 1);
    assert_eq!(machine.pending(), [(2, 8200)]);
}

#[test]
fn no_access_does_more_than_its_share_and_the_read_pointer_says_so() {
    let mut machine = Machine::mapped();
    let start = machine.get(CWRITER);
    let at = machine.queue(&[invall(0); 100]);
    machine.set(CWRITER, at);
    assert!(machine.its.has_work());
    // Each takes a step for every 32 LPIs.
    let share = u64::from(STEPS_PER_ACCESS / (LPIS / 32));
    let (mut done, mut looks) = (0, 0);
    while done < 100 {
        let now = (machine.get(CREADR) + 0x1000 - start) % 0x1000 / 32;
        assert!(now > done && now <= done + 2 * share, "{done} to {now}");
        (done, looks) = (now, looks + 1);
    }
    assert!(looks > 10);
    assert!(!machine.its.has_work());
}

#[test]
fn a_command_that_was_begun_is_finished_before_the_its_is_quiescent() {
    let mut machine = Machine::mapped();
    machine.redistributors.lpi_count = 8192;
    let base = machine.get(CBASER);
    let reader = machine.get(CREADR);
    // Work for four accesses each.
    let at = machine.queue(&[invall(0), invall(0)]);
    machine.set(CWRITER, at);
    machine.set_word(CTLR, 0);
    assert_eq!(machine.get_word(CTLR), 0, "neither enabled nor quiescent");
    assert!(machine.its.has_work());
    machine.set(CBASER, 0);
    assert_eq!(machine.get_word(CTLR), 1 << 31);
    assert_eq!(machine.get(CBASER), base, "not written in the meantime");
    assert_eq!(machine.get(CREADR), reader + 32, "and no other was begun");
    assert_eq!(machine.redistributors.properties.len(), 8192);
}
