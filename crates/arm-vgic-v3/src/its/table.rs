//! `GITS_BASER<n>` and the tables that they describe.

use vm_contract::GuestMemory;

use super::CommandError;
use super::entry::{ENTRY_BYTES, VALID};
use super::lpi_tables::guest_address;

/// Inner write-back, read- and write-allocating, the outer attribute the same,
/// inner shareable: how the hypervisor accesses the guest's memory. As the
/// fields lie in GITS_CBASER and `GITS_BASER<n>`, GICR_PROPBASER and
/// GICR_PENDBASER differ.
pub(super) const ATTRIBUTES: u64 = 0b111 << 59 | 0b01 << 10;

/// What a table is about: the Type field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableKind {
    Devices = 1,
    Collections = 4,
}

/// A `GITS_BASER<n>`.
#[derive(Clone, Copy, Debug)]
pub(super) struct TableBase(u64);

impl TableBase {
    const VALID: u64 = 1 << 63;
    const INDIRECT: u64 = 1 << 62;
    const TYPE_SHIFT: u32 = 56;
    const ENTRY_SIZE_SHIFT: u32 = 48;
    const ADDRESS: u64 = 0x0000_FFFF_FFFF_F000;
    const PAGE_SIZE_SHIFT: u32 = 8;
    const SIZE: u64 = 0xFF;
    /// All others say what cannot be changed, or are reserved.
    const WRITABLE: u64 =
        Self::VALID | Self::INDIRECT | Self::ADDRESS | 0b11 << Self::PAGE_SIZE_SHIFT | Self::SIZE;

    /// Returns the register at reset.
    pub(super) const fn new(kind: TableKind) -> Self {
        Self(
            ATTRIBUTES
                | (kind as u64) << Self::TYPE_SHIFT
                | (ENTRY_BYTES - 1) << Self::ENTRY_SIZE_SHIFT,
        )
    }

    /// Returns the register's value.
    pub(super) const fn value(self) -> u64 {
        self.0
    }

    /// Writes the register.
    pub(super) fn write(&mut self, value: u64) {
        let value = if value >> Self::PAGE_SIZE_SHIFT & 0b11 == 0b11 {
            // Reserved: as 0b10.
            value & !(1 << Self::PAGE_SIZE_SHIFT)
        } else {
            value
        };
        self.0 = self.0 & !Self::WRITABLE | value & Self::WRITABLE;
    }

    const fn page_bytes(self) -> u64 {
        match self.0 >> Self::PAGE_SIZE_SHIFT & 0b11 {
            0 => 0x1000,
            1 => 0x4000,
            _ => 0x1_0000,
        }
    }

    fn address(self) -> u64 {
        let page = self.page_bytes();
        let address = self.0 & Self::ADDRESS;
        let upper = if page == 0x1_0000 {
            // Bits [51:48] of the address lie where smaller pages have [15:12].
            (address >> 12 & 0xF) << 48
        } else {
            0
        };
        address & !(page - 1) | upper
    }

    /// Returns the address of entry `id`, or `None` if the table has no such
    /// entry.
    pub(super) fn entry(self, memory: &dyn GuestMemory, id: u32) -> Option<u64> {
        if self.0 & Self::VALID == 0 {
            return None;
        }
        let page = self.page_bytes();
        let bytes = ((self.0 & Self::SIZE) + 1) * page;
        let offset = u64::from(id) * ENTRY_BYTES;
        if self.0 & Self::INDIRECT == 0 {
            return (offset < bytes).then(|| self.address() + offset);
        }
        // The first level has an address of a page for each page of entries.
        let first = offset / page * 8;
        if first >= bytes {
            return None;
        }
        let pointer = read_word(memory, self.address() + first).ok()?;
        let address = pointer & 0x000F_FFFF_FFFF_F000 & !(page - 1);
        (pointer & VALID != 0).then(|| address + offset % page)
    }
}

/// Reads an entry.
pub(super) fn read_word(memory: &dyn GuestMemory, address: u64) -> Result<u64, CommandError> {
    let mut bytes = [0; 8];
    memory
        .read(guest_address(address), &mut bytes)
        .map_err(|_| CommandError::Unreachable)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Writes an entry.
pub(super) fn write_word(
    memory: &dyn GuestMemory,
    address: u64,
    value: u64,
) -> Result<(), CommandError> {
    memory
        .write(guest_address(address), &value.to_le_bytes())
        .map_err(|_| CommandError::Unreachable)
}
