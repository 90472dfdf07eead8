//! Which of several CPUs goes on.
//!
//! Each CPU is a thread. At first only the one that has the baton runs: a test
//! says whose step comes next, so every interleaving can be had again. Once the
//! baton has been thrown away all run at the same time, as those of a real
//! machine do, and the test watches them.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::panic::resume_unwind;
use std::sync::{Condvar, Mutex, MutexGuard};

/// After so many steps of each CPU that is awake, what has not happened will not.
const PATIENCE: usize = if cfg!(miri) { 5_000 } else { 100_000 };
/// How many steps a CPU does between two looks of who watches.
const STEPS_PER_LOOK: usize = 64;

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
    /// Something was signalled to the CPU since it last slept without the baton.
    signals: Vec<bool>,
    /// All sleep, and no timer will wake one.
    is_still: bool,
    /// A CPU has panicked.
    has_failed: bool,
    /// Counts what those who watch should look at.
    news: usize,
}

/// The baton.
pub(crate) struct Baton {
    state: Mutex<State>,
    changed: Condvar,
    thrown_away: AtomicBool,
    abandoned: AtomicBool,
    /// Steps without the baton. Relaxed, as all that is looked at on the way of a
    /// CPU: the threads must not synchronise here where CPUs would not.
    steps: Vec<AtomicUsize>,
}

/// What unwinds a CPU whose test has ended before it.
struct Abandoned;

/// Why what somebody waited for will not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hopeless {
    /// A CPU has panicked.
    Failed,
    /// All sleep for ever.
    Still,
    /// Those that are awake get nowhere.
    Busy,
}

impl Baton {
    pub(super) fn new(cpu_count: usize) -> Self {
        let state = State {
            holder: None,
            moods: vec![Mood::Awake; cpu_count],
            signals: vec![false; cpu_count],
            is_still: false,
            has_failed: false,
            news: 0,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            thrown_away: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            steps: (0..cpu_count).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test panics while it holds this")
    }

    /// Lets CPU `cpu` do one step; returns how that ended.
    pub(super) fn step(&self, cpu: usize) -> Mood {
        assert!(!self.is_thrown_away(), "there are no steps any more");
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

    /// Ends a step of `cpu`, on its own thread, and waits for the next. Without the
    /// baton only a CPU that sleeps waits, for a signal: where all sleep,
    /// `pass_time` tells whether the time of a timer has come.
    pub(super) fn pass(&self, cpu: usize, mood: Mood, pass_time: impl FnOnce() -> bool) {
        if self.is_thrown_away() {
            return self.go_on(cpu, mood, pass_time);
        }
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
        state.has_failed |= std::thread::panicking();
        self.tell(state);
    }

    /// Ends the thread of every CPU that waits.
    pub(super) fn abandon(&self) {
        let _state = self.lock();
        self.abandoned.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Lets all CPUs go on at the same time.
    pub(super) fn throw_away(&self) {
        let _state = self.lock();
        self.thrown_away.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Tells whether all CPUs go on at the same time.
    pub(super) fn is_thrown_away(&self) -> bool {
        self.thrown_away.load(Ordering::Relaxed)
    }

    /// Wakes `cpu`, if it sleeps without the baton or is about to.
    pub(super) fn signal(&self, cpu: usize) {
        if self.is_thrown_away() {
            let mut state = self.lock();
            state.signals[cpu] = true;
            state.is_still = false;
            self.changed.notify_all();
        }
    }

    /// Waits until `condition` holds, while all CPUs go on.
    pub(super) fn watch(&self, condition: impl Fn() -> bool) -> Result<(), Hopeless> {
        let steps = |(now, before): (&AtomicUsize, &usize)| now.load(Ordering::Relaxed) - before;
        let before: Vec<_> = self
            .steps
            .iter()
            .map(|steps| steps.load(Ordering::Relaxed))
            .collect();
        loop {
            let (news, hopeless) = {
                let state = self.lock();
                let is_idle = |cpu: usize| state.moods[cpu] != Mood::Awake && !state.signals[cpu];
                let mut cpus = self.steps.iter().zip(&before).map(steps).enumerate();
                let hopeless = if state.has_failed {
                    Some(Hopeless::Failed)
                } else if state.is_still {
                    Some(Hopeless::Still)
                } else {
                    cpus.all(|(cpu, steps)| is_idle(cpu) || steps > PATIENCE)
                        .then_some(Hopeless::Busy)
                };
                (state.news, hopeless)
            };
            // Not under the lock, which CPUs want while they hold what this wants.
            if condition() {
                return Ok(());
            }
            if let Some(hopeless) = hopeless {
                return Err(hopeless);
            }
            drop(self.wait(self.lock(), |state| state.news == news));
        }
    }

    /// Ends a step of `cpu` without the baton.
    fn go_on(&self, cpu: usize, mood: Mood, pass_time: impl FnOnce() -> bool) {
        self.unwind_if_abandoned();
        let steps = self.steps[cpu].fetch_add(1, Ordering::Relaxed);
        if mood == Mood::Awake {
            if steps.is_multiple_of(STEPS_PER_LOOK) {
                self.tell(self.lock());
            }
            return;
        }
        let mut state = self.lock();
        state.moods[cpu] = Mood::Asleep;
        let mut others = state.moods.iter().zip(&state.signals);
        if others.all(|(mood, signal)| *mood != Mood::Awake && !signal) {
            if pass_time() {
                state.signals.fill(true);
            } else {
                state.is_still = true;
            }
        }
        self.tell(state);
        let may_sleep = |state: &State| !self.is_abandoned() && !state.signals[cpu];
        let mut state = self.wait(self.lock(), may_sleep);
        state.signals[cpu] = false;
        state.moods[cpu] = Mood::Awake;
        drop(state);
        self.unwind_if_abandoned();
    }

    /// Wakes those who watch, and all others.
    fn tell(&self, mut state: MutexGuard<'_, State>) {
        state.news += 1;
        self.changed.notify_all();
    }

    fn await_turn(&self, cpu: usize, state: MutexGuard<'_, State>) {
        let mut state = self.wait(state, |state| {
            !self.is_abandoned() && !self.is_thrown_away() && state.holder != Some(cpu)
        });
        if self.is_thrown_away() {
            state.moods[cpu] = Mood::Awake;
        }
        drop(state);
        self.unwind_if_abandoned();
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    fn unwind_if_abandoned(&self) {
        if self.is_abandoned() {
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
