//! An ITS and a vGIC together: from a device's event to the guest's
//! acknowledgement.

use arm_vgic_v3::{Frame, Group, Kicks};
use vm_contract::{AccessError, GuestMemory, GuestPhysAddr, VcpuId, Width};

use crate::machine::{discard, inv, invall, movall, movi};
use crate::vm::{
    ATTRIBUTES, CES, ENABLE_LPIS, ENABLED, GICD_TYPER, GICR_CTLR, GICR_PENDBASER, GICR_PROPBASER,
    GICR_TYPER, LPIS, PTZ, RWP, Whole, pending_table,
};

#[test]
fn a_device_signals_and_the_right_vcpu_takes_it_once() {
    let mut whole = Whole::ready();
    (0..32).for_each(|event| whole.signal(event));
    let expected = |odd| {
        (8192..8224)
            .filter(|lpi| lpi % 2 == odd)
            .collect::<Vec<_>>()
    };
    let mut taken = [whole.take_all(0), whole.take_all(1)];
    taken.iter_mut().for_each(|one| one.sort_unstable());
    assert_eq!(taken, [expected(0), expected(1)]);
    whole.signal(3);
    assert_eq!(whole.take_all(1), [8195], "and again");
}

#[test]
fn the_distributor_and_the_redistributors_say_how_many_lpis_there_are() {
    for (count, typer) in [
        (0, 9 << 19),
        (32, 1 << 17 | 13 << 19 | 4 << 11),
        (2048, 1 << 17 | 13 << 19 | 10 << 11),
        (8192, 1 << 17 | 13 << 19 | 12 << 11),
    ] {
        let mut whole = Whole::with_lpis(count);
        let asker = VcpuId::new(0);
        let read = whole
            .vgic
            .read(asker, Frame::Distributor, GICD_TYPER, Width::Word)
            .expect("a register");
        assert_eq!(read & (1 << 17 | 0x1F << 19 | 0x1F << 11), typer);
        let read = whole.gicr_access(1, GICR_TYPER, Width::Dword, None);
        assert_eq!(read.expect("a register") & 1, u64::from(count != 0));
    }
}

#[test]
fn without_lpis_their_registers_are_reserved() {
    let mut whole = Whole::with_lpis(0);
    whole.gicr(0, GICR_CTLR, Width::Word, ENABLE_LPIS);
    assert_eq!(whole.control(0), 0);
    for register in [GICR_PROPBASER, GICR_PENDBASER] {
        whole.gicr(0, register, Width::Dword, u64::MAX);
        for width in [Width::Byte, Width::Word, Width::Dword] {
            assert_eq!(whole.gicr_access(0, register, width, None), Ok(0));
        }
    }
}

#[test]
fn table_registers_have_fixed_attributes_and_do_not_change_while_lpis_are_enabled() {
    let mut whole = Whole::with_lpis(LPIS);
    for (register, writable) in [
        (GICR_PROPBASER, 0x000F_FFFF_FFFF_F01F),
        (GICR_PENDBASER, 0x000F_FFFF_FFFF_0000),
    ] {
        assert_eq!(
            whole.gicr_access(0, register, Width::Dword, None),
            Ok(ATTRIBUTES)
        );
        whole.gicr(0, register, Width::Dword, u64::MAX);
        let all = ATTRIBUTES | writable;
        assert_eq!(whole.gicr_access(0, register, Width::Dword, None), Ok(all));
        whole.gicr(0, register + 4, Width::Word, 0);
        let lower = all & 0xFFFF_FFFF;
        assert_eq!(
            whole.gicr_access(0, register, Width::Dword, None),
            Ok(lower)
        );
        assert_eq!(whole.gicr_access(0, register, Width::Word, None), Ok(lower));
        assert_eq!(whole.gicr_access(0, register + 4, Width::Word, None), Ok(0));
        let narrow = whole.gicr_access(0, register, Width::Half, None);
        assert_eq!(narrow, Err(AccessError::InvalidWidth));
    }
    whole.gicr(0, GICR_CTLR, Width::Word, ENABLE_LPIS);
    for register in [GICR_PROPBASER, GICR_PENDBASER] {
        let before = whole.gicr_access(0, register, Width::Dword, None);
        whole.gicr(0, register, Width::Dword, 0);
        assert_eq!(whole.gicr_access(0, register, Width::Dword, None), before);
    }
}

