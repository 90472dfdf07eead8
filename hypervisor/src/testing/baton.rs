//! Which of several CPUs goes on.
//!
//! Each CPU is a thread, but only the one that has the baton runs: a test says
//! whose step comes next, so every interleaving can be had again.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use std::panic::resume_unwind;
use std::sync::{Condvar, Mutex, MutexGuard};

/// How a CPU left its last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It has something to do.
    Awake,
    /// Only an interrupt gives it something to do.
    Asleep,
    /// Its main loop has ended.
    Gone,
}

struct State {
    holder: Option<usize>,
    moods: Vec<Mood>,
    abandoned: bool,
}

/// The baton.
pub(crate) struct Baton {
    state: Mutex<State>,
    changed: Condvar,
}

/// What unwinds a CPU whose test has ended before it.
struct Abandoned;

impl Baton {
    pub(super) fn new(cpu_count: usize) -> Self {
        let state = State {
            holder: None,
            moods: vec![Mood::Awake; cpu_count],
            abandoned: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test panics while it holds this")
    }

    /// Lets CPU `cpu` do one step; returns how that ended.
    pub(super) fn step(&self, cpu: usize) -> Mood {
        let mut state = self.lock();
        if state.moods[cpu] != Mood::Gone {
            state.holder = Some(cpu);
            self.changed.notify_all();
            state = self.wait(state, |state| state.holder.is_some());
        }
        state.moods[cpu]
    }

    /// Returns how each CPU is.
    pub(super) fn moods(&self) -> Vec<Mood> {
        self.lock().moods.clone()
    }

    /// Waits for the first step of `cpu`, on its own thread.
    pub(super) fn await_first(&self, cpu: usize) {
        self.await_turn(cpu, self.lock());
    }

    /// Ends a step of `cpu`, on its own thread, and waits for the next.
    pub(super) fn pass(&self, cpu: usize, mood: Mood) {
        let mut state = self.lock();
        state.moods[cpu] = mood;
        state.holder = None;
        self.changed.notify_all();
        self.await_turn(cpu, state);
    }

    /// Ends the last step of `cpu`.
    pub(super) fn leave(&self, cpu: usize) {
        let mut state = self.lock();
        state.moods[cpu] = Mood::Gone;
        state.holder = None;
        self.changed.notify_all();
    }

    /// Ends the thread of every CPU that waits.
    pub(super) fn abandon(&self) {
        self.lock().abandoned = true;
        self.changed.notify_all();
    }

    fn await_turn(&self, cpu: usize, state: MutexGuard<'_, State>) {
        let state = self.wait(state, |state| !state.abandoned && state.holder != Some(cpu));
        if state.abandoned {
            drop(state);
            resume_unwind(Box::new(Abandoned));
        }
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        condition: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        self.changed
            .wait_while(state, |state| condition(state))
            .expect("no test panics while it holds this")
    }
}

/// Leaves the baton to the others when a CPU's thread ends, however it ends.
pub(super) struct Departure<'a>(pub(super) &'a Baton, pub(super) usize);

impl Drop for Departure<'_> {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

/// Tells whether a thread ended because its test no longer needed it.
pub(super) fn is_abandoned(payload: &(dyn core::any::Any + Send)) -> bool {
    payload.is::<Abandoned>()
}
