//! A GICv3 or GICv4 (Arm IHI 0069): affinity routing, a redistributor for each
//! CPU, and a CPU interface of system registers.
#![expect(unsafe_code, reason = "registers are named by the device tree")]

use alloc::vec::Vec;
use core::arch::asm;
use core::ptr::NonNull;

use aarch64_cpu::registers::{MPIDR_EL1, Readable};
use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicDistributor, GicRedistributor, Group};
use arm_gic::{InterruptGroup, Trigger, UniqueMmioPointer};
use arm_vgic_v3::El2Ich;
use dtb_platform::{Gic, Platform};
use hypervisor::cpu::PcpuId;
use hypervisor::telemetry::Watched;
use vm_contract::{HostPhysAddrRange, IntId};

use super::{CpuGic, Interrupts, KICK, PRIORITY};

/// Affinity fields of MPIDR_EL1.
const AFFINITY: u64 = 0xff_00ff_ffff;
/// Offsets from the start of a redistributor: its SGI frame's ISACTIVER0,
/// ICACTIVER0 and ICPENDR0.
const GICR_ISACTIVER0: usize = 0x1_0300;
const GICR_ICACTIVER0: usize = 0x1_0380;
const GICR_ICPENDR0: usize = 0x1_0280;
/// Offset of GICD_ICACTIVER<n> in the distributor.
const GICD_ICACTIVER: usize = 0x380;
/// Frames of a redistributor without and with virtual LPIs (GICR_TYPER.VLPIS).
const FRAME_BYTES: usize = 0x2_0000;
/// GICR_TYPER, from the start of a redistributor.
const GICR_TYPER: usize = 8;
const TYPER_VLPIS: u64 = 1 << 1;
const TYPER_LAST: u64 = 1 << 4;
/// ICC_CTLR_EL1.EOImode: EOIR drops the priority, DIR deactivates.
const EOI_MODE: u64 = 1 << 1;

/// What every CPU must know.
pub(super) struct Shared {
    redistributors: Vec<HostPhysAddrRange>,
    stride: Option<usize>,
    /// MPIDR_EL1 of each CPU.
    affinities: Vec<u64>,
}

impl Shared {
    /// Configures the distributor.
    ///
    /// # Safety
    /// As for [`MachineGic::bring_up`](super::MachineGic::bring_up).
    pub(super) unsafe fn bring_up(
        platform: &Platform,
        interrupts: Interrupts,
    ) -> Result<Self, &'static str> {
        let Gic::V3 {
            distributor,
            redistributors,
            stride,
            ..
        } = &platform.gic
        else {
            return Err("it is not a GICv3");
        };
        let registers = core::ptr::with_exposed_provenance_mut::<Gicd>(distributor.start.into());
        let registers = NonNull::new(registers).ok_or("the distributor is at address 0")?;
        // SAFETY: the caller vouches for the address and that nobody else uses it.
        let mut gicd = GicDistributor::new(unsafe { UniqueMmioPointer::new(registers) });
        gicd.enable_all_interrupts(false);
        gicd.configure_default_settings();
        for line in interrupts.shared() {
            let (intid, id) = (line.id.raw(), driver_id(line.id));
            let trigger = match line.trigger {
                dtb_platform::Trigger::Edge => Trigger::Edge,
                dtb_platform::Trigger::Level => Trigger::Level,
            };
            let problem = |_| "the interrupt of a device cannot be configured";
            gicd.set_trigger(id, trigger).map_err(problem)?;
            gicd.set_interrupt_priority(id, PRIORITY).map_err(problem)?;
            // A boot loader may have left it active; then it would never come again.
            let word = (intid / 32) as usize * 4;
            let base = distributor.start.into();
            // SAFETY: GICD_ICACTIVER<n> of this distributor.
            unsafe { write(base, GICD_ICACTIVER + word, 1 << (intid % 32)) };
            gicd.set_routing(id, Some(MPIDR_EL1.get() & AFFINITY))
                .map_err(problem)?;
            gicd.enable_interrupt(id, true).map_err(problem)?;
        }
        Ok(Self {
            redistributors: redistributors.clone(),
            stride: stride.and_then(|stride| usize::try_from(stride).ok()),
            affinities: platform.cpus.iter().map(|cpu| cpu.mpidr).collect(),
        })
    }

    /// Wakes the redistributor of the CPU that calls this.
    ///
    /// # Safety
    /// As for [`MachineGic::bring_up_cpu`](super::MachineGic::bring_up_cpu).
    pub(super) unsafe fn bring_up_cpu(
        &self,
        interrupts: Interrupts,
    ) -> Result<Interface, &'static str> {
        let own = MPIDR_EL1.get() & AFFINITY;
        let base = self
            .redistributors
            .iter()
            // SAFETY: whoever made `self` vouched for the regions.
            .find_map(|region| unsafe { find_redistributor(region, self.stride, own) })
            .ok_or("a CPU has no redistributor")?;
        let registers = NonNull::new(core::ptr::with_exposed_provenance_mut::<GicrSgi>(base))
            .ok_or("a redistributor is at address 0")?;
        // SAFETY: this CPU's own redistributor; no other CPU touches it.
        let mut redistributor = GicRedistributor::new(unsafe { UniqueMmioPointer::new(registers) });
        // It may be awake already.
        let _ = redistributor.mark_core_awake();
        redistributor.configure_default_settings();
        // What a boot loader has left behind.
        // SAFETY: registers of this CPU's own redistributor.
        unsafe { write(base, GICR_ICACTIVER0, u32::MAX) };
        // SAFETY: as above.
        unsafe { write(base, GICR_ICPENDR0, u32::MAX) };
        let problem = |_| "a private interrupt cannot be configured";
        for intid in interrupts.private() {
            let id = driver_id(intid);
            redistributor
                .set_group(id, Group::Group1NS)
                .map_err(problem)?;
            redistributor
                .set_interrupt_priority(id, PRIORITY)
                .map_err(problem)?;
            redistributor.enable_interrupt(id, true).map_err(problem)?;
        }
        GicCpuInterface::set_priority_mask(0xff);
        // SAFETY: changes how this CPU ends interrupts; `acknowledge` and
        // `deactivate` rely on it.
        unsafe { asm!("msr S3_0_C12_C12_4, {}", "isb", in(reg) EOI_MODE, options(nostack)) };
        GicCpuInterface::enable_group1(true);
        Ok(Interface {
            ich: Watched::new(El2Ich::new()),
            redistributor,
            base,
        })
    }

    /// Interrupts CPU `id`.
    pub(super) fn kick(&self, id: PcpuId) {
        let Some(mpidr) = self.affinities.get(id.index()) else {
            return;
        };
        let [aff0, aff1, aff2, _, aff3, ..] = mpidr.to_le_bytes().map(u64::from);
        // ICC_SGI1R_EL1: Aff3, RS, Aff2, INTID, Aff1, TargetList.
        let value = aff3 << 48
            | (aff0 >> 4) << 44
            | aff2 << 32
            | u64::from(KICK) << 24
            | aff1 << 16
            | 1 << (aff0 & 0xf);
        // SAFETY: sends the hypervisor's own interrupt to one of its CPUs.
        unsafe { asm!("msr S3_0_C12_C11_5, {}", "isb", in(reg) value, options(nostack)) };
    }
}

