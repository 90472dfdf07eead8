//! What is written down at each exit of a vCPU.

use alloc::sync::Arc;

use arm_vgic_core::ListRegister;
use vm_contract::{VcpuId, VmId};

use super::{CpuTrace, Event, ExitCounters, Owner, Reason, Ring, Telemetry, What};
use crate::cpu::PcpuId;
use crate::history::History;

/// When and where a guest was left.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The system counter.
    pub ticks: u64,
    /// The guest's program counter.
    pub pc: u64,
}

impl Moment {
    /// Notes that it was `ticks` when the guest was at `pc`.
    #[inline(always)]
    #[must_use]
    pub const fn new(ticks: u64, pc: u64) -> Self {
        Self { ticks, pc }
    }
}

/// Records the exits of one vCPU, whose owner owns this as well.
#[derive(Debug)]
pub struct Recorder {
    /// The reason of the present exit. Set while it is answered, where the reason
    /// is known anyway.
    pub reason: Reason,
    owner: Owner,
    history: History,
    counters: Arc<ExitCounters>,
    telemetry: Arc<Telemetry>,
}

impl Recorder {
    pub(super) fn new(
        vm: VmId,
        vcpu: VcpuId,
        counters: Arc<ExitCounters>,
        telemetry: &Arc<Telemetry>,
    ) -> Self {
        Self {
            reason: Reason::Other,
            owner: Owner::new(vm, vcpu),
            history: History::default(),
            counters,
            telemetry: Arc::clone(telemetry),
        }
    }

    /// Records an exit that has been answered: the guest was left at `began` and is
    /// to be entered `now`. Returns whether it is to be traced as well.
    #[inline(always)]
    #[must_use]
    pub fn record(&mut self, began: Moment, now: u64) -> bool {
        let reason = self.reason;
        self.counters.count(reason, now.wrapping_sub(began.ticks));
        self.history.record(began.pc, reason);
        self.counters.is_traced()
    }

    /// Tells whether events of this vCPU are to be traced.
    #[inline(always)]
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.counters.is_traced()
    }

    /// Traces an exit that has been recorded, and what it put into the list registers.
    #[inline(always)]
    pub fn trace_exit(&self, trace: &mut CpuTrace, began: Moment, now: u64) {
        let CpuTrace { ring, written } = trace;
        let Some(ring) = ring else {
            return;
        };
        let mut pending = written.take_pending();
        let injected = pending.next().map_or(0, |lr| lr.intid() + 1);
        let cost = now.wrapping_sub(began.ticks) & u64::from(u32::MAX);
        let arguments = [cost | u64::from(injected) << 32, began.pc];
        ring.push(&self.event(began.ticks, What::Exit, arguments));
        self.trace_injections(ring, pending, now);
    }

    /// Traces that the vCPU is loaded into a CPU, and with it its interrupts.
    pub fn trace_load(&self, cpu: PcpuId, trace: &mut CpuTrace, now: u64) {
        self.prepare(cpu, trace);
        let CpuTrace { ring, written } = trace;
        if let Some(ring) = ring {
            ring.push(&self.event(now, What::Load, [0; 2]));
            self.trace_injections(ring, written.take_pending(), now);
        }
    }

    /// Traces that the vCPU leaves a CPU.
    pub fn trace_unload(&self, cpu: PcpuId, trace: &mut CpuTrace, now: u64) {
        self.prepare(cpu, trace);
        if let Some(ring) = &trace.ring {
            ring.push(&self.event(now, What::Unload, [0; 2]));
        }
    }

    /// Gives a CPU its ring, which it keeps at hand from then on.
    #[inline(always)]
    pub fn prepare(&self, cpu: PcpuId, trace: &mut CpuTrace) {
        if trace.ring.is_none() {
            self.fetch_ring(cpu, trace);
        }
    }

    #[cold]
    #[inline(never)]
    fn fetch_ring(&self, cpu: PcpuId, trace: &mut CpuTrace) {
        trace.ring = self.telemetry.ring(cpu).cloned();
    }

    #[inline(always)]
    fn trace_injections(&self, ring: &Ring, pending: impl Iterator<Item = ListRegister>, now: u64) {
        for lr in pending {
            let arguments = [lr.intid().into(), lr.bits()];
            ring.push(&self.event(now, What::Injection, arguments));
        }
    }

    #[inline(always)]
    const fn event(&self, ticks: u64, what: What, arguments: [u64; 2]) -> Event {
        Event {
            ticks,
            what,
            reason: self.reason,
            owner: self.owner,
            arguments,
        }
    }

    /// Returns the last exits.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }
}
