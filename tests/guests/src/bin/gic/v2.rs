//! The GICv2 (IHI 0048): the distributor's registers of each CPU's own, the CPU
//! interface in memory, SGIs by sender.
//!
//! Beside what `masks` says, this keeps clear of
//!
//! - binary points below 2 and the lowest bits of GICC_PMR: how many bits of a
//!   priority there are is the implementation's choice;
//! - one SGI from several CPUs at once, whose order is nobody's business;
//! - words written to GICD_SPENDSGIR: QEMU 7.2 makes SGIs pending of which the byte
//!   is 0, and dies when one is acknowledged; bytes do;
//! - GICC_AIAR, GICC_AEOIR and GICC_AHPPIR, which QEMU 7.2 lacks: GICC_CTLR.AckCtl
//!   is set instead;
//! - GICD_ISPENDR0 and GICD_ICPENDR0, which QEMU 7.2 writes for all CPUs, and SPIs
//!   without a target, which it does not let become pending;
//! - new targets of pending SPIs, to whom QEMU 7.2 does not forward them, and of
//!   active ones, to whom it signals them though they are active;
//! - one group off in GICD_CTLR, which QEMU 7.2 forwards as long as the other is on;
//! - GICD_ISENABLER0 of SGIs, which need not be writable;
//! - SPIs with several targets: which one gets them is the GIC's choice.

mod flood;
mod interface;
mod snapshot;
mod walk;

use test_guests::runtime::mmio;

use crate::transcript::{self, add, line};
use crate::{partner, v2::snapshot::Snapshot};

/// The distributor.
pub(crate) const GICD: u64 = 0x0800_0000;
/// Each CPU's own interface.
pub(crate) const GICC: u64 = 0x0801_0000;

/// Writes the transcript.
pub(crate) fn run(only_flood: bool) {
    line!("== identification");
    // SecurityExtn and the number of CPUs. QEMU says the number of lines right
    // here, but lockable SPIs are an option.
    add!("TYPER {:x}", mmio::read32(GICD + 4) & 0x4FF);
    line!(" CTLR {:x}", mmio::read32(GICD));
    add!("PIDR2 {:x}", mmio::read32(GICD + 0xFE8) & 0xF0);
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
