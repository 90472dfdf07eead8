//! What a mapping allows and what memory it shows.

use bitflags::bitflags;

bitflags! {
    /// What a guest may do with a page. Stage 1 can only take away from this.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Permissions: u8 {
        /// Data reads.
        const READ = 1 << 0;
        /// Data writes.
        const WRITE = 1 << 1;
        /// Instruction fetches, at EL1 and EL0.
        const EXECUTE = 1 << 2;
    }
}

/// The strongest memory type that a guest may get. The guest's own stage 1
/// combines with it; the result is the more restrictive of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryKind {
    /// Normal memory, inner and outer write-back cacheable, inner shareable.
    Normal,
    /// Normal memory that no cache keeps.
    NormalNonCacheable,
    /// Device-nGnRE: no gathering, no re-ordering, early write acknowledgement.
    Device,
    /// Device-nGnRnE: as above, and a write is acknowledged by its endpoint.
    DeviceNoEarlyAck,
}

/// A note of up to four bits kept in each leaf, in the bits that the hardware
/// leaves to software. The crate gives it no meaning; a hypervisor records
/// there who owns the page and how it is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OwnerBits(u8);

impl OwnerBits {
    /// All bits clear.
    pub const NONE: Self = Self(0);

    /// Returns the note `raw`, or `None` if it is above 15.
    #[must_use]
    pub const fn new(raw: u8) -> Option<Self> {
        if raw < 16 { Some(Self(raw)) } else { None }
    }

    /// Returns the note as a number from 0 to 15.
    #[must_use]
    pub const fn raw(self) -> u8 {
        self.0
    }
}

/// Everything that a leaf says besides its output address.
///
/// A leaf without any permission is still a mapping: it keeps its output
/// address and its owner bits while every access of the guest faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// What the guest may do.
    pub permissions: Permissions,
    /// The memory type.
    pub memory: MemoryKind,
    /// The hypervisor's note about the page.
    pub owner: OwnerBits,
}

impl Attributes {
    /// Describes the RAM of a guest: everything allowed, write-back cacheable.
    pub const RAM: Self = Self::new(Permissions::all(), MemoryKind::Normal);

    /// Describes read-only memory that can be executed.
    pub const ROM: Self = Self::new(
        Permissions::READ.union(Permissions::EXECUTE),
        MemoryKind::Normal,
    );

    /// Describes the registers of a device handed to the guest.
    pub const DEVICE: Self = Self::new(
        Permissions::READ.union(Permissions::WRITE),
        MemoryKind::Device,
    );

    /// Returns the attributes with no owner bit set.
    #[must_use]
    pub const fn new(permissions: Permissions, memory: MemoryKind) -> Self {
        Self {
            permissions,
            memory,
            owner: OwnerBits::NONE,
        }
    }

    /// Returns the same attributes with another note about the owner.
    #[must_use]
    pub const fn with_owner(self, owner: OwnerBits) -> Self {
        Self { owner, ..self }
    }

    /// Returns the same attributes with other permissions.
    #[must_use]
    pub const fn with_permissions(self, permissions: Permissions) -> Self {
        Self {
            permissions,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_bits_take_four_bits_and_no_more() {
        assert_eq!(OwnerBits::new(15).map(OwnerBits::raw), Some(15));
        assert_eq!(OwnerBits::new(16), None);
    }

    #[test]
    fn read_only_memory_cannot_be_written_and_devices_cannot_be_executed() {
        assert!(!Attributes::ROM.permissions.contains(Permissions::WRITE));
        assert!(
            !Attributes::DEVICE
                .permissions
                .contains(Permissions::EXECUTE)
        );
    }
}