#[test]
fn enable_lpis_is_shown_at_once_and_pending_until_the_tables_are_read() {
    let mut whole = Whole::with_lpis(8192);
    assert_eq!(whole.control(0), CES);
    whole.gicr(0, GICR_CTLR, Width::Word, ENABLE_LPIS);
    assert_eq!(whole.control(0), CES | ENABLE_LPIS | RWP, "256 steps");
    whole.gicr(0, GICR_CTLR, Width::Word, 0);
    assert_eq!(whole.control(0) & ENABLE_LPIS, ENABLE_LPIS, "not now");
    while whole.control(0) & RWP != 0 {}
    assert_eq!(whole.control(0), CES | ENABLE_LPIS);
    assert!(!whole.vgic.has_table_request() && !whole.its.has_work());
    assert_eq!(whole.control(1), CES, "one's own only");
}

#[test]
fn what_the_pending_table_says_is_pending_when_lpis_are_enabled() {
    let mut whole = Whole::ready();
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    let address = GuestPhysAddr::from((pending_table(1) + 1024) as usize);
    let write = |whole: &Whole| whole.memory.write(address, &[0b1010]);
    write(&whole).expect("an address in memory");
    whole.gicr(1, GICR_PENDBASER, Width::Dword, PTZ | pending_table(1));
    whole.gicr(1, GICR_CTLR, Width::Word, ENABLE_LPIS);
    assert_eq!(whole.take_all(1), [], "PTZ says that it is zero");
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    write(&whole).expect("an address in memory");
    whole.gicr(1, GICR_PENDBASER, Width::Dword, pending_table(1));
    whole.gicr(1, GICR_CTLR, Width::Word, ENABLE_LPIS);
    assert_eq!(whole.take_all(1), [8193, 8195]);
    assert_eq!(whole.take_all(0), []);
}

#[test]
fn what_is_pending_when_lpis_are_disabled_goes_to_the_pending_table() {
    let mut whole = Whole::ready();
    for event in [1, 3, 5, 4] {
        whole.signal(event);
    }
    assert_eq!(whole.take(1), Some(8193));
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    assert_eq!(whole.control(1), CES);
    assert_eq!(whole.take_all(1), [], "nothing is forwarded");
    assert_eq!(whole.pending_word(1), 1 << 3 | 1 << 5);
    assert_eq!(whole.take_all(0), [8196], "the other one's come");
    // Back again by the table.
    whole.gicr(1, GICR_PENDBASER, Width::Dword, pending_table(1));
    whole.gicr(1, GICR_CTLR, Width::Word, ENABLE_LPIS);
    assert_eq!(whole.take_all(1), [8195, 8197]);
}

#[test]
fn a_table_that_was_zero_is_not_once_pending_states_were_written_to_it() {
    let mut whole = Whole::ready();
    whole.signal(3);
    // The guest said that it is zero, and writes GICR_PENDBASER no more.
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    whole.gicr(1, GICR_CTLR, Width::Word, ENABLE_LPIS);
    assert_eq!(whole.take_all(1), [8195]);
}

#[test]
fn the_pending_table_waits_for_a_vcpu_that_runs_elsewhere() {
    let mut whole = Whole::ready();
    whole.signal(1);
    whole.signal(3);
    whole.deaf.insert(VcpuId::new(1));
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    assert_eq!(whole.control(1), CES | RWP);
    // It takes one before it sees the kick.
    assert_eq!(whole.cpus[1].acknowledge(Group::One), Some(8193));
    assert_eq!(whole.control(1), CES | RWP);
    whole.deaf = Kicks::NONE;
    let mut kicks = Kicks::NONE;
    kicks.insert(VcpuId::new(1));
    whole.serve(kicks);
    while whole.control(1) & RWP != 0 {}
    assert_eq!(whole.pending_word(1), 1 << 3, "the other was taken");
}

#[test]
fn events_for_a_redistributor_without_lpis_are_lost() {
    let mut whole = Whole::ready();
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    whole.signal(1);
    whole.gicr(1, GICR_CTLR, Width::Word, ENABLE_LPIS);
    assert_eq!(whole.take_all(1), []);
}

