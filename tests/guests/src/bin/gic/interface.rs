//! The registers of a CPU interface, on this CPU or on the other one.

use test_guests::sysreg;

use crate::partner::{self, Request};

/// A register of the CPU interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
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

impl Icc {
    /// The registers whose reading changes nothing.
    pub(crate) const VISIBLE: [Self; 11] = [
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

    const OTHERS: [Self; 8] = [
        Self::Iar0,
        Self::Iar1,
        Self::Eoir0,
        Self::Eoir1,
        Self::Dir,
        Self::Sgi0r,
        Self::Sgi1r,
        Self::Asgi1r,
    ];

    /// Returns the register with this number.
    pub(crate) fn numbered(number: u8) -> Option<Self> {
        let mut all = Self::VISIBLE.into_iter().chain(Self::OTHERS);
        all.find(|register| *register as u8 == number)
    }

    /// Reads the register of CPU `cpu`.
    pub(crate) fn read(self, cpu: usize) -> u64 {
        if cpu == 0 {
            self.read_here()
        } else {
            partner::ask(Request::Read(self))
        }
    }

    /// Writes the register of CPU `cpu`.
    pub(crate) fn write(self, cpu: usize, value: u64) {
        if cpu == 0 {
            self.write_here(value);
        } else {
            partner::ask(Request::Write(self, value));
        }
    }

    /// Reads the register of this CPU; those that are write-only read as 0.
    pub(crate) fn read_here(self) -> u64 {
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
    pub(crate) fn write_here(self, value: u64) {
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
}
