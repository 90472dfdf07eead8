//! The main loop of a CPU.

mod balance;
mod resting;

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use arm_vcpu::{Aarch64VCpu, AxVCpuExitReason as Exit, AxVCpuHal, Running, VcpuError};
use vm_contract::VcpuId;

use crate::cpu::{Cpu, PcpuId, PhysicalInterrupt};
use crate::dispatch::{Outcome, dispatch};
use crate::machine::Hypervisor;
use crate::monitor;
use crate::sched::{CpuState, Message, Rest, RunQueue};
use crate::telemetry::Moment;
use crate::vcpu::{Vcpu, earliest};
use crate::vm::boot::Boot;
use crate::vm::mailbox::Doing;
use crate::vm::power::StopReason;

/// How many physical interrupts an idle CPU takes before it looks around.
const INTERRUPTS_PER_PASS: usize = 8;
/// The part of a slice for which VMs are being started between two turns.
const BOOT_PART: u64 = 4;

/// The vCPUs that are on one CPU, and what it has to do besides running them.
pub struct Scheduler<H: AxVCpuHal> {
    queue: RunQueue<Box<Vcpu<H>>>,
    /// VMs that this CPU is starting.
    boots: VecDeque<Boot>,
    /// Which vCPU of each VM was loaded last.
    last: Vec<Option<VcpuId>>,
    /// Turns that were used up since a vCPU was last sent away.
    used_turns: u32,
    /// What other CPUs know of the load of this one: vCPUs that want it, and those of
    /// them that may run elsewhere.
    published: (usize, usize),
    /// When one of those that rest wants attention, at the earliest.
    next_wake_up: u64,
    /// One of those that rest may have been called before it did.
    called_going_to_rest: bool,
}

/// No time at all.
const NEVER: u64 = u64::MAX;

/// A turn that begins.
struct Turn {
    /// The number of the vCPU in the queue.
    index: usize,
    began: u64,
    /// For how long the vCPU has been ready, in ticks.
    waited: u64,
}

/// What becomes of a vCPU that has just left the CPU.
enum Next {
    /// It waits for its next turn.
    Wait,
    /// It waits for an interrupt.
    Rest,
    /// It runs no more.
    Off,
}

/// Decides what becomes of a vCPU that has left the CPU at `now`.
#[inline(always)]
fn what_next<H: AxVCpuHal>(vcpu: &mut Vcpu<H>, outcome: Outcome, now: u64) -> Next {
    if matches!(outcome, Outcome::Off | Outcome::Fault(_)) || vcpu.vm().is_stopping() {
        return Next::Off;
    }
    if outcome != Outcome::Block {
        return Next::Wait;
    }
    // It may have expired while the guest was on its way out.
    vcpu.update_physical_timer(now);
    if vcpu.left_with_interrupt() {
        Next::Wait
    } else {
        Next::Rest
    }
}

/// Tells whether a vCPU may run.
fn may_run<H: AxVCpuHal>(vcpu: &Vcpu<H>) -> bool {
    !vcpu.vm().is_paused()
}

impl<H: AxVCpuHal> Scheduler<H> {
    /// Makes the scheduler of a CPU on which there is nobody yet.
    #[must_use]
    pub fn new(hypervisor: &Hypervisor<H>) -> Self {
        let mut queue = RunQueue::new(hypervisor.slice_ticks());
        queue.reserve(hypervisor.vcpu_capacity());
        Self {
            queue,
            boots: VecDeque::with_capacity(hypervisor.slots().len()),
            last: vec![None; hypervisor.slots().len()],
            used_turns: 0,
            published: (0, 0),
            next_wake_up: NEVER,
            called_going_to_rest: false,
        }
    }

    /// Gives each vCPU its turn, and sleeps while there is none to give. Returns
    /// when the last VM of the machine has stopped.
    pub fn run<C: Cpu<Hal = H>>(&mut self, hypervisor: &Hypervisor<H>, cpu: &mut C) {
        arm_vgic_core::prepare(cpu.ich());
        let state = hypervisor.cpus().state(cpu.id());
        let mut now = cpu.now_ticks();
        while !hypervisor.is_over() {
            now = self.attend(hypervisor, cpu, state, now);
            now = match self.queue.take_next(now, |vcpu| may_run(vcpu)) {
                Some((index, waited)) => {
                    let turn = Turn {
                        index,
                        began: now,
                        waited,
                    };
                    self.take_turn(hypervisor, cpu, state, turn)
                }
                None => self.idle(hypervisor, cpu, state),
            };
        }
    }

