//! What is sent to the main loop of a CPU.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;

use arm_vcpu::AxVCpuHal;

use super::queue::Moving;
use crate::lock::{RankedLock, rank};
use crate::vcpu::Vcpu;
use crate::vm::Vm;

/// What is sent.
pub enum Message<H: AxVCpuHal> {
    /// A vCPU that is new, or comes from another CPU. Whoever has it owns it.
    Arrival(Moving<Box<Vcpu<H>>>),
    /// A VM that is to be started.
    Boot(Arc<Vm>),
}

/// The messages to one CPU, in the order in which they were sent. Whoever sends
/// one calls the CPU afterwards.
pub struct Inbox<H: AxVCpuHal> {
    messages: RankedLock<VecDeque<Message<H>>, { rank::INBOX }>,
}

impl<H: AxVCpuHal> Inbox<H> {
    /// Makes an inbox that holds `capacity` messages without allocating.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            messages: RankedLock::new(VecDeque::with_capacity(capacity)),
        }
    }

    /// Adds a message.
    pub fn push(&self, message: Message<H>) {
        self.messages.lock().push_back(message);
    }

    /// Takes the oldest message.
    #[must_use]
    pub fn pop(&self) -> Option<Message<H>> {
        self.messages.lock().pop_front()
    }
}
