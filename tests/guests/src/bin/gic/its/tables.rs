//! What the ITS and the redistributors find in memory.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use test_guests::runtime::cpu;

use crate::interface::CPUS;

/// Devices that the walk signals for, and the events of each.
pub(crate) const DEVICES: u32 = 3;
pub(crate) const EVENTS: u32 = 8;

#[repr(C, align(65536))]
struct Page([AtomicU64; 8192]);

impl Page {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 8192])
    }

    fn address(&self) -> u64 {
        self.0.as_ptr() as u64
    }
}

static DEVICE_TABLE: Page = Page::new();
static COLLECTION_TABLE: Page = Page::new();
static QUEUE: Page = Page::new();
static TRANSLATIONS: Page = Page::new();
static PENDING: [Page; CPUS] = [const { Page::new() }; CPUS];

/// A byte for each of 8192 LPIs.
#[repr(C, align(65536))]
struct Properties([AtomicU8; 8192]);

static PROPERTIES: Properties = Properties([const { AtomicU8::new(0) }; 8192]);

/// Returns the address of the table for GITS_BASER of this type.
pub(crate) fn of_type(kind: u64) -> u64 {
    if kind == 1 {
        DEVICE_TABLE.address()
    } else {
        COLLECTION_TABLE.address()
    }
}

pub(crate) fn queue() -> u64 {
    QUEUE.address()
}

pub(crate) fn properties() -> u64 {
    PROPERTIES.0.as_ptr() as u64
}

pub(crate) fn pending(cpu: usize) -> u64 {
    PENDING.get(cpu).map_or(0, Page::address)
}

/// Returns the address of the translation table of a device.
pub(crate) fn translations(device: u32) -> u64 {
    TRANSLATIONS.address() + 0x1000 * u64::from(device)
}

/// Enables all LPIs, each with a priority of its own.
pub(crate) fn set_properties() {
    for device in 0..DEVICES {
        (0..EVENTS).for_each(|event| set_property(device, event, true));
    }
}

/// Enables the LPI of an event, or disables it.
pub(crate) fn set_property(device: u32, event: u32, enabled: bool) {
    let index = EVENTS * device + event;
    // No two equal, and not in the order of their numbers.
    let level = index * 7 % (EVENTS * DEVICES);
    let priority = u8::try_from(level << 3).unwrap_or(0);
    if let Some(byte) = PROPERTIES.0.get(index as usize) {
        byte.store(priority | u8::from(enabled), Ordering::Relaxed);
    }
    cpu::dsb();
}

/// Writes a command at an offset in the queue.
pub(crate) fn write_command(offset: u64, words: [u64; 4]) {
    let first = usize::try_from(offset / 8).unwrap_or(0);
    for (slot, word) in QUEUE.0.iter().skip(first).zip(words) {
        slot.store(word, Ordering::Relaxed);
    }
    cpu::dsb();
}
