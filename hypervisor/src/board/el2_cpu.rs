//! The CPU that executes, behind the library's trait.
#![expect(
    unsafe_code,
    reason = "instructions and registers that aarch64-cpu lacks"
)]

use core::arch::asm;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTHP_CTL_EL2, CNTPCT_EL0, CNTV_CTL_EL0, Readable, Writeable};
use arm_vcpu::el2::El2;
use hypervisor::cpu::{Cpu, PcpuId, PhysicalInterrupt};
use hypervisor::telemetry::Watched;
use vm_contract::IntId;

use super::gic::{CpuGic, Interrupts};

/// A physical CPU.
pub(crate) struct El2Cpu<G> {
    id: PcpuId,
    gic: G,
    interrupts: Interrupts,
    deadline: Option<u64>,
}

impl<G: CpuGic> El2Cpu<G> {
    pub(crate) fn new(id: PcpuId, gic: G, interrupts: Interrupts) -> Self {
        CNTHP_CTL_EL2.set(0);
        CNTV_CTL_EL0.set(0);
        Self {
            id,
            gic,
            interrupts,
            deadline: None,
        }
    }
}

/// Reads the system counter.
#[inline]
pub(crate) fn counter() -> u64 {
    barrier::isb(barrier::SY);
    CNTPCT_EL0.get()
}

/// Writes CNTHP_CVAL_EL2.
fn set_compare(ticks: u64) {
    // SAFETY: the compare value of EL2's own timer.
    unsafe { asm!("msr cnthp_cval_el2, {}", in(reg) ticks, options(nomem, nostack)) };
}

impl<G: CpuGic> Cpu for El2Cpu<G> {
    type Hal = El2;
    type Ich = G::Ich;

    fn id(&self) -> PcpuId {
        self.id
    }

    #[inline]
    fn ich(&mut self) -> &mut Watched<G::Ich> {
        self.gic.ich()
    }

    #[inline]
    fn now_ticks(&self) -> u64 {
        counter()
    }

    #[inline(always)]
    fn glance_at_ticks(&self) -> u64 {
        CNTPCT_EL0.get()
    }

    fn set_deadline(&mut self, deadline_ticks: Option<u64>) {
        if self.deadline == deadline_ticks {
            return;
        }
        self.deadline = deadline_ticks;
        match deadline_ticks {
            Some(ticks) => {
                set_compare(ticks);
                CNTHP_CTL_EL2.write(CNTHP_CTL_EL2::ENABLE::SET);
            }
            None => CNTHP_CTL_EL2.set(0),
        }
    }

    #[inline]
    fn acknowledge(&mut self) -> Option<PhysicalInterrupt> {
        let interrupt = self.interrupts.identify(self.gic.acknowledge()?);
        if interrupt == PhysicalInterrupt::Deadline {
            // Its wire stays high until the timer is stopped or moved.
            self.set_deadline(None);
        }
        Some(interrupt)
    }

    #[inline]
    fn finish(&mut self, interrupt: PhysicalInterrupt) {
        if let PhysicalInterrupt::Unexpected(intid) = interrupt {
            // One that CPUs share cannot come: none but those of devices are enabled.
            if intid.is_private() {
                self.gic.disable(intid);
            }
        }
        if let Some(intid) = self.interrupts.number(interrupt) {
            // What lowered the wire has to arrive before the deactivation.
            barrier::isb(barrier::SY);
            self.gic.deactivate(intid);
        }
    }

    #[inline]
    fn deactivate(&mut self, physical: IntId) {
        self.gic.deactivate(physical);
    }

    fn activate(&mut self, physical: IntId) {
        if physical.is_private() {
            self.gic.activate(physical);
        }
    }

    fn forget_translations(&mut self) {
        // Since VTTBR_EL2 was loaded there has been a context synchronisation, and the
        // return to the guest is the one that has to follow.
        // SAFETY: TLB maintenance changes no translation, it only makes the
        // tables be read again.
        unsafe { asm!("tlbi vmalle1", "dsb nsh", options(nostack)) };
    }

    fn wait_for_interrupt(&mut self) {
        barrier::dsb(barrier::SY);
        aarch64_cpu::asm::wfi();
    }
}
