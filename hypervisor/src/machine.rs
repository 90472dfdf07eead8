//! The whole machine: its VMs, and what is sent between its CPUs.

mod report;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arm_vcpu::AxVCpuHal;
use dtb_platform::VmConfig;
use vm_contract::{VcpuId, VmId};

pub use report::Registers;

use crate::console::{self, Console};
use crate::cpu::{Machine, PcpuId};
use crate::lock::{RankedLock, rank};
use crate::sched::{CpuSet, Cpus, Inbox, Message, Moving, place};
use crate::telemetry::Telemetry;
use crate::vcpu::Vcpu;
use crate::vm::power::{Phase, StopReason};
use crate::vm::{BuildError, Vm, VmBuilder};

/// Why a VM does not do what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// No VM has this number.
    #[error("there is no such VM; try vms")]
    Unknown,
    /// Its configuration was refused at boot.
    #[error("it was refused at boot and cannot be started")]
    Refused,
    /// The last VM has stopped.
    #[error("the machine's work is over")]
    Over,
    /// It is about to stop or to start.
    #[error("it stops or starts just now")]
    Busy,
    /// It is not doing what would have to end.
    #[error("it is {0}")]
    Is(&'static str),
    /// It cannot be built again.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// A VM as the machine's configuration has it, whether it runs or not.
pub struct VmSlot {
    id: VmId,
    name: String,
    /// What to build it from, and where its vCPUs may run; `None` if it was
    /// refused.
    plan: Option<(VmConfig, Vec<CpuSet>)>,
    state: RankedLock<SlotState, { rank::VM_TABLE }>,
}

enum SlotState {
    /// It exists.
    Present(Arc<Vm>),
    /// It has never run, or has stopped.
    Absent(Absence),
}

/// Why a VM does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absence {
    Refused,
    Off,
    Failed,
}

/// What a VM is doing, for its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It exists.
    Present(Phase),
    /// It is off and has nothing of the machine.
    Off,
    /// It could not go on, and has nothing of the machine.
    Failed,
    /// Its configuration was refused at boot.
    Refused,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present(phase) => phase.fmt(f),
            Self::Off => f.pad("off"),
            Self::Failed => f.pad("failed"),
            Self::Refused => f.pad("refused"),
        }
    }
}

impl VmSlot {
    /// Returns the VM's number.
    #[must_use]
    pub const fn id(&self) -> VmId {
        self.id
    }

    /// Returns the VM's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what the VM was configured with, unless that was refused.
    #[must_use]
    pub fn config(&self) -> Option<&VmConfig> {
        self.plan.as_ref().map(|(config, _)| config)
    }

    /// Returns the VM, if it exists.
    #[must_use]
    pub fn vm(&self) -> Option<Arc<Vm>> {
        match &*self.state.lock() {
            SlotState::Present(vm) => Some(Arc::clone(vm)),
            SlotState::Absent(_) => None,
        }
    }

    /// Returns what the VM is doing.
    #[must_use]
    pub fn condition(&self) -> Condition {
        match &*self.state.lock() {
            SlotState::Present(vm) => Condition::Present(vm.state()),
            SlotState::Absent(Absence::Off) => Condition::Off,
            SlotState::Absent(Absence::Failed) => Condition::Failed,
            SlotState::Absent(Absence::Refused) => Condition::Refused,
        }
    }
}

/// What a machine is assembled from.
pub struct MachineParts<H: AxVCpuHal> {
    /// What builds its VMs.
    pub builder: VmBuilder,
    /// How many CPUs it has.
    pub cpu_count: u16,
    /// How long a vCPU runs while others wait, in milliseconds.
    pub slice_ms: u64,
    /// The VMs, in the order of their numbers: a name and a configuration, or
    /// `None` for one that was refused.
    pub vms: Vec<(String, Option<VmConfig>)>,
    /// Returns how a vCPU runs.
    pub hal: Box<dyn Fn(VmId, VcpuId) -> H + Send + Sync>,
}

/// Everything that all CPUs share. Built by the boot CPU, never freed.
pub struct Hypervisor<H: AxVCpuHal> {
    slots: Vec<VmSlot>,
    builder: VmBuilder,
    inboxes: Vec<Inbox<H>>,
    hal: Box<dyn Fn(VmId, VcpuId) -> H + Send + Sync>,
    slice_ticks: u64,
    telemetry: Arc<Telemetry>,
    /// VMs that exist, and one more while the machine starts.
    live: AtomicUsize,
    any_fault: AtomicBool,
}

