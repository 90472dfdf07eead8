//! The threads of a machine's CPUs.

use alloc::string::String;
use alloc::vec::Vec;
use std::panic::resume_unwind;
use std::thread::{self, JoinHandle};

use super::baton::{Departure, Mood, is_abandoned};
use super::board::FakeBoard;
use super::guest::become_cpu;
use crate::cpu::PcpuId;

/// A thread for each CPU. They end with this, if not before.
pub(crate) struct Threads {
    board: &'static FakeBoard,
    handles: Vec<Option<JoinHandle<()>>>,
}

impl Threads {
    /// Starts the threads, of which each does what `main` returns for its CPU once
    /// it is given the baton.
    pub(crate) fn spawn<F: FnOnce() + Send + 'static>(
        board: &'static FakeBoard,
        main: impl Fn(PcpuId) -> F,
    ) -> Self {
        let spawn = |id: PcpuId| {
            let main = main(id);
            thread::spawn(move || {
                let _departure = Departure(board.baton(), id.index());
                become_cpu(id);
                board.baton().await_first(id.index());
                main();
            })
        };
        let handles = board.cpus().iter().map(|cpu| Some(spawn(cpu.id)));
        Self {
            board,
            handles: handles.collect(),
        }
    }

    /// Lets `cpu` do one step.
    pub(crate) fn step(&mut self, cpu: usize) -> Mood {
        let mood = self.board.baton().step(cpu);
        if mood == Mood::Gone
            && let Some(thread) = self.handles[cpu].take()
            && let Err(payload) = thread.join()
        {
            resume_unwind(payload);
        }
        mood
    }

    /// Lets all CPUs go on at the same time from now on, and time with them.
    pub(crate) fn let_go(&self) {
        self.board.baton().throw_away();
    }

    /// Returns how each CPU is.
    pub(crate) fn moods(&self) -> Vec<Mood> {
        self.board.baton().moods()
    }

    /// Tells whether all threads have ended.
    pub(crate) fn are_gone(&self) -> bool {
        self.moods().iter().all(|mood| *mood == Mood::Gone)
    }

    /// Waits until `condition` holds, while all CPUs go on.
    ///
    /// # Panics
    /// If it never will, or a CPU has panicked; `report` says how all are.
    pub(crate) fn wait_until(&self, condition: impl Fn() -> bool, report: impl Fn() -> String) {
        if let Err(why) = self.board.baton().watch(condition) {
            panic!("{why:?}, {:?}: {}", self.moods(), report());
        }
    }
}

impl Drop for Threads {
    /// Ends all threads, and fails if one has.
    fn drop(&mut self) {
        self.board.baton().abandon();
        for thread in self.handles.iter_mut().filter_map(Option::take) {
            if let Err(payload) = thread.join()
                && !is_abandoned(&*payload)
                && !thread::panicking()
            {
                resume_unwind(payload);
            }
        }
    }
}
