//! A transport of `virtio-drivers` that does nothing but access our registers.

use std::cell::RefCell;
use std::rc::Rc;

use virtio_devices::fakes::IrqLog;
use virtio_devices::{Surroundings, VirtioDevice, VirtioMmio};
use virtio_drivers::Result;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use vm_contract::{BaseDeviceOps, DeviceContext, VcpuId, Width};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::arena::ArenaMemory;

/// A device that the test and its driver share.
pub(crate) struct Machine<D> {
    mmio: RefCell<VirtioMmio<D>>,
    pub(crate) line: IrqLog,
}

impl<D: VirtioDevice> Machine<D> {
    pub(crate) fn new(device: D) -> Rc<Self> {
        Rc::new(Self {
            mmio: RefCell::new(VirtioMmio::new(0x0A00_0000.into(), device)),
            line: IrqLog::default(),
        })
    }

    /// Lets something happen to the device from outside.
    pub(crate) fn with<R>(
        &self,
        act: impl FnOnce(&mut VirtioMmio<D>, &Surroundings<'_>) -> R,
    ) -> R {
        let around = Surroundings {
            memory: &ArenaMemory,
            line: &self.line,
        };
        act(&mut self.mmio.borrow_mut(), &around)
    }

    fn access<R>(&self, act: impl FnOnce(&mut VirtioMmio<D>, &DeviceContext<'_>) -> R) -> R {
        let context = DeviceContext {
            vcpu: VcpuId::new(0),
            memory: &ArenaMemory,
            line: &self.line,
        };
        act(&mut self.mmio.borrow_mut(), &context)
    }

    fn read(&self, offset: u64) -> u32 {
        let value = self
            .access(|mmio, context| mmio.read(context, offset, Width::Word))
            .expect("a register");
        u32::try_from(value).expect("32 bits")
    }

    fn write(&self, offset: u64, value: u32) {
        self.access(|mmio, context| mmio.write(context, offset, Width::Word, value.into()))
            .expect("a register");
    }

    fn write_halves(&self, offset: u64, value: u64) {
        let [low, high] = [value & 0xFFFF_FFFF, value >> 32];
        self.write(offset, u32::try_from(low).expect("32 bits"));
        self.write(offset + 4, u32::try_from(high).expect("32 bits"));
    }
}

/// The transport.
pub(crate) struct Wire<D>(pub(crate) Rc<Machine<D>>);

impl<D: VirtioDevice> Transport for Wire<D> {
    fn device_type(&self) -> DeviceType {
        self.0.read(0x008).try_into().expect("a known device")
    }

    fn read_device_features(&mut self) -> u64 {
        let [low, high] = [0, 1].map(|half| {
            self.0.write(0x014, half);
            u64::from(self.0.read(0x010))
        });
        low | high << 32
    }

    fn write_driver_features(&mut self, features: u64) {
        for (half, value) in [(0, features & 0xFFFF_FFFF), (1, features >> 32)] {
            self.0.write(0x024, half);
            self.0.write(0x020, u32::try_from(value).expect("32 bits"));
        }
    }

    fn max_queue_size(&mut self, queue: u16) -> u32 {
        self.0.write(0x030, queue.into());
        self.0.read(0x034)
    }

    fn notify(&mut self, queue: u16) {
        self.0.write(0x050, queue.into());
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_retain(self.0.read(0x070))
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.0.write(0x070, status.bits());
        let refused = status.contains(DeviceStatus::FEATURES_OK)
            && !self.get_status().contains(DeviceStatus::FEATURES_OK);
        assert!(!refused, "the device refuses the features");
    }

    fn set_guest_page_size(&mut self, _guest_page_size: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        self.0.read(0x004) == 1
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: u64,
        driver_area: u64,
        device_area: u64,
    ) {
        self.0.write(0x030, queue.into());
        self.0.write(0x038, size);
        self.0.write_halves(0x080, descriptors);
        self.0.write_halves(0x090, driver_area);
        self.0.write_halves(0x0A0, device_area);
        self.0.write(0x044, 1);
        assert_eq!(self.0.read(0x044), 1, "the device refuses the queue");
    }

    fn queue_unset(&mut self, queue: u16) {
        self.0.write(0x030, queue.into());
        self.0.write(0x044, 0);
        assert_eq!(self.0.read(0x044), 0);
        self.0.write(0x038, 0);
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.0.write(0x030, queue.into());
        self.0.read(0x044) != 0
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        let reasons = self.0.read(0x060);
        self.0.write(0x064, reasons);
        InterruptStatus::from_bits_retain(reasons)
    }

    fn read_config_generation(&self) -> u32 {
        self.0.read(0x0FC)
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T> {
        let mut value = T::new_zeroed();
        for (position, byte) in (0x100 + offset as u64..).zip(value.as_mut_bytes()) {
            let read = self
                .0
                .access(|mmio, context| mmio.read(context, position, Width::Byte));
            *byte = u8::try_from(read.expect("any width")).expect("8 bits");
        }
        Ok(value)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> Result<()> {
        for (position, byte) in (0x100 + offset as u64..).zip(value.as_bytes()) {
            self.0
                .access(|mmio, context| mmio.write(context, position, Width::Byte, (*byte).into()))
                .expect("any width");
        }
        Ok(())
    }
}
