//! Registers that describe the GIC, widths of access, and places without
//! registers.

use core::fmt;

use test_guests::runtime::probe::{self, Fault};
use test_guests::runtime::{gic, mmio, random::Random};

use crate::masks;
use crate::snapshot::{self, CPUS, Snapshot, redistributor};
use crate::transcript::{add, line};

const TYPER: u64 = 0x8;
const WAKER: u64 = 0x14;
const PIDR2: u64 = 0xFFE8;
const CIDR0: u64 = 0xFFF0;
const ICFGR: u64 = 0xC00;

/// What is written at every width: priorities and an affinity as both keep them.
const PATTERN: u64 = 0x0000_0018_0020_0010;

/// Everything before anybody has written to the GIC.
pub(crate) fn at_reset() {
    line!("== identification");
    let typer = mmio::read32(gic::GICD + gic::TYPER) & masks::GICD_TYPER;
    line!("D.TYPER {typer:x}");
    line!("D.CTLR {:x}", mmio::read32(gic::GICD + gic::CTLR));
    identification(gic::GICD);
    for cpu in 0..CPUS {
        let frame = redistributor(cpu);
        let typer = mmio::read64(frame + TYPER) & masks::GICR_TYPER;
        let halves = [0, 4].map(|half| u64::from(mmio::read32(frame + TYPER + half)));
        let joined = (halves[1] << 32 | halves[0]) & masks::GICR_TYPER;
        let control = mmio::read32(frame) & masks::GICR_CTLR;
        line!("R{cpu} TYPER {typer:x} {joined:x} CTLR {control:x}");
        identification(frame);
    }
    line!("== reset");
    snapshot::print_reset();
}

fn identification(frame: u64) {
    add!("PIDR2 {:x}", mmio::read32(frame + PIDR2) & masks::PIDR2);
    (0..4).for_each(|n| add!(" {:x}", mmio::read32(frame + CIDR0 + 4 * n)));
    line!("");
}

/// What a CPU's redistributor says while the CPU sleeps and wakes.
pub(crate) fn wake() {
    line!("== GICR_WAKER");
    let waker = redistributor(0) + WAKER;
    for value in [0b10, 0b110, 0b100, 0, 0b10, 0xFFFF_FFF8, 0] {
        mmio::write32(waker, value & masks::GICR_WAKER);
        line!("{value:x}: {:x}", mmio::read32(waker));
    }
}

/// Accesses of every width.
pub(crate) fn widths() {
    line!("== widths");
    snapshot::start_over();
    let mut now = Snapshot::take();
    let private = redistributor(1) + gic::SGI_FRAME;
    let places = [
        ("D.CTLR", gic::GICD + gic::CTLR),
        ("D.ISENABLER2", gic::GICD + gic::ISENABLER + 8),
        ("D.ISPENDR3", gic::GICD + gic::ISPENDR + 12),
        ("D.ICPENDR2", gic::GICD + gic::ICPENDR + 8),
        ("D.ISACTIVER4", gic::GICD + gic::ISACTIVER + 16),
        ("D.IPRIORITYR8", gic::GICD + gic::IPRIORITYR + 32),
        ("D.IPRIORITYR71", gic::GICD + gic::IPRIORITYR + 284),
        ("D.ICFGR4", gic::GICD + ICFGR + 16),
        ("D.IGROUPR8", gic::GICD + gic::IGROUPR + 32),
        ("D.IROUTER40", gic::GICD + gic::IROUTER + 8 * 40),
        ("R1.ISENABLER0", private + gic::ISENABLER),
        ("R1.ISPENDR0", private + gic::ISPENDR),
        ("R1.ISACTIVER0", private + gic::ISACTIVER),
        ("R1.IPRIORITYR4", private + gic::IPRIORITYR + 16),
        ("R1.ICFGR0", private + ICFGR),
        ("R1.ICFGR1", private + ICFGR + 4),
        ("R1.IGROUPR0", private + gic::IGROUPR),
    ];
    for (name, address) in places {
        let bytes = if name == "D.IROUTER40" { 8 } else { 4 };
        for width in [8, 4, 2, 1] {
            for part in (0..bytes).filter(|part| part % width == 0) {
                let address = address + part;
                if address.is_multiple_of(width) {
                    let value = PATTERN >> (8 * part);
                    let written = probe::write(address, width, value).map(|()| 0);
                    add!("{name}+{part} {width} {}", Answer(written));
                    add!(" {}", Answer(probe::read(address, width)));
                    now.advance();
                }
            }
        }
    }
    for (name, address) in [("D.IIDR", gic::GICD + 8), ("D.PIDR2", gic::GICD + PIDR2)] {
        for width in [1, 2, 8] {
            let read = probe::read(address & !(width - 1), width);
            line!("{name} {width} {}", Answer(read));
        }
    }
}

/// What an access came to.
struct Answer(Result<u64, Fault>);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(value) => write!(f, "{value:x}"),
            Err(fault) => write!(f, "fault {:x}", fault.class()),
        }
    }
}

/// Writes to places without registers, which read as zero and change nothing.
pub(crate) fn reserved() {
    line!("== reserved places");
    snapshot::start_over();
    let mut now = Snapshot::take();
    let mut random = Random::new(8);
    let frames = [
        ("D", gic::GICD, true),
        ("R0", redistributor(0), false),
        ("R1 SGI", redistributor(1) + gic::SGI_FRAME, false),
    ];
    for (name, frame, is_distributor) in frames {
        let (mut count, mut zero) = (0, 0);
        while count < 400 {
            // Most registers lie low.
            let end = if random.below(2) == 0 { 0x1000 } else { 0xFFD0 };
            let offset = random.below(end) & !3;
            let private_registers = name == "R1 SGI";
            if exists(offset, is_distributor, private_registers) {
                continue;
            }
            count += 1;
            mmio::write32(frame + offset, u32::MAX);
            match mmio::read32(frame + offset) {
                0 => zero += 1,
                value => line!("{name}+{offset:x} {value:x}"),
            }
        }
        add!("{name}: {zero} of {count} read as zero");
        now.advance();
    }
}

/// Tells whether a register lies at this offset, or may lie there: message-based
/// SPIs and LPIs are optional.
fn exists(offset: u64, is_distributor: bool, has_private: bool) -> bool {
    let banks = if is_distributor { 1..9 } else { 0..1 };
    let has_irqs = is_distributor || has_private;
    let bank = match offset {
        0x80..0x400 => (offset & 0x7F) / 4,
        0x400..0x800 => (offset - 0x400) / 32,
        0xC00..0xD00 => (offset - 0xC00) / 8,
        0x6000..0x8000 if is_distributor => (offset - 0x6000) / 256,
        _ => 99,
    };
    // Bank 0 is reserved in a distributor with affinity routing.
    let low = !has_private && offset < 0x80 || !has_irqs && offset < 0x100;
    low || has_irqs && banks.contains(&bank)
}
