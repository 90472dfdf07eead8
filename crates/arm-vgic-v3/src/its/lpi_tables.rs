//! The tables of a redistributor in guest memory: properties and pending
//! states of LPIs. Their formats are the architecture's.

use vm_contract::{GuestMemory, GuestPhysAddr, IntId};

/// Where an address field of 52 bits points to. The guest memory refuses what
/// does not lie in it.
pub(super) fn guest_address(address: u64) -> GuestPhysAddr {
    GuestPhysAddr::from(usize::try_from(address).unwrap_or(usize::MAX))
}

/// A table with one byte of properties for each LPI, from INTID 8192.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertyTable {
    address: u64,
    /// One past the last INTID that it describes.
    end: u32,
}

impl PropertyTable {
    const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
    /// INTIDs have at most this many bits.
    const MAX_ID_BITS: u64 = 24;

    /// Returns the table that this value of GICR_PROPBASER describes.
    #[must_use]
    pub const fn from_propbaser(value: u64) -> Self {
        let id_bits = (value & 0x1F) + 1;
        Self {
            address: value & Self::ADDRESS,
            end: if id_bits < Self::MAX_ID_BITS {
                1 << id_bits
            } else {
                1 << Self::MAX_ID_BITS
            },
        }
    }

    /// Tells whether the table describes `lpi`.
    #[must_use]
    pub const fn covers(&self, lpi: IntId) -> bool {
        lpi.raw() < self.end
    }

    /// Reads the properties of consecutive LPIs. Those that the table does not
    /// describe, or that lie outside the guest's memory, are zero: disabled.
    pub(super) fn read(&self, memory: &dyn GuestMemory, first: IntId, properties: &mut [u8]) {
        let offset = first.raw().saturating_sub(IntId::LPI_BASE);
        let address = guest_address(self.address + u64::from(offset));
        if !self.covers(first) || memory.read(address, properties).is_err() {
            properties.fill(0);
        }
    }
}

/// A table with one bit for each INTID: whether it is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingTable {
    address: u64,
    /// One past the last INTID that it describes: as in the table of properties.
    end: u32,
}

impl PendingTable {
    const ADDRESS: u64 = 0x000F_FFFF_FFFF_0000;

    /// Returns the table that this value of GICR_PENDBASER describes. It is as long
    /// as that of the `properties` beside it says.
    #[must_use]
    pub const fn from_pendbaser(value: u64, properties: PropertyTable) -> Self {
        Self {
            address: value & Self::ADDRESS,
            end: properties.end,
        }
    }

    /// Tells whether the table describes the 32 LPIs from `first`.
    const fn covers(&self, first: IntId) -> bool {
        // Its length is a power of two, so it describes all of them or none.
        first.raw() < self.end
    }

    fn word(&self, first: IntId) -> GuestPhysAddr {
        guest_address(self.address + u64::from(first.raw() / 8))
    }

    /// Reads the states of 32 LPIs. What the table does not describe, or lies
    /// outside the guest's memory, is not pending.
    pub(super) fn read(&self, memory: &dyn GuestMemory, first: IntId) -> u32 {
        let mut bytes = [0; 4];
        if !self.covers(first) || memory.read(self.word(first), &mut bytes).is_err() {
            return 0;
        }
        u32::from_le_bytes(bytes)
    }

    /// Writes the states of 32 LPIs. If the table does not describe them, or does
    /// not lie in the guest's memory, they are lost.
    pub(super) fn write(&self, memory: &dyn GuestMemory, first: IntId, states: u32) {
        if self.covers(first) {
            let _ = memory.write(self.word(first), &states.to_le_bytes());
        }
    }
}
