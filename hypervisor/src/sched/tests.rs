//! How CPUs call each other and vCPUs, on threads that run at the same time: no
//! call is lost. What is told by a call is stored and read `Relaxed`, so that only
//! the call makes it visible; under Miri each seed sees something else.
//!
//! Loom would try every order instead, but takes `SeqCst` for `AcqRel`, which is
//! not enough for `Cpus::offer` and `Cpus::publish_load`: it would find what cannot
//! happen.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::{CpuSet, Cpus};
use crate::cpu::{Machine, PcpuId};
use crate::testing::{FakeBoard, Mood, Threads};
use crate::vm::mailbox::{Callee, Doing, VcpuMailbox};

const CPUS: [PcpuId; 2] = [PcpuId::new(0), PcpuId::new(1)];
/// Letters that are sent to the vCPU, one after the other.
const LETTERS: usize = if cfg!(miri) { 40 } else { 20_000 };
/// How often an idle CPU and one that is not meet.
const MEETINGS: usize = if cfg!(miri) { 40 } else { 5_000 };

/// A vCPU and the two CPUs between which it moves.
struct Post {
    board: &'static FakeBoard,
    cpus: Cpus,
    mailbox: VcpuMailbox,
    /// The vCPU has been sent to this CPU.
    arrivals: [AtomicBool; 2],
    /// Letters for the vCPU, and those that it has read.
    sent: AtomicUsize,
    read: AtomicUsize,
    is_over: AtomicBool,
}

impl Post {
    /// Sends one more letter, as an interrupt is sent.
    fn send(&self) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        match self.mailbox.call() {
            Callee::Nobody => {}
            Callee::Guest(cpu) => self.board.kick(cpu),
            Callee::Scheduler(cpu) => self.cpus.call(cpu),
        }
    }

    /// Reads what has been sent, if the vCPU was called.
    fn look(&self) {
        if self.mailbox.take() {
            let sent = self.sent.load(Ordering::Relaxed);
            self.read.store(sent, Ordering::Relaxed);
        }
    }

    fn has_unread(&self) -> bool {
        self.sent.load(Ordering::Relaxed) != self.read.load(Ordering::Relaxed)
    }

    /// Sleeps until the CPU is kicked.
    fn wait(&self, here: PcpuId) {
        let wires = || self.board.cpus()[here.index()].wires();
        while !core::mem::take(&mut wires().kicked) {
            self.board.pass(here, Mood::Asleep);
        }
    }

    /// The vCPU has its turn on `here`: its guest waits until a letter has come.
    fn run(&self, here: PcpuId) {
        self.mailbox.begin(Doing::Running);
        let before = self.read.load(Ordering::Relaxed);
        loop {
            self.look();
            let has_read = self.read.load(Ordering::Relaxed) != before;
            if has_read || self.cpus.is_called(here) {
                break;
            }
            self.wait(here);
        }
        self.mailbox.end(Doing::Running);
    }

    /// The main loop of a CPU.
    fn main(&self, here: PcpuId, mut is_home: bool) {
        for turn in here.index().. {
            self.cpus.state(here).take_call();
            is_home |= self.arrivals[here.index()].swap(false, Ordering::Acquire);
            if self.is_over.load(Ordering::Acquire) {
                return;
            }
            if is_home {
                self.look();
                match turn % 3 {
                    0 => self.run(here),
                    1 => {
                        is_home = false;
                        let there = CPUS[1 - here.index()];
                        self.mailbox.move_to(there);
                        self.arrivals[there.index()].store(true, Ordering::Release);
                        self.cpus.call(there);
                    }
                    // It has looked already, as whoever blocks has.
                    _ if self.has_unread() => {}
                    _ => {
                        let is_called = self.mailbox.begin(Doing::Resting);
                        self.idle(here, is_called);
                        self.mailbox.end(Doing::Resting);
                    }
                }
            } else {
                self.idle(here, false);
            }
        }
    }

    fn idle(&self, here: PcpuId, called_going_to_rest: bool) {
        if !self.cpus.is_called(here) && !called_going_to_rest {
            self.wait(here);
        }
    }
}

#[test]
fn a_vcpu_is_reached_wherever_it_is_and_whatever_it_does() {
    let board: &'static FakeBoard = Box::leak(Box::new(FakeBoard::new(2, 4, 0)));
    let post = Arc::new(Post {
        board,
        cpus: Cpus::new(board, 2),
        mailbox: VcpuMailbox::new(CPUS[0]),
        arrivals: Default::default(),
        sent: AtomicUsize::new(0),
        read: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    });
    let threads = Threads::spawn(board, |cpu| {
        let post = Arc::clone(&post);
        move || post.main(cpu, cpu == CPUS[0])
    });
    threads.let_go();
    let report = || format!("{:x?}", post.mailbox);
    for letter in 1..=LETTERS {
        post.send();
        threads.wait_until(|| post.read.load(Ordering::Relaxed) == letter, report);
    }
    post.is_over.store(true, Ordering::Release);
    for cpu in CPUS {
        post.cpus.call(cpu);
    }
    threads.wait_until(|| threads.are_gone(), report);
}

#[test]
fn a_cpu_with_too_much_to_do_and_an_idle_one_find_each_other() {
    let board: &'static FakeBoard = Box::leak(Box::new(FakeBoard::new(2, 4, 0)));
    for meeting in 0..MEETINGS {
        let cpus = Cpus::new(board, 2);
        let busy = || {
            cpus.publish_load(CPUS[0], 2, 1);
            cpus.claim_idle(&CpuSet::first(2))
        };
        let idle = || cpus.offer(CPUS[1]);
        // A thread that is spawned begins late: now the one, now the other.
        let claimed = thread::scope(|scope| {
            if meeting % 2 == 0 {
                let busy = scope.spawn(busy);
                idle();
                busy.join().expect("nobody panics")
            } else {
                scope.spawn(idle);
                busy()
            }
        });
        assert!(
            claimed == Some(CPUS[1]) || cpus.is_called(CPUS[0]),
            "one sleeps, and nobody comes to it"
        );
    }
}
