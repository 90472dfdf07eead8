//! GITS_*: values, widths, and when writes count.

use vm_contract::{AccessError, Width};

use crate::machine::{
    BASER0, BASER1, CBASER, COLLECTIONS, CREADR, CTLR, CWRITER, DEVICES, Machine, QUEUE, TYPER,
    VALID, mapti, sync,
};

const PIDR2: u64 = 0xFFE8;
const TRANSLATER: u64 = 0x1_0040;
const ENABLED: u64 = 1;
const QUIESCENT: u64 = 1 << 31;
/// Shareable write-back memory, in CBASER and BASER.
const ATTRIBUTES: u64 = 0b111 << 59 | 0b01 << 10;

#[test]
fn typer_describes_a_physical_its_with_sixteen_bits_of_everything() {
    let typer = Machine::new().get(TYPER);
    assert_eq!(typer & 0b1111, 0b0001, "physical LPIs only");
    assert_eq!(typer >> 4 & 0xF, 7, "eight bytes for an event");
    assert_eq!(typer >> 8 & 0x1F, 15, "event bits");
    assert_eq!(typer >> 13 & 0x1F, 15, "device bits");
    assert_eq!(typer >> 19 & 1, 0, "redistributors by number");
    assert_eq!(typer >> 24 & 0xFF, 0, "no collections outside memory");
    assert_eq!(typer >> 32 & 0x1F, 0x1F, "collections of 16 bits, and CIL");
    assert_eq!(typer >> 37, 0);
}

#[test]
fn identification_is_that_of_an_its_of_a_gicv3() {
    let mut machine = Machine::new();
    assert_eq!(machine.get_word(PIDR2) >> 4 & 0xF, 3, "ArchRev");
    assert_eq!(machine.get_word(0xFFE0), 0x94, "PIDR0");
    assert_eq!(machine.get_word(0xFFF4) >> 4, 0xF, "CIDR1: class");
    assert_ne!(machine.get_word(0x4), 0, "IIDR");
}

#[test]
fn at_reset_it_is_disabled_and_quiescent() {
    let mut machine = Machine::new();
    assert_eq!(machine.get_word(CTLR), QUIESCENT);
    assert_eq!((machine.get(CWRITER), machine.get(CREADR)), (0, 0));
    assert_eq!(machine.get(CBASER) & VALID, 0);
    assert_eq!(machine.get(BASER0) & VALID, 0);
    machine.set_word(CTLR, ENABLED);
    assert_eq!(machine.get_word(CTLR), ENABLED);
    machine.set_word(CTLR, 0);
    assert_eq!(machine.get_word(CTLR), QUIESCENT);
}

#[test]
fn a_table_register_keeps_its_type_and_entry_size_and_its_attributes() {
    let mut machine = Machine::new();
    for (register, kind) in [(BASER0, 1u64), (BASER1, 4)] {
        let fixed = ATTRIBUTES | kind << 56 | 7 << 48;
        assert_eq!(machine.get(register), fixed);
        machine.set(register, !(1 << 8));
        let written = 0b11 << 62 | 0x0000_FFFF_FFFF_F000 | 0b10 << 8 | 0xFF;
        assert_eq!(machine.get(register), fixed | written);
        machine.set(register, 0);
        assert_eq!(machine.get(register), fixed);
    }
}

#[test]
fn a_reserved_page_size_becomes_64_kib() {
    let mut machine = Machine::new();
    for (written, read) in [(0, 0), (1, 1), (2, 2), (3, 2)] {
        machine.set(BASER0, written << 8);
        assert_eq!(machine.get(BASER0) >> 8 & 0b11, read);
    }
}

#[test]
fn the_other_table_registers_are_zero() {
    let mut machine = Machine::new();
    for register in (BASER1 + 8..BASER0 + 0x40).step_by(8) {
        machine.set(register, u64::MAX);
        assert_eq!(machine.get(register), 0);
    }
}

#[test]
fn the_queue_register_has_fixed_attributes_and_reserved_bits() {
    let mut machine = Machine::new();
    machine.set(CBASER, u64::MAX);
    assert_eq!(
        machine.get(CBASER),
        VALID | ATTRIBUTES | 0x000F_FFFF_FFFF_F000 | 0xFF
    );
}

