//! The vCPUs of a CPU that wait for something: to be turned on, or for an
//! interrupt.

use alloc::sync::Arc;

use arm_vcpu::AxVCpuHal;

use super::Scheduler;
use crate::cpu::Cpu;
use crate::machine::Hypervisor;
use crate::sched::Rest;
use crate::vcpu::Vcpu;
use crate::vm::mailbox::Doing;
use crate::vm::power::Start;

/// What becomes of a vCPU that rests.
enum Next {
    Rest,
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
    let vm = vcpu.vm();
    if vm.is_paused() {
        return Next::Rest;
    }
    if vm.is_stopping() {
        return Next::Park;
    }
    vcpu.expire_resting(rest, now);
    // Its own timer may have called it just now.
    if !called && !vcpu.mailbox().take() {
        return Next::Rest;
    }
    match rest {
        Rest::Blocked if vcpu.is_deliverable() => Next::Wake,
        Rest::Blocked => Next::Rest,
        Rest::Off => match vcpu.vm().take_start(vcpu.id()) {
            Some(start) => Next::Start(start),
            None if vcpu.vm().is_over() => Next::Dismiss,
            None => Next::Rest,
        },
    }
}

impl<H: AxVCpuHal> Scheduler<H> {
    /// Looks at every vCPU that rests.
    pub(super) fn attend_resting<C: Cpu<Hal = H>>(
        &mut self,
        hypervisor: &Hypervisor<H>,
        cpu: &C,
    ) {
        let now = cpu.now_ticks();
        // From the last one on: whoever leaves is replaced by one that was seen.
        for index in (0..self.queue.len()).rev() {
            let Some(rest) = self.queue.rest(index) else {
                continue;
            };
            let Some(vcpu) = self.queue.get_mut(index) else {
                continue;
            };
            match look(vcpu, rest, now) {
                Next::Rest => {}
                Next::Wake => {
                    vcpu.mailbox().set_doing(Doing::Ready);
                    self.queue.wake(index, now);
                }
                Next::Start(start) => {
                    vcpu.start(start);
                    vcpu.mailbox().set_doing(Doing::Ready);
                    let set = vcpu.vm().cpu_set(vcpu.id());
                    hypervisor.cpus().contend(&set);
                    self.queue.wake(index, now);
                }
                Next::Park => {
                    let (vm, id) = (Arc::clone(vcpu.vm()), vcpu.id());
                    if rest == Rest::Blocked {
                        self.turn_off(hypervisor, index);
                    }
                    hypervisor.park(&vm, id);
                }
                Next::Dismiss => {
                    let vm = Arc::clone(vcpu.vm());
                    drop(self.queue.leave(index));
                    hypervisor.dismiss(vm);
                }
            }
        }
    }

    /// Records that a vCPU, which was on, is off.
    pub(super) fn turn_off(&mut self, hypervisor: &Hypervisor<H>, index: usize) {
        if let Some(vcpu) = self.queue.get(index) {
            let set = vcpu.vm().cpu_set(vcpu.id());
            hypervisor.cpus().withdraw(&set);
            vcpu.mailbox().set_doing(Doing::Resting);
        }
        self.queue.put_to_rest(index, Rest::Off);
    }

    /// Returns when one of those that rest wants attention.
    pub(super) fn deadline_of_resting(&self, now: u64) -> Option<u64> {
        (0..self.queue.len())
            .filter_map(|index| {
                let (rest, vcpu) = (self.queue.rest(index)?, self.queue.get(index)?);
                if vcpu.vm().is_paused() {
                    return None;
                }
                vcpu.deadline_resting(rest, now)
            })
            .min()
    }

    /// Tells whether one of those that rest was called.
    pub(super) fn is_anybody_called(&self) -> bool {
        (0..self.queue.len()).any(|index| {
            self.queue.rest(index).is_some()
                && self
                    .queue
                    .get(index)
                    .is_some_and(|vcpu| vcpu.mailbox().called())
        })
    }
}
