//! A virtual machine: everything its vCPUs share.
//!
//! Its shape is fixed when it has been built. What changes lies behind locks of
//! its own (ranks in [`crate::lock::rank`]); its vCPUs belong to the CPUs that
//! run them and are reached by mailbox only.

mod build;
pub mod bus;
pub mod clock;
mod lines;
pub mod mailbox;
pub mod memory;
pub mod power;
mod serial;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use arm_vcpu::IdRegisters;
use arm_vgic_v3::{Kicks, Vgic};
use dtb_platform::Conduit;
use primecell_devices::{Pl011, Pl031};
use s2_mmu::Stage2;
use vm_contract::{HostPhysAddr, IntId, VcpuId, VmId};

pub use build::{BuildError, HostFacts, VmBuilder};
pub use lines::Line;

use crate::console::{Console, GuestSerial};
use crate::cpu::{Machine, PcpuId};
use crate::frames::TableFrames;
use crate::loader::{Layout, LoadError, Piece};
use crate::lock::{RankedLock, rank};
use bus::{Bus, DeviceLock};
use clock::SystemClock;
use mailbox::VcpuMailbox;
use memory::GuestRam;
use power::{CpuOnError, Phase, Power, Start, StopReason};

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
    /// CNTVOFF_EL2: the system counter when the VM was built.
    pub cntvoff: u64,
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

/// A virtual machine.
pub struct Vm {
    id: VmId,
    name: String,
    ram: GuestRam,
    bus: Bus,
    vgic: RankedLock<Vgic, { rank::VGIC }>,
    power: RankedLock<Power, { rank::POWER }>,
    /// Mirrors `power`, for a look without the lock.
    stopping: AtomicBool,
    ran_before: AtomicBool,
    mailboxes: Vec<VcpuMailbox>,
    affinities: Vec<u64>,
    vcpu_facts: VcpuFacts,
    serial: Arc<DeviceLock<Pl011<GuestSerial>>>,
    serial_intid: IntId,
    rtc: Arc<DeviceLock<Pl031<SystemClock>>>,
    rtc_intid: IntId,
    clock: SystemClock,
    console: Arc<Console>,
    images: BootImages,
    machine: &'static dyn Machine,
    /// Keeps the tables alive; nothing changes them once the VM is built.
    _stage2: RankedLock<Stage2<TableFrames>, { rank::STAGE2 }>,
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
        &self.ram
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

    /// Returns each vCPU with its affinity (MPIDR_EL1).
    pub fn affinities(&self) -> impl Iterator<Item = (VcpuId, u64)> {
        (0..).map(VcpuId::new).zip(self.affinities.iter().copied())
    }

    /// Returns the vCPU that has exactly this affinity.
    #[must_use]
    pub fn vcpu_by_affinity(&self, affinity: u64) -> Option<VcpuId> {
        self.affinities()
            .find(|(_, own)| *own == affinity)
            .map(|(vcpu, _)| vcpu)
    }

    /// Returns the mailbox of a vCPU.
    #[must_use]
    pub fn mailbox(&self, vcpu: VcpuId) -> Option<&VcpuMailbox> {
        self.mailboxes.get(vcpu.index())
    }

    /// Returns the vCPUs that live on `cpu`.
    pub fn residents(&self, cpu: PcpuId) -> impl Iterator<Item = VcpuId> {
        (0..)
            .map(VcpuId::new)
            .zip(&self.mailboxes)
            .filter(move |(_, mailbox)| mailbox.home() == cpu)
            .map(|(vcpu, _)| vcpu)
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
        if !kicks.is_empty() {
            for vcpu in kicks.iter() {
                self.call(vcpu, current);
            }
        }
        result
    }

    /// Calls a vCPU's attention, wherever it is.
    fn call(&self, vcpu: VcpuId, current: Option<VcpuId>) {
        let Some(mailbox) = self.mailbox(vcpu) else {
            return;
        };
        if mailbox.call() && current != Some(vcpu) {
            self.machine.kick(mailbox.home());
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
        let mut power = self.power.lock();
        power.cpu_off(vcpu);
        self.stopping.store(power.is_stopping(), Ordering::Release);
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
    pub fn request_stop(&self, reason: StopReason, current: Option<VcpuId>) {
        {
            let mut power = self.power.lock();
            power.request_stop(reason);
            // Under the lock: the VM may be parked as soon as that is free.
            self.stopping.store(power.is_stopping(), Ordering::Release);
        }
        self.call_all(current);
    }

    /// Begins to start the VM anew, though it is off; its CPUs do it. `false` if
    /// it is not off.
    #[must_use]
    pub fn revive(&self) -> bool {
        {
            let mut power = self.power.lock();
            if !power.revive() {
                return false;
            }
            self.stopping.store(true, Ordering::Release);
        }
        self.call_all(None);
        true
    }

    fn call_all(&self, current: Option<VcpuId>) {
        for (vcpu, _) in self.affinities() {
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
        self.stopping.load(Ordering::Acquire)
    }

    /// Parks a vCPU of a stopping VM. The last one learns why it stopped.
    #[must_use]
    pub fn park(&self, vcpu: VcpuId) -> Option<StopReason> {
        let mut power = self.power.lock();
        let reason = power.park(vcpu)?;
        self.stopping.store(false, Ordering::Release);
        Some(reason)
    }

    /// Starts the VM: at first, and after all its vCPUs were parked for a reset.
    /// Memory is cleared and filled anew, devices and interrupt controller are
    /// at their reset state, and the first vCPU begins.
    ///
    /// # Errors
    /// [`LoadError`] if its image cannot be unpacked; it has not been started then.
    pub fn boot(&self) -> Result<(), LoadError> {
        self.bus.reset();
        // Devices have no line at hand while they are reset.
        for intid in [self.serial_intid, self.rtc_intid] {
            self.with_vgic(None, |vgic| ((), vgic.set_spi_level(intid, false)));
        }
        self.vgic.lock().reset();
        // Fresh frames are clear already.
        if self.ran_before.swap(true, Ordering::Relaxed) {
            self.ram.clear();
        }
        let images = &self.images;
        let put = |piece: Piece<'_>| {
            self.ram
                .load(piece.address, piece.bytes)
                .map_err(|_| LoadError::DoesNotFit)
        };
        images.layout.load(images.image, put)?;
        if let (Some(address), Some(bytes)) = (images.layout.initrd, images.ramdisk) {
            put(Piece { address, bytes })?;
        }
        put(Piece {
            address: images.layout.tree,
            bytes: &images.tree,
        })?;
        for segment in self.ram.segments() {
            self.machine.clean_to_coherency(segment.host_range());
        }
        let start = Start {
            entry: images.layout.entry,
            context: usize::from(images.layout.tree) as u64,
        };
        self.power.lock().boot(start);
        self.call(VcpuId::new(0), None);
        Ok(())
    }
}

/// The conduit by which guests are told to call; the other works as well.
const GUEST_CONDUIT: Conduit = Conduit::Hvc;
