//! Tables in the guest's memory: where they lie, how large they are, and that
//! nothing in them is believed.

use arm_vgic_v3::its::{CommandError, PendingTable, PropertyTable, TableRequest};
use vm_contract::VcpuId;

use crate::machine::{
    BASER0, BASER1, COLLECTIONS, CTLR, CWRITER, DEVICES, EVENTS, FIRST_LPI, LPIS, Machine, PENDING,
    PROPERTIES, RAM, RAM_BYTES, VALID, int, invall, mapc, mapd, mapti,
};

const INDIRECT: u64 = 1 << 62;

/// Returns a machine with these table registers.
fn with_tables(devices: u64, collections: u64) -> Machine {
    let mut machine = Machine::ready();
    machine.set_word(CTLR, 0);
    machine.set(BASER0, devices);
    machine.set(BASER1, collections);
    machine.set_word(CTLR, 1);
    machine
}

#[test]
fn a_flat_table_has_as_many_entries_as_its_pages_hold() {
    for (page_size, bytes) in [(0u64, 0x1000u64), (1, 0x4000), (2, 0x1_0000)] {
        for pages in [1, 2] {
            let base = VALID | DEVICES | page_size << 8 | (pages - 1);
            let mut machine = with_tables(base, VALID | COLLECTIONS);
            let last = (bytes * pages / 8 - 1) as u32;
            machine.submit(&[mapd(last, 0, EVENTS)]);
            assert_eq!(machine.its.rejected(), 0);
            assert_ne!(machine.read_memory(DEVICES + bytes * pages - 8), 0);
            machine.submit(&[mapd(last + 1, 0, EVENTS)]);
            let error = CommandError::DeviceOutOfRange(last + 1);
            assert_eq!(machine.its.last_error(), Some(error));
        }
    }
}

#[test]
fn a_table_that_is_not_valid_has_no_entries() {
    let mut machine = with_tables(DEVICES, COLLECTIONS);
    machine.submit(&[mapd(0, 0, EVENTS), mapc(0, 0)]);
    assert_eq!(machine.its.rejected(), 2);
    let error = CommandError::CollectionOutOfRange(0);
    assert_eq!(machine.its.last_error(), Some(error));
}

#[test]
fn other_tables_say_other_things() {
    for table in [BASER0, BASER1] {
        let mut machine = Machine::mapped();
        machine.submit(&[mapti(5, 0, 8200, 1)]);
        assert!(machine.signal(5, 0).is_some());
        machine.set_word(CTLR, 0);
        machine.set(table, VALID | (EVENTS + 0x8000));
        machine.set_word(CTLR, 1);
        assert_eq!(machine.signal(5, 0), None, "nothing is remembered");
    }
}

#[test]
fn addresses_of_large_pages_ignore_the_lower_bits_and_have_four_more() {
    let mut machine = with_tables(VALID | DEVICES | 0x3000 | 1 << 8, VALID | COLLECTIONS);
    machine.submit(&[mapd(1, 0, EVENTS)]);
    assert_ne!(machine.read_memory(DEVICES + 8), 0, "aligned to 16 KiB");
    let mut machine = with_tables(VALID | DEVICES | 0x1000 | 2 << 8, VALID | COLLECTIONS);
    machine.submit(&[mapd(1, 0, EVENTS)]);
    let error = Some(CommandError::Unreachable);
    assert_eq!(machine.its.last_error(), error, "bit 48 of the address");
}

#[test]
fn a_two_level_table_finds_its_pages_by_the_first_level() {
    for table in [BASER0, BASER1] {
        let (devices, collections) = if table == BASER0 {
            (VALID | INDIRECT | DEVICES, VALID | COLLECTIONS)
        } else {
            (VALID | DEVICES, VALID | INDIRECT | COLLECTIONS)
        };
        let first_level = if table == BASER0 {
            DEVICES
        } else {
            COLLECTIONS
        };
        let mut machine = with_tables(devices, collections);
        let id = 512 * 3 + 7;
        let map = if table == BASER0 {
            mapd(id.into(), 4, EVENTS)
        } else {
            mapc(id, 2)
        };
        machine.submit(&[map]);
        assert_eq!(machine.its.rejected(), 1, "no page yet");
        let page = EVENTS + 0x8000;
        machine.write_memory(first_level + 3 * 8, page);
        machine.submit(&[map]);
        assert_eq!(machine.its.rejected(), 2, "the page is not valid");
        machine.write_memory(first_level + 3 * 8, VALID | page | 0x80);
        machine.submit(&[map]);
        assert_eq!(machine.its.rejected(), 2);
        assert_ne!(machine.read_memory(page + 7 * 8), 0);
    }
}

