//! Registers that describe the GICv2, and where its registers lie.

use test_guests::runtime::{gic, mmio};

use super::interface::{GICC, Gicc, ITARGETSR, SPENDSGIR};
use crate::masks;
use crate::registers::{Frame, Wide};
use crate::snapshot::{self, Snapshot};
use crate::transcript::{add, line};

const PIDR2: u64 = 0xFE8;
const CIDR0: u64 = 0xFF0;

/// Tells what the GIC is, and everything before anybody has written to it but the
/// binary points.
pub(crate) fn at_reset() {
    line!("== identification");
    add!(
        "TYPER {:x}",
        mmio::read32(gic::GICD + gic::TYPER) & masks::V2_TYPER
    );
    line!(" CTLR {:x}", mmio::read32(gic::GICD));
    add!("PIDR2 {:x}", mmio::read32(gic::GICD + PIDR2) & masks::PIDR2);
    (0..4).for_each(|n| add!(" {:x}", mmio::read32(gic::GICD + CIDR0 + 4 * n)));
    line!("");
    line!("== reset");
    (0..2).for_each(Gicc::set_binary_points);
    Snapshot::<Gicc>::take().print();
    snapshot::settle::<Gicc>();
}

const fn word(name: &'static str, offset: u64) -> Wide {
    Wide {
        name,
        address: gic::GICD + offset,
        bytes: 4,
        widths: &[4],
    }
}

const fn bytes(name: &'static str, offset: u64) -> Wide {
    Wide {
        widths: &[4, 1],
        ..word(name, offset)
    }
}

/// The registers that are accessed at the widths that they take: which others they
/// take is IMPLEMENTATION DEFINED.
pub(crate) const WIDTHS: [Wide; 10] = [
    word("D.CTLR", gic::CTLR),
    word("D.ISENABLER2", gic::ISENABLER + 8),
    word("D.ISPENDR3", gic::ISPENDR + 12),
    word("D.ICPENDR3", gic::ICPENDR + 12),
    word("D.ISACTIVER4", gic::ISACTIVER + 16),
    bytes("D.IPRIORITYR0", gic::IPRIORITYR),
    bytes("D.IPRIORITYR8", gic::IPRIORITYR + 32),
    bytes("D.IPRIORITYR71", gic::IPRIORITYR + 284),
    bytes("D.ITARGETSR0", ITARGETSR),
    word("D.ICFGR4", gic::ICFGR + 16),
];

/// The frames with reserved places.
pub(crate) const FRAMES: [Frame; 2] = [
    Frame {
        name: "D",
        address: gic::GICD,
        end: 0xFD0,
        exists: in_distributor,
    },
    Frame {
        name: "C",
        address: GICC,
        end: 0x1000,
        // GICC_APR, GICC_NSAPR and what is IMPLEMENTATION DEFINED lie among them.
        exists: |offset| offset < 0x100,
    },
];

/// Tells whether a register of the distributor lies there, or may lie there: what is
/// IMPLEMENTATION DEFINED, GICD_NSACR, and the identification registers.
fn in_distributor(offset: u64) -> bool {
    let bank = match offset {
        0x80..0x400 => (offset & 0x7F) / 4,
        0x400..0x800 => (offset - 0x400) / 32,
        0x800..0xC00 => (offset - 0x800) / 32,
        0xC00..0xD00 => (offset - 0xC00) / 8,
        0xD00..0xF00 | 0..0x80 => 0,
        _ => return (0xF00..SPENDSGIR + 0x10).contains(&offset),
    };
    bank < 9
}
