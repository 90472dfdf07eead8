//! The machine's own virtio devices behind the MMIO transport (VirtIO 1.2, 4.2), which
//! the hypervisor drives for its VMs.
#![expect(
    unsafe_code,
    reason = "registers are named by the device tree, and devices reach memory"
)]

mod disk;
mod net;

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;

use aarch64_cpu::registers::{CNTFRQ_EL0, Readable};
use dtb_platform::{Interrupt, Platform, VirtioMmio};
use hypervisor::devices::HostDevices;
use hypervisor::frames::FramePool;
use hypervisor::net::NetHardware;
use hypervisor::storage::{HostDisk, SECTOR_BYTES};
use thiserror::Error;
use virtio_drivers::transport::mmio::{MmioError, MmioTransport, MmioVersion, VirtIOHeader};
use virtio_drivers::transport::{DeviceType, DeviceTypeError, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};
use vm_contract::IntId;

use super::el2_cpu;
use disk::VirtioDisk;
use net::VirtioNet;

/// How a machine's virtio devices reach memory: EL2 maps all of it at its physical
/// address, and the devices' accesses are coherent with the caches.
struct IdentityMapped;

impl IdentityMapped {
    fn layout(pages: usize) -> Option<Layout> {
        Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE).ok()
    }
}

// SAFETY: what is allocated is whole pages of the heap, aligned and zeroed, and belongs
// to the caller until it is given back.
unsafe impl Hal for IdentityMapped {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let allocated = Self::layout(pages)
            .filter(|layout| layout.size() > 0)
            // SAFETY: the size is not zero.
            .and_then(|layout| NonNull::new(unsafe { alloc_zeroed(layout) }));
        match allocated {
            Some(start) => (start.addr().get() as PhysAddr, start),
            // The crate takes address 0 for a refusal.
            None => (0, NonNull::dangling()),
        }
    }

    unsafe fn dma_dealloc(_paddr: PhysAddr, vaddr: NonNull<u8>, pages: usize) -> i32 {
        if let Some(layout) = Self::layout(pages) {
            // SAFETY: the caller gives back what `dma_alloc` allocated with this layout.
            unsafe { dealloc(vaddr.as_ptr(), layout) };
        }
        0
    }

    unsafe fn mmio_phys_to_virt(paddr: PhysAddr, _size: usize) -> NonNull<u8> {
        // Only devices on PCI have further registers, and none is driven.
        let address = usize::try_from(paddr).unwrap_or_default();
        NonNull::new(core::ptr::with_exposed_provenance_mut(address)).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr().expose_provenance() as PhysAddr
    }

    unsafe fn unshare(_paddr: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}

/// Why a device is not used.
#[derive(Clone, Copy, Debug, Error)]
enum Problem {
    #[error("it is from before version 1.0")]
    TooOld,
    #[error(transparent)]
    Driver(#[from] virtio_drivers::Error),
    #[error("no memory for its buffers")]
    NoMemory,
}

/// The devices that are driven, and the interrupts that they raise.
pub(crate) struct Devices {
    pub(crate) host: HostDevices,
    pub(crate) interrupts: Vec<Interrupt>,
    /// The network card that was asked for.
    pub(crate) card: Option<(IntId, Box<dyn NetHardware>)>,
}

/// Finds the machine's virtio devices, resets all of them, whatever a boot loader did
/// with them, and takes over its disks, and of its network cards number `card`. Both are
/// numbered by ascending address.
///
/// # Safety
/// Called once, with the platform of this machine, whose virtio devices are mapped as
/// device memory and used by nobody else. `pool` has memory that is mapped at its
/// physical address.
pub(crate) unsafe fn bring_up(platform: &Platform, pool: &FramePool, card: Option<u32>) -> Devices {
    let mut devices = Devices {
        host: HostDevices::default(),
        interrupts: Vec::new(),
        card: None,
    };
    let mut cards = 0..;
    for place in &platform.virtio_mmio {
        // SAFETY: as the caller promises.
        let Some(transport) = (unsafe { find(place) }) else {
            continue;
        };
        let (address, interrupt) = (place.range.start, place.interrupt);
        // What is not taken over is reset as its transport is dropped.
        let taken = match transport.device_type() {
            DeviceType::Block => take_disk(transport, pool, interrupt, &mut devices),
            DeviceType::Network if cards.next() == card => {
                VirtioNet::take(transport, pool).map(|card| {
                    log::info!("network card at {address:#x}");
                    devices.card = Some((interrupt.id, Box::new(card)));
                })
            }
            _ => continue,
        };
        match taken {
            Ok(()) => devices.interrupts.push(interrupt),
            Err(problem) => log::warn!("virtio device at {address:#x} not used: {problem}"),
        }
    }
    devices
}

/// Returns the device in a place, if there is one of the kind that can be driven.
///
/// # Safety
/// As for [`bring_up`].
unsafe fn find(place: &VirtioMmio) -> Option<MmioTransport<'static>> {
    let address = place.range.start;
    let registers = core::ptr::with_exposed_provenance_mut::<VirtIOHeader>(usize::from(address));
    let registers = NonNull::new(registers).filter(|registers| registers.is_aligned())?;
    // SAFETY: the caller vouches for the registers.
    let transport = match unsafe { MmioTransport::new(registers, place.range.size()) } {
        Ok(transport) => transport,
        Err(MmioError::InvalidDeviceID(DeviceTypeError::InvalidDeviceType(0))) => return None,
        Err(error) => {
            log::warn!("virtio device at {address:#x} not used: {error}");
            return None;
        }
    };
    if transport.version() == MmioVersion::Legacy {
        log::warn!(
            "virtio device at {address:#x} not used: it has the interface from before \
             version 1.0; QEMU has the newer one with -global virtio-mmio.force-legacy=false"
        );
        return None;
    }
    Some(transport)
}

fn take_disk(
    transport: MmioTransport<'static>,
    pool: &FramePool,
    interrupt: Interrupt,
    devices: &mut Devices,
) -> Result<(), Problem> {
    let number = devices.host.disks().count();
    let (disk, buffers) = VirtioDisk::take(transport, pool)?;
    let disk = Arc::new(HostDisk::new(Box::new(disk), buffers));
    let facts = disk.facts();
    let access = if facts.is_read_only {
        ", read-only"
    } else {
        ""
    };
    let mib = facts.capacity_sectors / ((1 << 20) / SECTOR_BYTES as u64);
    log::info!("disk {number}: {mib} MiB{access}");
    let deadline = el2_cpu::counter() + CNTFRQ_EL0.get();
    if let Err(error) = disk.read_partitions(|| el2_cpu::counter() < deadline) {
        log::warn!("disk {number}: its partitions cannot be read: {error}");
    }
    devices.host.add_disk(interrupt.id, disk);
    Ok(())
}
