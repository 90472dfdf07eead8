//! vCPUs that go to another CPU rather than wait.
//!
//! A vCPU that waits goes to an idle CPU at once, if it may run there. Without an
//! idle one it goes where there is less to do: at once if it is much less, and
//! now and then if it is a little less, so that nobody has half a CPU for ever
//! where others have a whole one.

use arm_vcpu::AxVCpuHal;

use super::{Scheduler, may_run};
use crate::cpu::PcpuId;
use crate::machine::Hypervisor;
use crate::sched::{CpuSet, Message};

/// After how many turns that were used up a vCPU goes to a CPU on which there is
/// only one less.
const PATIENCE: u32 = 16;

impl<H: AxVCpuHal> Scheduler<H> {
    /// Sends vCPUs that wait here to CPUs where they need not, or not as long.
    #[inline]
    pub(super) fn balance(&mut self, hypervisor: &Hypervisor<H>, here: PcpuId) {
        if hypervisor.cpus().len() > 1 {
            self.balance_with_others(hypervisor, here);
        }
    }

    #[inline(never)]
    fn balance_with_others(&mut self, hypervisor: &Hypervisor<H>, here: PcpuId) {
        self.publish(hypervisor, here);
        if self.load() < 2 {
            return;
        }
        while let Some((index, target)) = self.find_move(hypervisor, here) {
            self.send_away(hypervisor, index, target);
            self.publish(hypervisor, here);
        }
    }

    /// Returns how many vCPUs want this CPU.
    fn load(&self) -> usize {
        self.queue.ready_count(|vcpu| may_run(vcpu))
    }

    /// Returns those that wait for this CPU.
    fn waiting(&self) -> impl Iterator<Item = (usize, u64)> {
        self.queue.waiting(|vcpu| may_run(vcpu))
    }

    pub(super) fn publish(&mut self, hypervisor: &Hypervisor<H>, here: PcpuId) {
        let load = self.load();
        let movable = if load > 1 && self.has_spare() {
            self.movable().count()
        } else {
            0
        };
        if self.published != (load, movable) {
            self.published = (load, movable);
            hypervisor.cpus().publish_load(here, load, movable);
        }
    }

    /// Tells whether somebody remains to be run here if one of those that wait
    /// goes away.
    fn has_spare(&self) -> bool {
        let waiting = self.waiting().count();
        waiting > usize::from(self.load() == waiting)
    }

    /// Returns those that wait and may run elsewhere: number, since when each has
    /// been here, and where it may run.
    fn movable(&self) -> impl Iterator<Item = (usize, u64, CpuSet)> {
        self.waiting().filter_map(|(index, arrived)| {
            let vcpu = self.queue.get(index)?;
            let set = vcpu.vm().cpu_set(vcpu.id());
            (set.len() > 1).then_some((index, arrived, set))
        })
    }

    /// Returns who goes where. Who has been here longest goes first, so that all
    /// get around.
    fn find_move(&mut self, hypervisor: &Hypervisor<H>, here: PcpuId) -> Option<(usize, PcpuId)> {
        if !self.has_spare() {
            return None;
        }
        let cpus = hypervisor.cpus();
        let idle = self
            .movable()
            .find_map(|(index, _, set)| Some((index, cpus.claim_idle(&set)?)));
        if idle.is_some() {
            return idle;
        }
        let margin = if self.used_turns >= PATIENCE { 1 } else { 2 };
        let most = self.load().checked_sub(margin)?;
        let found = self
            .movable()
            .filter_map(|(index, arrived, set)| {
                let target = set
                    .iter()
                    .filter(|cpu| *cpu != here)
                    .min_by_key(|cpu| cpus.load(*cpu))?;
                (cpus.load(target) <= most).then_some((arrived, index, target))
            })
            .min_by_key(|(arrived, ..)| *arrived);
        self.used_turns = match found {
            Some(_) => 0,
            None => self.used_turns,
        };
        found.map(|(_, index, target)| (index, target))
    }

    /// Moves a vCPU that is ready to another CPU.
    fn send_away(&mut self, hypervisor: &Hypervisor<H>, index: usize, target: PcpuId) {
        if let Some(moving) = self.queue.leave(index) {
            moving.item.time().moved();
            moving.item.mailbox().move_to(target);
            hypervisor.send(target, Message::Arrival(moving));
        }
    }
}
