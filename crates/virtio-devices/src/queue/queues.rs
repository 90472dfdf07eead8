//! What a device sees of its virtqueues.

use vm_contract::GuestMemory;

use super::{Chain, Queue};
use crate::DriverFault;

/// The virtqueues of a device and the memory in which they and their buffers
/// lie, for the time of one call.
///
/// A queue that the driver has not made ready has no chains, and takes none
/// back. What a device gives back, the driver sees at the end of the call, when
/// the transport also decides on the interrupt.
pub struct Queues<'a> {
    table: &'a mut [Queue],
    memory: &'a dyn GuestMemory,
}

impl<'a> Queues<'a> {
    pub(crate) const fn new(table: &'a mut [Queue], memory: &'a dyn GuestMemory) -> Self {
        Self { table, memory }
    }

    /// Returns the guest's memory.
    #[must_use]
    pub const fn memory(&self) -> &'a dyn GuestMemory {
        self.memory
    }

    /// Tells whether the driver has made queue `index` ready.
    #[must_use]
    pub fn is_ready(&self, index: u16) -> bool {
        self.table
            .get(usize::from(index))
            .is_some_and(Queue::is_ready)
    }

    /// Copies the next available chain of queue `index` into `chain`. Returns
    /// `false` if there is none; the driver will then notify the device of the
    /// next one.
    ///
    /// # Errors
    /// What is wrong with the rings or the chain; return it to the transport.
    pub fn pop(&mut self, index: u16, chain: &mut Chain) -> Result<bool, DriverFault> {
        let memory = self.memory;
        match self.live(index) {
            Some(live) => live.pop(memory, chain),
            None => Ok(false),
        }
    }

    /// Makes the chain that was just taken from queue `index` available again:
    /// the next [`pop`](Self::pop) finds it.
    pub fn unpop(&mut self, index: u16) {
        if let Some(live) = self.live(index) {
            live.unpop();
        }
    }

    /// Gives the chain that starts with `head` back to the driver; `written` is
    /// how many bytes of its writable buffers were written, from their start.
    ///
    /// # Errors
    /// The used ring is no longer in memory; return it to the transport.
    pub fn push(&mut self, index: u16, head: u16, written: u32) -> Result<(), DriverFault> {
        let memory = self.memory;
        match self.live(index) {
            Some(live) => live.push(memory, head, written),
            None => Ok(()),
        }
    }

    /// Asks the driver for no notifications of queue `index`, until
    /// [`pop`](Self::pop) next finds it empty. The driver may notify all the
    /// same.
    ///
    /// # Errors
    /// The used ring is no longer in memory; return it to the transport.
    pub fn suppress_notifications(&mut self, index: u16) -> Result<(), DriverFault> {
        let memory = self.memory;
        match self.live(index) {
            Some(live) => live.suppress(memory),
            None => Ok(()),
        }
    }

    /// Shows the driver what was used, and tells whether it wants an interrupt.
    pub(crate) fn publish(&mut self) -> Result<bool, DriverFault> {
        let memory = self.memory;
        let mut interrupt = false;
        for live in self
            .table
            .iter_mut()
            .filter_map(|queue| queue.live.as_mut())
        {
            interrupt |= live.publish(memory)?;
        }
        Ok(interrupt)
    }

    fn live(&mut self, index: u16) -> Option<&mut super::Live> {
        self.table.get_mut(usize::from(index))?.live.as_mut()
    }
}
