//! The entries of the tables in guest memory. Their formats are ours: eight
//! bytes, little-endian, with [`VALID`] as the highest bit. The guest can
//! change them, so decoding one says nothing about whether its fields are sound.

/// The bytes of an entry of any table.
pub(super) const ENTRY_BYTES: u64 = 8;

/// The entry says something.
pub(super) const VALID: u64 = 1 << 63;

/// The number of bits of a device's number, an event's number and a
/// collection's number.
pub(super) const ID_BITS: u32 = 16;

/// A device: where its table of events lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceEntry {
    /// The address of the interrupt translation table, a multiple of 256.
    pub(super) events: u64,
    /// One less than the number of bits of its events' numbers.
    pub(super) size: u8,
}

impl DeviceEntry {
    pub(super) const ADDRESS: u64 = 0x000F_FFFF_FFFF_FF00;
    pub(super) const SIZE: u64 = 0x1F;

    pub(super) fn encode(self) -> u64 {
        VALID | self.events & Self::ADDRESS | u64::from(self.size)
    }

    pub(super) fn decode(bits: u64) -> Option<Self> {
        let [size, ..] = (bits & Self::SIZE).to_le_bytes();
        (bits & VALID != 0).then_some(Self {
            events: bits & Self::ADDRESS,
            size,
        })
    }

    /// Tells whether the device has an event of this number.
    pub(super) fn has(self, event: u32) -> bool {
        let bits = u32::from(self.size) + 1;
        bits <= ID_BITS && event >> bits == 0
    }
}

/// An event: which LPI it is, and of which collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventEntry {
    pub(super) intid: u32,
    pub(super) collection: u16,
}

impl EventEntry {
    const COLLECTION_SHIFT: u32 = 32;

    pub(super) fn encode(self) -> u64 {
        VALID | u64::from(self.collection) << Self::COLLECTION_SHIFT | u64::from(self.intid)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the fields are meant")]
    pub(super) fn decode(bits: u64) -> Option<Self> {
        (bits & VALID != 0).then_some(Self {
            intid: bits as u32,
            collection: (bits >> Self::COLLECTION_SHIFT) as u16,
        })
    }
}

/// A collection: which vCPU its interrupts go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CollectionEntry {
    pub(super) vcpu: u16,
}

impl CollectionEntry {
    pub(super) fn encode(self) -> u64 {
        VALID | u64::from(self.vcpu)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the field is meant")]
    pub(super) fn decode(bits: u64) -> Option<Self> {
        (bits & VALID != 0).then_some(Self { vcpu: bits as u16 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_were_written_and_only_if_valid() {
        let device = DeviceEntry {
            events: 0x0008_1234_5678_9A00,
            size: 15,
        };
        assert_eq!(DeviceEntry::decode(device.encode()), Some(device));
        let event = EventEntry {
            intid: 0x00FF_FFFF,
            collection: 0xABCD,
        };
        assert_eq!(EventEntry::decode(event.encode()), Some(event));
        let collection = CollectionEntry { vcpu: 255 };
        assert_eq!(
            CollectionEntry::decode(collection.encode()),
            Some(collection)
        );
        assert_eq!(DeviceEntry::decode(device.encode() & !VALID), None);
        assert_eq!(EventEntry::decode(event.encode() & !VALID), None);
        assert_eq!(CollectionEntry::decode(0), None);
    }

    #[test]
    fn a_device_has_as_many_events_as_its_size_says() {
        let device = |size| DeviceEntry { events: 0, size };
        assert!(device(0).has(1) && !device(0).has(2));
        assert!(device(15).has(0xFFFF) && !device(15).has(0x1_0000));
        assert!((16..32).all(|size| !device(size).has(0)), "no such size");
    }
}
