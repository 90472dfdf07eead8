//! The driver's side of a split virtqueue.

use alloc::vec::Vec;

use super::SimMemory;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// One buffer of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Where it starts.
    pub address: u64,
    /// How long it is.
    pub bytes: u32,
    /// Whether the device is to write it.
    pub writable: bool,
}

impl Buffer {
    /// A buffer for the device to read.
    #[must_use]
    pub const fn readable(address: u64, bytes: u32) -> Self {
        Self {
            address,
            bytes,
            writable: false,
        }
    }

    /// A buffer for the device to write.
    #[must_use]
    pub const fn writable(address: u64, bytes: u32) -> Self {
        Self {
            address,
            bytes,
            writable: true,
        }
    }

    const fn flags(self) -> u16 {
        if self.writable { WRITE } else { 0 }
    }
}

/// Writes descriptors and the available ring, and reads the used ring.
///
/// The high-level calls keep the rules; [`set_descriptor`](Self::set_descriptor),
/// [`offer`](Self::offer) and [`set_available_index`](Self::set_available_index)
/// let a test break them.
#[derive(Debug)]
pub struct DriverQueue {
    size: u16,
    descriptors: u64,
    available: u64,
    used: u64,
    event_idx: bool,
    free: Vec<u16>,
    available_index: u16,
    /// The available index at the last call of `needs_notification`.
    notified: u16,
    used_index: u16,
}

impl DriverQueue {
    /// Lays out rings of `size` descriptors from `address` on, one after the
    /// other. `event_idx` says whether VIRTIO_F_EVENT_IDX was negotiated.
    #[must_use]
    pub fn new(memory: &SimMemory, address: u64, size: u16, event_idx: bool) -> Self {
        let descriptors = address.next_multiple_of(16);
        let available = descriptors + 16 * u64::from(size);
        let used = (available + 6 + 2 * u64::from(size)).next_multiple_of(4);
        let queue = Self {
            size,
            descriptors,
            available,
            used,
            event_idx,
            free: (0..size).rev().collect(),
            available_index: 0,
            notified: 0,
            used_index: 0,
        };
        let zeros = alloc::vec![0; usize::try_from(queue.end() - descriptors).unwrap_or(0)];
        memory.set(descriptors, &zeros);
        queue
    }

    /// Returns the number of descriptors.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// Returns where descriptor table, available ring and used ring lie.
    #[must_use]
    pub const fn addresses(&self) -> [u64; 3] {
        [self.descriptors, self.available, self.used]
    }

