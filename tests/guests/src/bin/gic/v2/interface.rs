//! Registers as one of the CPUs sees them: GICC's are each CPU's own, and so are
//! the distributor's for SGIs and PPIs.

use test_guests::runtime::mmio;

use super::GICC;
use crate::partner::{self, Request};

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

impl Gicc {
    /// The registers whose reading changes nothing.
    pub(crate) const VISIBLE: [Self; 6] = [
        Self::Ctlr,
        Self::Pmr,
        Self::Bpr,
        Self::Abpr,
        Self::Rpr,
        Self::Hppir,
    ];

    /// Reads the register of CPU `cpu`.
    pub(crate) fn read(self, cpu: usize) -> u32 {
        load(cpu, GICC + self as u64)
    }

    /// Writes the register of CPU `cpu`.
    pub(crate) fn write(self, cpu: usize, value: u32) {
        store(cpu, GICC + self as u64, value);
    }
}

/// Loads a word on CPU `cpu`.
pub(crate) fn load(cpu: usize, address: u64) -> u32 {
    if cpu == 0 {
        return mmio::read32(address);
    }
    u32::try_from(partner::ask(Request::Load(address))).unwrap_or(u32::MAX)
}

/// Stores a word on CPU `cpu`.
pub(crate) fn store(cpu: usize, address: u64, value: u32) {
    if cpu == 0 {
        mmio::write32(address, value);
    } else {
        partner::ask(Request::Store(address, value));
    }
}

/// Stores a byte on CPU `cpu`.
pub(crate) fn store_byte(cpu: usize, address: u64, value: u8) {
    if cpu == 0 {
        mmio::write8(address, value);
    } else {
        partner::ask(Request::StoreByte(address, value));
    }
}
