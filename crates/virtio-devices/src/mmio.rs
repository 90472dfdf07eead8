//! The MMIO transport, version 2 (VirtIO 1.2, 4.2).

mod access;
mod negotiation;
pub(crate) mod registers;
mod status;

use alloc::boxed::Box;

pub(crate) use access::check_register;
use negotiation::Negotiation;
pub use status::{Interrupt, Status};
use vm_contract::{GuestPhysAddr, IrqLine};

use crate::queue::Queue;
use crate::{DriverFault, Queues, Surroundings, VirtioDevice, Work, features};

/// A virtio device behind its registers.
///
/// It goes on a bus as [`vm_contract::BaseDeviceOps`]. Everything that the
/// driver does arrives there; everything that happens elsewhere (a host
/// interrupt, a frame that comes in) is brought by [`with_device`](Self::with_device),
/// [`change_config`](Self::change_config) or [`poll`](Self::poll). The interrupt
/// output is a level: high while InterruptStatus is not zero.
#[derive(Debug)]
pub struct VirtioMmio<D> {
    base: GuestPhysAddr,
    device: D,
    queues: Box<[Queue]>,
    negotiation: Negotiation,
    queue_select: u32,
    status: Status,
    interrupt: Interrupt,
    generation: u32,
    fault: Option<DriverFault>,
    /// Whether a call ended because it went on for long.
    left: bool,
    /// The queue with which the next poll starts.
    turn: usize,
    /// What was last told to the line.
    level: Option<bool>,
}

impl<D: VirtioDevice> VirtioMmio<D> {
    /// The size of the register window.
    pub const WINDOW_BYTES: u64 = registers::WINDOW_BYTES;

    /// Puts `device` behind registers at `base`. Allocates.
    #[must_use]
    pub fn new(base: GuestPhysAddr, device: D) -> Self {
        let queues = device.queue_sizes().iter().take(64);
        Self {
            base,
            queues: queues.map(|size| Queue::new(*size)).collect(),
            negotiation: Negotiation::new(device.features() | features::TRANSPORT),
            device,
            queue_select: 0,
            status: Status::empty(),
            interrupt: Interrupt::empty(),
            generation: 0,
            fault: None,
            left: false,
            turn: 0,
            level: None,
        }
    }

    /// Returns the device.
    #[must_use]
    pub const fn device(&self) -> &D {
        &self.device
    }