impl<H: AxVCpuHal> Hypervisor<H> {
    /// Assembles the machine.
    #[must_use]
    pub fn new(parts: MachineParts<H>) -> Self {
        let configs: Vec<_> = parts
            .vms
            .iter()
            .filter_map(|(_, config)| config.as_ref())
            .collect();
        let mut places = place(&configs, parts.cpu_count).into_iter();
        let capacity = configs.iter().map(|config| config.cpus as usize + 1).sum();
        let machine = parts.builder.machine;
        let planned = parts.vms.iter().map(|(name, config)| {
            let vcpus = config.as_ref().map_or(0, |config| config.cpus);
            (name.clone(), vcpus as usize)
        });
        let frequency = machine.ticks_per_second();
        let telemetry = Telemetry::new(planned.collect(), parts.cpu_count, frequency);
        let slots = (0..).map(VmId::new).zip(parts.vms);
        let slots = slots.map(|(id, (name, config))| {
            let absence = match &config {
                Some(_) => Absence::Off,
                None => Absence::Refused,
            };
            VmSlot {
                id,
                name,
                plan: config.and_then(|config| Some((config, places.next()?))),
                state: RankedLock::new(SlotState::Absent(absence)),
            }
        });
        Self {
            slots: slots.collect(),
            inboxes: (0..parts.cpu_count).map(|_| Inbox::new(capacity)).collect(),
            builder: parts.builder,
            hal: parts.hal,
            slice_ticks: frequency * parts.slice_ms / 1000,
            telemetry: Arc::new(telemetry),
            live: AtomicUsize::new(1),
            any_fault: AtomicBool::new(false),
        }
    }

    /// Returns all VMs that were configured.
    #[must_use]
    pub fn slots(&self) -> &[VmSlot] {
        &self.slots
    }

    /// Returns the VM with this number.
    ///
    /// # Errors
    /// [`VmError::Unknown`]
    pub fn slot(&self, id: VmId) -> Result<&VmSlot, VmError> {
        self.slots
            .get(usize::from(id.raw()))
            .ok_or(VmError::Unknown)
    }

    /// Returns what builds VMs: the machine's memory and what else they share.
    #[must_use]
    pub const fn builder(&self) -> &VmBuilder {
        &self.builder
    }

    /// Returns the machine's console.
    #[must_use]
    pub fn console(&self) -> &Console {
        &self.builder.console
    }

    /// Returns the machine's CPUs.
    #[inline]
    #[must_use]
    pub fn cpus(&self) -> &Cpus {
        &self.builder.cpus
    }

