//! Register accesses.

use vm_contract::{
    AccessError, BaseDeviceOps, DeviceContext, DeviceKind, GuestPhysAddrRange, Width,
};

use super::VirtioMmio;
use super::negotiation::{with_high, with_low};
use super::registers as regs;
use super::status::{Interrupt, Status};
use crate::queue::Queue;
use crate::{Surroundings, VirtioDevice, config};

impl<D: VirtioDevice> BaseDeviceOps for VirtioMmio<D> {
    fn kind(&self) -> DeviceKind {
        DeviceKind::VirtioMmio
    }

    fn address_range(&self) -> GuestPhysAddrRange {
        crate::window(self.base, 1)
    }

    fn read(
        &mut self,
        _context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        if let Some(offset) = offset.checked_sub(regs::CONFIG) {
            return Ok(config::read(self.device.config(), offset, width));
        }
        check_register(offset, width)?;
        Ok(self.read_register(offset).into())
    }

    fn write(
        &mut self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), AccessError> {
        #[expect(clippy::cast_possible_truncation, reason = "the width is 32 bits")]
        let word = value as u32;
        // The way that is gone most.
        if offset == regs::QUEUE_NOTIFY && width == Width::Word {
            self.notify(word, &context.into());
            return Ok(());
        }
        if let Some(offset) = offset.checked_sub(regs::CONFIG) {
            config::write(value, width, |bytes| {
                self.device.write_config(offset, bytes);
            });
            return Ok(());
        }
        check_register(offset, width)?;
        self.write_register(offset, word, &context.into());
        Ok(())
    }

    fn reset(&mut self) {
        self.reset_all();
        // The line is somebody else's to reset.
        self.level = None;
        self.generation = 0;
    }
}

/// Checks that an access fits a register: 32 bits wide (VirtIO 1.2, 4.2.2.2).
pub(crate) const fn check_register(offset: u64, width: Width) -> Result<(), AccessError> {
    if !matches!(width, Width::Word) {
        Err(AccessError::InvalidWidth)
    } else if !offset.is_multiple_of(4) {
        Err(AccessError::Misaligned)
    } else {
        Ok(())
    }
}

impl<D: VirtioDevice> VirtioMmio<D> {
    /// Reads a register. What is write-only or no register reads as zero.
    fn read_register(&self, offset: u64) -> u32 {
        match offset {
            regs::INTERRUPT_STATUS => self.interrupt.bits(),
            regs::MAGIC_VALUE => regs::MAGIC,
            regs::VERSION => regs::VERSION_2,
            regs::DEVICE_ID => self.device.device_id() as u32,
            regs::VENDOR_ID => regs::VENDOR,
            regs::DEVICE_FEATURES => self.negotiation.window(),
            regs::QUEUE_NUM_MAX => self.selected().map_or(0, Queue::largest).into(),
            regs::QUEUE_READY => self.selected().is_some_and(Queue::is_ready).into(),
            regs::STATUS => self.status.bits(),
            // There is no shared memory: length and base are all ones.
            regs::SHM_LEN_LOW..=regs::SHM_BASE_HIGH => u32::MAX,
            regs::CONFIG_GENERATION => self.generation,
            _ => 0,
        }
    }

    /// Writes a register other than QueueNotify. Writes to what is read-only or
    /// no register are ignored.
    #[inline(never)]
    fn write_register(&mut self, offset: u64, value: u32, around: &Surroundings<'_>) {
        match offset {
            regs::INTERRUPT_ACK => {
                self.interrupt.remove(Interrupt::from_bits_truncate(value));
                self.drive(around.line);
            }
            regs::DEVICE_FEATURES_SEL => self.negotiation.device_select = value,
            regs::DRIVER_FEATURES_SEL => self.negotiation.driver_select = value,
            regs::DRIVER_FEATURES if !self.status.contains(Status::FEATURES_OK) => {
                self.negotiation.take(value);
            }
            regs::QUEUE_SEL => self.queue_select = value,
            regs::QUEUE_READY => self.write_queue_ready(value, around),
            regs::STATUS => self.write_status(value, around),
            regs::QUEUE_RESET if value & 1 != 0 => self.reset_queue(around),
            _ => self.program_queue(offset, value),
        }
    }

    /// Writes a register that describes the selected queue, unless the queue is
    /// in use.
    fn program_queue(&mut self, offset: u64, value: u32) {
        let Some(queue) = self.selected_mut() else {
            return;
        };
        if queue.is_ready() {
            return;
        }
        let setup = &mut queue.setup;
        match offset {
            regs::QUEUE_NUM => setup.size = value,
            regs::QUEUE_DESC_LOW => setup.descriptors = with_low(setup.descriptors, value),
            regs::QUEUE_DESC_HIGH => setup.descriptors = with_high(setup.descriptors, value),
            regs::QUEUE_DRIVER_LOW => setup.driver = with_low(setup.driver, value),
            regs::QUEUE_DRIVER_HIGH => setup.driver = with_high(setup.driver, value),
            regs::QUEUE_DEVICE_LOW => setup.device = with_low(setup.device, value),
            regs::QUEUE_DEVICE_HIGH => setup.device = with_high(setup.device, value),
            _ => {}
        }
    }
}