#[test]
fn a_write_of_the_queue_register_starts_reading_over() {
    let mut machine = Machine::ready();
    machine.submit(&[sync(0), sync(1)]);
    assert_eq!(machine.get(CREADR), 64);
    machine.set_word(CTLR, 0);
    machine.set_word(CBASER + 4, (VALID | QUEUE) >> 32);
    assert_eq!(machine.get(CREADR), 0);
}

#[test]
fn the_write_pointer_has_an_offset_and_nothing_else_and_the_read_pointer_is_read_only() {
    let mut machine = Machine::new();
    machine.set(CWRITER, u64::MAX);
    assert_eq!(machine.get(CWRITER), 0xF_FFE0);
    machine.set(CREADR, 0x40);
    assert_eq!(machine.get(CREADR), 0);
}

#[test]
fn tables_and_queue_do_not_change_while_enabled() {
    let mut machine = Machine::ready();
    for (register, value) in [
        (CBASER, VALID | QUEUE),
        (BASER0, VALID | DEVICES),
        (BASER1, VALID | COLLECTIONS),
    ] {
        let before = machine.get(register);
        assert_eq!(before & value, value);
        machine.set(register, 0);
        assert_eq!(machine.get(register), before);
        machine.set_word(CTLR, 0);
        machine.set(register, 0);
        assert_eq!(machine.get(register) & VALID, 0);
        machine.set(register, value);
        machine.set_word(CTLR, 1);
    }
}

#[test]
fn wide_registers_are_written_and_read_by_halves() {
    let mut machine = Machine::new();
    machine.set_word(BASER0 + 4, VALID >> 32);
    machine.set_word(BASER0, DEVICES | 3);
    let whole = machine.get(BASER0);
    assert_eq!(whole & (VALID | 0xFFFF_F0FF), VALID | DEVICES | 3);
    assert_eq!(machine.get_word(BASER0), whole & 0xFFFF_FFFF);
    assert_eq!(machine.get_word(BASER0 + 4), whole >> 32);
    let typer = machine.get(TYPER);
    assert_eq!(machine.get_word(TYPER + 4), typer >> 32);
    machine.set_word(CWRITER + 4, u64::MAX);
    assert_eq!(machine.get(CWRITER), 0);
}

#[test]
fn wrong_widths_and_places_are_refused() {
    let mut machine = Machine::new();
    for (offset, width, error) in [
        (CTLR, Width::Dword, AccessError::InvalidWidth),
        (CTLR, Width::Half, AccessError::InvalidWidth),
        (PIDR2, Width::Byte, AccessError::InvalidWidth),
        (CBASER, Width::Byte, AccessError::InvalidWidth),
        (TYPER, Width::Half, AccessError::InvalidWidth),
        (TRANSLATER, Width::Byte, AccessError::InvalidWidth),
        (CBASER + 4, Width::Dword, AccessError::Misaligned),
        (CTLR + 2, Width::Word, AccessError::Misaligned),
        (0x2_0000, Width::Word, AccessError::NoDevice),
        (u64::MAX - 7, Width::Dword, AccessError::NoDevice),
    ] {
        assert_eq!(machine.access(offset, width, None), Err(error));
        assert_eq!(machine.access(offset, width, Some(1)), Err(error));
    }
}

#[test]
fn reserved_places_read_as_zero_at_every_width() {
    let mut machine = Machine::new();
    for offset in [0x0018, 0x0040, 0x0098, 0x0140, 0xC000, 0x1_0000, 0x1_FFF8] {
        for width in [Width::Byte, Width::Half, Width::Word, Width::Dword] {
            assert_eq!(machine.access(offset, width, Some(u64::MAX)), Ok(0));
            assert_eq!(machine.access(offset, width, None), Ok(0));
        }
    }
}

#[test]
fn a_cpu_that_writes_the_translater_is_no_device() {
    let mut machine = Machine::mapped();
    machine.submit(&[mapti(5, 0, 8192, 0)]);
    machine.set_word(TRANSLATER, 0);
    assert_eq!(machine.get_word(TRANSLATER), 0);
    assert_eq!(machine.pending(), []);
}

#[test]
fn a_reset_forgets_everything() {
    let mut machine = Machine::mapped();
    machine.submit(&[mapti(5, 0, 8192, 0)]);
    assert!(machine.signal(5, 0).is_some());
    machine.its.reset();
    assert_eq!(machine.get_word(CTLR), QUIESCENT);
    assert_eq!(machine.get(BASER0) & VALID, 0);
    machine.set_word(CTLR, 1);
    assert_eq!(machine.signal(5, 0), None, "no table, no translation");
}