    /// Returns the first address after the rings.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.used + 6 + 8 * u64::from(self.size)
    }

    /// Adds a chain of `buffers` and makes it available. Returns its head, or
    /// `None` if too few descriptors are free.
    pub fn add(&mut self, memory: &SimMemory, buffers: &[Buffer]) -> Option<u16> {
        let rest = self.free.len().checked_sub(buffers.len())?;
        // Taken from the end, so that chains mostly go upwards.
        let indices: Vec<u16> = self.free.drain(rest..).rev().collect();
        for (position, buffer) in buffers.iter().enumerate() {
            let index = *indices.get(position)?;
            let next = indices.get(position + 1);
            let flags = buffer.flags() | if next.is_some() { NEXT } else { 0 };
            self.set_descriptor(memory, index, *buffer, flags, next.copied().unwrap_or(0));
        }
        let head = *indices.first()?;
        self.offer(memory, head);
        Some(head)
    }

    /// Adds a chain of `buffers` whose descriptors lie in a table at `table`.
    pub fn add_indirect(
        &mut self,
        memory: &SimMemory,
        table: u64,
        buffers: &[Buffer],
    ) -> Option<u16> {
        let head = self.free.pop()?;
        for (position, buffer) in (0_u16..).zip(buffers) {
            let last = usize::from(position) + 1 == buffers.len();
            let flags = buffer.flags() | if last { 0 } else { NEXT };
            let address = table + 16 * u64::from(position);
            memory.set(address, &descriptor(*buffer, flags, position + 1));
        }
        let bytes = u32::try_from(buffers.len() * 16).ok()?;
        let whole = Buffer::readable(table, bytes);
        self.set_descriptor(memory, head, whole, INDIRECT, 0);
        self.offer(memory, head);
        Some(head)
    }

    /// Writes one descriptor; `flags` are as they are in memory.
    pub fn set_descriptor(
        &self,
        memory: &SimMemory,
        index: u16,
        buffer: Buffer,
        flags: u16,
        next: u16,
    ) {
        let address = self.descriptors + 16 * u64::from(index);
        memory.set(address, &descriptor(buffer, flags, next));
    }

    /// Makes `head` available, whatever it is.
    pub fn offer(&mut self, memory: &SimMemory, head: u16) {
        let slot = u64::from(self.available_index % self.size);
        memory.set_u16(self.available + 4 + 2 * slot, head);
        self.set_available_index(memory, self.available_index.wrapping_add(1));
    }

    /// Writes the index of the available ring.
    pub fn set_available_index(&mut self, memory: &SimMemory, index: u16) {
        self.available_index = index;
        memory.set_u16(self.available + 2, index);
    }

    /// Tells whether the device asks to be notified of what was added since the
    /// last call.
    pub fn needs_notification(&mut self, memory: &SimMemory) -> bool {
        let old = core::mem::replace(&mut self.notified, self.available_index);
        if self.event_idx {
            let event = memory.get_u16(self.used + 4 + 8 * u64::from(self.size));
            let passed = self.available_index.wrapping_sub(event).wrapping_sub(1);
            passed < self.available_index.wrapping_sub(old)
        } else {
            memory.get_u16(self.used) & 1 == 0
        }
    }

    /// Asks for an interrupt as soon as entry `index` is used; with
    /// VIRTIO_F_EVENT_IDX.
    pub fn set_used_event(&self, memory: &SimMemory, index: u16) {
        memory.set_u16(self.available + 4 + 2 * u64::from(self.size), index);
    }

    /// Says whether the driver wants no interrupts; without
    /// VIRTIO_F_EVENT_IDX.
    pub fn set_no_interrupt(&self, memory: &SimMemory, suppressed: bool) {
        memory.set_u16(self.available, suppressed.into());
    }

    /// Returns the index up to which this side has read the used ring.
    #[must_use]
    pub const fn used_index(&self) -> u16 {
        self.used_index
    }

    /// Takes the next used chain: its head and how many bytes were written.
    pub fn pop_used(&mut self, memory: &SimMemory) -> Option<(u16, u32)> {
        if memory.get_u16(self.used + 2) == self.used_index {
            return None;
        }
        let slot = u64::from(self.used_index % self.size);
        let mut entry = [0; 8];
        entry.copy_from_slice(&memory.bytes(self.used + 4 + 8 * slot, 8));
        let entry = u64::from_le_bytes(entry);
        self.used_index = self.used_index.wrapping_add(1);
        let head = u16::try_from(entry & 0xFFFF_FFFF).ok()?;
        self.recycle(memory, head);
        Some((head, u32::try_from(entry >> 32).ok()?))
    }

    /// Frees the descriptors of a chain.
    fn recycle(&mut self, memory: &SimMemory, head: u16) {
        let mut index = head;
        for _ in 0..self.size {
            self.free.push(index);
            let address = self.descriptors + 16 * u64::from(index);
            if memory.get_u16(address + 12) & NEXT == 0 {
                return;
            }
            index = memory.get_u16(address + 14) % self.size;
        }
    }
}

fn descriptor(buffer: Buffer, flags: u16, next: u16) -> [u8; 16] {
    let whole = u128::from(buffer.address)
        | u128::from(buffer.bytes) << 64
        | u128::from(flags) << 96
        | u128::from(next) << 112;
    whole.to_le_bytes()
}
