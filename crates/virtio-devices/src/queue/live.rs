//! A virtqueue in use.

use core::sync::atomic::{Ordering, fence};

use vm_contract::{GuestMemory, GuestPhysAddr};

use super::chain::{DESCRIPTOR_BYTES, Table, guest_address};
use super::{Chain, Setup};
use crate::{DriverFault, features};

/// `VIRTQ_AVAIL_F_NO_INTERRUPT`, in the flags of the available ring.
const NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY`, in the flags of the used ring.
const NO_NOTIFY: u16 = 1;

/// The offset of the index in both rings, after the flags.
const INDEX: u64 = 2;
/// The offset of the entries in both rings.
const ENTRIES: u64 = 4;
const AVAILABLE_ENTRY_BYTES: u64 = 2;
const USED_ENTRY_BYTES: u64 = 8;

/// The rings of a queue that is ready, with our own copies of the indices.
///
/// All addresses below were checked not to wrap around.
#[derive(Debug)]
pub(super) struct Live {
    size: u16,
    event_idx: bool,
    indirect: bool,
    /// The next entry of the available ring to be taken.
    next_available: u16,
    /// Where the available ring ended when we last looked.
    seen_available: u16,
    /// The next entry of the used ring to be written.
    next_used: u16,
    /// Where the used ring ends for the driver.
    published_used: u16,
    /// The `avail_event` that the driver sees.
    armed: u16,
    /// Whether the driver sees NO_NOTIFY.
    suppressed: bool,
    table: Table,
    available: u64,
    used: u64,
}

impl Live {
    /// Checks size, alignment and place of the rings. The fields at both ends
    /// of the used ring, which are the device's, are written to see that they
    /// can be.
    pub(super) fn new(
        memory: &dyn GuestMemory,
        setup: &Setup,
        largest: u16,
        negotiated: u64,
    ) -> Result<Self, DriverFault> {
        let size = u16::try_from(setup.size).map_err(|_| DriverFault::QueueSize)?;
        if !size.is_power_of_two() || size > largest {
            return Err(DriverFault::QueueSize);
        }
        let length = u64::from(size);
        let table_bytes = length * DESCRIPTOR_BYTES as u64;
        check_ring(setup.descriptors, table_bytes, 16)?;
        check_ring(
            setup.driver,
            ENTRIES + length * AVAILABLE_ENTRY_BYTES + 2,
            2,
        )?;
        check_ring(setup.device, ENTRIES + length * USED_ENTRY_BYTES + 2, 4)?;
        let live = Self {
            size,
            event_idx: negotiated & features::EVENT_IDX != 0,
            indirect: negotiated & features::INDIRECT_DESC != 0,
            next_available: 0,
            seen_available: 0,
            next_used: 0,
            published_used: 0,
            armed: 0,
            suppressed: false,
            table: Table {
                address: setup.descriptors,
                count: size.into(),
            },
            available: setup.driver,
            used: setup.device,
        };
        for end in [0, table_bytes - 2] {
            memory.load_u16(guest_address(live.table.address + end))?;
        }
        memory.load_u16(guest_address(live.available))?;
        memory.load_u16(live.used_event())?;
        memory.store_u16(guest_address(live.used), 0)?;
        memory.store_u16(live.available_event(), 0)?;
        Ok(live)
    }

    /// Takes the next chain from the available ring, or returns `false` if there
    /// is none; then the driver will notify the device of the next one.
    pub(super) fn pop(
        &mut self,
        memory: &dyn GuestMemory,
        chain: &mut Chain,
    ) -> Result<bool, DriverFault> {
        if !self.has_available(memory)? {
            return Ok(false);
        }
        let slot = u64::from(self.next_available & (self.size - 1));
        let entry = self.available + ENTRIES + slot * AVAILABLE_ENTRY_BYTES;
        let head = memory.load_u16(guest_address(entry))?;
        self.next_available = self.next_available.wrapping_add(1);
        chain.fill(memory, &self.table, head, self.indirect)?;
        Ok(true)
    }

    /// Gives back the chain taken last: it is available again.
    pub(super) fn unpop(&mut self) {
        self.next_available = self.next_available.wrapping_sub(1);
    }

    /// Tells whether the driver has notified the device of nothing: no chain is
    /// there, and it knows that it shall notify us of the next one.
    #[inline]
    pub(super) fn is_idle(&mut self, memory: &dyn GuestMemory) -> Result<bool, DriverFault> {
        if self.next_available != self.seen_available || !self.is_armed() {
            return Ok(false);
        }
        self.look(memory)?;
        Ok(self.next_available == self.seen_available)
    }

    /// Tells whether a chain is there to be taken. If not, the driver was told
    /// before we looked that it shall notify us (2.7.10.1).
    #[inline]
    fn has_available(&mut self, memory: &dyn GuestMemory) -> Result<bool, DriverFault> {
        if self.next_available != self.seen_available {
            return Ok(true);
        }
        if !self.is_armed() {
            self.arm(memory)?;
        }
        self.look(memory)?;
        Ok(self.next_available != self.seen_available)
    }

    /// Reads where the available ring ends.
    #[inline]
    fn look(&mut self, memory: &dyn GuestMemory) -> Result<(), DriverFault> {
        let seen = memory.load_u16(guest_address(self.available + INDEX))?;
        // What the driver wrote before the index is read after it.
        fence(Ordering::Acquire);
        // Each chain that is available or under way has a descriptor of its own, and
        // those that are under way were available.
        let ahead = seen.wrapping_sub(self.published_used);
        let taken = self.next_available.wrapping_sub(self.published_used);
        if ahead > self.size || ahead < taken {
            return Err(DriverFault::AvailableIndex);
        }
        self.seen_available = seen;
        Ok(())
    }

    /// Tells whether the driver knows that it shall notify us of the next chain.
    #[inline]
    const fn is_armed(&self) -> bool {
        if self.event_idx {
            self.armed == self.next_available
        } else {
            !self.suppressed
        }
    }

    /// Asks for a notification of the next chain.
    fn arm(&mut self, memory: &dyn GuestMemory) -> Result<(), DriverFault> {
        if self.event_idx {
            memory.store_u16(self.available_event(), self.next_available)?;
            self.armed = self.next_available;
        } else {
            memory.store_u16(guest_address(self.used), 0)?;
            self.suppressed = false;
        }
        // The request is visible before the index is looked at.
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Asks the driver not to notify the device (2.7.10), until `pop` finds
    /// nothing.
    pub(super) fn suppress(&mut self, memory: &dyn GuestMemory) -> Result<(), DriverFault> {
        if self.event_idx {
            // An index that the driver reaches last of all.
            let passed = self.seen_available.wrapping_sub(1);
            if self.armed != passed {
                memory.store_u16(self.available_event(), passed)?;
                self.armed = passed;
            }
        } else if !self.suppressed {
            memory.store_u16(guest_address(self.used), NO_NOTIFY)?;
            self.suppressed = true;
        }
        Ok(())
    }

    /// Writes an entry of the used ring. The driver sees it after
    /// [`publish`](Self::publish).
    pub(super) fn push(
        &mut self,
        memory: &dyn GuestMemory,
        head: u16,
        written: u32,
    ) -> Result<(), DriverFault> {
        let slot = u64::from(self.next_used & (self.size - 1));
        let entry = self.used + ENTRIES + slot * USED_ENTRY_BYTES;
        let bytes = u64::from(head) | u64::from(written) << 32;
        memory.write(guest_address(entry), &bytes.to_le_bytes())?;
        self.next_used = self.next_used.wrapping_add(1);
        Ok(())
    }

    /// Shows the driver what was used, and tells whether it wants an interrupt
    /// for that (2.7.7).
    pub(super) fn publish(&mut self, memory: &dyn GuestMemory) -> Result<bool, DriverFault> {
        let (old, new) = (self.published_used, self.next_used);
        if old == new {
            return Ok(false);
        }
        // Buffers and entries are written before the index.
        fence(Ordering::Release);
        memory.store_u16(guest_address(self.used + INDEX), new)?;
        self.published_used = new;
        // The index is visible before we look whether the driver waits for it.
        fence(Ordering::SeqCst);
        if self.event_idx {
            let event = memory.load_u16(self.used_event())?;
            Ok(passes(event, old, new))
        } else {
            let flags = memory.load_u16(guest_address(self.available))?;
            Ok(flags & NO_INTERRUPT == 0)
        }
    }

    /// The field after the available ring.
    fn used_event(&self) -> GuestPhysAddr {
        let length = u64::from(self.size) * AVAILABLE_ENTRY_BYTES;
        guest_address(self.available + ENTRIES + length)
    }

    /// The field after the used ring.
    fn available_event(&self) -> GuestPhysAddr {
        let length = u64::from(self.size) * USED_ENTRY_BYTES;
        guest_address(self.used + ENTRIES + length)
    }
}

/// Tells whether an index that goes from `old` to `new` passes `event`
/// (2.7.7.2, 2.7.10.2): whether entry `event` is one of those between.
pub(crate) const fn passes(event: u16, old: u16, new: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

fn check_ring(address: u64, bytes: u64, alignment: u64) -> Result<(), DriverFault> {
    let end = address.checked_add(bytes);
    let fits = end.is_some_and(|end| usize::try_from(end).is_ok());
    if fits && address.is_multiple_of(alignment) {
        Ok(())
    } else {
        Err(DriverFault::RingAddress)
    }
}
