//! The requests under way, in a table that is allocated once.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::RequestId;
use super::job::Job;
use crate::Chain;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No request.
    Free,
    /// The device works on it just now.
    Taken,
    /// The backend has not got it, or not all of it, and has room no more.
    Waiting,
    /// The backend has it.
    Started,
}

/// Room for one request.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) chain: Chain,
    pub(super) job: Job,
    pub(super) queue: u16,
    state: State,
    generation: u32,
}

#[derive(Debug)]
pub(super) struct Table {
    slots: Box<[Slot]>,
    free: Vec<u16>,
    /// Slots in state `Waiting`, in their order.
    waiting: VecDeque<u16>,
}

impl Table {
    /// Makes room for `count` requests of up to `descriptors` buffers.
    pub(super) fn new(count: u16, descriptors: u16) -> Self {
        let slot = |_| Slot {
            chain: Chain::with_limit(descriptors),
            job: Job::NONE,
            queue: 0,
            state: State::Free,
            generation: 0,
        };
        Self {
            slots: (0..count).map(slot).collect(),
            free: (0..count).rev().collect(),
            waiting: VecDeque::with_capacity(count.into()),
        }
    }

    /// Returns a free slot, which stays free until it is occupied.
    pub(super) fn free_slot(&mut self) -> Option<(u16, &mut Slot)> {
        let index = *self.free.last()?;
        Some((index, self.slots.get_mut(usize::from(index))?))
    }

    /// Takes the slot that `free_slot` returned, for a request of `queue`.
    pub(super) fn occupy(&mut self, queue: u16) {
        if let Some(slot) = self.free.pop().and_then(|index| self.slot(index)) {
            slot.state = State::Taken;
            slot.queue = queue;
        }
    }

    pub(super) fn slot(&mut self, index: u16) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(index))
    }

    /// Takes a request that the backend has.
    pub(super) fn take_started(&mut self, id: RequestId) -> Option<&mut Slot> {
        let slot = self
            .slot(id.slot)
            .filter(|slot| slot.state == State::Started && slot.generation == id.generation)?;
        slot.state = State::Taken;
        Some(slot)
    }

    pub(super) fn set_started(&mut self, index: u16) {
        if let Some(slot) = self.slot(index) {
            slot.state = State::Started;
        }
    }

    /// Puts a request before all that wait: it came before them.
    pub(super) fn set_waiting(&mut self, index: u16) {
        if let Some(slot) = self.slot(index) {
            slot.state = State::Waiting;
            self.waiting.push_front(index);
        }
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes the request that has waited longest.
    pub(super) fn take_waiting(&mut self) -> Option<u16> {
        let index = self.waiting.pop_front()?;
        self.slot(index)?.state = State::Taken;
        Some(index)
    }

    /// Ends a request that was taken.
    pub(super) fn release(&mut self, index: u16) {
        if let Some(slot) = self.slot(index) {
            slot.release();
            self.free.push(index);
        }
    }

    /// Ends all requests, or those of one queue; calls `abandon` for those that
    /// the backend has.
    pub(super) fn clear(&mut self, queue: Option<u16>, mut abandon: impl FnMut(RequestId)) {
        for (index, slot) in (0_u16..).zip(&mut self.slots) {
            if slot.state == State::Free || queue.is_some_and(|queue| queue != slot.queue) {
                continue;
            }
            if slot.state == State::Started {
                abandon(slot.id(index));
            }
            self.waiting.retain(|waiting| *waiting != index);
            slot.release();
            self.free.push(index);
        }
    }
}

impl Slot {
    pub(super) const fn id(&self, index: u16) -> RequestId {
        RequestId {
            slot: index,
            generation: self.generation,
        }
    }

    const fn release(&mut self) {
        self.state = State::Free;
        self.generation = self.generation.wrapping_add(1);
    }
}