#[test]
fn lpis_beyond_propbaser_do_not_become_pending() {
    let mut whole = Whole::ready();
    whole.describe(1, 12);
    whole.signal(1);
    whole.submit(&[invall(0)]);
    assert_eq!(whole.take_all(1), []);
}

#[test]
fn the_pending_table_ends_where_propbaser_says() {
    let mut whole = Whole::ready();
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    // With 13 bits no LPI is in the table: what follows is the guest's.
    let behind = GuestPhysAddr::from((pending_table(1) + 1024) as usize);
    let write = whole.memory.write(behind, &[0b1010; 32]);
    write.expect("an address in memory");
    whole.describe(1, 12);
    whole.submit(&[invall(0)]);
    assert_eq!(whole.take_all(1), [], "nothing is read there");
    whole.gicr(1, GICR_CTLR, Width::Word, 0);
    let mut bytes = [0; 32];
    let read = whole.memory.read(behind, &mut bytes);
    read.expect("an address in memory");
    assert_eq!(bytes, [0b1010; 32], "nor written");
}

#[test]
fn lpis_that_move_to_where_no_table_describes_them_are_lost() {
    let mut whole = Whole::ready();
    whole.describe(1, 12);
    whole.submit(&[invall(0)]);
    (0..8).step_by(2).for_each(|event| whole.signal(event));
    whole.submit(&[movi(5, 0, 1)]);
    whole.submit(&[movall(0, 1)]);
    whole.describe(1, 13);
    assert_eq!(whole.take_all(1), []);
    assert_eq!(whole.take_all(0), []);
}

#[test]
fn properties_count_after_inv_and_invall() {
    let mut whole = Whole::ready();
    whole.set_property(8194, 0x81);
    whole.set_property(8196, 0);
    whole.signal(0);
    whole.signal(2);
    whole.submit(&[inv(5, 2)]);
    assert_eq!(whole.take_all(0), [8194, 8192], "more urgent");
    whole.signal(4);
    assert_eq!(whole.take(0), Some(8196), "nobody has said so");
    whole.submit(&[invall(0)]);
    whole.signal(4);
    assert_eq!(whole.take(0), None, "disabled");
    whole.set_property(8196, ENABLED);
    whole.submit(&[inv(5, 4)]);
    assert_eq!(whole.take(0), Some(8196), "pending all the time");
}

#[test]
fn movi_movall_and_discard_find_what_is_pending_wherever_it_is() {
    let mut whole = Whole::ready();
    // More than there are list registers.
    for event in [0, 2, 4, 6] {
        whole.signal(event);
    }
    whole.submit(&[movi(5, 0, 1), movi(5, 6, 1)]);
    assert_eq!(whole.take_all(1), [8192, 8198]);
    whole.submit(&[discard(5, 2)]);
    whole.submit(&[movall(0, 1)]);
    assert_eq!(whole.take_all(0), []);
    assert_eq!(whole.take_all(1), [8196]);
}

#[test]
fn an_lpi_wakes_a_vcpu_that_waits() {
    let mut whole = Whole::ready();
    let vcpu = VcpuId::new(1);
    let _ = whole.vgic.save(vcpu, &mut whole.cpus[1]);
    assert!(!whole.vgic.deliverable(vcpu));
    whole.signal(1);
    assert!(whole.vgic.deliverable(vcpu));
    whole.vgic.load(vcpu, &mut whole.cpus[1]);
    assert_eq!(whole.take_all(1), [8193]);
}

#[test]
fn a_reset_of_both_forgets_everything() {
    let mut whole = Whole::ready();
    whole.signal(1);
    for n in 0..2 {
        let _ = whole
            .vgic
            .save(VcpuId::new(n), &mut whole.cpus[usize::from(n)]);
    }
    whole.gicr(0, GICR_CTLR, Width::Word, 0);
    whole.vgic.reset();
    whole.its.reset();
    for vcpu in 0..2 {
        assert_eq!(whole.control(vcpu), CES);
        let read = whole.gicr_access(vcpu, GICR_PROPBASER, Width::Dword, None);
        assert_eq!(read, Ok(ATTRIBUTES));
    }
    assert!(!whole.vgic.has_table_request() && !whole.its.has_work());
}
