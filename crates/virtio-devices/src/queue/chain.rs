//! Descriptor chains (VirtIO 1.2, 2.7.5), copied out of the guest's memory.

use alloc::vec::Vec;

use vm_contract::{GuestMemory, GuestPhysAddr};

use super::LARGEST_QUEUE;
use crate::{DataBuffers, DriverFault, Segment};

/// The size of a descriptor.
pub(crate) const DESCRIPTOR_BYTES: usize = 16;
/// Another descriptor follows.
const NEXT: u16 = 1 << 0;
/// The buffer is for the device to write.
const WRITE: u16 = 1 << 1;
/// The buffer is a table of descriptors.
const INDIRECT: u16 = 1 << 2;

/// How many descriptors of a table are read at once.
const WINDOW: u32 = 8;
const WINDOW_BYTES: usize = WINDOW as usize * DESCRIPTOR_BYTES;

/// The buffers of one request: those for the device to read, then those for it
/// to write.
///
/// A chain is a private copy, made by [`Queues::pop`](crate::Queues::pop) into
/// memory that was allocated once.
#[derive(Debug)]
pub struct Chain {
    head: u16,
    limit: usize,
    /// How many descriptors were read, those of empty buffers as well.
    descriptors: usize,
    segments: Vec<Segment>,
    /// How many of the segments are readable.
    readable: usize,
    readable_bytes: u64,
    writable_bytes: u64,
}

impl Chain {
    /// Makes room for chains of up to `limit` buffers, empty ones included. A
    /// longer one is a fault of its driver, so that a device allows what its
    /// driver may rely on; at most 1024.
    #[must_use]
    pub fn with_limit(limit: u16) -> Self {
        let limit = limit.min(LARGEST_QUEUE).into();
        Self {
            head: 0,
            limit,
            descriptors: 0,
            segments: Vec::with_capacity(limit),
            readable: 0,
            readable_bytes: 0,
            writable_bytes: 0,
        }
    }

    /// Returns what names the chain towards the driver.
    #[must_use]
    pub const fn head(&self) -> u16 {
        self.head
    }

    /// Returns how many buffers the chain has, empty ones included: what it
    /// cost to read it.
    #[must_use]
    pub const fn descriptors(&self) -> usize {
        self.descriptors
    }

    /// Returns the bytes for the device to read.
    #[must_use]
    pub fn readable<'a>(&'a self, memory: &'a dyn GuestMemory) -> DataBuffers<'a> {
        let segments = self.segments.get(..self.readable).unwrap_or_default();
        DataBuffers::with_length(memory, segments, self.readable_bytes)
    }

    /// Returns how many bytes the device can write.
    #[must_use]
    pub const fn writable_bytes(&self) -> u64 {
        self.writable_bytes
    }

    /// Returns the bytes for the device to write.
    #[must_use]
    pub fn writable<'a>(&'a self, memory: &'a dyn GuestMemory) -> DataBuffers<'a> {
        let segments = self.segments.get(self.readable..).unwrap_or_default();
        DataBuffers::with_length(memory, segments, self.writable_bytes)
    }

    /// Writes the last byte that is the device's to write, where some devices
    /// have their status.
    pub(crate) fn write_last(&self, memory: &dyn GuestMemory, byte: u8) -> Result<(), DriverFault> {
        // No segment is empty, and the writable ones are the last.
        let last = self.segments.last().ok_or(DriverFault::Request)?;
        let offset = usize::try_from(last.bytes).unwrap_or(usize::MAX) - 1;
        let address = usize::from(last.address).saturating_add(offset);
        Ok(memory.write(address.into(), &[byte])?)
    }

    /// Copies the chain that starts with descriptor `head` of `table`.
    pub(super) fn fill(
        &mut self,
        memory: &dyn GuestMemory,
        table: &Table,
        head: u16,
        indirect: bool,
    ) -> Result<(), DriverFault> {
        self.clear(head);
        let mut index = head;
        for _ in 0..table.count {
            let mut bytes = [0; DESCRIPTOR_BYTES];
            memory.read(table.descriptor(index.into())?, &mut bytes)?;
            let descriptor = Descriptor::from_bytes(&bytes);
            if descriptor.is(INDIRECT) {
                if !indirect || descriptor.is(NEXT) {
                    return Err(DriverFault::Indirect);
                }
                return self.fill_indirect(memory, &descriptor);
            }
            self.add(&descriptor)?;
            if !descriptor.is(NEXT) {
                return Ok(());
            }
            index = descriptor.next;
        }
        Err(DriverFault::ChainTooLong)
    }

