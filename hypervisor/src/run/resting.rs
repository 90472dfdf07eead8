//! The vCPUs of a CPU that do not run: most of them wait for something, to be
//! turned on or for an interrupt.

use alloc::sync::Arc;

use arm_vcpu::AxVCpuHal;

use super::{NEVER, Scheduler};
use crate::machine::Hypervisor;
use crate::sched::Rest;
use crate::vcpu::Vcpu;
use crate::vm::mailbox::Doing;
use crate::vm::power::Start;

/// What becomes of a vCPU that does not run.
enum Next {
    Stay,
    /// An interrupt is there for it.
    Wake,
    /// It is turned on.
    Start(Start),
    /// Its VM is stopping.
    Park,
    /// Its VM is over.
    Dismiss,
}

/// Looks at a vCPU that rests: deadlines, calls, starts and stops.
fn look<H: AxVCpuHal>(vcpu: &mut Vcpu<H>, rest: Rest, now: u64) -> Next {
    // Before the VM's state is looked at: whoever changes that calls afterwards.
    let called = vcpu.mailbox().take();
    if !called && vcpu.wakes_at().is_none_or(|at| now < at) {
        return Next::Stay;
    }
    let next = look_closely(vcpu, rest, now);
    if let Next::Stay = next {
        vcpu.note_wake_up(rest, now);
    }
    next
}

fn look_closely<H: AxVCpuHal>(vcpu: &mut Vcpu<H>, rest: Rest, now: u64) -> Next {
    if vcpu.vm().is_paused() {
        return Next::Stay;
    }
    vcpu.expire_resting(rest, now);
    // Its own timer may have called it. What others have done until now is seen
    // below, a stop as well; whoever calls from now on tells this CPU.
    vcpu.mailbox().take();
    if vcpu.vm().is_stopping() {
        return Next::Park;
    }
    match rest {
        Rest::Blocked if vcpu.is_deliverable() => Next::Wake,
        Rest::Blocked => Next::Stay,
        Rest::Off => match vcpu.vm().take_start(vcpu.id()) {
            Some(start) => Next::Start(start),
            None if vcpu.vm().is_over() => Next::Dismiss,
            None => Next::Stay,
        },
    }
}

impl<H: AxVCpuHal> Scheduler<H> {
    /// Looks at every vCPU: those that rest may have something to do, and those of
    /// a VM that stops have to be parked.
    pub(super) fn attend_vcpus(&mut self, hypervisor: &Hypervisor<H>, now: u64) {
        self.called_going_to_rest = false;
        let mut index = 0;
        while index < self.queue.len() {
            // Whoever leaves is replaced by one that has not been looked at.
            if self.attend_to(hypervisor, index, now) {
                index += 1;
            }
        }
        let resting = (0..self.queue.len()).filter(|index| self.queue.rest(*index).is_some());
        let wake_ups = resting.filter_map(|index| self.queue.get(index)?.wakes_at());
        self.next_wake_up = wake_ups.min().unwrap_or(NEVER);
    }

    /// Looks at number `index`; `false` if it has left.
    #[inline]
    fn attend_to(&mut self, hypervisor: &Hypervisor<H>, index: usize, now: u64) -> bool {
        let rest = self.queue.rest(index);
        let Some(vcpu) = self.queue.get_mut(index) else {
            return true;
        };
        let next = match rest {
            Some(rest) => look(vcpu, rest, now),
            // Nobody has to wait for a turn in order to be stopped.
            None if vcpu.vm().is_stopping() => {
                // It begins to rest: whoever calls it from now on tells this CPU.
                vcpu.mailbox().take();
                Next::Park
            }
            None => Next::Stay,
        };
        match next {
            Next::Stay => {}
            Next::Wake => {
                vcpu.mailbox().end(Doing::Resting);
                self.queue.wake(index, now);
            }
            Next::Start(start) => {
                vcpu.start(start);
                vcpu.mailbox().end(Doing::Resting);
                let set = vcpu.vm().cpu_set(vcpu.id());
                hypervisor.cpus().contend(&set);
                self.queue.wake(index, now);
            }
            Next::Park => {
                let (vm, id) = (Arc::clone(vcpu.vm()), vcpu.id());
                if rest != Some(Rest::Off) {
                    self.turn_off(hypervisor, index, now);
                }
                hypervisor.park(&vm, id);
            }
            Next::Dismiss => {
                let vm = Arc::clone(vcpu.vm());
                drop(self.queue.leave(index));
                hypervisor.dismiss(vm);
                return false;
            }
        }
        true
    }

    /// Lets a vCPU that has just left the CPU, or that was ready, rest.
    #[inline]
    pub(super) fn put_to_rest(&mut self, index: usize, rest: Rest, now: u64) {
        if let Some(vcpu) = self.queue.get_mut(index) {
            // Who called it before has told nobody.
            self.called_going_to_rest |= vcpu.mailbox().begin(Doing::Resting);
            let wakes_at = vcpu.begin_rest(rest, now).unwrap_or(NEVER);
            self.next_wake_up = self.next_wake_up.min(wakes_at);
        }
        self.queue.put_to_rest(index, rest);
    }

    /// Records that a vCPU, which was on, is off.
    pub(super) fn turn_off(&mut self, hypervisor: &Hypervisor<H>, index: usize, now: u64) {
        if let Some(vcpu) = self.queue.get(index) {
            let set = vcpu.vm().cpu_set(vcpu.id());
            hypervisor.cpus().withdraw(&set);
        }
        self.put_to_rest(index, Rest::Off, now);
    }
}
