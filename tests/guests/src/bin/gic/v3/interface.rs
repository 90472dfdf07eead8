//! The registers of the CPU interface of a GICv3 (IHI 0069).

use test_guests::runtime::{gic, machine, mmio};
use test_guests::sysreg;

use crate::interface::{Interface, Kind};
use crate::masks;
use crate::place::{BANKS, Place};
use crate::transcript::{add, line};

/// A register of the CPU interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Icc {
    Pmr,
    Bpr0,
    Bpr1,
    Ctlr,
    Igrpen0,
    Igrpen1,
    Rpr,
    Hppir0,
    Hppir1,
    Ap0r0,
    Ap1r0,
    Iar0,
    Iar1,
    Eoir0,
    Eoir1,
    Dir,
    Sgi0r,
    Sgi1r,
    Asgi1r,
}

impl Interface for Icc {
    const VISIBLE: &'static [Self] = &[
        Self::Pmr,
        Self::Bpr0,
        Self::Bpr1,
        Self::Ctlr,
        Self::Igrpen0,
        Self::Igrpen1,
        Self::Rpr,
        Self::Hppir0,
        Self::Hppir1,
        Self::Ap0r0,
        Self::Ap1r0,
    ];
    const OTHERS: &'static [Self] = &[
        Self::Iar0,
        Self::Iar1,
        Self::Eoir0,
        Self::Eoir1,
        Self::Dir,
        Self::Sgi0r,
        Self::Sgi1r,
        Self::Asgi1r,
    ];
    const IAR: Self = Self::Iar1;
    const EOIR: Self = Self::Eoir1;
    const DIR: Self = Self::Dir;
    const PMR: Self = Self::Pmr;
    const ENABLE: u32 = 0b10;
    const GROUP: u32 = u32::MAX;
    const IS_BANKED: bool = false;
    const CLEARS_FOR_OTHERS: bool = true;
    const ENDS_HIGH_TIMERS: bool = true;
    const KINDS: &'static [Kind] = &[
        Kind::new("IGROUPR", gic::IGROUPR, 1, u32::MAX),
        Kind::new("ISENABLER", gic::ISENABLER, 1, u32::MAX),
        Kind::new("ISPENDR", gic::ISPENDR, 1, u32::MAX),
        Kind::new("ISACTIVER", gic::ISACTIVER, 1, u32::MAX),
        Kind::new("ICFGR", gic::ICFGR, 2, u32::MAX),
        Kind::new("IPRIORITYR", gic::IPRIORITYR, 8, masks::PRIORITIES),
    ];
    const PRIVATE_KINDS: &'static [Kind] = &[];

    /// Reads the register of this CPU; those that are write-only read as 0.
    fn read_here(self) -> u64 {
        match self {
            Self::Pmr => sysreg!("icc_pmr_el1"),
            Self::Bpr0 => sysreg!("icc_bpr0_el1"),
            Self::Bpr1 => sysreg!("icc_bpr1_el1"),
            Self::Ctlr => sysreg!("icc_ctlr_el1"),
            Self::Igrpen0 => sysreg!("icc_igrpen0_el1"),
            Self::Igrpen1 => sysreg!("icc_igrpen1_el1"),
            Self::Rpr => sysreg!("icc_rpr_el1"),
            Self::Hppir0 => sysreg!("icc_hppir0_el1"),
            Self::Hppir1 => sysreg!("icc_hppir1_el1"),
            Self::Ap0r0 => sysreg!("icc_ap0r0_el1"),
            Self::Ap1r0 => sysreg!("icc_ap1r0_el1"),
            Self::Iar0 => sysreg!("icc_iar0_el1"),
            Self::Iar1 => sysreg!("icc_iar1_el1"),
            Self::Eoir0 | Self::Eoir1 | Self::Dir | Self::Sgi0r | Self::Sgi1r | Self::Asgi1r => 0,
        }
    }

    /// Writes the register of this CPU; those that are read-only stay.
    fn write_here(self, value: u64) {
        match self {
            Self::Pmr => sysreg!("icc_pmr_el1", value),
            Self::Bpr0 => sysreg!("icc_bpr0_el1", value),
            Self::Bpr1 => sysreg!("icc_bpr1_el1", value),
            Self::Ctlr => sysreg!("icc_ctlr_el1", value),
            Self::Igrpen0 => sysreg!("icc_igrpen0_el1", value),
            Self::Igrpen1 => sysreg!("icc_igrpen1_el1", value),
            Self::Eoir0 => sysreg!("icc_eoir0_el1", value),
            Self::Eoir1 => sysreg!("icc_eoir1_el1", value),
            Self::Dir => sysreg!("icc_dir_el1", value),
            Self::Sgi0r => sysreg!("icc_sgi0r_el1", value),
            Self::Sgi1r => sysreg!("icc_sgi1r_el1", value),
            Self::Asgi1r => sysreg!("icc_asgi1r_el1", value),
            Self::Ap0r0 => sysreg!("icc_ap0r0_el1", value),
            Self::Ap1r0 => sysreg!("icc_ap1r0_el1", value),
            Self::Rpr | Self::Hppir0 | Self::Hppir1 | Self::Iar0 | Self::Iar1 => {}
        }
    }

    fn mask(self) -> u64 {
        masks::icc(self)
    }

    fn init_cpu() {
        gic::init_cpu();
    }

    fn open(cpu: usize) {
        for (register, value) in [
            (Self::Ctlr, 0),
            (Self::Pmr, 0xFF),
            (Self::Bpr0, 0),
            (Self::Bpr1, 0),
            (Self::Igrpen0, 1),
            (Self::Igrpen1, 1),
        ] {
            register.write(cpu, value);
        }
    }

    fn set_two_steps(cpu: usize, two_steps: bool) {
        Self::Ctlr.write(cpu, if two_steps { 0b10 } else { 0 });
    }

    fn send_sgi(intid: u32, to_others: bool) {
        if to_others {
            gic::send_sgi_to_others(intid);
        } else {
            gic::send_sgi(gic::sgi_to(intid, machine::mpidr_of(1)));
        }
    }

    fn route(intid: u32, cpu: usize) {
        gic::route(intid, machine::mpidr_of(cpu));
    }

    fn print_routes() {
        add!("routers");
        for intid in 32..32 + 32 * BANKS {
            let router = mmio::read64(gic::GICD + gic::IROUTER + 8 * u64::from(intid));
            if router != 0 {
                add!(" {intid}:{router:x}");
            }
        }
        line!("");
    }

    fn writes_private(_: u64) -> bool {
        true
    }

    fn clear(place: Place) {
        if place.bank != 0 {
            let intids = 32 * place.bank..32 * place.bank + 32;
            intids.for_each(|intid| Self::route(intid, 0));
        }
    }
}
