//! The commands of an ITS (IHI 0069, "ITS commands").

use crate::transcript::{add, line};

/// A command: its name, what it is about, and its four words.
pub(crate) struct Command {
    name: &'static str,
    about: [u32; 3],
    words: [u64; 4],
}

const VALID: u64 = 1 << 63;

impl Command {
    fn new(name: &'static str, about: [u32; 3], words: [u64; 4]) -> Self {
        Self { name, about, words }
    }

    fn of_event(name: &'static str, number: u64, device: u32, event: u32) -> Self {
        let words = [number | u64::from(device) << 32, event.into(), 0, 0];
        Self::new(name, [device, event, 0], words)
    }

    /// MAPD: gives a device a table of 32 translations.
    pub(crate) fn map_device(device: u32, table: u64) -> Self {
        let words = [0x08 | u64::from(device) << 32, 4, VALID | table, 0];
        Self::new("MAPD", [device, 0, 0], words)
    }

    /// MAPC: gives a collection to a CPU.
    pub(crate) fn map_collection(collection: u32, cpu: u32) -> Self {
        let words = [0x09, 0, VALID | target(cpu) | u64::from(collection), 0];
        Self::new("MAPC", [collection, cpu, 0], words)
    }

    /// MAPTI: makes an event an LPI in a collection.
    pub(crate) fn map_event(device: u32, event: u32, intid: u32, collection: u32) -> Self {
        let words = [
            0x0A | u64::from(device) << 32,
            u64::from(intid) << 32 | u64::from(event),
            collection.into(),
            0,
        ];
        Self::new("MAPTI", [device, event, collection], words)
    }

    /// MOVI: gives an event to another collection.
    pub(crate) fn move_event(device: u32, event: u32, collection: u32) -> Self {
        let words = [
            0x01 | u64::from(device) << 32,
            event.into(),
            collection.into(),
            0,
        ];
        Self::new("MOVI", [device, event, collection], words)
    }

    /// MOVALL: moves what is pending on one CPU to another.
    pub(crate) fn move_all(from: u32, to: u32) -> Self {
        Self::new("MOVALL", [from, to, 0], [0x0E, 0, target(from), target(to)])
    }

    /// INT: the event happens.
    pub(crate) fn interrupt(device: u32, event: u32) -> Self {
        Self::of_event("INT", 0x03, device, event)
    }

    /// CLEAR: the event has not happened.
    pub(crate) fn clear(device: u32, event: u32) -> Self {
        Self::of_event("CLEAR", 0x04, device, event)
    }

    /// DISCARD: the event has not happened, and is no LPI any more.
    pub(crate) fn discard(device: u32, event: u32) -> Self {
        Self::of_event("DISCARD", 0x0F, device, event)
    }

    /// INV: the LPI's property has changed.
    pub(crate) fn invalidate(device: u32, event: u32) -> Self {
        Self::of_event("INV", 0x0C, device, event)
    }

    /// INVALL: properties of LPIs in a collection have changed.
    pub(crate) fn invalidate_all(collection: u32) -> Self {
        Self::new(
            "INVALL",
            [collection, 0, 0],
            [0x0D, 0, collection.into(), 0],
        )
    }

    /// Executes it, with a SYNC for both CPUs behind it, and adds it to the line.
    pub(crate) fn add(self) {
        let [first, second, third] = self.about;
        add!(" {} {first} {second} {third}", self.name);
        super::execute(self.words);
        for cpu in 0..2 {
            super::execute([0x05, 0, target(cpu), 0]);
        }
    }

    /// Executes it on a line of its own.
    pub(crate) fn tell(self) {
        self.add();
        line!("");
    }
}

/// Names a CPU by its number, as GITS_TYPER.PTA = 0 wants it.
fn target(cpu: u32) -> u64 {
    u64::from(cpu) << 16
}
