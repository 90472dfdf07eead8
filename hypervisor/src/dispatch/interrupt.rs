//! Physical interrupts that ended a run of the guest.

use super::Outcome;
use crate::cpu::{Cpu, PhysicalInterrupt};
use crate::telemetry::Reason;
use crate::vcpu::Vcpu;

/// Takes one physical interrupt. If more wait, the next entry ends at once.
#[inline(always)]
pub(super) fn take<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>) -> Outcome {
    let Some(interrupt) = cpu.acknowledge() else {
        vcpu.exits.reason = Reason::Unexpected;
        return Outcome::Resume;
    };
    let outcome = match interrupt {
        PhysicalInterrupt::VirtualTimer => {
            vcpu.exits.reason = Reason::VirtualTimer;
            vcpu.take_virtual_timer(cpu);
            return Outcome::Resume;
        }
        PhysicalInterrupt::Kick => {
            vcpu.exits.reason = Reason::Kick;
            if vcpu.vm.cpus().is_called(cpu.id()) {
                Outcome::Attend
            } else {
                // It is for the vCPU itself, whose mailbox is looked at next.
                Outcome::Resume
            }
        }
        PhysicalInterrupt::Unexpected(_) => {
            vcpu.exits.reason = Reason::Unexpected;
            Outcome::Resume
        }
        PhysicalInterrupt::Maintenance => {
            vcpu.exits.reason = Reason::Maintenance;
            vcpu.refresh_interrupts(cpu);
            Outcome::Resume
        }
        PhysicalInterrupt::Deadline => {
            vcpu.exits.reason = Reason::Deadline;
            let now = cpu.now_ticks();
            // What else is due then is seen to when its next turn begins.
            if vcpu.is_turn_over(now) {
                Outcome::Attend
            } else {
                vcpu.expire(now);
                cpu.set_deadline(vcpu.deadline(now));
                Outcome::Resume
            }
        }
        PhysicalInterrupt::Console => {
            vcpu.exits.reason = Reason::Console;
            let console = vcpu.vm.console();
            console.service(Some((vcpu.vm.id(), vcpu.id())));
            if console.wants_attention() {
                Outcome::Attend
            } else {
                Outcome::Resume
            }
        }
        PhysicalInterrupt::Device(intid) => {
            vcpu.exits.reason = Reason::Device;
            let current = (vcpu.vm.id(), vcpu.id());
            vcpu.vm.devices().service(intid, Some(current));
            Outcome::Resume
        }
    };
    cpu.finish(interrupt);
    outcome
}
