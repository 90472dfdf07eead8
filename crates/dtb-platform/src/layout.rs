//! The address map and the interrupts of the machine that every guest sees:
//! those of QEMU's `virt`, so that what is built for it boots unmodified.

use alloc::vec::Vec;

use vm_contract::{GuestPhysAddr, GuestPhysAddrRange, IntId};

use crate::{GuestDevice, Timer};

/// Where firmware may be, entered at its start.
pub const FIRMWARE: GuestPhysAddrRange = range(0, 0x0800_0000);

/// The GIC's distributor.
pub const GIC_DISTRIBUTOR: GuestPhysAddrRange = range(0x0800_0000, 0x1_0000);

/// The CPU interface of a GICv2.
pub const GIC_CPU_INTERFACE: GuestPhysAddrRange = range(0x0801_0000, 0x1_0000);

/// The interrupt translation service of a GICv3.
pub const GIC_ITS: GuestPhysAddrRange = range(0x0808_0000, 0x2_0000);

/// The bytes that one redistributor takes: its control frame and its SGI frame,
/// 64 KiB each.
pub const REDISTRIBUTOR_BYTES: usize = 0x2_0000;

/// The space for the redistributors of the first 123 vCPUs.
pub const GIC_REDISTRIBUTORS: GuestPhysAddrRange = range(0x080a_0000, 0xf6_0000);

/// The space for the redistributors of further vCPUs.
pub const GIC_HIGH_REDISTRIBUTORS: GuestPhysAddrRange = range(0x40_0000_0000, 0x400_0000);

/// The PL011 UART.
pub const UART: GuestDevice = GuestDevice {
    range: range(0x0900_0000, 0x1000),
    interrupt: spi(1),
};

/// The PL031 real-time clock.
pub const RTC: GuestDevice = GuestDevice {
    range: range(0x0901_0000, 0x1000),
    interrupt: spi(2),
};

/// The stolen-time structures of the vCPUs (Arm DEN 0057), read-only memory.
pub const STOLEN_TIME: GuestPhysAddrRange = range(0x090a_0000, 0x1_0000);

/// How many places for virtio devices there are.
pub const VIRTIO_MMIO_SLOTS: usize = 32;

/// The bytes from one virtio device to the next.
pub const VIRTIO_MMIO_BYTES: usize = 0x200;

/// The space for virtio devices behind the MMIO transport.
pub const VIRTIO_MMIO: GuestPhysAddrRange =
    range(0x0a00_0000, VIRTIO_MMIO_SLOTS * VIRTIO_MMIO_BYTES);

/// The space for RAM, which starts where this does: all up to the high
/// redistributors.
pub const RAM: GuestPhysAddrRange = range(0x4000_0000, 0x40_0000_0000 - 0x4000_0000);

/// The interrupts of the timers, which are those of the Server Base System
/// Architecture.
pub const TIMER: Timer = Timer {
    secure_phys: Some(ppi(13)),
    phys: ppi(14),
    virt: ppi(11),
    hyp: ppi(10),
    hyp_virt: None,
};

/// The most vCPUs that a guest may have.
pub const MAX_VCPUS: u16 = 256;

/// Returns the space for the virtio device in place `slot`, or `None` if there
/// is no such place.
#[must_use]
pub fn virtio_mmio(slot: usize) -> Option<GuestDevice> {
    const FIRST_SPI: u32 = 16;
    if slot >= VIRTIO_MMIO_SLOTS {
        return None;
    }
    let start = VIRTIO_MMIO.start.as_usize() + slot * VIRTIO_MMIO_BYTES;
    Some(GuestDevice {
        range: range(start, VIRTIO_MMIO_BYTES),
        interrupt: IntId::spi(FIRST_SPI + u32::try_from(slot).ok()?)?,
    })
}

/// Returns where the redistributors of `vcpus` vCPUs are, in the order of the
/// vCPUs: nothing for none, one region for up to 123, and two for more.
///
/// ```
/// use dtb_platform::layout;
///
/// let regions = layout::redistributor_regions(4);
/// assert_eq!(regions.len(), 1);
/// assert_eq!(regions[0].start.as_usize(), 0x080a_0000);
/// assert_eq!(regions[0].size(), 4 * layout::REDISTRIBUTOR_BYTES);
/// ```
#[must_use]
pub fn redistributor_regions(vcpus: u16) -> Vec<GuestPhysAddrRange> {
    let mut bytes = usize::from(vcpus) * REDISTRIBUTOR_BYTES;
    let mut regions = Vec::new();
    for space in [GIC_REDISTRIBUTORS, GIC_HIGH_REDISTRIBUTORS] {
        // `MAX_VCPUS` redistributors fit into the two; more never do.
        let here = bytes.min(space.size());
        if here > 0 {
            regions.push(range(space.start.as_usize(), here));
            bytes -= here;
        }
    }
    regions
}

