//! The machine's interrupt controller, of version 2 or 3. It belongs to the
//! hypervisor alone: of it guests reach the virtual CPU interface, and nothing
//! else.

mod v2;
mod v3;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{ID_AA64PFR0_EL1, Readable};
use arm_vgic_core::IchRegs;
use dtb_platform::{Gic, GicVersion, Interrupt, Platform};
use hypervisor::cpu::{PcpuId, PhysicalInterrupt};
use hypervisor::telemetry::Watched;
use vm_contract::IntId;

/// The interrupt by which one CPU calls another.
const KICK: u32 = 0;
/// All the hypervisor's interrupts have one priority: none interrupts another.
const PRIORITY: u8 = 0x80;
/// ID_AA64PFR0_EL1.GIC: which system registers of a GIC a CPU has.
const PFR0_GIC: u32 = 24;

/// The interrupts that the hypervisor uses, as the device tree numbers them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupts {
    deadline: IntId,
    virtual_timer: IntId,
    maintenance: IntId,
    console: Option<Interrupt>,
    /// Of devices that VMs share.
    devices: &'static [Interrupt],
}

impl Interrupts {
    fn of(platform: &Platform, devices: &'static [Interrupt]) -> Option<Self> {
        let (Gic::V2 { maintenance, .. } | Gic::V3 { maintenance, .. }) = &platform.gic else {
            return None;
        };
        Some(Self {
            deadline: platform.timer.hyp,
            virtual_timer: platform.timer.virt,
            maintenance: (*maintenance).filter(|intid| intid.is_ppi())?,
            console: platform.uart.as_ref().and_then(|uart| uart.interrupt),
            devices,
        })
    }

    /// Returns those that every CPU has for itself and that are to be enabled
    /// there.
    fn private(self) -> impl Iterator<Item = IntId> {
        [self.deadline, self.virtual_timer, self.maintenance]
            .into_iter()
            .chain(IntId::sgi(KICK))
    }

    /// Returns those that come to one CPU, the boot CPU.
    fn shared(self) -> impl Iterator<Item = Interrupt> {
        self.console.into_iter().chain(self.devices.iter().copied())
    }

    /// Says what an interrupt is for.
    pub(crate) fn identify(self, intid: IntId) -> PhysicalInterrupt {
        match intid {
            id if id == self.virtual_timer => PhysicalInterrupt::VirtualTimer,
            id if id.raw() == KICK => PhysicalInterrupt::Kick,
            id if id == self.deadline => PhysicalInterrupt::Deadline,
            id if id == self.maintenance => PhysicalInterrupt::Maintenance,
            id if self.console.is_some_and(|line| line.id == id) => PhysicalInterrupt::Console,
            id if self.devices.iter().any(|line| line.id == id) => PhysicalInterrupt::Device(id),
            id => PhysicalInterrupt::Unexpected(id),
        }
    }

    /// Returns the number of an interrupt; the inverse of [`identify`](Self::identify).
    pub(crate) fn number(self, interrupt: PhysicalInterrupt) -> Option<IntId> {
        match interrupt {
            PhysicalInterrupt::VirtualTimer => Some(self.virtual_timer),
            PhysicalInterrupt::Kick => IntId::sgi(KICK),
            PhysicalInterrupt::Deadline => Some(self.deadline),
            PhysicalInterrupt::Maintenance => Some(self.maintenance),
            PhysicalInterrupt::Console => self.console.map(|line| line.id),
            PhysicalInterrupt::Device(id) | PhysicalInterrupt::Unexpected(id) => Some(id),
        }
    }
}

/// What all CPUs share of the interrupt controller.
pub(crate) struct MachineGic {
    interrupts: Interrupts,
    version: Version<v2::Shared, v3::Shared>,
}

/// One thing for each version of the architecture.
pub(crate) enum Version<Two, Three> {
    V2(Two),
    V3(Three),
}

/// The interrupt controller of the CPU that executes.
pub(crate) trait CpuGic {
    /// The list registers.
    type Ich: IchRegs;

    /// Returns the list registers.
    fn ich(&mut self) -> &mut Watched<Self::Ich>;

    /// Acknowledges an interrupt and drops its priority; it stays active.
    fn acknowledge(&self) -> Option<IntId>;

    /// Deactivates an interrupt.
    fn deactivate(&self, intid: IntId);

    /// Disables a private interrupt that nobody asked for.
    fn disable(&mut self, private: IntId);

    /// Makes a private interrupt active.
    fn activate(&self, private: IntId);
}

impl MachineGic {
    /// Configures the distributor: nothing enabled but the interrupts of the console
    /// and of `devices`, which go to the CPU that calls this.
    ///
    /// # Errors
    /// Says what about the machine is to blame.
    ///
    /// # Safety
    /// Called once, on the boot CPU, with the platform of this machine, whose
    /// GIC is mapped as device memory and used by nobody else.
    #[expect(unsafe_code, reason = "registers are named by the device tree")]
    pub(crate) unsafe fn bring_up(
        platform: &Platform,
        devices: &'static [Interrupt],
    ) -> Result<Self, &'static str> {
        let interrupts = Interrupts::of(platform, devices)
            .ok_or("its GIC has no maintenance interrupt, and so cannot serve guests")?;
        // The system registers of the one are undefined on the other, and hide
        // the memory-mapped ones where both exist.
        let has_system_registers = ID_AA64PFR0_EL1.get() >> PFR0_GIC & 0xf != 0;
        let version = match platform.gic.version() {
            GicVersion::V2 if has_system_registers => {
                return Err("the device tree names a GICv2, but its CPUs are made for a GICv3");
            }
            GicVersion::V3 if !has_system_registers => {
                return Err("the device tree names a GICv3, but its CPUs are not made for one");
            }
            // SAFETY: as the caller promises.
            GicVersion::V2 => Version::V2(unsafe { v2::Shared::bring_up(platform, interrupts) }?),
            // SAFETY: as the caller promises.
            GicVersion::V3 => Version::V3(unsafe { v3::Shared::bring_up(platform, interrupts) }?),
        };
        Ok(Self {
            interrupts,
            version,
        })
    }

    /// Prepares the part of the CPU that calls this, which is CPU `id`, and
    /// enables the interrupts that the hypervisor uses on every CPU.
    ///
    /// # Errors
    /// Says what about the machine is to blame.
    ///
    /// # Safety
    /// Called once per CPU, with the GIC mapped as device memory, and with
    /// ICC_SRE_EL2 enabled where that exists.
    #[expect(unsafe_code, reason = "a CPU has its registers once")]
    pub(crate) unsafe fn bring_up_cpu(
        &self,
        id: PcpuId,
    ) -> Result<Version<v2::Interface, v3::Interface>, &'static str> {
        Ok(match &self.version {
            // SAFETY: as the caller promises.
            Version::V2(shared) => Version::V2(unsafe { shared.bring_up_cpu(id, self.interrupts) }),
            Version::V3(shared) => {
                // SAFETY: as the caller promises.
                Version::V3(unsafe { shared.bring_up_cpu(self.interrupts) }?)
            }
        })
    }

    /// Returns what the hypervisor's interrupts are.
    pub(crate) const fn interrupts(&self) -> Interrupts {
        self.interrupts
    }

    /// Interrupts CPU `id`.
    #[inline]
    pub(crate) fn kick(&self, id: PcpuId) {
        // The callee reads what was written before the call.
        barrier::dsb(barrier::ISHST);
        match &self.version {
            Version::V2(shared) => shared.kick(id),
            Version::V3(shared) => shared.kick(id),
        }
    }
}
