//! The driver's half of a virtio device behind MMIO (VirtIO 1.2, 4.2.2): as little as
//! guests need that test the other half, and nothing that keeps them from being wrong.

#![expect(clippy::cast_possible_truncation, reason = "halves of registers")]

use core::cell::UnsafeCell;

use super::{cpu, mmio};

/// The device ID of a network card (VirtIO 1.2, 5).
pub const NETWORK: u32 = 1;
/// The device ID of a disk.
pub const BLOCK: u32 = 2;
/// The device ID of a source of entropy.
pub const ENTROPY: u32 = 4;

/// The bit of the device status that says that the device has given up (VirtIO 1.2, 2.1).
pub const NEEDS_RESET: u32 = 0x40;
const DRIVER_OK: u32 = 4;
const ACKNOWLEDGE_AND_DRIVER: u32 = 3;
const FEATURES_OK: u32 = 8;

/// VIRTIO_F_VERSION_1, in the upper word of the features.
const VERSION_1: u32 = 1;

/// The flag of a descriptor that another one follows (VirtIO 1.2, 2.7.5).
pub const NEXT: u16 = 1;
/// The flag of a descriptor whose buffer the device writes.
pub const WRITE: u16 = 2;
/// The flag of a descriptor whose buffer is a table of others.
pub const INDIRECT: u16 = 4;

/// Where devices are, one after the other.
const WINDOWS: u64 = 0x0A00_0000;
const WINDOW_BYTES: u64 = 0x200;
const WINDOW_COUNT: u64 = 32;

const MAGIC: u64 = 0x00;
const VERSION: u64 = 0x04;
const DEVICE_ID: u64 = 0x08;
const DRIVER_FEATURES: u64 = 0x20;
const DRIVER_FEATURES_SEL: u64 = 0x24;
const QUEUE_SEL: u64 = 0x30;
const QUEUE_NUM: u64 = 0x38;
const QUEUE_READY: u64 = 0x44;
const QUEUE_NOTIFY: u64 = 0x50;
const STATUS: u64 = 0x70;
const QUEUE_DESC: u64 = 0x80;
const QUEUE_DRIVER: u64 = 0x90;
const QUEUE_DEVICE: u64 = 0xA0;

/// A device, wherever it is.
#[derive(Clone, Copy)]
pub struct Device(u64);

/// What the driver tells a device of a queue.
#[derive(Clone, Copy)]
pub struct Queue {
    /// How many descriptors it has.
    pub size: u32,
    /// Where they are.
    pub descriptors: u64,
    /// Where the available ring is.
    pub driver: u64,
    /// Where the used ring is.
    pub device: u64,
}

impl Device {
    /// Finds a device that is this, if the machine has one.
    #[must_use]
    pub fn find(id: u32) -> Option<Self> {
        (0..WINDOW_COUNT)
            .map(|number| WINDOWS + number * WINDOW_BYTES)
            .find(|window| {
                mmio::read32(window + MAGIC) == u32::from_le_bytes(*b"virt")
                    && mmio::read32(window + VERSION) == 2
                    && mmio::read32(window + DEVICE_ID) == id
            })
            .map(Self)
    }

    /// Returns the address of QueueNotify.
    #[must_use]
    pub fn notifier(self) -> u64 {
        self.0 + QUEUE_NOTIFY
    }

    /// Tells the device that there is something in a queue.
    pub fn notify(self, queue: u32) {
        cpu::dsb();
        mmio::write32(self.notifier(), queue);
    }

    /// Returns the device status.
    #[must_use]
    pub fn status(self) -> u32 {
        mmio::read32(self.0 + STATUS)
    }

