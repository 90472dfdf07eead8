//! LPIs through an ITS: its registers, its commands and what they make pending.
//!
//! Whether an LPI is pending shows at the CPU interfaces alone, so that is looked
//! at after every command.

mod commands;
mod tables;

use test_guests::check;
use test_guests::runtime::{gic, mmio, random::Random, timer};

use crate::interface::{CPUS, Interface};
use crate::masks;
use crate::place::redistributor;
use crate::snapshot;
use crate::transcript::{add, line};
use crate::v3::interface::Icc;
use commands::Command;
use tables::{DEVICES, EVENTS};

/// The ITS's frame.
const GITS: u64 = 0x0808_0000;
const CTLR: u64 = GITS;
const TYPER: u64 = GITS + 0x8;
const CBASER: u64 = GITS + 0x80;
const CWRITER: u64 = GITS + 0x88;
const CREADR: u64 = GITS + 0x90;
const BASER: u64 = GITS + 0x100;
const PIDR2: u64 = GITS + 0xFFE8;

const VALID: u64 = 1 << 63;
/// Inner shareable, inner write-back: what the tables are.
const MEMORY: u64 = 0b111 << 59 | 0b01 << 10;
const LPIS: u32 = 8192;

/// Prepares the ITS and the redistributors, and tells their registers.
pub(crate) fn registers() {
    line!("== ITS");
    snapshot::start_over::<Icc>();
    line!("TYPER {:x}", mmio::read64(TYPER) & masks::GITS_TYPER);
    line!("PIDR2 {:x}", mmio::read32(PIDR2) & masks::PIDR2);
    line!("CTLR {:x}", mmio::read32(CTLR) & masks::GITS_CTLR);
    for kind in [1, 4] {
        let find = |n: &u64| mmio::read64(BASER + 8 * n) >> 56 & 7 == kind;
        let Some(number) = (0..8).find(find) else {
            line!("no table of type {kind}");
            continue;
        };
        // One page of 64 KiB.
        let value = VALID | MEMORY | tables::of_type(kind) | 0b10 << 8;
        mmio::write64(BASER + 8 * number, value);
        let shown = mmio::read64(BASER + 8 * number);
        let address = shown & 0xFFFF_FFFF_0000 == tables::of_type(kind);
        line!(
            "BASER of type {kind} {:x} {address}",
            shown & masks::GITS_BASER
        );
    }
    // One page of 4 KiB: 128 commands.
    mmio::write64(CBASER, VALID | MEMORY | tables::queue());
    line!("CBASER {:x}", mmio::read64(CBASER) & masks::GITS_CBASER);
    line!(
        "CREADR {:x} CWRITER {:x}",
        mmio::read64(CREADR),
        mmio::read64(CWRITER)
    );
    tables::set_properties();
    for cpu in 0..CPUS {
        let frame = redistributor(cpu);
        // 14 bits of INTIDs.
        mmio::write64(
            frame + gic::PROPBASER,
            tables::properties() | 0b111 << 7 | 0b01 << 10 | 13,
        );
        mmio::write64(
            frame + gic::PENDBASER,
            tables::pending(cpu) | 0b111 << 7 | 0b01 << 10 | 1 << 62,
        );
        mmio::write32(frame, 1);
        line!(
            "R{cpu}.CTLR {:x}",
            mmio::read32(frame) & masks::GICR_CTLR_LPIS
        );
    }
    mmio::write32(CTLR, 1);
    line!("CTLR {:x}", mmio::read32(CTLR) & masks::GITS_CTLR);
    mmio::write32(gic::GICD + gic::CTLR, 0b10);
    for collection in 0..3 {
        Command::map_collection(collection, collection % 2).tell();
    }
    for device in 0..DEVICES {
        Command::map_device(device, tables::translations(device)).tell();
        for event in 0..EVENTS {
            Command::map_event(device, event, lpi(device, event), event % 3).tell();
        }
    }
}

/// Returns the LPI of an event, as it is mapped here.
fn lpi(device: u32, event: u32) -> u32 {
    LPIS + EVENTS * device + event
}

