//! The GICv2 (IHI 0048): the distributor's registers of each CPU's own, the CPU
//! interface in memory, SGIs by sender.

mod flood;
mod interface;
mod snapshot;
mod walk;

use test_guests::runtime::mmio;

use crate::transcript::{self, add, line};
use crate::{masks, partner, v2::snapshot::Snapshot};

/// The distributor.
pub(crate) const GICD: u64 = 0x0800_0000;
/// Each CPU's own interface.
pub(crate) const GICC: u64 = 0x0801_0000;

/// Writes the transcript.
pub(crate) fn run(only_flood: bool) {
    line!("== identification");
    add!("TYPER {:x}", mmio::read32(GICD + 4) & masks::V2_TYPER);
    line!(" CTLR {:x}", mmio::read32(GICD));
    add!("PIDR2 {:x}", mmio::read32(GICD + 0xFE8) & masks::PIDR2);
    (0..4).for_each(|n| add!(" {:x}", mmio::read32(GICD + 0xFF0 + 4 * n)));
    line!("");
    partner::start();
    if !only_flood {
        line!("== reset");
        snapshot::set_binary_points();
        Snapshot::take().print();
        transcript::print();
    }
    flood::run();
    transcript::print();
    if !only_flood {
        walk::all();
    }
    partner::leave();
}
