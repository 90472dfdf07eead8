//! The main loop of a CPU.

use alloc::boxed::Box;
use alloc::vec::Vec;

use arm_vcpu::{AxVCpuHal, VcpuError};

use crate::cpu::{Cpu, PhysicalInterrupt};
use crate::dispatch::{Outcome, dispatch};
use crate::machine::Hypervisor;
use crate::monitor;
use crate::sched::{Rest, RunQueue, SLICE_MS, Seat};
use crate::vcpu::{Vcpu, earliest};
use crate::vm::power::StopReason;

/// How many physical interrupts an idle CPU takes before it looks around.
const INTERRUPTS_PER_PASS: usize = 8;

/// The vCPUs that live on one CPU and whose turn it is.
pub struct Residents<H: AxVCpuHal> {
    vcpus: Vec<Box<Vcpu<H>>>,
    queue: RunQueue,
    slice_ticks: u64,
    /// Who was loaded last.
    last: Option<Seat>,
}

impl<H: AxVCpuHal> Residents<H> {
    /// Creates the vCPUs of all VMs that live on this CPU.
    ///
    /// # Errors
    /// [`VcpuError`] if the CPU cannot run one of them.
    pub fn new<C: Cpu<Hal = H>>(
        hypervisor: &Hypervisor,
        cpu: &C,
        hal: impl Fn() -> H,
    ) -> Result<Self, VcpuError> {
        let here = || {
            hypervisor
                .vms()
                .iter()
                .flat_map(|vm| vm.residents(cpu.id()).map(move |vcpu| (vm, vcpu)))
        };
        let shared = here().count() > 1;
        let mut queue = RunQueue::default();
        let mut vcpus = Vec::new();
        for (vm, id) in here() {
            queue.add();
            vcpus.push(Vcpu::new(vm.clone(), id, hal(), shared)?);
        }
        let slice_ticks = hypervisor.machine().ticks_per_second() * SLICE_MS / 1000;
        Ok(Self {
            vcpus,
            queue,
            slice_ticks,
            last: None,
        })
    }

    /// Gives each vCPU its turn, and sleeps while there is none to give. Returns
    /// when the last VM of the machine has stopped.
    pub fn run<C: Cpu<Hal = H>>(&mut self, hypervisor: &Hypervisor, cpu: &mut C) {
        while !hypervisor.is_over() {
            if hypervisor.console().wants_attention() {
                monitor::attend(hypervisor);
            }
            self.attend(hypervisor, cpu);
            match self.queue.take_next() {
                Some(seat) => self.take_turn(hypervisor, cpu, seat),
                None => self.idle(hypervisor, cpu),
            }
        }
    }

    /// Looks at every vCPU that rests: deadlines, calls, starts and stops.
    fn attend<C: Cpu>(&mut self, hypervisor: &Hypervisor, cpu: &C) {
        let now = cpu.now_ticks();
        for (seat, vcpu) in self.queue.seats().zip(&mut self.vcpus) {
            let Some(rest) = self.queue.rest(seat) else {
                continue;
            };
            vcpu.expire_resting(rest, now);
            let called = vcpu.mailbox().take();
            let vm = vcpu.vm().clone();
            match rest {
                Rest::Blocked if vm.is_stopping() => {
                    self.queue.turn_off(seat);
                    hypervisor.park(&vm, vcpu.id());
                }
                Rest::Blocked if called && vcpu.is_deliverable() => self.queue.wake(seat),
                Rest::Off if called => {
                    if let Some(start) = vm.take_start(vcpu.id()) {
                        vcpu.start(start);
                        self.queue.wake(seat);
                    } else if vm.is_stopping() {
                        hypervisor.park(&vm, vcpu.id());
                    }
                }
                Rest::Blocked | Rest::Off => {}
            }
        }
    }

