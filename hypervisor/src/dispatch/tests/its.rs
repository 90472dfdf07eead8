//! Guests with an interrupt translation service.

use arm_vcpu::fakes;

use super::{VECTORS, run_to_the_end};
use crate::testing::{Plan, Rig};

const WORD: u8 = 2;
const DWORD: u8 = 3;

/// Where the guest has its tables.
mod table {
    pub(super) const DEVICES: u64 = 0x4010_0000;
    pub(super) const COLLECTIONS: u64 = 0x4011_0000;
    pub(super) const EVENTS: u64 = 0x4012_0000;
    pub(super) const COMMANDS: u64 = 0x4013_0000;
    pub(super) const PROPERTIES: u64 = 0x4014_0000;
    pub(super) const PENDING: u64 = 0x4015_0000;
}

const GITS: u64 = 0x0808_0000;
const GITS_CWRITER: u64 = GITS + 0x88;
const GITS_CREADR: u64 = GITS + 0x90;
const VALID: u64 = 1 << 63;
const LPI: u32 = 8192 + 7;

/// What a guest writes to make LPIs and its ITS ready, with `commands` bytes of
/// commands in the queue.
fn set_up(commands: u64) -> [(u64, u8, u64); 10] {
    const GICR: u64 = 0x080a_0000;
    [
        (0x0800_0000, WORD, 0b10),
        (GICR + 0x70, DWORD, table::PROPERTIES | 13),
        (GICR + 0x78, DWORD, table::PENDING | 1 << 62),
        (GICR, WORD, 1),
        (GITS + 0x100, DWORD, VALID | table::DEVICES),
        (GITS + 0x108, DWORD, VALID | table::COLLECTIONS),
        (GITS + 0x80, DWORD, VALID | table::COMMANDS),
        (GITS_CWRITER, DWORD, 0),
        (GITS, WORD, 1),
        (GITS_CWRITER, DWORD, commands),
    ]
}

/// A guest with an ITS and this in its queue.
#[expect(clippy::cast_possible_truncation, reason = "low halves are meant")]
fn guest_with_commands(commands: &[[u64; 4]]) -> Rig {
    let rig = Rig::from_plan(&Plan {
        its: true,
        ..Plan::default()
    });
    for (n, word) in commands.iter().flatten().enumerate() {
        let [low, high] = [*word, word >> 32].map(|half| half as u32);
        let address = table::COMMANDS as usize + 8 * n;
        rig.set_word(0, address, low);
        rig.set_word(0, address + 4, high);
    }
    // Enabled, of priority 0xA0.
    rig.set_word(0, table::PROPERTIES as usize + 4, 0xA1 << 24);
    rig.script(0, 0).look(|inside| inside.open_interrupts());
    for (address, size, value) in set_up(32 * commands.len() as u64) {
        rig.script(0, 0)
            .leave(move |inside| inside.store(address, size, value));
    }
    rig
}

/// Maps event 3 of device 2 to the LPI, for collection 1 at vCPU 0.
const MAP: [[u64; 4]; 3] = [
    [2 << 32 | 0x08, 4, VALID | table::EVENTS, 0],
    [0x09, 0, VALID | 1, 0],
    [2 << 32 | 0x0A, (LPI as u64) << 32 | 3, 1, 0],
];
const INT: [u64; 4] = [2 << 32 | 0x03, 3, 0, 0];

#[test]
fn a_command_of_the_its_brings_an_lpi() {
    let [device, collection, event] = MAP;
    let mut rig = guest_with_commands(&[device, collection, event, INT]);
    rig.script(0, 0).look(|inside| {
        assert_eq!(inside.handle_interrupt(), Some(LPI));
        assert_eq!(inside.handle_interrupt(), None);
    });
    run_to_the_end(&mut rig);
}

#[test]
fn more_commands_than_one_access_does_are_all_done_before_it_is() {
    let mut commands = MAP.to_vec();
    // INVALL: one step for each 32 LPIs.
    commands.extend([[0x0D, 0, 1, 0]; 20]);
    commands.push(INT);
    let mut rig = guest_with_commands(&commands);
    let end = 32 * commands.len() as u64;
    // Of ten stores the last is not completed: the PC has not moved, and the guest
    // makes it again.
    let script = rig.script(0, 0);
    script.look(|inside| assert_eq!(inside.frame.elr, super::ENTRY + 4 * 9));
    for _ in 0..20 {
        script.leave(move |inside| inside.store(GITS_CWRITER, DWORD, end));
    }
    script.look(|inside| assert!(inside.frame.elr > super::ENTRY + 4 * 9, "now it has"));
    rig.script(0, 0)
        .leave(|_| fakes::load(GITS_CREADR, DWORD, 3))
        .look(move |inside| {
            assert_eq!(inside.frame.gpr(3), end);
            assert_eq!(inside.handle_interrupt(), Some(LPI));
        });
    run_to_the_end(&mut rig);
}

#[test]
fn a_device_signals_by_device_and_event() {
    let mut rig = guest_with_commands(&MAP);
    rig.settle();
    assert!(rig.vm(0).its_signal(None, 2, 3));
    assert!(!rig.vm(0).its_signal(None, 2, 4), "nobody has mapped that");
    rig.script(0, 0)
        .look(|inside| assert_eq!(inside.handle_interrupt(), Some(LPI)));
    run_to_the_end(&mut rig);
}

#[test]
fn without_an_its_there_is_nothing_in_its_place() {
    let mut rig = super::one_guest();
    rig.script(0, 0)
        .leave(|inside| {
            inside.registers.vbar_el1 = VECTORS;
            fakes::load(GITS + 8, DWORD, 3)
        })
        .look(|inside| {
            super::assert_abort(inside, super::DATA_ABORT, GITS + 8, super::ENTRY);
        });
    let vm = rig.vm(0);
    assert!(!vm.its_signal(None, 2, 3));
    run_to_the_end(&mut rig);
}
