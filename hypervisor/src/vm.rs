//! A virtual machine: everything its vCPUs share.
//!
//! Its shape is fixed when it has been built. What changes lies behind locks of
//! its own (ranks in [`crate::lock::rank`]); its vCPUs belong to the CPUs that
//! run them and are reached by mailbox only.

pub mod boot;
mod build;
pub mod bus;
pub mod clock;
pub mod its;
mod lines;
pub mod mailbox;
pub mod memory;
pub mod power;
mod serial;
pub mod space;
pub mod time;
pub mod vgic;
mod virtio;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};

use arm_vcpu::IdRegisters;
use arm_vgic_core::Kicks;
use dtb_platform::Conduit;
use primecell_devices::{Pl011, Pl031};
use vm_contract::{HostPhysAddr, IntId, VcpuId, VmId};

pub use build::{BuildError, HostFacts, VmBuilder};
pub use lines::Line;
pub use virtio::{DiskProblem, FillEntropy};

use crate::console::{Console, GuestSerial};
use crate::cpu::Machine;
use crate::devices::HostDevices;
use crate::loader::Layout;
use crate::lock::{RankedGuard, RankedLock, rank};
use crate::sched::{CpuSet, Cpus, Share};
use bus::{Bus, DeviceLock};
use clock::SystemClock;
use mailbox::{Callee, VcpuMailbox};
use memory::GuestRam;
use power::{CpuOnError, Phase, Power, Start, StopReason};
use space::Space;
use time::{CpuTime, TickLength};
use vgic::Vgic;
use virtio::VirtioDevices;

/// What a VM is started from, at first and after each reset.
struct BootImages {
    /// The kernel or firmware; never changes and no guest can reach it.
    image: &'static [u8],
    ramdisk: Option<&'static [u8]>,
    tree: Vec<u8>,
    layout: Layout,
}

/// What every vCPU of a VM is set up with.
#[derive(Clone)]
pub struct VcpuFacts {
    /// MIDR_EL1 as the guest sees it.
    pub midr: u64,
    /// VTCR_EL2.
    pub vtcr: u64,
    /// The VMID in use.
    pub hw_vmid: u16,
    /// Where the stage-2 tables begin.
    pub stage2_root: HostPhysAddr,
    /// The physical interrupt of the virtual timer.
    pub virtual_timer: IntId,
    /// The ID registers as the guest sees them.
    pub id_registers: Arc<IdRegisters>,
}

impl VcpuFacts {
    /// Returns VTTBR_EL2: the VMID and the root of the tables.
    #[must_use]
    pub fn vttbr(&self) -> u64 {
        u64::from(self.hw_vmid) << 48 | usize::from(self.stage2_root) as u64
    }
}

/// One vCPU, as far as its VM knows it.
struct Member {
    /// MPIDR_EL1.
    affinity: u64,
    /// The CPUs on which it may run.
    cpus: CpuSet,
    mailbox: Arc<VcpuMailbox>,
    time: Arc<CpuTime>,
}

/// A VM's interrupt controller, locked.
pub type VgicGuard<'a> = RankedGuard<'a, Vgic, { rank::VGIC }>;

/// Why the vCPUs of a VM must leave the guest: `Vm::halt`.
mod halt {
    pub(super) const NO: u8 = 0;
    pub(super) const PAUSED: u8 = 1;
    pub(super) const STOPPING: u8 = 2;
}

/// A virtual machine, from when it is built until it is off. It is freed when
/// nobody knows it any more.
pub struct Vm {
    id: VmId,
    name: String,
    space: Space,
    bus: Bus,
    vgic: RankedLock<Vgic, { rank::VGIC }>,
    its: Option<its::ItsLock>,
    power: RankedLock<Power, { rank::POWER }>,
    /// Mirrors `power`, for a look without the lock.
    halt: AtomicU8,
    members: Vec<Member>,
    share: Share,
    /// vCPUs that exist and have not been dismissed.
    vcpus_left: AtomicU16,
    vcpu_facts: VcpuFacts,
    /// CNTVOFF_EL2: the system counter when the VM was built, and the time that
    /// it was paused.
    counter_offset: AtomicU64,
    /// vCPUs that have their turn.
    inside: AtomicU16,
    /// When the last vCPU left the guest, while the VM is paused.
    paused_at: AtomicU64,
    serial: Arc<DeviceLock<Pl011<GuestSerial>>>,
    serial_intid: IntId,
    virtio: VirtioDevices,
    rtc: Arc<DeviceLock<Pl031<SystemClock>>>,
    rtc_intid: IntId,
    clock: SystemClock,
    tick_length: TickLength,
    console: Arc<Console>,
    images: BootImages,
    machine: &'static dyn Machine,
    cpus: Arc<Cpus>,
    devices: Arc<HostDevices>,
}

