//! vCPUs that go to another CPU rather than wait.
//!
//! A vCPU that waits goes to an idle CPU at once, if it may run there. Without an
//! idle one it goes where there is less to do: at once if it is much less, and
//! now and then if it is a little less, so that nobody has half a CPU for ever
//! where others have a whole one.

use alloc::boxed::Box;

use arm_vcpu::AxVCpuHal;

use super::Scheduler;
use crate::cpu::PcpuId;
use crate::machine::Hypervisor;
use crate::sched::{CpuSet, Message};
use crate::vcpu::Vcpu;

/// After how many turns that were used up a vCPU goes to a CPU on which there is
/// only one less.
const PATIENCE: u32 = 16;

impl<H: AxVCpuHal> Scheduler<H> {
    /// Sends vCPUs that wait here to CPUs where they need not, or not as long.
    pub(super) fn balance(&mut self, hypervisor: &Hypervisor<H>, here: PcpuId) {
        self.publish(hypervisor, here);
        while let Some((index, target)) = self.find_move(hypervisor, here) {
            self.send_away(hypervisor, index, target);
            self.publish(hypervisor, here);
        }
    }

    fn publish(&self, hypervisor: &Hypervisor<H>, here: PcpuId) {
        let movable = self.movable().count();
        hypervisor
            .cpus()
            .publish_load(here, self.queue.load(), movable);
    }

    /// Returns those that wait and may run elsewhere. One of those that are ready
    /// stays: it will run here next.
    fn movable(&self) -> impl Iterator<Item = (usize, CpuSet)> {
        let stays = usize::from(self.queue.load() == self.queue.waiting().count());
        self.queue.waiting().skip(stays).filter_map(|index| {
            let vcpu = self.queue.get(index)?;
            let set = vcpu.vm().cpu_set(vcpu.id());
            (set.len() > 1 && !vcpu.vm().is_paused()).then_some((index, set))
        })
    }

    fn find_move(&mut self, hypervisor: &Hypervisor<H>, here: PcpuId) -> Option<(usize, PcpuId)> {
        let cpus = hypervisor.cpus();
        let idle = self
            .movable()
            .find_map(|(index, set)| Some((index, cpus.claim_idle(&set)?)));
        if idle.is_some() {
            return idle;
        }
        let margin = if self.used_turns >= PATIENCE { 1 } else { 2 };
        let most = self.queue.load().checked_sub(margin)?;
        let found = self.movable().find_map(|(index, set)| {
            let target = set
                .iter()
                .filter(|cpu| *cpu != here)
                .min_by_key(|cpu| cpus.load(*cpu))?;
            (cpus.load(target) <= most).then_some((index, target))
        });
        if found.is_some() {
            self.used_turns = 0;
        }
        found
    }

    /// Moves a vCPU that is ready to another CPU.
    fn send_away(&mut self, hypervisor: &Hypervisor<H>, index: usize, target: PcpuId) {
        if let Some(moving) = self.queue.leave(index) {
            let vcpu: &Box<Vcpu<H>> = &moving.item;
            vcpu.time().moved();
            vcpu.mailbox().move_to(target);
            hypervisor.send(target, Message::Arrival(moving));
        }
    }
}