    /// Looks around between two turns, at `now`. Returns what time it is then.
    #[inline]
    fn attend<C: Cpu<Hal = H>>(
        &mut self,
        hypervisor: &Hypervisor<H>,
        cpu: &C,
        state: &CpuState,
        mut now: u64,
    ) -> u64 {
        let is_called = state.take_call();
        if is_called {
            self.receive(hypervisor, cpu.id());
        }
        if hypervisor.serves_console(cpu.id()) && hypervisor.console().wants_attention() {
            // It shows the load of each CPU.
            self.publish(hypervisor, cpu.id());
            monitor::attend(hypervisor);
        }
        if is_called || self.next_wake_up <= now || self.called_going_to_rest {
            self.attend_vcpus(hypervisor, now);
        }
        if !self.boots.is_empty() {
            self.boot_vms(hypervisor, cpu);
            now = cpu.now_ticks();
        }
        self.balance(hypervisor, cpu.id());
        now
    }

    /// Takes what was sent to this CPU; who sent it has called.
    fn receive(&mut self, hypervisor: &Hypervisor<H>, here: PcpuId) {
        while let Some(message) = hypervisor.receive(here) {
            match message {
                Message::Arrival(vcpu) => self.queue.arrive(vcpu),
                Message::Boot(vm) => {
                    hypervisor.console().begin(vm.id());
                    self.boots.push_back(Boot::new(vm));
                }
            }
        }
    }

    /// Runs one vCPU until its turn is over, or the CPU has to look around. Returns
    /// when that is.
    #[expect(
        clippy::expect_used,
        reason = "the order of loading is this file's own"
    )]
    fn take_turn<C: Cpu<Hal = H>>(
        &mut self,
        hypervisor: &Hypervisor<H>,
        cpu: &mut C,
        state: &CpuState,
        turn: Turn,
    ) -> u64 {
        let Turn {
            index,
            began,
            waited,
        } = turn;
        let end = self.end_of_turn(hypervisor, cpu.id(), began);
        let alone = self.boots.is_empty() && !state.is_shared();
        let Some(vcpu) = self.queue.get_mut(index) else {
            return began;
        };
        if !vcpu.vm().try_enter() {
            // It has been paused just now.
            self.queue.put_back(index, began, 0, true);
            return began;
        }
        let who = (vcpu.vm().id(), vcpu.id());
        vcpu.begin_turn(began, waited, alone);
        vcpu.set_turn_end(end);
        vcpu.mailbox().begin(Doing::Running);
        vcpu.expire(began);
        cpu.set_deadline(vcpu.deadline(began));
        state.note_running(Some(who));
        vcpu.load(cpu).expect("a vCPU that is not loaded can be");
        let last = self.last.get_mut(usize::from(who.0.raw()));
        if last.is_none_or(|last| last.replace(who.1).is_some_and(|last| last != who.1)) {
            // Two vCPUs of a VM use the same VMID and may use the same ASIDs
            // for different address spaces.
            cpu.forget_translations();
        }
        let outcome = run_loaded(cpu, vcpu).expect("one that is loaded can leave");
        vcpu.mailbox().end(Doing::Running);
        let now = cpu.glance_at_ticks();
        vcpu.vm().leave(now);
        vcpu.time().end_turn(now - began);
        match what_next(vcpu, outcome, now) {
            Next::Wait => {
                let is_used_up = self.queue.turn_end().is_some_and(|end| end <= now);
                self.used_turns = self.used_turns.saturating_add(is_used_up.into());
                let ends_turn = is_used_up || outcome == Outcome::Yield;
                self.queue.put_back(index, now, now - began, ends_turn);
            }
            Next::Rest => {
                self.queue.charge(index, now - began);
                self.put_to_rest(index, Rest::Blocked, now);
            }
            Next::Off => {
                self.queue.charge(index, now - began);
                self.end_running(hypervisor, index, outcome, now);
            }
        }
        now
    }

    /// Turns a vCPU off that has just left the CPU, at its own wish or its VM's.
    #[cold]
    #[inline(never)]
    fn end_running(
        &mut self,
        hypervisor: &Hypervisor<H>,
        index: usize,
        outcome: Outcome,
        now: u64,
    ) {
        let Some(vcpu) = self.queue.get_mut(index) else {
            return;
        };
        let (vm, id) = (Arc::clone(vcpu.vm()), vcpu.id());
        if let Outcome::Fault(fault) = outcome {
            hypervisor.report_fault(vcpu, fault);
            vm.request_stop(StopReason::Fault, Some(id));
        }
        // Not before the vCPU has left the CPU: from now on others may start it.
        if outcome == Outcome::Off {
            vm.cpu_off(id);
        }
        self.turn_off(hypervisor, index, now);
        hypervisor.park(&vm, id);
    }

    /// Returns when a turn that begins at `now` has to be interrupted: at its
    /// end, if somebody waits for that, or to look after somebody who rests.
    fn end_of_turn(&self, hypervisor: &Hypervisor<H>, cpu: PcpuId, now: u64) -> Option<u64> {
        let slice = match self.boots.is_empty() {
            true => self.queue.turn_end(),
            false => Some(now + hypervisor.slice_ticks()),
        };
        let console = hypervisor
            .serves_console(cpu)
            .then(|| hypervisor.console().deadline())
            .flatten();
        let wake_up = (self.next_wake_up != NEVER).then_some(self.next_wake_up);
        earliest(earliest(slice, console), wake_up)
    }

    /// Goes on starting VMs, for a while if there are vCPUs to run.
    fn boot_vms<C: Cpu<Hal = H>>(&mut self, hypervisor: &Hypervisor<H>, cpu: &C) {
        let end = cpu.now_ticks() + hypervisor.slice_ticks() / BOOT_PART;
        while let Some(boot) = self.boots.front_mut() {
            match boot.step() {
                Ok(false) if cpu.now_ticks() < end => {}
                Ok(false) => return,
                Ok(true) => drop(self.boots.pop_front()),
                Err(error) => {
                    let vm = boot.vm();
                    log::error!("VM {} ({}) cannot be started: {error}", vm.id(), vm.name());
                    vm.abandon();
                    self.boots.pop_front();
                }
            }
        }
    }

    /// Sleeps until an interrupt or the next deadline. Returns when that was.
    fn idle<C: Cpu<Hal = H>>(
        &self,
        hypervisor: &Hypervisor<H>,
        cpu: &mut C,
        state: &CpuState,
    ) -> u64 {
        let cpus = hypervisor.cpus();
        state.note_running(None);
        cpus.offer(cpu.id());
        let is_free = self.boots.is_empty() && !self.called_going_to_rest;
        if is_free && !cpus.is_called(cpu.id()) {
            cpu.set_deadline(self.end_of_turn(hypervisor, cpu.id(), cpu.now_ticks()));
            cpu.wait_for_interrupt();
            // A few at a time: none may keep the vCPUs that are here from waking up.
            for _ in 0..INTERRUPTS_PER_PASS {
                let Some(interrupt) = cpu.acknowledge() else {
                    break;
                };
                if interrupt == PhysicalInterrupt::Console {
                    hypervisor.console().service(None);
                }
                if let PhysicalInterrupt::Device(intid) = interrupt {
                    hypervisor.builder().devices.service(intid, None);
                }
                cpu.finish(interrupt);
            }
        }
        cpus.end_offer(cpu.id());
        cpu.now_ticks()
    }
}

