//! The machine's GICv3. It belongs to the hypervisor alone: no guest's access
//! ever reaches it.
#![expect(unsafe_code, reason = "registers are named by the device tree")]

use core::arch::asm;
use core::ptr::NonNull;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{MPIDR_EL1, Readable};
use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicDistributor, GicRedistributor, Group};
use arm_gic::{InterruptGroup, UniqueMmioPointer};
use dtb_platform::{Gic, Platform, Trigger};
use hypervisor::cpu::PhysicalInterrupt;
use vm_contract::{HostPhysAddrRange, IntId};

/// The interrupt by which one CPU calls another.
const KICK: u32 = 0;
/// All the hypervisor's interrupts have one priority: none interrupts another.
const PRIORITY: u8 = 0x80;
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

/// The interrupts that the hypervisor uses, as the device tree numbers them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupts {
    deadline: IntId,
    virtual_timer: IntId,
    maintenance: IntId,
    console: Option<IntId>,
}

impl Interrupts {
    pub(crate) fn of(platform: &Platform) -> Option<Self> {
        let Gic::V3 { maintenance, .. } = &platform.gic else {
            return None;
        };
        Some(Self {
            deadline: platform.timer.hyp,
            virtual_timer: platform.timer.virt,
            maintenance: (*maintenance)?,
            console: platform
                .uart
                .as_ref()
                .and_then(|uart| uart.interrupt)
                .map(|line| line.id),
        })
    }

    fn private(self) -> [IntId; 3] {
        [self.deadline, self.virtual_timer, self.maintenance]
    }

    /// Says what an interrupt is for.
    pub(crate) fn identify(self, intid: IntId) -> PhysicalInterrupt {
        match intid {
            id if id == self.virtual_timer => PhysicalInterrupt::VirtualTimer,
            id if id.raw() == KICK => PhysicalInterrupt::Kick,
            id if id == self.deadline => PhysicalInterrupt::Deadline,
            id if id == self.maintenance => PhysicalInterrupt::Maintenance,
            id if Some(id) == self.console => PhysicalInterrupt::Console,
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
            PhysicalInterrupt::Console => self.console,
            PhysicalInterrupt::Unexpected(id) => Some(id),
        }
    }
}

fn driver_id(intid: IntId) -> arm_gic::IntId {
    match intid.raw() {
        n @ 0..16 => arm_gic::IntId::sgi(n),
        n @ 16..32 => arm_gic::IntId::ppi(n - 16),
        n => arm_gic::IntId::spi(n.wrapping_sub(32)),
    }
}

/// Configures the distributor: nothing enabled but the console's interrupt, which
/// goes to the CPU that calls this.
///
/// # Safety
/// Called once, on the boot CPU, with the platform of this machine, whose GIC
/// is mapped as device memory.
pub(crate) unsafe fn init_distributor(
    platform: &Platform,
    interrupts: Interrupts,
) -> Result<(), &'static str> {
    let Gic::V3 { distributor, .. } = &platform.gic else {
        return Err("it is not a GICv3");
    };
    let registers = core::ptr::with_exposed_provenance_mut::<Gicd>(distributor.start.into());
    let registers = NonNull::new(registers).ok_or("the distributor is at address 0")?;
    // SAFETY: the caller vouches for the address and that nobody else uses it.
    let mut gicd = GicDistributor::new(unsafe { UniqueMmioPointer::new(registers) });
    gicd.enable_all_interrupts(false);
    gicd.configure_default_settings();
    if let Some(console) = interrupts.console {
        let id = driver_id(console);
        let edge = platform
            .uart
            .as_ref()
            .and_then(|uart| uart.interrupt)
            .is_some_and(|line| line.trigger == Trigger::Edge);
        let trigger = if edge {
            arm_gic::Trigger::Edge
        } else {
            arm_gic::Trigger::Level
        };
        let problem = |_| "the console's interrupt cannot be configured";
        gicd.set_trigger(id, trigger).map_err(problem)?;
        gicd.set_interrupt_priority(id, PRIORITY).map_err(problem)?;
        // A boot loader may have left it active; then it would never come again.
        let word = (console.raw() / 32) as usize * 4;
        // SAFETY: GICD_ICACTIVER<n> of this distributor.
        unsafe {
            write(
                distributor.start.into(),
                GICD_ICACTIVER + word,
                1 << (console.raw() % 32),
            )
        };
        gicd.set_routing(id, Some(MPIDR_EL1.get() & AFFINITY))
            .map_err(problem)?;
        gicd.enable_interrupt(id, true).map_err(problem)?;
    }
    Ok(())
}

/// The redistributor and CPU interface of one CPU.
pub(crate) struct CpuGic {
    redistributor: GicRedistributor<'static>,
    /// Where it is, for the registers that the driver does not offer.
    base: usize,
}

impl CpuGic {
    /// Wakes the redistributor of the CPU that calls this, and enables the
    /// interrupts that the hypervisor uses on every CPU.
    ///
    /// # Safety
    /// Called once per CPU, with the platform of this machine, whose GIC is
    /// mapped as device memory, and with ICC_SRE_EL2 enabled.
    pub(crate) unsafe fn init(
        platform: &Platform,
        interrupts: Interrupts,
    ) -> Result<Self, &'static str> {
        let Gic::V3 {
            redistributors,
            stride,
            ..
        } = &platform.gic
        else {
            return Err("it is not a GICv3");
        };
        let own = MPIDR_EL1.get() & AFFINITY;
        let base = redistributors
            .iter()
            // SAFETY: the caller vouches for the regions.
            .find_map(|region| unsafe { find_redistributor(region, *stride, own) })
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
        for intid in interrupts.private().into_iter().chain(IntId::sgi(KICK)) {
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
        Ok(Self {
            redistributor,
            base,
        })
    }

    /// Acknowledges an interrupt and drops its priority; it stays active.
    pub(crate) fn acknowledge(&self) -> Option<IntId> {
        let id = GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group1)?;
        GicCpuInterface::end_interrupt(id, InterruptGroup::Group1);
        IntId::new(u32::from(id))
    }

    /// Deactivates an interrupt.
    pub(crate) fn deactivate(&self, intid: IntId) {
        // SAFETY: ICC_DIR_EL1 deactivates an interrupt of this CPU.
        unsafe { asm!("msr S3_0_C12_C11_1, {0:x}", in(reg) intid.raw(), options(nostack)) };
    }

    /// Disables a private interrupt that nobody asked for.
    pub(crate) fn disable(&mut self, intid: IntId) {
        if intid.is_private() {
            // It exists: it has just been signalled.
            let _ = self.redistributor.enable_interrupt(driver_id(intid), false);
        }
    }

    /// Makes a private interrupt active.
    pub(crate) fn activate(&self, intid: IntId) {
        if intid.is_private() {
            // SAFETY: a register of this CPU's own redistributor.
            unsafe { write(self.base, GICR_ISACTIVER0, 1 << intid.raw()) };
            self.redistributor.wait_for_pending_write();
        }
    }
}

/// Interrupts the CPU with affinity `mpidr`.
pub(crate) fn kick(mpidr: u64) {
    // The callee reads what was written before the call.
    barrier::dsb(barrier::ISHST);
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
    stride: Option<u64>,
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
        at += stride
            .and_then(|stride| usize::try_from(stride).ok())
            .unwrap_or(FRAME_BYTES * frames);
    }
    None
}