/// Pseudo-random commands, acknowledges and EOIs.
pub(crate) fn walk() {
    line!("== ITS at random");
    let mut walk = Walk {
        random: Random::new(51),
        begun: [0; CPUS],
        shown: [0; CPUS],
    };
    for step in 0..800 {
        match step {
            500 => walk.migrate(0, 1),
            650 => walk.migrate(1, 0),
            _ => {}
        }
        add!("{step}");
        walk.go();
        walk.show();
    }
    for cpu in [0, 1] {
        while walk.take(cpu) {
            walk.end(cpu);
            walk.show();
        }
        walk.end(cpu);
        walk.show();
    }
    line!("CREADR {:x}", mmio::read64(CREADR));
}

struct Walk {
    random: Random,
    /// The one LPI that each CPU has taken and not ended, or 0.
    begun: [u64; CPUS],
    /// What each CPU's interface showed last.
    shown: [u64; CPUS],
}

impl Walk {
    fn number(&mut self, bound: u32) -> u32 {
        u32::try_from(self.random.below(bound.into())).unwrap_or(0)
    }

    fn go(&mut self) {
        let (device, event) = (self.number(DEVICES), self.number(EVENTS));
        let intid = lpi(device, event);
        match self.number(32) {
            0..9 => Command::interrupt(device, event).add(),
            9..12 => Command::clear(device, event).add(),
            12..15 => Command::move_event(device, event, self.number(3)).add(),
            15 => Command::discard(device, event).add(),
            16..18 => {
                // Mapped anew, if it was discarded.
                Command::discard(device, event).add();
                Command::map_event(device, event, intid, self.number(3)).add();
            }
            18..20 => {
                let on = self.number(3) != 0;
                tables::set_property(device, event, on);
                add!(" {intid} {}", if on { "on" } else { "off" });
                // An event that is not mapped cannot name its LPI.
                (0..3).for_each(|collection| Command::invalidate_all(collection).add());
            }
            20 => Command::invalidate(device, event).add(),
            21..28 => {
                let cpu = self.random.index(CPUS);
                self.take(cpu);
            }
            _ => {
                let cpu = self.random.index(CPUS);
                self.end(cpu);
            }
        }
    }

    /// Moves all collections to one CPU, with what is pending in them: MOVALL
    /// alone may remap collections, or not.
    fn migrate(&mut self, from: u32, to: u32) {
        add!("migrate");
        (0..3).for_each(|collection| Command::map_collection(collection, to).add());
        Command::move_all(from, to).add();
        self.show();
    }

    fn take(&mut self, cpu: usize) -> bool {
        if self.begun.get(cpu).is_none_or(|begun| *begun != 0) {
            add!(" -");
            return false;
        }
        let intid = Icc::Iar1.read(cpu);
        add!(" C{cpu}.Iar1:{intid}");
        let taken = intid >= u64::from(LPIS);
        if taken && let Some(begun) = self.begun.get_mut(cpu) {
            *begun = intid;
        }
        taken
    }

    fn end(&mut self, cpu: usize) {
        match self.begun.get_mut(cpu).map(core::mem::take) {
            None | Some(0) => add!(" -"),
            Some(intid) => {
                add!(" C{cpu}.Eoir1={intid}");
                Icc::Eoir1.write(cpu, intid);
            }
        }
    }

    /// Adds what the CPU interfaces show now, if that is new.
    fn show(&mut self) {
        snapshot::settle::<Icc>();
        for (cpu, shown) in self.shown.iter_mut().enumerate() {
            let now = Icc::Hppir1.read(cpu);
            if now != *shown {
                add!(" C{cpu}.Hppir1:{shown}>{now}");
                *shown = now;
            }
        }
        line!("");
    }
}

/// Lets the ITS execute a command and waits until it has.
fn execute(words: [u64; 4]) {
    let offset = mmio::read64(CWRITER) & 0xF_FFE0;
    tables::write_command(offset, words);
    let next = (offset + 32) % 4096;
    mmio::write64(CWRITER, next);
    let done = timer::wait_until(|| mmio::read64(CREADR) & 0xF_FFE0 == next);
    check!(done, "the ITS stops at {:x}", mmio::read64(CREADR));
}
