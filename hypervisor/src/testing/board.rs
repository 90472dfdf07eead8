//! What the CPUs of a machine share.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;

use vm_contract::HostPhysAddrRange;

use super::baton::{Baton, Mood};
use super::cpu::CpuState;
use crate::cpu::{Machine, PcpuId};

/// A machine whose time stands still unless a test moves it. Once its CPUs go on
/// without a baton it moves by itself: with each look at it, and while all sleep.
pub(crate) struct FakeBoard {
    now: AtomicU64,
    /// How often all translations of a guest were dropped.
    forgotten: AtomicU64,
    cpus: Vec<Arc<CpuState>>,
    baton: Baton,
    /// When the timer of each CPU that sleeps without a baton is due.
    alarms: Vec<AtomicU64>,
    /// What happens elsewhere when a CPU is next kicked.
    meanwhile: Mutex<Option<(PcpuId, Meanwhile)>>,
}

type Meanwhile = Box<dyn FnOnce() + Send>;

impl FakeBoard {
    /// Counter ticks in a second.
    pub(crate) const FREQUENCY: u64 = 62_500_000;

    /// By how much a look at the counter moves it: a slice is a few dozen of them.
    const TICKS_PER_LOOK: u64 = 20_000;

    /// Makes a machine whose counter shows `now`.
    pub(crate) fn new(cpu_count: u16, lr_count: usize, now: u64) -> Self {
        let cpus: Vec<_> = (0..cpu_count)
            .map(|n| CpuState::new(PcpuId::new(n), lr_count))
            .collect();
        Self {
            now: AtomicU64::new(now),
            forgotten: AtomicU64::new(0),
            baton: Baton::new(cpus.len()),
            alarms: cpus.iter().map(|_| AtomicU64::new(u64::MAX)).collect(),
            meanwhile: Mutex::default(),
            cpus,
        }
    }

    pub(crate) fn cpu(&self, id: PcpuId) -> Arc<CpuState> {
        Arc::clone(&self.cpus[id.index()])
    }

    pub(crate) fn cpus(&self) -> &[Arc<CpuState>] {
        &self.cpus
    }

    /// Returns who says which CPU goes on.
    pub(super) const fn baton(&self) -> &Baton {
        &self.baton
    }

    /// Ends a step of `cpu`, on its own thread.
    pub(crate) fn pass(&self, cpu: PcpuId, mood: Mood) {
        if mood == Mood::Asleep && self.baton.is_thrown_away() {
            let timer = self.cpus[cpu.index()].wires().next_timer();
            self.alarms[cpu.index()].store(timer.unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        self.baton.pass(cpu.index(), mood, || self.pass_time());
    }

    /// Lets time pass until the next timer is due; `false` if none ever will be.
    fn pass_time(&self) -> bool {
        let next = self.next_timer();
        if let Some(next) = next {
            self.now.fetch_max(next, Ordering::Relaxed);
        }
        next.is_some()
    }

    /// Returns when the next timer of a CPU will be due.
    pub(super) fn next_timer(&self) -> Option<u64> {
        self.cpus
            .iter()
            .filter_map(|cpu| cpu.wires().next_timer())
            .min()
    }

    /// Has another CPU, which is none of these, do `work` when `cpu` is next kicked,
    /// in the midst of what the one does that kicks.
    pub(crate) fn at_next_kick(&self, cpu: PcpuId, work: impl FnOnce() + Send + 'static) {
        *self.lock_meanwhile() = Some((cpu, Box::new(work)));
    }

    /// Takes what happens while `cpu` is kicked.
    fn take_meanwhile(&self, cpu: PcpuId) -> Option<Meanwhile> {
        let taken = self.lock_meanwhile().take_if(|(kicked, _)| *kicked == cpu);
        taken.map(|(_, work)| work)
    }

    fn lock_meanwhile(&self) -> MutexGuard<'_, Option<(PcpuId, Meanwhile)>> {
        self.meanwhile
            .lock()
            .expect("no test panics while it holds this")
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
        drop(wires);
        self.baton.signal(cpu.index());
        if let Some(work) = self.take_meanwhile(cpu) {
            // It holds none of the locks that this CPU holds.
            thread::spawn(work).join().expect("it does what it is to");
        }
    }

    fn now_ticks(&self) -> u64 {
        if !self.baton.is_thrown_away() {
            return self.now.load(Ordering::Relaxed);
        }
        let now = self.now.fetch_add(Self::TICKS_PER_LOOK, Ordering::Relaxed);
        for (cpu, alarm) in self.alarms.iter().enumerate() {
            // One that is missed is seen at the next look.
            if alarm.load(Ordering::Relaxed) <= now {
                alarm.store(u64::MAX, Ordering::Relaxed);
                self.baton.signal(cpu);
            }
        }
        now
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