    /// Returns the hardware that all CPUs share.
    #[must_use]
    pub fn machine(&self) -> &'static dyn Machine {
        self.builder.machine
    }

    /// Returns what is counted and recorded about the vCPUs.
    #[must_use]
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Returns how long a vCPU runs while others wait, in counter ticks.
    #[must_use]
    pub const fn slice_ticks(&self) -> u64 {
        self.slice_ticks
    }

    /// Returns how many vCPUs there are at the most.
    #[must_use]
    pub fn vcpu_capacity(&self) -> usize {
        let vcpus = |slot: &VmSlot| slot.config().map_or(0, |config| config.cpus as usize);
        self.slots.iter().map(vcpus).sum()
    }

    /// Builds and starts all VMs, once. Those that cannot be built are reported,
    /// and leave the others as they are.
    pub fn start(&self) {
        let names = self.slots.iter().map(VmSlot::name);
        self.console()
            .connect(names, self.machine(), Arc::clone(&self.builder.cpus));
        for slot in &self.slots {
            let mut state = slot.state.lock();
            let Some((config, _)) = &slot.plan else {
                self.any_fault.store(true, Ordering::Release);
                continue;
            };
            match self.bring_up(slot, &mut state) {
                Ok(()) => log::info!(
                    "VM {} \"{}\": {} vCPUs, {} MiB",
                    slot.id,
                    slot.name,
                    config.cpus,
                    config.memory_bytes >> 20
                ),
                Err(error) => {
                    *state = SlotState::Absent(Absence::Failed);
                    self.any_fault.store(true, Ordering::Release);
                    log::error!("VM refused: /chosen/{}: {error}", config.node);
                }
            }
        }
        self.console().listen();
        self.retire();
    }

    /// Counts one VM less.
    fn retire(&self) {
        if self.live.fetch_sub(1, Ordering::AcqRel) == 1 {
            // CPUs that sleep have to see that it is over.
            for cpu in self.cpus().iter() {
                self.cpus().call(cpu);
            }
        }
    }

    /// Builds a VM with its vCPUs, sends them to their CPUs, and has one of these
    /// start it.
    fn bring_up(&self, slot: &VmSlot, state: &mut SlotState) -> Result<(), VmError> {
        let (config, cpu_sets) = slot.plan.as_ref().ok_or(VmError::Refused)?;
        let vm = Arc::new(self.builder.build(slot.id, config, cpu_sets)?);
        let vcpus = vm
            .vcpus()
            .map(|id| {
                let exits = self.telemetry.recorder(slot.id, id);
                Vcpu::new(Arc::clone(&vm), id, (self.hal)(slot.id, id), exits)
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(BuildError::from)?;
        self.live.fetch_add(1, Ordering::AcqRel);
        self.console().attach(&vm);
        vm.connect_devices();
        *state = SlotState::Present(Arc::clone(&vm));
        for vcpu in vcpus {
            vm.enrol();
            let home = vcpu.mailbox().home();
            let arrival = Message::Arrival(Moving::new(vcpu, vm.share()).of_family(vm.id().raw()));
            self.send(home, arrival);
        }
        self.send_boot(vm);
        Ok(())
    }

    /// Has the CPU of a VM's first vCPU start the VM.
    fn send_boot(&self, vm: Arc<Vm>) {
        let mailbox = vm.mailbox(VcpuId::new(0));
        if let Some(home) = mailbox.map(|mailbox| mailbox.home()) {
            self.send(home, Message::Boot(vm));
        }
    }

    /// Sends a message to the main loop of `cpu`.
    pub fn send(&self, cpu: PcpuId, message: Message<H>) {
        if let Some(inbox) = self.inboxes.get(cpu.index()) {
            inbox.push(message);
            self.cpus().call(cpu);
        }
    }

    /// Takes the oldest message to the main loop of `cpu`.
    #[must_use]
    pub fn receive(&self, cpu: PcpuId) -> Option<Message<H>> {
        self.inboxes.get(cpu.index())?.pop()
    }

    /// Records that a vCPU of a stopping VM is parked. With the last one the VM
    /// has stopped: it is started again if it is to be reset, else its vCPUs are
    /// dismissed.
    pub fn park(&self, vm: &Arc<Vm>, vcpu: VcpuId) {
        match vm.park(vcpu) {
            None => {}
            Some(StopReason::Reset) => self.send_boot(Arc::clone(vm)),
            Some(StopReason::Off | StopReason::Fault) => vm.call_all(None),
        }
    }

    /// Records that a vCPU of a VM that is over does not exist any more. With the
    /// last one the VM is off: what it had of the machine goes back.
    pub fn dismiss(&self, vm: Arc<Vm>) {
        if !vm.dismiss() {
            return;
        }
        let failed = vm.state() == Phase::Stopped(StopReason::Fault);
        let id = vm.id();
        if failed {
            self.any_fault.store(true, Ordering::Release);
        }
        self.console().end(&vm);
        if let Ok(slot) = self.slot(id) {
            let absence = if failed {
                Absence::Failed
            } else {
                Absence::Off
            };
            let mut state = slot.state.lock();
            *state = SlotState::Absent(absence);
            drop(vm);
        }
        log::info!("VM {id} is off");
        self.retire();
    }

    /// Starts a VM anew, whether it runs or is off. What follows is done by its
    /// own CPUs.
    ///
    /// # Errors
    /// [`VmError`]: it is too late or too early, or it cannot be built.
    pub fn restart(&self, id: VmId) -> Result<(), VmError> {
        let slot = self.slot(id)?;
        let mut state = slot.state.lock();
        match &*state {
            SlotState::Present(vm) if vm.request_stop(StopReason::Reset, None) => Ok(()),
            SlotState::Present(_) => Err(VmError::Busy),
            SlotState::Absent(_) if self.is_over() => Err(VmError::Over),
            SlotState::Absent(_) => self.bring_up(slot, &mut state),
        }
    }

    /// Turns a VM off, as if it had asked for it, also while it is starting or is
    /// being reset.
    ///
    /// # Errors
    /// [`VmError`] if it is off, or about to be.
    pub fn stop(&self, id: VmId) -> Result<(), VmError> {
        let vm = self.slot(id)?.vm().ok_or(VmError::Is("off"))?;
        if vm.turn_off() {
            Ok(())
        } else {
            Err(VmError::Busy)
        }
    }

    /// Halts a VM.
    ///
    /// # Errors
    /// [`VmError`] if it does not run.
    pub fn pause(&self, id: VmId) -> Result<(), VmError> {
        let vm = self.running_vm(id)?;
        if vm.pause() {
            Ok(())
        } else {
            Err(VmError::Is("paused"))
        }
    }

    /// Lets a paused VM go on.
    ///
    /// # Errors
    /// [`VmError`] if it is not paused.
    pub fn resume(&self, id: VmId) -> Result<(), VmError> {
        let vm = self.running_vm(id)?;
        match vm.resume() {
            true => Ok(()),
            false if vm.is_paused() => Err(VmError::Busy),
            false => Err(VmError::Is("not paused")),
        }
    }

    fn running_vm(&self, id: VmId) -> Result<Arc<Vm>, VmError> {
        let vm = self.slot(id)?.vm().ok_or(VmError::Is("off"))?;
        match vm.state() {
            Phase::Running | Phase::Paused => Ok(vm),
            _ => Err(VmError::Busy),
        }
    }

    /// Tells whether every VM has stopped for good.
    #[inline]
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.live.load(Ordering::Acquire) == 0
    }

    /// Tells whether a VM was refused, or stopped because it could not go on.
    #[must_use]
    pub fn any_fault(&self) -> bool {
        self.any_fault.load(Ordering::Acquire)
    }

    /// Tells whether `cpu` is the one that serves the console.
    #[inline]
    #[must_use]
    pub fn serves_console(&self, cpu: PcpuId) -> bool {
        cpu == console::SERVED_BY
    }
}