/// The redistributor and CPU interface of one CPU.
pub(crate) struct Interface {
    ich: Watched<El2Ich>,
    redistributor: GicRedistributor<'static>,
    /// Where it is, for the registers that the driver does not offer.
    base: usize,
}

impl CpuGic for Interface {
    type Ich = El2Ich;

    #[inline]
    fn ich(&mut self) -> &mut Watched<El2Ich> {
        &mut self.ich
    }

    #[inline]
    fn acknowledge(&self) -> Option<IntId> {
        let id = GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group1)?;
        GicCpuInterface::end_interrupt(id, InterruptGroup::Group1);
        IntId::new(u32::from(id))
    }

    #[inline]
    fn deactivate(&self, intid: IntId) {
        // SAFETY: ICC_DIR_EL1 deactivates an interrupt of this CPU.
        unsafe { asm!("msr S3_0_C12_C11_1, {0:x}", in(reg) intid.raw(), options(nostack)) };
    }

    fn disable(&mut self, private: IntId) {
        // It exists: it has just been signalled.
        let _ = self
            .redistributor
            .enable_interrupt(driver_id(private), false);
    }

    fn activate(&self, private: IntId) {
        // SAFETY: a register of this CPU's own redistributor.
        unsafe { write(self.base, GICR_ISACTIVER0, 1 << private.raw()) };
        self.redistributor.wait_for_pending_write();
    }
}

fn driver_id(intid: IntId) -> arm_gic::IntId {
    match intid.raw() {
        n @ 0..16 => arm_gic::IntId::sgi(n),
        n @ 16..32 => arm_gic::IntId::ppi(n - 16),
        n => arm_gic::IntId::spi(n.wrapping_sub(32)),
    }
}

/// Writes a 32-bit register.
///
/// # Safety
/// `base + offset` is a GIC register, mapped as device memory, that may be
/// written so.
unsafe fn write(base: usize, offset: usize, value: u32) {
    let register = core::ptr::with_exposed_provenance_mut::<u32>(base + offset);
    // SAFETY: by the function's contract.
    unsafe { register.write_volatile(value) };
}

/// Finds the redistributor of the CPU with affinity `own` in `region`.
///
/// # Safety
/// `region` consists of redistributors, mapped as device memory.
unsafe fn find_redistributor(
    region: &HostPhysAddrRange,
    stride: Option<usize>,
    own: u64,
) -> Option<usize> {
    let mut at = usize::from(region.start);
    while at + FRAME_BYTES <= usize::from(region.end) {
        let typer = core::ptr::with_exposed_provenance::<u64>(at + GICR_TYPER);
        // SAFETY: GICR_TYPER of a redistributor in the region.
        let typer = unsafe { typer.read_volatile() };
        let [aff0, aff1, aff2, aff3] = ((typer >> 32) as u32).to_le_bytes().map(u64::from);
        if aff3 << 32 | aff2 << 16 | aff1 << 8 | aff0 == own {
            return Some(at);
        }
        if typer & TYPER_LAST != 0 {
            return None;
        }
        let frames = if typer & TYPER_VLPIS != 0 { 2 } else { 1 };
        at += stride.unwrap_or(FRAME_BYTES * frames);
    }
    None
}
