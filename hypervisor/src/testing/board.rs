//! What the CPUs of a machine share.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use vm_contract::HostPhysAddrRange;

use super::cpu::CpuState;
use crate::cpu::{Machine, PcpuId};

/// A machine whose time stands still unless a test moves it.
pub(crate) struct FakeBoard {
    now: AtomicU64,
    /// How often all translations of a guest were dropped.
    forgotten: AtomicU64,
    cpus: Vec<Arc<CpuState>>,
}

impl FakeBoard {
    /// Counter ticks in a second.
    pub(crate) const FREQUENCY: u64 = 62_500_000;

    /// Makes a machine whose counter shows `now`.
    pub(crate) fn new(cpu_count: u16, lr_count: usize, now: u64) -> Self {
        let cpus = (0..cpu_count)
            .map(|n| CpuState::new(PcpuId::new(n), lr_count))
            .collect();
        Self {
            now: AtomicU64::new(now),
            forgotten: AtomicU64::new(0),
            cpus,
        }
    }

    pub(crate) fn cpu(&self, id: PcpuId) -> Arc<CpuState> {
        Arc::clone(&self.cpus[id.index()])
    }

    pub(crate) fn cpus(&self) -> &[Arc<CpuState>] {
        &self.cpus
    }

    pub(crate) fn set_now(&self, ticks: u64) {
        let before = self.now.swap(ticks, Ordering::Relaxed);
        assert!(before <= ticks, "time does not run backwards");
    }
}

impl Machine for FakeBoard {
    fn kick(&self, cpu: PcpuId) {
        let mut wires = self.cpus[cpu.index()].wires();
        wires.kicked = true;
        wires.kicks += 1;
    }

    fn now_ticks(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn ticks_per_second(&self) -> u64 {
        Self::FREQUENCY
    }

    fn clean_to_coherency(&self, _range: HostPhysAddrRange) {}

    #[expect(unsafe_code, reason = "frames are raw memory")]
    unsafe fn clear(&self, range: HostPhysAddrRange) {
        let start = core::ptr::with_exposed_provenance_mut::<u8>(range.start.into());
        // SAFETY: as the caller promises.
        unsafe { start.write_bytes(0, range.size()) };
    }

    fn publish_tables(&self) {}

    fn forget_guest(&self, _vttbr: u64) {
        self.forgotten.fetch_add(1, Ordering::Relaxed);
    }

    fn heap_used(&self) -> usize {
        0
    }
}
