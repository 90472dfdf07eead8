//! The seams between a device and its machine.

use crate::{AccessError, GuestPhysAddr, GuestPhysAddrRange, VcpuId, Width};

/// What a device is, for reports and for finding it on a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// A UART.
    Serial,
    /// A real-time clock.
    Rtc,
    /// A virtio device behind the MMIO transport.
    VirtioMmio,
    /// A place in the address map that is answered but empty.
    Placeholder,
}

/// A guest's memory as devices see it: bytes at guest physical addresses.
///
/// What lies there belongs to the guest, which may change it at any moment.
/// Therefore a caller copies in what it needs, checks the copy, and does not
/// read the same bytes again.
pub trait GuestMemory {
    /// Copies `buffer.len()` bytes starting at `address` into `buffer`.
    ///
    /// # Errors
    /// [`AccessError::OutsideMemory`] unless every byte lies in the guest's
    /// RAM; `buffer` is then unspecified.
    fn read(&self, address: GuestPhysAddr, buffer: &mut [u8]) -> Result<(), AccessError>;

    /// Copies `bytes` to guest memory starting at `address`.
    ///
    /// # Errors
    /// [`AccessError::OutsideMemory`] unless every byte lies in the guest's
    /// RAM, [`AccessError::ReadOnly`] if a part of it is not writable; nothing
    /// has been written then.
    fn write(&self, address: GuestPhysAddr, bytes: &[u8]) -> Result<(), AccessError>;

    /// Reads the little-endian 16-bit number at `address`, as the indices of
    /// a ring that guest and device share are read. Memory that another CPU
    /// writes at the same time must load an aligned number in one piece, never
    /// byte by byte. What order it has to other accesses is up to the caller's
    /// fences.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    fn load_u16(&self, address: GuestPhysAddr) -> Result<u16, AccessError> {
        let mut bytes = [0; 2];
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Writes the little-endian 16-bit number at `address`, in one piece where
    /// [`load_u16`](Self::load_u16) reads in one piece.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    fn store_u16(&self, address: GuestPhysAddr, value: u16) -> Result<(), AccessError> {
        self.write(address, &value.to_le_bytes())
    }
}

/// The wire between one device output and an interrupt controller.
pub trait IrqLine {
    /// Drives the wire: `true` asserts it. Repeating a level has no effect.
    fn set_level(&self, asserted: bool);

    /// Sends one edge: the wire rises and falls again.
    fn pulse(&self) {
        self.set_level(true);
        self.set_level(false);
    }
}

/// What comes with each access: who asks, and what the device may reach.
pub struct DeviceContext<'a> {
    /// The vCPU that makes the access.
    pub vcpu: VcpuId,
    /// The memory of the VM.
    pub memory: &'a dyn GuestMemory,
    /// The device's interrupt output.
    pub line: &'a dyn IrqLine,
}

/// A device with registers in the guest's physical address space.
pub trait BaseDeviceOps: Send {
    /// Returns what the device is.
    fn kind(&self) -> DeviceKind;

    /// Returns where the device's registers lie.
    fn address_range(&self) -> GuestPhysAddrRange;

    /// Reads `width` bytes at `offset` bytes from the start of the range. The
    /// bus has checked that the whole access lies within the range. Bits of
    /// the result above the width are zero.
    ///
    /// # Errors
    /// Whatever the guest did that the device cannot answer; the bus chooses
    /// between reads-as-zero and an abort.
    fn read(
        &mut self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError>;

    /// Writes the lowest `width` bytes of `value` at `offset`.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    fn write(
        &mut self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), AccessError>;

    /// Returns the device to its power-on state, as a reset of its VM does.
    fn reset(&mut self);
}
