//! Which of a CPU's vCPUs runs next.
//!
//! Every vCPU lives on one CPU and takes its turn there, round robin. A slice
//! ends after [`SLICE_MS`] if another vCPU is ready; a vCPU that is alone on
//! its CPU is never interrupted for it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// How long a vCPU runs while others wait, in milliseconds.
pub const SLICE_MS: u64 = 10;

/// The place of a vCPU on its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat(usize);

impl Seat {
    /// Returns the seat as an index into the CPU's table of vCPUs.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

/// What a vCPU waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// To be turned on.
    Off,
    /// For an interrupt.
    Blocked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Resting(Rest),
    Ready,
    Running,
}

/// The vCPUs of one CPU and the order of their turns. Allocates only when a
/// vCPU is added.
#[derive(Debug, Default)]
pub struct RunQueue {
    states: Vec<State>,
    ready: VecDeque<Seat>,
}

impl RunQueue {
    /// Gives a vCPU, which is off, a seat.
    pub fn add(&mut self) -> Seat {
        let seat = Seat(self.states.len());
        self.states.push(State::Resting(Rest::Off));
        self.ready.reserve(self.states.len());
        seat
    }

    /// Returns all seats.
    pub fn seats(&self) -> impl Iterator<Item = Seat> + use<> {
        (0..self.states.len()).map(Seat)
    }

    /// Returns what the vCPU waits for; `None` if it is ready or runs.
    #[must_use]
    pub fn rest(&self, seat: Seat) -> Option<Rest> {
        match self.states.get(seat.0) {
            Some(State::Resting(rest)) => Some(*rest),
            _ => None,
        }
    }

    /// Puts a resting vCPU at the end of the queue. No effect on one that is
    /// ready or runs.
    pub fn wake(&mut self, seat: Seat) {
        if let Some(state @ State::Resting(_)) = self.states.get_mut(seat.0) {
            *state = State::Ready;
            self.ready.push_back(seat);
        }
    }

    /// Takes the vCPU whose turn it is.
    pub fn take_next(&mut self) -> Option<Seat> {
        let seat = self.ready.pop_front()?;
        if let Some(state) = self.states.get_mut(seat.0) {
            *state = State::Running;
        }
        Some(seat)
    }

    /// Returns the running vCPU to the end of the queue.
    pub fn yield_turn(&mut self, seat: Seat) {
        if let Some(state @ State::Running) = self.states.get_mut(seat.0) {
            *state = State::Ready;
            self.ready.push_back(seat);
        }
    }

    /// Lets the running vCPU rest.
    pub fn put_to_rest(&mut self, seat: Seat, rest: Rest) {
        if let Some(state @ State::Running) = self.states.get_mut(seat.0) {
            *state = State::Resting(rest);
        }
    }

    /// Turns a vCPU off that waits for an interrupt. No effect on any other.
    pub fn turn_off(&mut self, seat: Seat) {
        if let Some(state @ State::Resting(Rest::Blocked)) = self.states.get_mut(seat.0) {
            *state = State::Resting(Rest::Off);
        }
    }

    /// Tells whether somebody waits for the turn of the one that runs.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn turns_go_round() {
        let mut queue = RunQueue::default();
        let seats = [queue.add(), queue.add(), queue.add()];
        for seat in seats {
            queue.wake(seat);
        }
        for turn in 0..9 {
            let seat = queue.take_next().expect("three are ready");
            assert_eq!(seat, seats[turn % 3]);
            assert!(queue.has_waiting());
            queue.yield_turn(seat);
        }
    }

    proptest! {
        /// Whatever happens in whatever order, a vCPU is in the queue exactly
        /// while it is ready, and at most one runs.
        #[test]
        fn nobody_is_queued_twice_or_lost(steps in prop::collection::vec((0..4u8, 0..4usize), 0..200)) {
            let mut queue = RunQueue::default();
            for _ in 0..4 {
                queue.add();
            }
            let mut running = None;
            for (action, n) in steps {
                match action {
                    0 => queue.wake(Seat(n)),
                    1 if running.is_none() => running = queue.take_next(),
                    2 => if let Some(seat) = running.take() { queue.yield_turn(seat) },
                    _ => if let Some(seat) = running.take() { queue.put_to_rest(seat, Rest::Blocked) },
                }
                for seat in queue.seats() {
                    let queued = queue.ready.iter().filter(|other| **other == seat).count();
                    let ready = queue.states[seat.0] == State::Ready;
                    prop_assert_eq!(queued, usize::from(ready));
                    prop_assert_eq!(queue.states[seat.0] == State::Running, running == Some(seat));
                }
            }
        }
    }
}
