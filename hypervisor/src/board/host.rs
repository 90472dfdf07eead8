//! What all CPUs share of the hardware, behind the library's trait.
#![expect(unsafe_code, reason = "clears memory")]

use aarch64_cpu::registers::{CNTFRQ_EL0, Readable};
use hypervisor::cpu::{Machine, PcpuId};
use s2_mmu::{El2Tlb, Stage2Tlb};
use vm_contract::HostPhysAddrRange;

use super::gic::MachineGic;
use super::{cache, el2_cpu, heap};

/// The machine, as its device tree describes it.
pub(crate) struct Host {
    pub(crate) gic: MachineGic,
}

impl Machine for Host {
    fn kick(&self, cpu: PcpuId) {
        self.gic.kick(cpu);
    }

    fn clean_to_coherency(&self, range: HostPhysAddrRange) {
        cache::clean_to_coherency(range.start.into(), range.end.into());
    }

    unsafe fn clear(&self, range: HostPhysAddrRange) {
        // SAFETY: as the caller promises.
        unsafe { cache::clear(range.start.into(), range.end.into()) };
    }

    fn publish_tables(&self) {
        El2Tlb.publish();
    }

    fn forget_guest(&self, vttbr: u64) {
        El2Tlb.invalidate_all(vttbr);
    }

    fn heap_used(&self) -> usize {
        heap::used()
    }

    fn now_ticks(&self) -> u64 {
        el2_cpu::counter()
    }

    fn ticks_per_second(&self) -> u64 {
        CNTFRQ_EL0.get()
    }
}