    /// Resets the device, and agrees on nothing but VERSION_1.
    pub fn begin(self) {
        mmio::write32(self.0 + STATUS, 0);
        mmio::write32(self.0 + STATUS, ACKNOWLEDGE_AND_DRIVER);
        mmio::write32(self.0 + DRIVER_FEATURES_SEL, 0);
        mmio::write32(self.0 + DRIVER_FEATURES, 0);
        mmio::write32(self.0 + DRIVER_FEATURES_SEL, 1);
        mmio::write32(self.0 + DRIVER_FEATURES, VERSION_1);
        mmio::write32(self.0 + STATUS, ACKNOWLEDGE_AND_DRIVER | FEATURES_OK);
    }

    /// Describes a queue and makes it ready.
    pub fn set_queue(self, number: u32, queue: &Queue) {
        mmio::write32(self.0 + QUEUE_SEL, number);
        mmio::write32(self.0 + QUEUE_NUM, queue.size);
        self.write_address(QUEUE_DESC, queue.descriptors);
        self.write_address(QUEUE_DRIVER, queue.driver);
        self.write_address(QUEUE_DEVICE, queue.device);
        cpu::dsb();
        mmio::write32(self.0 + QUEUE_READY, 1);
    }

    /// Lets the device begin.
    pub fn go(self) {
        let status = ACKNOWLEDGE_AND_DRIVER | FEATURES_OK | DRIVER_OK;
        mmio::write32(self.0 + STATUS, status);
    }

    fn write_address(self, register: u64, address: u64) {
        mmio::write32(self.0 + register, address as u32);
        mmio::write32(self.0 + register + 4, (address >> 32) as u32);
    }
}

/// Memory for one queue of up to 64 descriptors and for what its requests name. No
/// reference to it is ever made: devices write it, and other CPUs.
#[repr(C, align(4096))]
pub struct QueueMemory(UnsafeCell<[u8; 8192]>);

// SAFETY: all accesses are loads and stores of `mmio`, at the address.
#[expect(unsafe_code, reason = "shared with a device")]
unsafe impl Sync for QueueMemory {}

impl QueueMemory {
    const DRIVER: u64 = 0x400;
    const DEVICE: u64 = 0x800;
    const BUFFERS: u64 = 0x1000;

    /// Makes memory of zeros.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "for statics")]
    pub const fn new() -> Self {
        Self(UnsafeCell::new([0; 8192]))
    }

    fn address(&self) -> u64 {
        self.0.get() as u64
    }

    /// Returns a page for what requests name.
    #[must_use]
    pub fn buffers(&self) -> u64 {
        self.address() + Self::BUFFERS
    }

    /// Describes a queue of this size here.
    #[must_use]
    pub fn queue(&self, size: u32) -> Queue {
        Queue {
            size,
            descriptors: self.address(),
            driver: self.address() + Self::DRIVER,
            device: self.address() + Self::DEVICE,
        }
    }

    /// Fills all but the buffers with zeros.
    pub fn clear(&self) {
        for offset in (0..Self::BUFFERS).step_by(8) {
            mmio::write64(self.address() + offset, 0);
        }
    }

    /// Writes a descriptor.
    pub fn describe(&self, number: u16, address: u64, length: u32, flags: u16, next: u16) {
        let descriptor = self.address() + u64::from(number) * 16;
        mmio::write64(descriptor, address);
        let rest = u64::from(length) | u64::from(flags) << 32 | u64::from(next) << 48;
        mmio::write64(descriptor + 8, rest);
    }

    /// Makes the chain that starts at `head` available: the one after `before` others.
    pub fn offer(&self, before: u16, head: u16) {
        let ring = self.address() + Self::DRIVER;
        mmio::write16(ring + 4 + u64::from(before % 64) * 2, head);
        cpu::dsb();
        self.set_offered(before.wrapping_add(1));
    }

    /// Says how many chains were made available.
    pub fn set_offered(&self, count: u16) {
        mmio::write16(self.address() + Self::DRIVER + 2, count);
    }

    /// Returns how many chains the device has used.
    #[must_use]
    pub fn used(&self) -> u16 {
        (mmio::read32(self.address() + Self::DEVICE) >> 16) as u16
    }
}
