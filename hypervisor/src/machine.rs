//! The whole machine: its VMs, and what it is doing.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use arm_vcpu::TrapFrame;
use vm_contract::{VcpuId, VmId};

use crate::console::Console;
use crate::cpu::{Machine, PcpuId};
use crate::dispatch::VmFault;
use crate::vm::Vm;
use crate::vm::power::{Phase, StopReason};

/// No vCPU runs.
const NOBODY: u32 = u32::MAX;

/// Why a VM cannot be started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestartError {
    /// The last VM has stopped.
    #[error("the machine's work is over")]
    Over,
    /// It is about to stop or to start.
    #[error("it stops or starts just now")]
    Busy,
}

/// Everything that all CPUs share. Built by the boot CPU, never freed.
pub struct Hypervisor {
    vms: Vec<Arc<Vm>>,
    console: Arc<Console>,
    machine: &'static dyn Machine,
    /// VMs that have not stopped for good.
    live: AtomicUsize,
    any_fault: AtomicBool,
    /// What each CPU runs: VM in the upper half, vCPU in the lower.
    running: Vec<AtomicU32>,
}

impl Hypervisor {
    /// Assembles the machine. At least one VM must be given.
    #[must_use]
    pub fn new(
        machine: &'static dyn Machine,
        console: Arc<Console>,
        cpu_count: u16,
        vms: Vec<Arc<Vm>>,
    ) -> Self {
        Self {
            live: AtomicUsize::new(vms.len()),
            any_fault: AtomicBool::new(false),
            running: (0..cpu_count).map(|_| AtomicU32::new(NOBODY)).collect(),
            vms,
            console,
            machine,
        }
    }

    /// Returns all VMs.
    #[must_use]
    pub fn vms(&self) -> &[Arc<Vm>] {
        &self.vms
    }

    /// Returns the machine's console.
    #[must_use]
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Returns the hardware that all CPUs share.
    #[must_use]
    pub fn machine(&self) -> &'static dyn Machine {
        self.machine
    }

    /// Starts all VMs.
    pub fn start(&self) {
        self.console.connect(&self.vms, self.machine);
        self.console.listen();
        for vm in &self.vms {
            self.boot(vm);
        }
    }

    /// Records that a vCPU of a stopping VM is parked. With the last one the VM
    /// has stopped: it starts again if it is to be reset, and with the last VM
    /// the machine's work is over.
    pub fn park(&self, vm: &Vm, vcpu: VcpuId) {
        match vm.park(vcpu) {
            None => {}
            Some(StopReason::Reset) => self.boot(vm),
            Some(StopReason::Off) => self.stopped(vm),
            Some(StopReason::Fault) => {
                self.any_fault.store(true, Ordering::Release);
                self.stopped(vm);
            }
        }
    }

    fn boot(&self, vm: &Vm) {
        self.console.begin(vm.id());
        if let Err(error) = vm.boot() {
            log::error!("VM {} ({}) cannot be started: {error}", vm.id(), vm.name());
            self.any_fault.store(true, Ordering::Release);
            self.stopped(vm);
        }
    }

    /// Starts a VM anew, whether it runs or is off. What follows is done by its
    /// own CPUs.
    ///
    /// # Errors
    /// [`RestartError`] if it is too late or too early.
    pub fn restart(&self, vm: &Vm) -> Result<(), RestartError> {
        // It counts as live again before it can stop again.
        let count = |live: usize| (live > 0).then_some(live + 1);
        self.live
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, count)
            .map_err(|_| RestartError::Over)?;
        if vm.revive() {
            return Ok(());
        }
        self.retire();
        match vm.state() {
            Phase::Running => {
                vm.request_stop(StopReason::Reset, None);
                Ok(())
            }
            Phase::Stopping(_) | Phase::Stopped(_) => Err(RestartError::Busy),
        }
    }

    /// Turns a VM off, as if it had asked for it; `false` if it does not run.
    pub fn stop(&self, vm: &Vm) -> bool {
        let runs = vm.state() == Phase::Running;
        if runs {
            vm.request_stop(StopReason::Off, None);
        }
        runs
    }

    fn stopped(&self, vm: &Vm) {
        log::debug!("VM {} ({}) is off", vm.id(), vm.name());
        self.console.end(vm.id());
        self.retire();
    }

    /// Counts one live VM less.
    fn retire(&self) {
        if self.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            // CPUs that sleep have to see that it is over.
            for (cpu, _) in self.running() {
                self.machine.kick(cpu);
            }
        }
    }

    /// Tells whether every VM has stopped for good.
    #[inline]
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.live.load(Ordering::Acquire) == 0
    }

    /// Tells whether a VM was stopped because it could not go on.
    #[must_use]
    pub fn any_fault(&self) -> bool {
        self.any_fault.load(Ordering::Acquire)
    }

    /// Reports why a VM is stopped, once per VM: the first of its vCPUs to fail.
    pub fn report_fault(&self, vm: &Vm, vcpu: VcpuId, fault: VmFault, frame: &TrapFrame) {
        if vm.is_stopping() {
            return;
        }
        log::error!(
            "VM {} ({}) stopped on vCPU {vcpu}: {fault}\n{}",
            vm.id(),
            vm.name(),
            Registers(frame)
        );
    }

    /// Records what a CPU runs, for reports.
    #[inline]
    pub fn note_running(&self, cpu: PcpuId, vcpu: Option<(VmId, VcpuId)>) {
        let note = vcpu.map_or(NOBODY, |(vm, vcpu)| {
            u32::from(vm.raw()) << 16 | u32::from(vcpu.raw())
        });
        if let Some(slot) = self.running.get(cpu.index()) {
            slot.store(note, Ordering::Relaxed);
        }
    }

    /// Returns what each CPU runs.
    pub fn running(&self) -> impl Iterator<Item = (PcpuId, Option<(VmId, VcpuId)>)> {
        (0..)
            .map(PcpuId::new)
            .zip(&self.running)
            .map(|(cpu, slot)| {
                let note = slot.load(Ordering::Relaxed);
                // The upper half and the lower half.
                let [vm, vcpu] = [(note >> 16) as u16, (note & 0xffff) as u16];
                (
                    cpu,
                    (note != NOBODY).then(|| (VmId::new(vm), VcpuId::new(vcpu))),
                )
            })
    }
}

/// Prints the general registers of a guest.
pub struct Registers<'a>(pub &'a TrapFrame);

impl fmt::Display for Registers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in 0..8 {
            for n in (row * 4..row * 4 + 4).filter(|n| *n < 31) {
                write!(f, "x{n:<2} {:016x}  ", self.0.gpr(n))?;
            }
            if row < 7 {
                writeln!(f)?;
            }
        }
        write!(f, "pc  {:016x}  pstate {:08x}", self.0.elr, self.0.spsr)
    }
}