/// The run loop: enters the guest again and again until an exit ends the turn, and takes
/// the vCPU off the CPU.
fn run_loaded<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>) -> Result<Outcome, VcpuError> {
    let mut outcome = look_around(cpu, vcpu);
    let mut loaded = Loaded { cpu, vcpu };
    while outcome == Outcome::Resume {
        outcome = Aarch64VCpu::run_for(&mut loaded);
    }
    loaded.vcpu.unload(loaded.cpu)?;
    Ok(outcome)
}

/// A vCPU and the CPU in which it is.
struct Loaded<'a, C: Cpu> {
    cpu: &'a mut C,
    vcpu: &'a mut Vcpu<C::Hal>,
}

impl<C: Cpu> Running for Loaded<'_, C> {
    type Hal = C::Hal;
    type Noted = Moment;
    type Outcome = Outcome;

    #[inline(always)]
    fn vcpu(&mut self) -> &mut Aarch64VCpu<C::Hal> {
        &mut self.vcpu.arch
    }

    #[inline(always)]
    fn note(&mut self, pc: u64) -> Moment {
        Moment::new(self.cpu.glance_at_ticks(), pc)
    }

    #[inline(always)]
    fn answer(&mut self, began: Moment, exit: Exit) -> Outcome {
        let outcome = match dispatch(self.cpu, self.vcpu, exit) {
            Outcome::Resume => look_around(self.cpu, self.vcpu),
            outcome => outcome,
        };
        self.vcpu.end_exit(self.cpu, began);
        outcome
    }
}

/// Sees to what others want of the vCPU before it enters the guest.
#[inline(always)]
fn look_around<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>) -> Outcome {
    if !vcpu.mailbox().take() {
        return Outcome::Resume;
    }
    if vcpu.vm().is_stopping() {
        return Outcome::Off;
    }
    if vcpu.vm().is_paused() {
        return Outcome::Attend;
    }
    vcpu.refresh_interrupts(cpu);
    Outcome::Resume
}

#[cfg(test)]
mod tests;
