//! Which device answers at which guest physical address.

use alloc::sync::Arc;
use alloc::vec::Vec;

use vm_contract::{
    AccessError, BaseDeviceOps, DeviceContext, GuestPhysAddr, GuestPhysAddrRange, IntId, Width,
};

use super::its::Left;
use super::vgic::Frame;
use crate::lock::{RankedLock, rank};

/// A device behind its own lock, shared by the bus and whoever feeds it.
pub type DeviceLock<D> = RankedLock<D, { rank::DEVICE }>;

/// A device on the bus, whatever its type.
pub trait SharedDevice: Send + Sync {
    /// Reads from the device; see [`BaseDeviceOps::read`].
    ///
    /// # Errors
    /// Those of the device.
    fn read(
        &self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError>;

    /// Writes to the device; see [`BaseDeviceOps::write`]. If there is still work, the
    /// guest is to repeat the access.
    ///
    /// # Errors
    /// Those of the device.
    fn write(
        &self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Left, AccessError>;

    /// Resets the device.
    fn reset(&self);
}

impl<D: BaseDeviceOps> SharedDevice for DeviceLock<D> {
    fn read(
        &self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        self.lock().read(context, offset, width)
    }

    fn write(
        &self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Left, AccessError> {
        self.lock().write(context, offset, width, value)?;
        Ok(Left::Nothing)
    }

    fn reset(&self) {
        self.lock().reset();
    }
}

/// What lies in a window of the address map.
#[derive(Clone)]
pub enum Target {
    /// A part of the VM's interrupt controller, from its `first_byte` on: frames
    /// of redistributors lie in several regions.
    Vgic {
        /// The part.
        frame: Frame,
        /// Offset of the window there.
        first_byte: u64,
    },
    /// A device and the interrupt it drives.
    Device {
        /// The device.
        device: Arc<dyn SharedDevice>,
        /// Its interrupt.
        intid: IntId,
    },
    /// What of a GICv2's CPU interface the guest does not reach by itself: the page
    /// with GICC_DIR, and nothing behind it.
    CpuInterface {
        /// Offset of the window there.
        first_byte: u64,
    },
    /// The interrupt translation service: both its frames.
    Its,
    /// Nothing but an answer: reads as zero, ignores writes.
    Empty,
}

/// A window of the address map.
pub struct Slot {
    range: GuestPhysAddrRange,
    target: Target,
}

/// The window that a vCPU used last.
#[derive(Clone, Copy, Debug, Default)]
pub struct WindowHint(usize);

/// Two windows overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device windows overlap at {0:?}")]
pub struct Overlap(pub GuestPhysAddr);

/// The address map of a VM's devices. Fixed once the VM is built.
#[derive(Default)]
pub struct Bus {
    /// In ascending order; no two overlap.
    slots: Vec<Slot>,
}

impl Bus {
    /// Adds a window.
    ///
    /// # Errors
    /// [`Overlap`] with one that is there already.
    pub fn add(&mut self, range: GuestPhysAddrRange, target: Target) -> Result<(), Overlap> {
        if let Some(slot) = self.slots.iter().find(|slot| slot.range.overlaps(range)) {
            return Err(Overlap(slot.range.start.max(range.start)));
        }
        let at = self
            .slots
            .partition_point(|slot| slot.range.start < range.start);
        self.slots.insert(at, Slot { range, target });
        Ok(())
    }

    /// Finds what an access of `width` at `address` reaches, and how far from the start
    /// of its window; all of the access must lie there. `hint` remembers the window for
    /// the next time: a guest tends to talk to one device for a while.
    #[inline]
    #[must_use]
    pub fn find(
        &self,
        address: GuestPhysAddr,
        width: Width,
        hint: &mut WindowHint,
    ) -> Option<(&Target, u64)> {
        let slot = match self.slots.get(hint.0) {
            Some(slot) if slot.range.contains(address) => slot,
            _ => self.search(address, hint)?,
        };
        let offset = (usize::from(address) - usize::from(slot.range.start)) as u64;
        let left = slot.range.size() as u64 - offset;
        (width.bytes() <= left).then_some((&slot.target, offset))
    }

    #[inline(never)]
    fn search(&self, address: GuestPhysAddr, hint: &mut WindowHint) -> Option<&Slot> {
        let after = self
            .slots
            .partition_point(|slot| slot.range.start <= address);
        let at = after.checked_sub(1)?;
        let slot = self.slots.get(at)?;
        hint.0 = at;
        slot.range.contains(address).then_some(slot)
    }

    /// Resets every device. Then calls `each` with its interrupt: it has no line at hand
    /// while it is reset.
    pub fn reset(&self, mut each: impl FnMut(IntId)) {
        for slot in &self.slots {
            if let Target::Device { device, intid } = &slot.target {
                device.reset();
                each(*intid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: usize, end: usize) -> GuestPhysAddrRange {
        GuestPhysAddrRange::new(GuestPhysAddr::from(start), GuestPhysAddr::from(end))
    }

    fn bus() -> Bus {
        let mut bus = Bus::default();
        bus.add(
            range(0x3000, 0x4000),
            Target::Vgic {
                frame: Frame::Redistributors,
                first_byte: 0,
            },
        )
        .expect("free");
        bus.add(range(0x1000, 0x2000), Target::Empty).expect("free");
        bus
    }

    fn offset(address: usize, width: Width) -> Option<u64> {
        let (bus, address) = (bus(), GuestPhysAddr::from(address));
        // Whatever was used before, the answer is the same.
        let hits = [0, 1, 7].map(|hint| {
            let hit = bus.find(address, width, &mut WindowHint(hint));
            hit.map(|(_, offset)| offset)
        });
        assert!(hits.iter().all(|hit| *hit == hits[0]), "{hits:?}");
        hits[0]
    }

    #[test]
    fn an_access_reaches_the_window_it_lies_in() {
        assert_eq!(offset(0x0fff, Width::Byte), None);
        assert_eq!(offset(0x1000, Width::Word), Some(0));
        assert_eq!(offset(0x1ffc, Width::Word), Some(0xffc));
        assert_eq!(offset(0x2000, Width::Byte), None);
        assert_eq!(offset(0x3008, Width::Dword), Some(8));
        assert_eq!(offset(usize::MAX, Width::Byte), None);
    }

    #[test]
    fn an_access_that_leaves_its_window_reaches_nothing() {
        assert_eq!(offset(0x1ffe, Width::Word), None);
        assert_eq!(offset(0x3ffc, Width::Dword), None);
    }

    #[test]
    fn windows_never_overlap() {
        let mut bus = bus();
        let clash = bus.add(range(0x1800, 0x3800), Target::Empty);
        assert_eq!(clash, Err(Overlap(GuestPhysAddr::from(0x1800))));
        assert_eq!(bus.add(range(0x2000, 0x3000), Target::Empty), Ok(()));
    }
}
