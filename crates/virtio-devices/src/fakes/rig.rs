//! A device with memory, a line and somebody who accesses its registers.

use vm_contract::{AccessError, BaseDeviceOps, DeviceContext, VcpuId, Width};

use super::{DriverQueue, IrqLog, SimMemory};
use crate::{Status, Surroundings, VirtioDevice, VirtioMmio, features};

const QUEUE_SEL: u64 = 0x030;
const QUEUE_NUM: u64 = 0x038;
const QUEUE_READY: u64 = 0x044;
const QUEUE_NOTIFY: u64 = 0x050;
const INTERRUPT_STATUS: u64 = 0x060;
const INTERRUPT_ACK: u64 = 0x064;
const STATUS: u64 = 0x070;
/// Registers of the three addresses of a queue; the high word follows.
const QUEUE_ADDRESSES: [u64; 3] = [0x080, 0x090, 0x0A0];

/// A device behind its registers, joined to simulated memory and a line.
#[derive(Debug)]
pub struct Rig<D> {
    /// The device behind its registers.
    pub mmio: VirtioMmio<D>,
    /// The guest's memory.
    pub memory: SimMemory,
    /// The interrupt output.
    pub line: IrqLog,
}

impl<D: VirtioDevice> Rig<D> {
    /// Where the memory of the guest starts.
    pub const MEMORY: u64 = 0x4000_0000;

    /// Puts `device` at 0x0A00_0000 beside memory of `memory_bytes` bytes.
    #[must_use]
    pub fn new(device: D, memory_bytes: usize) -> Self {
        Self {
            mmio: VirtioMmio::new(0x0A00_0000.into(), device),
            memory: SimMemory::new(Self::MEMORY, memory_bytes),
            line: IrqLog::default(),
        }
    }

    /// Reads `width` bytes at `offset`.
    ///
    /// # Errors
    /// Those of the device.
    pub fn try_read(&mut self, offset: u64, width: Width) -> Result<u64, AccessError> {
        let context = context(&self.memory, &self.line);
        self.mmio.read(&context, offset, width)
    }

    /// Writes the lowest `width` bytes of `value` at `offset`.
    ///
    /// # Errors
    /// Those of the device.
    pub fn try_write(&mut self, offset: u64, width: Width, value: u64) -> Result<(), AccessError> {
        let context = context(&self.memory, &self.line);
        self.mmio.write(&context, offset, width, value)
    }

    /// Reads a register.
    ///
    /// # Panics
    /// If the device refuses.
    pub fn read(&mut self, offset: u64) -> u32 {
        let value = self.try_read(offset, Width::Word).expect("a register");
        u32::try_from(value).expect("32 bits")
    }

    /// Writes a register.
    ///
    /// # Panics
    /// If the device refuses.
    pub fn write(&mut self, offset: u64, value: u32) {
        self.try_write(offset, Width::Word, value.into())
            .expect("a register");
    }

    /// Returns the features that the device offers.
    pub fn offered(&mut self) -> u64 {
        let [low, high] = [0, 1].map(|half| {
            self.write(0x014, half);
            u64::from(self.read(0x010))
        });
        low | high << 32
    }

    /// Resets the device and takes `features` and VERSION_1. Returns whether the
    /// device agreed.
    pub fn negotiate(&mut self, features: u64) -> bool {
        let taken = features | features::VERSION_1;
        self.write(STATUS, 0);
        self.write(STATUS, 1);
        self.write(STATUS, 3);
        for (half, value) in [(0, taken & 0xFFFF_FFFF), (1, taken >> 32)] {
            self.write(0x024, half);
            self.write(0x020, u32::try_from(value).unwrap_or(0));
        }
        self.write(STATUS, 0xB);
        self.read(STATUS) & 8 != 0
    }

    /// Tells the device where `queue` lies, and makes it ready as number
    /// `index`.
    pub fn enable_queue(&mut self, index: u32, queue: &DriverQueue) {
        self.program_queue(index, queue.size().into(), queue.addresses());
    }

    /// As [`enable_queue`](Self::enable_queue), with any size and addresses.
    pub fn program_queue(&mut self, index: u32, size: u32, addresses: [u64; 3]) {
        self.write(QUEUE_SEL, index);
        self.write(QUEUE_NUM, size);
        for (register, address) in QUEUE_ADDRESSES.into_iter().zip(addresses) {
            self.write(register, u32::try_from(address & 0xFFFF_FFFF).unwrap_or(0));
            self.write(register + 4, u32::try_from(address >> 32).unwrap_or(0));
        }
        self.write(QUEUE_READY, 1);
    }

    /// Negotiates `features`, makes queues of `size` descriptors from the start
    /// of memory on, one after the other, and sets DRIVER_OK.
    ///
    /// # Panics
    /// If the device does not agree.
    pub fn bring_up<const N: usize>(&mut self, features: u64, size: u16) -> [DriverQueue; N] {
        assert!(self.negotiate(features), "features are refused");
        let event_idx = features & features::EVENT_IDX != 0;
        let mut address = Self::MEMORY;
        let mut index = 0;
        let queues = [(); N].map(|()| {
            let queue = DriverQueue::new(&self.memory, address, size, event_idx);
            address = queue.end();
            self.enable_queue(index, &queue);
            index += 1;
            queue
        });
        self.write(STATUS, 0xF);
        queues
    }

    /// Notifies the device of queue `index`.
    pub fn notify(&mut self, index: u32) {
        self.write(QUEUE_NOTIFY, index);
    }

    /// Acknowledges all interrupts and returns what they were.
    pub fn acknowledge(&mut self) -> u32 {
        let reasons = self.read(INTERRUPT_STATUS);
        self.write(INTERRUPT_ACK, reasons);
        reasons
    }

    /// Goes on with what was left or had to wait.
    pub fn poll(&mut self) {
        let around = Surroundings {
            memory: &self.memory,
            line: &self.line,
        };
        self.mmio.poll(&around);
    }

    /// Tells whether the device has stopped until it is reset.
    #[must_use]
    pub const fn needs_reset(&self) -> bool {
        self.mmio.status().contains(Status::DEVICE_NEEDS_RESET)
    }
}

const fn context<'a>(memory: &'a SimMemory, line: &'a IrqLog) -> DeviceContext<'a> {
    DeviceContext {
        vcpu: VcpuId::new(0),
        memory,
        line,
    }
}
