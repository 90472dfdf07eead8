//! A device on a bench: accesses with a context, and the line under watch.

use std::cell::{Cell, RefCell};

use vm_contract::{
    AccessError, BaseDeviceOps, DeviceContext, GuestMemory, GuestPhysAddr, IrqLine, VcpuId, Width,
};

/// Devices that do no DMA see no memory.
struct NoMemory;

impl GuestMemory for NoMemory {
    fn read(&self, _: GuestPhysAddr, _: &mut [u8]) -> Result<(), AccessError> {
        Err(AccessError::OutsideMemory)
    }

    fn write(&self, _: GuestPhysAddr, _: &[u8]) -> Result<(), AccessError> {
        Err(AccessError::OutsideMemory)
    }
}

/// A line that keeps its level and counts how often it was driven.
#[derive(Default)]
pub(crate) struct Line {
    pub(crate) level: Cell<bool>,
    pub(crate) driven: Cell<usize>,
}

impl IrqLine for Line {
    fn set_level(&self, asserted: bool) {
        self.level.set(asserted);
        self.driven.set(self.driven.get() + 1);
    }
}

pub(crate) struct Bench<D> {
    device: RefCell<D>,
    pub(crate) line: Line,
}

impl<D: BaseDeviceOps> Bench<D> {
    pub(crate) fn new(device: D) -> Self {
        Self {
            device: RefCell::new(device),
            line: Line::default(),
        }
    }

    pub(crate) fn device(&self) -> std::cell::RefMut<'_, D> {
        self.device.borrow_mut()
    }

    fn context(&self) -> DeviceContext<'_> {
        DeviceContext {
            vcpu: VcpuId::new(0),
            memory: &NoMemory,
            line: &self.line,
        }
    }

    pub(crate) fn try_read(&self, offset: u64, width: Width) -> Result<u64, AccessError> {
        self.device().read(&self.context(), offset, width)
    }

    pub(crate) fn try_write(
        &self,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), AccessError> {
        self.device().write(&self.context(), offset, width, value)
    }

    /// Reads 32 bits.
    pub(crate) fn read(&self, offset: u64) -> u64 {
        self.try_read(offset, Width::Word).unwrap()
    }

    /// Writes 32 bits.
    pub(crate) fn write(&self, offset: u64, value: u64) {
        self.try_write(offset, Width::Word, value).unwrap();
    }

    /// Tells whether the interrupt line is asserted.
    pub(crate) fn raised(&self) -> bool {
        self.line.level.get()
    }

    /// Reads the eight identification registers.
    pub(crate) fn identification(&self) -> Vec<u64> {
        (0xFE0..0x1000)
            .step_by(4)
            .map(|offset| self.read(offset))
            .collect()
    }
}