#[test]
fn a_two_level_table_ends_with_its_first_level_and_with_sixteen_bits() {
    let mut machine = with_tables(VALID | INDIRECT | DEVICES, VALID | COLLECTIONS);
    for n in 0..512 {
        machine.write_memory(DEVICES + 8 * n, VALID | EVENTS);
    }
    machine.submit(&[mapd(0xFFFF, 0, EVENTS)]);
    assert_eq!(machine.its.rejected(), 0);
    machine.submit(&[mapd(0x1_0000, 0, EVENTS)]);
    let error = CommandError::DeviceOutOfRange(0x1_0000);
    assert_eq!(machine.its.last_error(), Some(error));
}

#[test]
fn tables_outside_memory_are_no_tables() {
    let end = RAM + RAM_BYTES as u64;
    for base in [0, RAM - 0x1000, end, 0x0000_FFFF_FFFF_F000] {
        for indirect in [0, INDIRECT] {
            let mut machine = with_tables(VALID | indirect | base, VALID | base);
            machine.submit(&[mapd(0, 0, EVENTS), mapc(0, 0), mapti(0, 0, 8192, 0)]);
            assert_eq!(machine.its.rejected(), 3);
            assert_eq!(machine.signal(0, 0), None);
        }
    }
}

#[test]
fn events_outside_memory_are_no_events() {
    let mut machine = Machine::mapped();
    let end = RAM + RAM_BYTES as u64;
    machine.submit(&[mapd(9, 15, end - 0x100)]);
    machine.submit(&[mapti(9, 31, 8192, 0)]);
    assert_eq!(machine.its.rejected(), 0);
    machine.submit(&[mapti(9, 32, 8192, 0)]);
    assert_eq!(machine.its.last_error(), Some(CommandError::Unreachable));
}

#[test]
fn an_entry_of_an_event_is_checked_when_it_is_used() {
    for (intid, works) in [
        (0, false),
        (40, false),
        (8191, false),
        (FIRST_LPI + LPIS - 1, true),
        (FIRST_LPI + LPIS, false),
        (u32::MAX, false),
    ] {
        let mut machine = Machine::mapped();
        machine.submit(&[mapti(5, 0, 8200, 1)]);
        let entry = machine.read_memory(EVENTS);
        machine.write_memory(EVENTS, entry & !0xFFFF_FFFF | u64::from(intid));
        assert_eq!(machine.signal(5, 0).is_some(), works, "{intid}");
        machine.write_memory(EVENTS, entry & !VALID);
        machine.submit(&[int(5, 0)]);
        let error = Some(CommandError::EventUnmapped(0));
        assert_eq!(machine.its.last_error(), error);
    }
}

#[test]
fn an_entry_of_a_collection_is_checked_when_it_is_used() {
    let mut machine = Machine::mapped();
    machine.submit(&[mapti(5, 0, 8200, 1)]);
    machine.write_memory(COLLECTIONS + 8, u64::MAX);
    assert_eq!(machine.signal(5, 0), None, "no such vCPU");
    machine.write_memory(COLLECTIONS + 8, VALID | 3);
    assert_eq!(machine.signal(5, 0), Some((3, 8200)), "any vCPU of its own");
}

#[test]
fn an_entry_of_a_device_is_checked_when_it_is_used() {
    let mut machine = Machine::mapped();
    machine.write_memory(DEVICES + 5 * 8, u64::MAX);
    machine.submit(&[int(5, 0)]);
    let error = Some(CommandError::EventOutOfRange(0));
    assert_eq!(machine.its.last_error(), error, "32 bits of events");
}