impl Vm {
    /// Returns the VM's identity.
    #[must_use]
    pub const fn id(&self) -> VmId {
        self.id
    }

    /// Returns the VM's name, for reports.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the VM's memory.
    #[must_use]
    pub const fn ram(&self) -> &GuestRam {
        self.space.ram()
    }

    /// Returns what the VM has of the machine's memory.
    #[must_use]
    pub const fn space(&self) -> &Space {
        &self.space
    }

    /// Returns the address map of the devices.
    #[must_use]
    pub const fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Returns what the vCPUs are set up with.
    #[must_use]
    pub const fn vcpu_facts(&self) -> &VcpuFacts {
        &self.vcpu_facts
    }

    /// Returns the console that shows the VM's serial line.
    #[must_use]
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Returns the machine's CPUs.
    #[inline]
    #[must_use]
    pub fn cpus(&self) -> &Cpus {
        &self.cpus
    }

    /// Returns the machine's devices that VMs share.
    #[must_use]
    pub fn devices(&self) -> &HostDevices {
        &self.devices
    }

    /// Returns how much of the CPUs each vCPU is to have.
    #[must_use]
    pub const fn share(&self) -> Share {
        self.share
    }

    /// Returns how many vCPUs there are.
    #[must_use]
    pub const fn vcpu_count(&self) -> usize {
        self.members.len()
    }

    /// Returns all vCPUs.
    pub fn vcpus(&self) -> impl Iterator<Item = VcpuId> + use<> {
        let count = u16::try_from(self.members.len()).unwrap_or(u16::MAX);
        (0..count).map(VcpuId::new)
    }

    /// Returns each vCPU with its affinity (MPIDR_EL1).
    pub fn affinities(&self) -> impl Iterator<Item = (VcpuId, u64)> {
        let affinities = self.members.iter().map(|member| member.affinity);
        self.vcpus().zip(affinities)
    }

    /// Returns the vCPU that has exactly this affinity.
    #[must_use]
    pub fn vcpu_by_affinity(&self, affinity: u64) -> Option<VcpuId> {
        self.affinities()
            .find(|(_, own)| *own == affinity)
            .map(|(vcpu, _)| vcpu)
    }

    /// Returns the mailbox of a vCPU.
    #[inline]
    #[must_use]
    pub fn mailbox(&self, vcpu: VcpuId) -> Option<&Arc<VcpuMailbox>> {
        self.members.get(vcpu.index()).map(|member| &member.mailbox)
    }

    /// Returns the CPUs on which a vCPU may run.
    #[must_use]
    pub fn cpu_set(&self, vcpu: VcpuId) -> CpuSet {
        let member = self.members.get(vcpu.index());
        member.map(|member| member.cpus).unwrap_or_default()
    }

    /// Returns the time that a vCPU has run and waited.
    #[must_use]
    pub fn time(&self, vcpu: VcpuId) -> Option<&Arc<CpuTime>> {
        self.members.get(vcpu.index()).map(|member| &member.time)
    }

