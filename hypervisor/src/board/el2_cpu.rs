//! The CPU that executes, behind the library's trait.
#![expect(
    unsafe_code,
    reason = "instructions and registers that aarch64-cpu lacks"
)]

use core::arch::asm;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    CNTHP_CTL_EL2, CNTPCT_EL0, CNTV_CTL_EL0, Readable, VTTBR_EL2, Writeable,
};
use arm_vcpu::el2::El2;
use arm_vgic_v3::El2Ich;
use hypervisor::cpu::{Cpu, PcpuId, PhysicalInterrupt};
use vm_contract::IntId;

use super::gic::{CpuGic, Interrupts};

/// A physical CPU.
pub(crate) struct El2Cpu {
    id: PcpuId,
    gic: CpuGic,
    interrupts: Interrupts,
    ich: El2Ich,
    deadline: Option<u64>,
}

impl El2Cpu {
    pub(crate) fn new(id: PcpuId, gic: CpuGic, interrupts: Interrupts, ich: El2Ich) -> Self {
        CNTHP_CTL_EL2.set(0);
        CNTV_CTL_EL0.set(0);
        Self {
            id,
            gic,
            interrupts,
            ich,
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

impl Cpu for El2Cpu {
    type Hal = El2;
    type Ich = El2Ich;

    fn id(&self) -> PcpuId {
        self.id
    }

    #[inline]
    fn ich(&mut self) -> &mut El2Ich {
        &mut self.ich
    }

    #[inline]
    fn now_ticks(&self) -> u64 {
        counter()
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
            self.gic.disable(intid);
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
        self.gic.activate(physical);
    }

    fn forget_translations(&mut self, vttbr: u64) {
        VTTBR_EL2.set(vttbr);
        // SAFETY: TLB maintenance changes no translation, it only makes the
        // tables be read again.
        unsafe { asm!("isb", "tlbi vmalle1", "dsb nsh", "isb", options(nostack)) };
    }

    fn wait_for_interrupt(&mut self) {
        barrier::dsb(barrier::SY);
        aarch64_cpu::asm::wfi();
    }
}