#[test]
fn lpis_beyond_the_property_table_are_disabled() {
    let mut machine = Machine::mapped();
    for lpi in FIRST_LPI..FIRST_LPI + LPIS {
        machine.set_property(lpi, 0xFF);
    }
    for (propbaser, enabled) in [
        (PROPERTIES | 13, true),
        (PROPERTIES | 31, true),
        (PROPERTIES | 12, false),
        (PROPERTIES, false),
        (13, false),
    ] {
        let table = PropertyTable::from_propbaser(propbaser);
        machine.redistributors.tables.insert(0, table);
        machine.submit(&[invall(0)]);
        let mut properties = machine.redistributors.properties.values();
        assert!(properties.all(|byte| (*byte == 0xFF) == enabled && (enabled || *byte == 0)));
    }
}

/// Returns a request of vCPU 1 to load.
fn load(pending: Option<u64>) -> TableRequest {
    TableRequest::Load {
        vcpu: VcpuId::new(1),
        properties: property_table(),
        pending: pending.map(|value| PendingTable::from_pendbaser(value, property_table())),
    }
}

fn property_table() -> PropertyTable {
    PropertyTable::from_propbaser(PROPERTIES | 13)
}

#[test]
fn enabling_lpis_reads_their_properties_and_which_are_pending() {
    // The ITS need not be enabled, nor have tables.
    let mut machine = Machine::new();
    machine.set_property(8200, 0xA1);
    machine.write_memory(PENDING + 1024, 1 << 8 | 1 << 63);
    machine.write_memory(PENDING + 1024 + u64::from(LPIS) / 8, u64::MAX);
    machine
        .redistributors
        .requests
        .push_back(load(Some(PENDING | 0xFF)));
    machine.run(100);
    assert_eq!(machine.pending(), [(1, 8200), (1, 8255)]);
    assert_eq!(machine.redistributors.properties[&8200], 0xA1);
    assert_eq!(machine.redistributors.properties.len() as u32, LPIS);
    assert_eq!(machine.redistributors.done, [1]);
    assert!(!machine.its.has_work());
}

#[test]
fn a_pending_table_that_is_zero_is_not_read() {
    let mut machine = Machine::new();
    machine.write_memory(PENDING + 1024, u64::MAX);
    machine.redistributors.requests.push_back(load(None));
    machine.run(100);
    assert_eq!(machine.pending(), []);
    assert_eq!(machine.redistributors.done, [1]);
}

#[test]
fn disabling_lpis_writes_back_which_are_pending() {
    let mut machine = Machine::mapped();
    machine.write_memory(PENDING + 1024, u64::MAX);
    machine.submit(&[mapti(5, 0, 8200, 1), mapti(5, 1, 8300, 1)]);
    machine.submit(&[int(5, 0), int(5, 1), mapti(5, 2, 8201, 2), int(5, 2)]);
    let store = TableRequest::Store {
        vcpu: VcpuId::new(1),
        pending: PendingTable::from_pendbaser(PENDING, property_table()),
    };
    machine.redistributors.requests.push_back(store);
    machine.run(100);
    assert_eq!(machine.read_memory(PENDING + 1024), 1 << 8);
    assert_eq!(machine.read_memory(PENDING + 1032), 1 << 44);
    assert_eq!(machine.pending(), [(2, 8201)], "nobody else's");
    assert_eq!(machine.redistributors.done, [1]);
}

#[test]
fn requests_are_served_step_by_step_and_between_commands() {
    let mut machine = Machine::mapped();
    let at = machine.queue(&[mapti(5, 0, 8200, 1)]);
    machine.redistributors.requests.push_back(load(None));
    machine.run(LPIS / 32 - 1);
    assert!(machine.its.has_work());
    assert_eq!(machine.redistributors.done, []);
    machine.run(1);
    assert_eq!(machine.redistributors.done, [1]);
    machine.set(CWRITER, at);
    assert!(machine.signal(5, 0).is_some());
}

#[test]
fn tables_of_a_redistributor_outside_memory_are_empty_and_lost() {
    let mut machine = Machine::new();
    machine.redistributors.requests.push_back(load(Some(0)));
    machine
        .redistributors
        .requests
        .push_back(TableRequest::Store {
            vcpu: VcpuId::new(1),
            pending: PendingTable::from_pendbaser(u64::MAX, property_table()),
        });
    machine.run(100);
    assert_eq!(machine.pending(), []);
    assert_eq!(machine.redistributors.done, [1, 1]);
}
