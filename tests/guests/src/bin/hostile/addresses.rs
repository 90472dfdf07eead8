//! Every address outside of RAM: reads, writes, fetches.

use test_guests::runtime::mmu::{self, Kind};
use test_guests::runtime::{console, machine, probe, random::Random};
use test_guests::{check, say};

const GIB: u64 = 1 << 30;
const PAGE: u64 = 1 << 12;
const WIDTHS: [u64; 4] = [1, 2, 4, 8];
/// Stage 1 reaches this far.
const PHYSICAL_END: u64 = 1 << 48;

/// What the accesses met.
#[derive(Default)]
struct Tally {
    values: u64,
    zeros: u64,
    aborts: u64,
}

impl Tally {
    fn read(&mut self, address: u64, width: u64) -> Option<u64> {
        match probe::read(address, width) {
            Ok(0) => self.zeros += 1,
            Ok(value) => {
                self.values += 1;
                return Some(value);
            }
            Err(_) => self.aborts += 1,
        }
        None
    }

    fn write(&mut self, address: u64, width: u64, value: u64) {
        match probe::write(address, width, value) {
            Ok(()) => self.zeros += 1,
            Err(_) => self.aborts += 1,
        }
    }
}

pub(crate) fn check_all() {
    device_pages();
    beyond_ram();
    powers_of_two();
    fetches();
    nothing_shows_an_image();
    the_guest_is_still_there();
}

fn is_ram(address: u64) -> bool {
    address + 16 > machine::ram_start() && address < machine::ram_end()
}

/// A write here would print, send or store: harmless, but not readable.
fn is_console(address: u64) -> bool {
    address & !(PAGE - 1) == console::BASE
}

fn device_pages() {
    let mut tally = Tally::default();
    let mut page = 0;
    while page < GIB {
        for width in WIDTHS {
            tally.read(page, width);
        }
        tally.read(page + PAGE - 8, 8);
        if !is_console(page) {
            // One width after the other: a page is like its neighbours.
            let width = 1 << (page >> 12 & 3);
            tally.write(page, width, 0);
            tally.write(page + PAGE - 8, width, u64::MAX);
        }
        page += PAGE;
    }
    console::recover();
    super::interrupts::recover("writing every device page");
    report("device pages", &tally);
}

fn report(what: &str, tally: &Tally) {
    say!(
        "{what}: {} values, {} zeros, {} aborts",
        tally.values,
        tally.zeros,
        tally.aborts
    );
}

fn beyond_ram() {
    let mut tally = Tally::default();
    let mut address = machine::ram_end();
    while address < machine::ram_end() + 8 * GIB {
        let place = mmu::window(address, Kind::Device);
        for width in WIDTHS {
            tally.read(place, width);
            tally.write(place, width, u64::MAX);
        }
        address += 2 << 20;
    }
    report("beyond RAM", &tally);
    check!(
        tally.values == 0,
        "something answers beyond RAM: {} values",
        tally.values
    );
}

fn powers_of_two() {
    let mut tally = Tally::default();
    let mut random = Random::new(2);
    for bit in 12..48 {
        for offset in [-8, 0, 8, 4096] {
            around((1_u64 << bit).wrapping_add_signed(offset), &mut tally);
        }
    }
    for _ in 0..2000 {
        around(random.below(PHYSICAL_END), &mut tally);
    }
    around(PHYSICAL_END - 8, &mut tally);
    report("the whole space", &tally);
}

fn around(address: u64, tally: &mut Tally) {
    if address >= PHYSICAL_END || is_ram(address) || is_console(address) || address < GIB {
        return;
    }
    for kind in [Kind::Device, Kind::Uncached, Kind::Cached] {
        let place = mmu::window(address, kind);
        for width in WIDTHS {
            tally.read(place, width);
            tally.write(place, width, 0x5A5A_5A5A_5A5A_5A5A);
            // Not aligned, and across pages.
            tally.read(place + 3, width);
            tally.write(place + 0xFFD, width, 0);
        }
    }
}

/// Fetches: from each device, from holes, from beyond RAM. What answers as an
/// instruction is data there; it must not be run for long.
fn fetches() {
    let mut faults = 0;
    let places = [
        0x0800_0000,
        0x080A_0000,
        0x0900_0000,
        0x0901_0000,
        0x0A00_0000,
        0x0C00_0000,
        0x3EFF_0000,
        0x3FFF_F000,
        machine::ram_end(),
        machine::ram_end() + (1 << 21),
        4 * GIB,
        64 * GIB,
        1 << 39,
        1 << 44,
        PHYSICAL_END - 4096,
    ];
    for physical in places {
        for kind in [Kind::Uncached, Kind::Cached, Kind::Device] {
            if is_ram(physical) {
                continue;
            }
            let place = mmu::window(physical, kind);
            let outcome = probe::execute(place);
            check!(outcome.is_err(), "code at {physical:#x} returns");
            faults += 1;
        }
    }
    say!("fetches: {faults} faults");
}

/// An arm64 `Image`, such as a hypervisor's, has this at offset 0x38.
const IMAGE_MAGIC: u64 = u32::from_le_bytes(*b"ARM\x64") as u64;

fn nothing_shows_an_image() {
    let mut tally = Tally::default();
    let mut digest = 0_u64;
    for base in (0..4 * GIB).step_by(1 << 21) {
        let window = mmu::window(base, Kind::Device);
        for page in (0..1 << 21).step_by(1 << 12) {
            let physical = base + page;
            if is_ram(physical) || is_console(physical) {
                continue;
            }
            if let Some(value) = tally.read(window + page + 0x38, 4) {
                check!(value != IMAGE_MAGIC, "an Image shows at {physical:#x}");
                digest = (digest ^ value ^ physical).wrapping_mul(0x0100_0000_01B3);
            }
        }
    }
    report("looking for an Image", &tally);
    say!("digest {digest:#x}");
}

fn the_guest_is_still_there() {
    check!(
        probe::read(machine::ram_end() - 8, 8).is_ok(),
        "the end of RAM has gone"
    );
    super::interrupts::recover("all addresses");
}
