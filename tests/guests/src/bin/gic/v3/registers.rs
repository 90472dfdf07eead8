//! Registers that describe the GICv3, and where its registers lie.

use test_guests::runtime::{gic, mmio};

use super::interface::Icc;
use crate::interface::CPUS;
use crate::masks;
use crate::place::redistributor;
use crate::registers::{Frame, Wide};
use crate::snapshot;
use crate::transcript::{add, line};

const TYPER: u64 = 0x8;
const IIDR: u64 = gic::GICD + 0x8;
const PIDR2: u64 = 0xFFE8;
const CIDR0: u64 = 0xFFF0;

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
    snapshot::print_reset::<Icc>();
}

fn identification(frame: u64) {
    add!("PIDR2 {:x}", mmio::read32(frame + PIDR2) & masks::PIDR2);
    (0..4).for_each(|n| add!(" {:x}", mmio::read32(frame + CIDR0 + 4 * n)));
    line!("");
}

/// What a CPU's redistributor says while the CPU sleeps and wakes.
pub(crate) fn wake() {
    line!("== GICR_WAKER");
    let waker = redistributor(0) + gic::WAKER;
    for value in [0b10, 0b110, 0b100, 0, 0b10, 0xFFFF_FFF8, 0] {
        mmio::write32(waker, value & masks::GICR_WAKER);
        line!("{value:x}: {:x}", mmio::read32(waker));
    }
}

const fn wide(name: &'static str, address: u64) -> Wide {
    let (bytes, widths) = (4, &[8, 4, 2, 1]);
    Wide {
        name,
        address,
        bytes,
        widths,
    }
}

const PRIVATE: u64 = redistributor(1) + gic::SGI_FRAME;

/// The registers that are accessed at every width.
pub(crate) const WIDTHS: [Wide; 17] = [
    wide("D.CTLR", gic::GICD + gic::CTLR),
    wide("D.ISENABLER2", gic::GICD + gic::ISENABLER + 8),
    wide("D.ISPENDR3", gic::GICD + gic::ISPENDR + 12),
    wide("D.ICPENDR2", gic::GICD + gic::ICPENDR + 8),
    wide("D.ISACTIVER4", gic::GICD + gic::ISACTIVER + 16),
    wide("D.IPRIORITYR8", gic::GICD + gic::IPRIORITYR + 32),
    wide("D.IPRIORITYR71", gic::GICD + gic::IPRIORITYR + 284),
    wide("D.ICFGR4", gic::GICD + gic::ICFGR + 16),
    wide("D.IGROUPR8", gic::GICD + gic::IGROUPR + 32),
    Wide {
        bytes: 8,
        ..wide("D.IROUTER40", gic::GICD + gic::IROUTER + 8 * 40)
    },
    wide("R1.ISENABLER0", PRIVATE + gic::ISENABLER),
    wide("R1.ISPENDR0", PRIVATE + gic::ISPENDR),
    wide("R1.ISACTIVER0", PRIVATE + gic::ISACTIVER),
    wide("R1.IPRIORITYR4", PRIVATE + gic::IPRIORITYR + 16),
    wide("R1.ICFGR0", PRIVATE + gic::ICFGR),
    wide("R1.ICFGR1", PRIVATE + gic::ICFGR + 4),
    wide("R1.IGROUPR0", PRIVATE + gic::IGROUPR),
];

/// Those that tell what the GIC is, at the widths that they do not take.
pub(crate) const IDENTIFICATION: [Wide; 2] = [
    Wide {
        widths: &[1, 2, 8],
        ..wide("D.IIDR", IIDR)
    },
    Wide {
        widths: &[1, 2, 8],
        ..wide("D.PIDR2", gic::GICD + PIDR2)
    },
];

/// The frames with reserved places.
pub(crate) const FRAMES: [Frame; 3] = [
    Frame {
        name: "D",
        address: gic::GICD,
        end: 0xFFD0,
        // Bank 0 is reserved with affinity routing. Low are registers of
        // message-based SPIs, which are optional.
        exists: |offset| offset < 0x80 || describes(offset, 1..9),
    },
    Frame {
        name: "R0",
        address: redistributor(0),
        end: 0xFFD0,
        // Low are registers of LPIs, which are optional.
        exists: |offset| offset < 0x100,
    },
    Frame {
        name: "R1 SGI",
        address: PRIVATE,
        end: 0xFFD0,
        exists: |offset| describes(offset, 0..1),
    },
];

/// Tells whether registers at this offset describe interrupts of these banks.
fn describes(offset: u64, banks: core::ops::Range<u64>) -> bool {
    let bank = match offset {
        0x80..0x400 => (offset & 0x7F) / 4,
        0x400..0x800 => (offset - 0x400) / 32,
        0xC00..0xD00 => (offset - 0xC00) / 8,
        0x6000..0x8000 if banks.end > 1 => (offset - 0x6000) / 256,
        _ => return false,
    };
    banks.contains(&bank)
}
