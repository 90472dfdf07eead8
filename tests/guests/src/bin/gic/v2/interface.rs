//! The registers of the CPU interface of a GICv2 (IHI 0048), and those of its
//! distributor that a GICv3 lacks.

use test_guests::runtime::{gic, mmio};

use crate::interface::{Interface, Kind};
use crate::masks;
use crate::place::Place;

/// Each CPU's own interface.
pub(crate) const GICC: u64 = 0x0801_0000;

/// Target registers, a byte of CPUs for each interrupt.
pub(crate) const ITARGETSR: u64 = 0x800;
/// Sends SGIs.
pub(crate) const SGIR: u64 = 0xF00;
/// A byte of senders for each SGI: not pending any more.
pub(crate) const CPENDSGIR: u64 = 0xF10;
/// A byte of senders for each SGI: pending.
pub(crate) const SPENDSGIR: u64 = 0xF20;

/// A register of the CPU interface, by its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gicc {
    Ctlr = 0x0,
    Pmr = 0x4,
    Bpr = 0x8,
    Iar = 0xC,
    Eoir = 0x10,
    Rpr = 0x14,
    Hppir = 0x18,
    Abpr = 0x1C,
    Dir = 0x1000,
}

/// GICC_CTLR: both groups, AckCtl.
const CTLR: u64 = 0b111;
/// GICC_CTLR.EOImodeNS, which is EOImode with one security state.
const EOI_MODE: u64 = 1 << 9;

impl Gicc {
    /// Sets the binary points that give 32 levels of preemption: the smallest that
    /// every GICv2 has.
    pub(crate) fn set_binary_points(cpu: usize) {
        Self::Bpr.write(cpu, 2);
        Self::Abpr.write(cpu, 3);
    }
}

impl Interface for Gicc {
    const VISIBLE: &'static [Self] = &[
        Self::Ctlr,
        Self::Pmr,
        Self::Bpr,
        Self::Abpr,
        Self::Rpr,
        Self::Hppir,
    ];
    const OTHERS: &'static [Self] = &[Self::Iar, Self::Eoir, Self::Dir];
    const IAR: Self = Self::Iar;
    const EOIR: Self = Self::Eoir;
    const DIR: Self = Self::Dir;
    const PMR: Self = Self::Pmr;
    const ENABLE: u32 = 0b01;
    const GROUP: u32 = 0;
    const IS_BANKED: bool = true;
    const CLEARS_FOR_OTHERS: bool = false;
    const ENDS_HIGH_TIMERS: bool = false;
    const KINDS: &'static [Kind] = &[
        Kind::new("IGROUPR", gic::IGROUPR, 1, u32::MAX),
        Kind {
            name: "ISENABLER",
            offset: gic::ISENABLER,
            count: 1,
            masks: [masks::V2_ISENABLER0, u32::MAX],
        },
        Kind::new("ISPENDR", gic::ISPENDR, 1, u32::MAX),
        Kind::new("ISACTIVER", gic::ISACTIVER, 1, u32::MAX),
        Kind::new("ICFGR", gic::ICFGR, 2, u32::MAX),
        Kind::new("IPRIORITYR", gic::IPRIORITYR, 8, masks::PRIORITIES),
        Kind::new("ITARGETSR", ITARGETSR, 8, u32::MAX),
    ];
    const PRIVATE_KINDS: &'static [Kind] = &[Kind::new("SPENDSGIR", SPENDSGIR, 4, u32::MAX)];

    fn read_here(self) -> u64 {
        mmio::read32(GICC + self as u64).into()
    }

    fn write_here(self, value: u64) {
        mmio::write32(GICC + self as u64, (value & 0xFFFF_FFFF) as u32);
    }

    fn mask(self) -> u64 {
        u64::MAX
    }

    fn init_cpu() {}

    fn open(cpu: usize) {
        Self::Ctlr.write(cpu, CTLR);
        Self::Pmr.write(cpu, 0xF8);
        Self::set_binary_points(cpu);
    }

    fn set_two_steps(cpu: usize, two_steps: bool) {
        Self::Ctlr.write(cpu, CTLR | if two_steps { EOI_MODE } else { 0 });
    }

    fn send_sgi(intid: u32, to_others: bool) {
        let filter = if to_others { 1 << 24 } else { 0b10 << 16 };
        mmio::write32(gic::GICD + SGIR, filter | intid);
    }

    fn route(intid: u32, cpu: usize) {
        mmio::write8(gic::GICD + ITARGETSR + u64::from(intid), 1 << cpu);
    }

    fn print_routes() {}

    fn writes_private(array: u64) -> bool {
        !matches!(array, gic::ISPENDR | gic::ICPENDR | gic::ICFGR)
    }

    fn clear(place: Place) {
        if place.bank == 0 {
            (0..4).for_each(|n| place.store::<Self>(CPENDSGIR + 4 * n, u32::MAX));
            place.write_bits::<Self>(gic::ISENABLER, 0xFFFF);
        } else {
            let first = ITARGETSR + 32 * u64::from(place.bank);
            (0..8).for_each(|n| place.store::<Self>(first + 4 * n, 0x0101_0101));
        }
    }
}
