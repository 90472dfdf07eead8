//! What any CPU may know of the others, and tell them.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};

use vm_contract::{VcpuId, VmId};

use super::cpu_set::CpuSet;
use crate::cpu::{Machine, PcpuId};

/// No vCPU runs.
const NOBODY: u32 = u32::MAX;

/// The CPUs of the machine, as the schedulers of all of them see each other.
/// Everything is atomic: there is no lock to wait for.
pub struct Cpus {
    machine: &'static dyn Machine,
    cpus: Box<[CpuState]>,
}

/// What one CPU shows to the others.
pub struct CpuState {
    /// Its main loop has something to look at.
    attention: AtomicBool,
    /// It sleeps and would run a vCPU of somebody else's.
    is_idle: AtomicBool,
    /// vCPUs that are on and may run here.
    contenders: AtomicU16,
    /// vCPUs that are here and ready or running.
    load: AtomicU16,
    /// Of those, how many wait that may run elsewhere.
    movable: AtomicU16,
    /// What it runs: VM in the upper half, vCPU in the lower.
    running: AtomicU32,
}

impl CpuState {
    /// Takes the call to the CPU's main loop. What was changed before it was made is
    /// visible now.
    #[inline]
    pub fn take_call(&self) -> bool {
        self.attention.load(Ordering::Relaxed) && self.attention.swap(false, Ordering::AcqRel)
    }

    /// Tells whether more than one vCPU may want to run here.
    #[inline]
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.contenders.load(Ordering::Acquire) > 1
    }

    /// Records what runs here, for reports.
    #[inline]
    pub fn note_running(&self, vcpu: Option<(VmId, VcpuId)>) {
        let note = vcpu.map_or(NOBODY, |(vm, vcpu)| {
            u32::from(vm.raw()) << 16 | u32::from(vcpu.raw())
        });
        self.running.store(note, Ordering::Relaxed);
    }
}

impl Cpus {
    /// Describes a machine of `count` CPUs.
    #[must_use]
    pub fn new(machine: &'static dyn Machine, count: u16) -> Self {
        let cpu = |_| CpuState {
            attention: AtomicBool::new(false),
            is_idle: AtomicBool::new(false),
            contenders: AtomicU16::new(0),
            load: AtomicU16::new(0),
            movable: AtomicU16::new(0),
            running: AtomicU32::new(NOBODY),
        };
        Self {
            machine,
            cpus: (0..count).map(cpu).collect(),
        }
    }

    /// Returns how many CPUs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cpus.len()
    }

    /// Tells whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cpus.is_empty()
    }

    /// Returns all CPUs.
    pub fn iter(&self) -> impl Iterator<Item = PcpuId> + use<> {
        let count = u16::try_from(self.cpus.len()).unwrap_or(u16::MAX);
        (0..count).map(PcpuId::new)
    }

    fn get(&self, cpu: PcpuId) -> Option<&CpuState> {
        self.cpus.get(cpu.index())
    }

    /// Makes the main loop of `cpu` look around, even if a guest runs there.
    pub fn call(&self, cpu: PcpuId) {
        if let Some(state) = self.get(cpu)
            && !state.attention.swap(true, Ordering::AcqRel)
        {
            self.machine.kick(cpu);
        }
    }

    /// Makes the guest that runs on `cpu` leave for a moment.
    pub fn kick(&self, cpu: PcpuId) {
        self.machine.kick(cpu);
    }

    /// Tells whether the main loop of `cpu` was called.
    #[inline]
    #[must_use]
    pub fn is_called(&self, cpu: PcpuId) -> bool {
        self.get(cpu)
            .is_some_and(|state| state.attention.load(Ordering::Acquire))
    }

    /// Returns what `cpu` shows to the others.
    ///
    /// # Panics
    /// If there is no such CPU.
    #[must_use]
    #[expect(clippy::expect_used, reason = "as documented")]
    pub fn state(&self, cpu: PcpuId) -> &CpuState {
        self.get(cpu).expect("a CPU of this machine")
    }

    /// Counts a vCPU that has been turned on as a contender for each CPU of
    /// `set`. A guest that has been alone on one of them is told.
    pub fn contend(&self, set: &CpuSet) {
        for cpu in set.iter() {
            if let Some(state) = self.get(cpu)
                && state.contenders.fetch_add(1, Ordering::AcqRel) == 1
            {
                self.call(cpu);
            }
        }
    }

    /// Takes back what [`contend`](Self::contend) did.
    pub fn withdraw(&self, set: &CpuSet) {
        for state in set.iter().filter_map(|cpu| self.get(cpu)) {
            state.contenders.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Publishes how many vCPUs of `cpu` are ready or run, and how many of them
    /// wait there that may run elsewhere.
    pub fn publish_load(&self, cpu: PcpuId, load: usize, movable: usize) {
        if let Some(state) = self.get(cpu) {
            let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
            state.load.store(count(load), Ordering::Relaxed);
            // Against `offer`: either this CPU sees that the other is idle, or
            // that one sees what could be had here.
            state.movable.store(count(movable), Ordering::SeqCst);
        }
    }

    /// Returns how many vCPUs are ready or run on `cpu`.
    #[must_use]
    pub fn load(&self, cpu: PcpuId) -> usize {
        self.get(cpu)
            .map_or(0, |state| state.load.load(Ordering::Relaxed).into())
    }

    /// Offers `cpu`, which is about to sleep, to vCPUs that wait elsewhere, and
    /// calls the CPU where most could be had.
    pub fn offer(&self, cpu: PcpuId) {
        let Some(state) = self.get(cpu) else {
            return;
        };
        state.is_idle.store(true, Ordering::SeqCst);
        let movable = |other: &PcpuId| {
            self.get(*other)
                .map_or(0, |state| state.movable.load(Ordering::SeqCst))
        };
        let donor = self
            .iter()
            .filter(|other| *other != cpu && movable(other) > 0)
            .max_by_key(movable);
        if let Some(donor) = donor {
            self.call(donor);
        }
    }

    /// Takes the offer of `cpu` back: it has something to do.
    pub fn end_offer(&self, cpu: PcpuId) {
        if let Some(state) = self.get(cpu)
            && state.is_idle.load(Ordering::Relaxed)
        {
            state.is_idle.store(false, Ordering::SeqCst);
        }
    }

    /// Accepts the offer of an idle CPU of `set`, if there is one. Nobody else
    /// gets the same.
    #[must_use]
    pub fn claim_idle(&self, set: &CpuSet) -> Option<PcpuId> {
        self.iter().filter(|cpu| set.contains(*cpu)).find(|cpu| {
            self.get(*cpu).is_some_and(|state| {
                state.is_idle.load(Ordering::SeqCst) && state.is_idle.swap(false, Ordering::SeqCst)
            })
        })
    }

    /// Returns what each CPU runs.
    pub fn running(&self) -> impl Iterator<Item = (PcpuId, Option<(VmId, VcpuId)>)> {
        self.iter().zip(&self.cpus).map(|(cpu, state)| {
            let note = state.running.load(Ordering::Relaxed);
            // The upper half and the lower half.
            let [vm, vcpu] = [(note >> 16) as u16, (note & 0xffff) as u16];
            (
                cpu,
                (note != NOBODY).then(|| (VmId::new(vm), VcpuId::new(vcpu))),
            )
        })
    }
}
