//! Register windows without a device behind them.

use vm_contract::{
    AccessError, BaseDeviceOps, DeviceContext, DeviceKind, GuestPhysAddr, GuestPhysAddrRange, Width,
};

use crate::mmio::{check_register, registers as regs};

/// Windows that say that they are empty: a driver finds device ID 0 and looks no
/// further (VirtIO 1.2, 4.2.3.1.1).
#[derive(Clone, Copy, Debug)]
pub struct Placeholder {
    base: GuestPhysAddr,
    windows: u32,
}

impl Placeholder {
    /// Makes `windows` empty windows, the first at `base`.
    #[must_use]
    pub const fn new(base: GuestPhysAddr, windows: u32) -> Self {
        Self { base, windows }
    }
}

impl BaseDeviceOps for Placeholder {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Placeholder
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        crate::window(self.base, self.windows)
    }

    fn read(
        &mut self,
        _context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        let offset = offset % regs::WINDOW_BYTES;
        if offset >= regs::CONFIG {
            return Ok(0);
        }
        check_register(offset, width)?;
        Ok(match offset {
            regs::MAGIC_VALUE => regs::MAGIC.into(),
            regs::VERSION => regs::VERSION_2.into(),
            regs::VENDOR_ID => regs::VENDOR.into(),
            _ => 0,
        })
    }

    fn write(
        &mut self,
        _context: &DeviceContext<'_>,
        _offset: u64,
        _width: Width,
        _value: u64,
    ) -> Result<(), AccessError> {
        Ok(())
    }

    fn reset(&mut self) {}
}