    /// Runs one vCPU until its turn is over.
    #[expect(
        clippy::expect_used,
        reason = "the order of loading is this file's own"
    )]
    fn take_turn<C: Cpu<Hal = H>>(&mut self, hypervisor: &Hypervisor, cpu: &mut C, seat: Seat) {
        let now = cpu.now_ticks();
        let slice_end = self.queue.has_waiting().then(|| now + self.slice_ticks);
        let others = self.deadline_of_resting(now);
        let Some(vcpu) = self.vcpus.get_mut(seat.index()) else {
            return;
        };
        vcpu.begin_turn(earliest(slice_end, others));
        vcpu.expire(now);
        cpu.set_deadline(vcpu.deadline(now));
        if self.last.replace(seat).is_some_and(|last| last != seat) {
            // Two vCPUs of a VM use the same VMID and may use the same ASIDs
            // for different address spaces.
            cpu.forget_translations(vcpu.vm().vcpu_facts().vttbr());
        }
        hypervisor.note_running(cpu.id(), Some((vcpu.vm().id(), vcpu.id())));
        let outcome = run_loaded(cpu, vcpu).expect("a resident that is not loaded can be");
        hypervisor.note_running(cpu.id(), None);
        if let Outcome::Fault(fault) = outcome {
            hypervisor.report_fault(vcpu.vm(), vcpu.id(), fault, vcpu.arch.frame());
            vcpu.vm().request_stop(StopReason::Fault, Some(vcpu.id()));
        }
        // Not before the vCPU has left the CPU: from now on others may start it.
        if outcome == Outcome::Off {
            vcpu.vm().cpu_off(vcpu.id());
        }
        if vcpu.vm().is_stopping() {
            self.queue.put_to_rest(seat, Rest::Off);
            let vm = vcpu.vm().clone();
            hypervisor.park(&vm, vcpu.id());
            return;
        }
        match outcome {
            Outcome::Resume | Outcome::Yield => self.queue.yield_turn(seat),
            Outcome::Block if vcpu.is_deliverable() => self.queue.yield_turn(seat),
            Outcome::Block => self.queue.put_to_rest(seat, Rest::Blocked),
            Outcome::Off | Outcome::Fault(_) => self.queue.put_to_rest(seat, Rest::Off),
        }
    }

    /// Sleeps until an interrupt or the next deadline.
    fn idle<C: Cpu>(&self, hypervisor: &Hypervisor, cpu: &mut C) {
        if self.vcpus.iter().any(|vcpu| vcpu.mailbox().called()) {
            return;
        }
        let console = hypervisor.console().deadline();
        cpu.set_deadline(earliest(self.deadline_of_resting(cpu.now_ticks()), console));
        cpu.wait_for_interrupt();
        // A few at a time: none may keep the vCPUs that live here from waking up.
        for _ in 0..INTERRUPTS_PER_PASS {
            let Some(interrupt) = cpu.acknowledge() else {
                break;
            };
            if interrupt == PhysicalInterrupt::Console {
                hypervisor.console().service(None);
            }
            cpu.finish(interrupt);
        }
    }

    fn deadline_of_resting(&self, now: u64) -> Option<u64> {
        self.queue
            .seats()
            .zip(&self.vcpus)
            .filter_map(|(seat, vcpu)| vcpu.deadline_resting(self.queue.rest(seat)?, now))
            .min()
    }
}

/// The run loop: enters the guest again and again until an exit ends the turn.
fn run_loaded<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>) -> Result<Outcome, VcpuError> {
    vcpu.load(cpu)?;
    let outcome = loop {
        if vcpu.mailbox().take() {
            if vcpu.vm().is_stopping() {
                break Outcome::Off;
            }
            vcpu.refresh_interrupts(cpu);
        }
        let exit = vcpu.arch.run_bound();
        match dispatch(cpu, vcpu, exit) {
            Outcome::Resume => {}
            outcome => break outcome,
        }
    };
    vcpu.unload(cpu)?;
    Ok(outcome)
}

#[cfg(test)]
mod tests;