    /// Copies the chain within the table that `descriptor` refers to. It starts
    /// with the table's first descriptor (VirtIO 1.2, 2.7.5.3).
    fn fill_indirect(
        &mut self,
        memory: &dyn GuestMemory,
        descriptor: &Descriptor,
    ) -> Result<(), DriverFault> {
        let table = Table::indirect(descriptor)?;
        let mut window = Window::new(&table);
        let mut index = 0;
        for _ in 0..table.count {
            let descriptor = window.descriptor(memory, index)?;
            if descriptor.is(INDIRECT) {
                return Err(DriverFault::Indirect);
            }
            self.add(&descriptor)?;
            if !descriptor.is(NEXT) {
                return Ok(());
            }
            index = descriptor.next.into();
        }
        Err(DriverFault::ChainTooLong)
    }

    fn clear(&mut self, head: u16) {
        self.head = head;
        self.descriptors = 0;
        self.segments.clear();
        self.readable = 0;
        self.readable_bytes = 0;
        self.writable_bytes = 0;
    }

    fn add(&mut self, descriptor: &Descriptor) -> Result<(), DriverFault> {
        if self.descriptors >= self.limit {
            return Err(DriverFault::ChainTooLong);
        }
        self.descriptors += 1;
        let segment = descriptor.segment()?;
        if segment.bytes == 0 {
            return Ok(());
        }
        if descriptor.is(WRITE) {
            self.writable_bytes += u64::from(segment.bytes);
        } else {
            if self.readable != self.segments.len() {
                return Err(DriverFault::ChainOrder);
            }
            self.readable += 1;
            self.readable_bytes += u64::from(segment.bytes);
        }
        self.segments.push(segment);
        Ok(())
    }
}

/// A table of descriptors in the guest's memory that does not wrap around.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) address: u64,
    pub(super) count: u32,
}

impl Table {
    fn indirect(descriptor: &Descriptor) -> Result<Self, DriverFault> {
        let bytes = descriptor.segment()?.bytes;
        let count = bytes >> DESCRIPTOR_BYTES.ilog2();
        if count == 0 || count << DESCRIPTOR_BYTES.ilog2() != bytes {
            return Err(DriverFault::Indirect);
        }
        Ok(Self {
            address: descriptor.address,
            count,
        })
    }

    fn descriptor(&self, index: u32) -> Result<GuestPhysAddr, DriverFault> {
        if index >= self.count {
            return Err(DriverFault::DescriptorIndex);
        }
        let offset = u64::from(index) * DESCRIPTOR_BYTES as u64;
        Ok(guest_address(self.address + offset))
    }
}

/// A part of a table that has been copied: chains mostly go through their table
/// from its start.
struct Window<'a> {
    table: &'a Table,
    start: u32,
    bytes: [u8; WINDOW_BYTES],
    filled: u32,
}

impl<'a> Window<'a> {
    fn new(table: &'a Table) -> Self {
        Self {
            table,
            start: 0,
            bytes: [0; WINDOW_BYTES],
            filled: 0,
        }
    }

    fn descriptor(
        &mut self,
        memory: &dyn GuestMemory,
        index: u32,
    ) -> Result<Descriptor, DriverFault> {
        let within = index.wrapping_sub(self.start);
        let within = if within < self.filled {
            within
        } else {
            self.copy_from(memory, index)?;
            0
        };
        let bytes = usize::try_from(within)
            .ok()
            .and_then(|within| self.bytes.as_chunks::<DESCRIPTOR_BYTES>().0.get(within));
        bytes
            .map(Descriptor::from_bytes)
            .ok_or(DriverFault::DescriptorIndex)
    }

    fn copy_from(&mut self, memory: &dyn GuestMemory, index: u32) -> Result<(), DriverFault> {
        let address = self.table.descriptor(index)?;
        let count = (self.table.count - index).min(WINDOW);
        let bytes = self.bytes.get_mut(..count as usize * DESCRIPTOR_BYTES);
        memory.read(address, bytes.unwrap_or_default())?;
        self.start = index;
        self.filled = count;
        Ok(())
    }
}

/// One descriptor: a private copy.
struct Descriptor {
    address: u64,
    bytes: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn from_bytes(bytes: &[u8; DESCRIPTOR_BYTES]) -> Self {
        let whole = u128::from_le_bytes(*bytes);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "each field is cut out of the whole"
        )]
        Self {
            address: whole as u64,
            bytes: (whole >> 64) as u32,
            flags: (whole >> 96) as u16,
            next: (whole >> 112) as u16,
        }
    }

    const fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Returns the buffer, which does not wrap around.
    fn segment(&self) -> Result<Segment, DriverFault> {
        let end = self.address.checked_add(self.bytes.into());
        if end.is_none_or(|end| usize::try_from(end).is_err()) {
            return Err(DriverFault::BufferAddress);
        }
        Ok(Segment {
            address: guest_address(self.address),
            bytes: self.bytes,
        })
    }
}

/// Returns an address of which is known that it fits.
pub(super) fn guest_address(address: u64) -> GuestPhysAddr {
    usize::try_from(address).unwrap_or(usize::MAX).into()
}