/// Returns the affinity of the vCPU with this index, as in MPIDR_EL1: 16 to a
/// cluster, because an SGI reaches no more with one register write.
///
/// ```
/// assert_eq!(dtb_platform::layout::affinity(15), 0x00f);
/// assert_eq!(dtb_platform::layout::affinity(16), 0x100);
/// ```
#[must_use]
pub const fn affinity(index: u16) -> u64 {
    // What overflows Aff1 lands in Aff2, which follows it.
    let (cluster, within) = (index / 16, index % 16);
    (cluster as u64) << 8 | within as u64
}

const fn range(start: usize, bytes: usize) -> GuestPhysAddrRange {
    GuestPhysAddrRange {
        start: GuestPhysAddr::from_usize(start),
        end: GuestPhysAddr::from_usize(start + bytes),
    }
}

const fn spi(number: u32) -> IntId {
    constant(IntId::spi(number))
}

const fn ppi(number: u32) -> IntId {
    constant(IntId::ppi(number))
}

/// Evaluated by the compiler only, which refuses a number that does not exist.
#[expect(clippy::panic, reason = "stops the build, never a running program")]
const fn constant(id: Option<IntId>) -> IntId {
    match id {
        Some(id) => id,
        None => panic!("no such interrupt"),
    }
}

const _: () = assert!(
    GIC_HIGH_REDISTRIBUTORS.end.as_usize() - GIC_HIGH_REDISTRIBUTORS.start.as_usize()
        >= MAX_VCPUS as usize * REDISTRIBUTOR_BYTES,
    "MAX_VCPUS redistributors fit"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_devices_share_addresses_or_interrupts() {
        let mut devices: Vec<_> = (0..VIRTIO_MMIO_SLOTS).filter_map(virtio_mmio).collect();
        assert_eq!(devices.len(), VIRTIO_MMIO_SLOTS);
        devices.extend([UART, RTC]);
        let mut ranges: Vec<_> = devices.iter().map(|device| device.range).collect();
        ranges.extend([
            FIRMWARE,
            GIC_DISTRIBUTOR,
            GIC_CPU_INTERFACE,
            GIC_ITS,
            GIC_REDISTRIBUTORS,
            GIC_HIGH_REDISTRIBUTORS,
            RAM,
        ]);
        for (i, range) in ranges.iter().enumerate() {
            assert!(
                ranges[..i].iter().all(|other| !other.overlaps(*range)),
                "{range:?}"
            );
        }
        for (i, device) in devices.iter().enumerate() {
            assert!(
                devices[..i]
                    .iter()
                    .all(|other| other.interrupt != device.interrupt)
            );
        }
        assert_eq!(virtio_mmio(VIRTIO_MMIO_SLOTS), None);
    }

    #[test]
    fn the_124th_vcpu_opens_the_high_redistributor_region() {
        assert!(redistributor_regions(0).is_empty());
        assert_eq!(redistributor_regions(123), [GIC_REDISTRIBUTORS]);
        let regions = redistributor_regions(MAX_VCPUS);
        assert_eq!(regions[0], GIC_REDISTRIBUTORS);
        assert_eq!(regions[1].start, GIC_HIGH_REDISTRIBUTORS.start);
        let bytes: usize = regions.iter().map(|region| region.size()).sum();
        assert_eq!(bytes, usize::from(MAX_VCPUS) * REDISTRIBUTOR_BYTES);
    }

    #[test]
    fn every_index_has_an_affinity_of_its_own_within_aff2_to_aff0() {
        let mut last = None;
        for index in 0..=u16::MAX {
            let affinity = affinity(index);
            assert!(affinity & 0xff < 16 && affinity <= 0xff_ffff);
            assert!(last < Some(affinity), "strictly ascending");
            last = Some(affinity);
        }
    }
}