    /// Returns the interrupt controller, for work after which nobody has to be told of
    /// anything, or whose kicks are passed on to [`kick`](Self::kick).
    #[inline]
    pub fn vgic(&self) -> VgicGuard<'_> {
        self.vgic.lock()
    }

    /// Calls the vCPUs that must take note of a change of the interrupt controller,
    /// which is not locked any more. See [`with_vgic`](Self::with_vgic) for `current`.
    #[inline]
    pub fn kick(&self, current: Option<VcpuId>, kicks: Kicks) {
        if !kicks.is_empty() {
            self.kick_all(current, &kicks);
        }
    }

    #[inline(never)]
    fn kick_all(&self, current: Option<VcpuId>, kicks: &Kicks) {
        kicks.for_each(|vcpu| self.call(vcpu, current));
    }

    /// Works on the interrupt controller. `work` returns which vCPUs have to be
    /// told; they are, once the controller is unlocked. `current` is the vCPU on
    /// whose behalf this CPU acts: it needs no physical interrupt.
    #[inline]
    pub fn with_vgic<R>(
        &self,
        current: Option<VcpuId>,
        work: impl FnOnce(&mut Vgic) -> (R, Kicks),
    ) -> R {
        let (result, kicks) = work(&mut self.vgic.lock());
        self.kick(current, kicks);
        result
    }

    /// Calls a vCPU's attention, wherever it is.
    fn call(&self, vcpu: VcpuId, current: Option<VcpuId>) {
        let Some(mailbox) = self.mailbox(vcpu) else {
            return;
        };
        match mailbox.call() {
            Callee::Nobody => {}
            // It is the one on whose behalf this CPU acts, and looks by itself.
            _ if current == Some(vcpu) => {}
            Callee::Guest(cpu) => self.machine.kick(cpu),
            Callee::Scheduler(cpu) => self.cpus.call(cpu),
        }
    }

    /// Turns a vCPU on, on behalf of `caller`.
    ///
    /// # Errors
    /// Those of [`Power::cpu_on`].
    pub fn cpu_on(&self, vcpu: VcpuId, start: Start, caller: VcpuId) -> Result<(), CpuOnError> {
        self.power.lock().cpu_on(vcpu, start)?;
        self.call(vcpu, Some(caller));
        Ok(())
    }

    /// Turns `vcpu` off at its own request.
    pub fn cpu_off(&self, vcpu: VcpuId) {
        // As firmware does with a CPU that it turns off.
        self.with_vgic(None, |vgic| ((), vgic.set_awake(vcpu, false)));
        let mut power = self.power.lock();
        power.cpu_off(vcpu);
        self.mirror(&power);
    }

    /// Records in passing what all must know. Under the lock: the VM may be
    /// parked as soon as that is free.
    fn mirror(&self, power: &Power) {
        let halt = match power.phase() {
            Phase::Created | Phase::Running | Phase::Stopped(_) => halt::NO,
            Phase::Paused => halt::PAUSED,
            Phase::Stopping(_) => halt::STOPPING,
        };
        self.halt.store(halt, Ordering::SeqCst);
    }

    /// Tells whether a vCPU is on.
    #[must_use]
    pub fn is_on(&self, vcpu: VcpuId) -> bool {
        self.power.lock().is_on(vcpu) == Some(true)
    }

    /// Takes the start that waits for a vCPU.
    #[must_use]
    pub fn take_start(&self, vcpu: VcpuId) -> Option<Start> {
        self.power.lock().take_start(vcpu)
    }

    /// Begins to stop the VM: each of its vCPUs is parked by its own CPU.
    /// Returns whether it stops for this reason.
    pub fn request_stop(&self, reason: StopReason, current: Option<VcpuId>) -> bool {
        self.change_power(current, |power| power.request_stop(reason))
    }

    /// Turns the VM off at the wish of its operator; see [`Power::turn_off`].
    #[must_use]
    pub fn turn_off(&self) -> bool {
        self.change_power(None, Power::turn_off)
    }

    /// Begins to stop a VM that cannot be started.
    pub fn abandon(&self) {
        self.change_power(None, Power::abandon);
    }

    /// Halts the VM: its vCPUs leave the guest, and its counter stands still.
    /// `false` if it does not run.
    #[must_use]
    pub fn pause(&self) -> bool {
        self.change_power(None, |power| {
            let paused = power.pause();
            if paused {
                // A vCPU that leaves and does not see this has left before that.
                self.mirror(power);
                let now = self.machine.now_ticks();
                self.paused_at.fetch_max(now, Ordering::Relaxed);
            }
            paused
        })
    }

    /// Lets a paused VM go on where it was; `false` if it is not paused, or has
    /// been for so short a time that a vCPU has not left the guest yet.
    #[must_use]
    pub fn resume(&self) -> bool {
        self.change_power(None, |power| {
            let resumed = self.inside.load(Ordering::SeqCst) == 0 && power.resume();
            if resumed {
                let since = self.paused_at.load(Ordering::Relaxed);
                let pause = self.machine.now_ticks().saturating_sub(since);
                self.counter_offset.fetch_add(pause, Ordering::Relaxed);
            }
            resumed
        })
    }

    /// Records that a vCPU begins a turn; `false` if the VM is paused, so that it
    /// must not.
    ///
    /// Between this and [`leave`](Self::leave) the counter's offset does not change:
    /// either this sees that the VM is paused, or `resume` sees the vCPU.
    #[must_use]
    pub fn try_enter(&self) -> bool {
        self.inside.fetch_add(1, Ordering::SeqCst);
        let may = self.halt.load(Ordering::SeqCst) != halt::PAUSED;
        if !may {
            self.inside.fetch_sub(1, Ordering::SeqCst);
        }
        may
    }

    /// Records that a vCPU ends its turn at `now`. If the VM is paused, its time
    /// stands still from then on.
    pub fn leave(&self, now: u64) {
        if self.halt.load(Ordering::SeqCst) == halt::PAUSED {
            self.paused_at.fetch_max(now, Ordering::Relaxed);
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    /// Changes the power state, and has every vCPU look at it.
    fn change_power<R>(&self, current: Option<VcpuId>, change: impl FnOnce(&mut Power) -> R) -> R {
        let result = {
            let mut power = self.power.lock();
            let result = change(&mut power);
            self.mirror(&power);
            result
        };
        self.call_all(current);
        // The vCPUs of a VM that is or was paused wait for no turn.
        for member in &self.members {
            self.cpus.call(member.mailbox.home());
        }
        result
    }

    /// Has every vCPU look around.
    pub fn call_all(&self, current: Option<VcpuId>) {
        for vcpu in self.vcpus() {
            self.call(vcpu, current);
        }
    }

    /// Returns what the VM is doing.
    #[must_use]
    pub fn state(&self) -> Phase {
        self.power.lock().phase()
    }

    /// Tells whether the VM is about to stop.
    #[inline]
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.halt.load(Ordering::Acquire) == halt::STOPPING
    }

    /// Tells whether the VM is paused.
    #[inline]
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.halt.load(Ordering::Acquire) == halt::PAUSED
    }

    /// Returns how fast the system counter counts.
    #[must_use]
    pub const fn ticks_per_second(&self) -> u64 {
        self.clock.ticks_per_second()
    }

    /// Returns how long a tick of the system counter is.
    #[inline]
    #[must_use]
    pub const fn tick_length(&self) -> TickLength {
        self.tick_length
    }

    /// Returns CNTVOFF_EL2 for a turn that begins.
    #[must_use]
    pub fn counter_offset(&self) -> u64 {
        self.counter_offset.load(Ordering::Relaxed)
    }

    /// Parks a vCPU of a stopping VM. The last one learns why it stopped.
    #[must_use]
    pub fn park(&self, vcpu: VcpuId) -> Option<StopReason> {
        let mut power = self.power.lock();
        let reason = power.park(vcpu)?;
        self.mirror(&power);
        Some(reason)
    }

    /// Tells whether the VM has stopped for good: its vCPUs are to be dismissed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(
            self.state(),
            Phase::Stopped(StopReason::Off | StopReason::Fault)
        )
    }

    /// Records that a vCPU exists.
    pub(crate) fn enrol(&self) {
        self.vcpus_left.fetch_add(1, Ordering::AcqRel);
    }

    /// Records that a vCPU does not exist any more; `true` for the last one.
    pub(crate) fn dismiss(&self) -> bool {
        self.vcpus_left.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// The conduit by which guests are told to call; the other works as well.
const GUEST_CONDUIT: Conduit = Conduit::Hvc;

#[cfg(test)]
mod tests;