    /// Returns the device, for changes that its driver does not see: its backend
    /// and its counters.
    pub const fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// Returns how far the driver has come.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.status
    }

    /// Returns why the device has stopped, if it has; for reports.
    #[must_use]
    pub const fn fault(&self) -> Option<DriverFault> {
        self.fault
    }

    /// Tells whether the device stopped in the middle because a call went on for
    /// long: somebody calls [`poll`](Self::poll) soon.
    #[must_use]
    pub const fn has_work(&self) -> bool {
        self.left
    }

    /// Goes on with what was left, or what could not be done before for lack of
    /// something on the host: processes every queue in its turn, until the call
    /// has gone on for long again.
    pub fn poll(&mut self, around: &Surroundings<'_>) {
        self.left = false;
        for _ in 0..self.queues.len() {
            let index = self.turn;
            self.turn = (index + 1).checked_rem(self.queues.len()).unwrap_or(0);
            // There are at most 64.
            self.process(u16::try_from(index).unwrap_or(0), around);
            if self.left {
                return;
            }
        }
    }

    /// Lets something happen to the device: `event` may take chains and give
    /// chains back, and the driver is told at the end. Returns `None`, without
    /// having called it, while no driver is ready or the device has stopped, and
    /// if `event` found the driver at fault.
    pub fn with_device<R>(
        &mut self,
        around: &Surroundings<'_>,
        event: impl FnOnce(&mut D, &mut Queues<'_>) -> Result<R, DriverFault>,
    ) -> Option<R> {
        if !self.status.is_live() {
            return None;
        }
        let mut queues = Queues::new(&mut self.queues, around.memory);
        let result =
            event(&mut self.device, &mut queues).and_then(|result| Ok((result, queues.publish()?)));
        match result {
            Ok((result, interrupt)) => {
                if interrupt {
                    self.raise(Interrupt::USED_BUFFER, around.line);
                }
                Some(result)
            }
            Err(fault) => {
                self.fail(fault, around.line);
                None
            }
        }
    }

    /// Lets the configuration space change, and tells the driver (VirtIO 1.2,
    /// 2.5, 2.3).
    pub fn change_config(&mut self, line: &dyn IrqLine, change: impl FnOnce(&mut D)) {
        change(&mut self.device);
        self.generation = self.generation.wrapping_add(1);
        if self.status.is_live() {
            self.raise(Interrupt::CONFIG_CHANGE, line);
        }
    }

    /// Lets something happen to the device that may leave work.
    pub fn work(
        &mut self,
        around: &Surroundings<'_>,
        event: impl FnOnce(&mut D, &mut Queues<'_>) -> Result<Work, DriverFault>,
    ) {
        let work = self.with_device(around, event);
        self.left |= work == Some(Work::Left);
    }

    /// Processes one queue.
    #[inline(never)]
    fn process(&mut self, index: u16, around: &Surroundings<'_>) {
        self.work(around, |device, queues| device.process(index, queues));
    }

    /// Processes what the driver names in QueueNotify, unless nothing is there.
    #[inline]
    fn notify(&mut self, value: u32, around: &Surroundings<'_>) {
        let Ok(index) = u16::try_from(value) else {
            return;
        };
        let Some(queue) = self.queues.get_mut(usize::from(index)) else {
            return;
        };
        if !self.status.is_live() {
            return;
        }
        match queue.is_idle(around.memory) {
            Ok(true) => {}
            Ok(false) => self.process(index, around),
            Err(fault) => self.fail(fault, around.line),
        }
    }

    /// Stops until the next reset (VirtIO 1.2, 2.1.2). Requests are forgotten
    /// now: what they hold on the host does not wait for this driver.
    #[cold]
    fn fail(&mut self, fault: DriverFault, line: &dyn IrqLine) {
        self.fault.get_or_insert(fault);
        self.device.reset();
        self.left = false;
        self.status |= Status::DEVICE_NEEDS_RESET;
        if self.status.contains(Status::DRIVER_OK) {
            self.raise(Interrupt::CONFIG_CHANGE, line);
        }
    }

    fn raise(&mut self, reason: Interrupt, line: &dyn IrqLine) {
        self.interrupt |= reason;
        self.drive(line);
    }

    /// Brings the line to its level, if it is not there.
    fn drive(&mut self, line: &dyn IrqLine) {
        let level = !self.interrupt.is_empty();
        if self.level != Some(level) {
            self.level = Some(level);
            line.set_level(level);
        }
    }

    fn write_status(&mut self, value: u32, around: &Surroundings<'_>) {
        if value == 0 {
            self.reset_all();
            self.drive(around.line);
            return;
        }
        // A driver cannot take back what it has said, except by a reset.
        let mut asked = Status::from_bits_truncate(value) & Status::OF_DRIVER & !self.status;
        if asked.contains(Status::FEATURES_OK) && self.agreed().is_none() {
            asked.remove(Status::FEATURES_OK);
        }
        self.status |= asked - Status::DRIVER_OK;
        if asked.contains(Status::DRIVER_OK) && self.status.contains(Status::FEATURES_OK) {
            self.status |= Status::DRIVER_OK;
            if let Some(features) = self.agreed() {
                self.device.start(features);
            }
            self.poll(around);
        }
    }

    /// Returns the features, if driver and device agree about them.
    fn agreed(&self) -> Option<u64> {
        self.negotiation
            .agreed()
            .filter(|features| self.device.accepts(*features))
    }

    fn write_queue_ready(&mut self, value: u32, around: &Surroundings<'_>) {
        if value & 1 == 0 {
            self.stop_queue(around);
            return;
        }
        let usable = Status::FEATURES_OK | Status::DEVICE_NEEDS_RESET;
        if self.status & usable != Status::FEATURES_OK {
            return;
        }
        let Some(features) = self.agreed() else {
            return;
        };
        let result = match self.selected_mut() {
            Some(queue) if !queue.is_ready() => queue.enable(around.memory, features),
            _ => Ok(()),
        };
        if let Err(fault) = result {
            self.fail(fault, around.line);
        }
    }

    /// Stops the selected queue; what is programmed stays.
    fn stop_queue(&mut self, around: &Surroundings<'_>) {
        if let Some(queue) = self.selected_mut()
            && queue.is_ready()
        {
            queue.disable();
            self.forget_selected(around);
        }
    }

    /// Resets the selected queue (VirtIO 1.2, 2.6.1). That is done at once, so
    /// that QueueReset reads as zero.
    fn reset_queue(&mut self, around: &Surroundings<'_>) {
        if self.negotiation.has(features::RING_RESET)
            && self.status.contains(Status::FEATURES_OK)
            && let Some(queue) = self.selected_mut()
        {
            queue.reset();
            self.forget_selected(around);
        }
    }

    /// Lets the device forget the selected queue; others may have waited for
    /// what it held.
    fn forget_selected(&mut self, around: &Surroundings<'_>) {
        if let Ok(index) = u16::try_from(self.queue_select) {
            self.device.reset_queue(index);
            self.poll(around);
        }
    }

    fn selected(&self) -> Option<&Queue> {
        self.queues.get(usize::try_from(self.queue_select).ok()?)
    }

    fn selected_mut(&mut self) -> Option<&mut Queue> {
        self.queues
            .get_mut(usize::try_from(self.queue_select).ok()?)
    }

    /// Does everything of a reset but driving the line.
    fn reset_all(&mut self) {
        self.device.reset();
        for queue in &mut self.queues {
            queue.reset();
        }
        self.negotiation.reset();
        self.queue_select = 0;
        self.status = Status::empty();
        self.interrupt = Interrupt::empty();
        self.fault = None;
        self.left = false;
        self.turn = 0;
    }
}
