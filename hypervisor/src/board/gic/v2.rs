//! A GICv2 (Arm IHI 0048): one distributor, some of whose registers each CPU
//! has for itself, and a CPU interface in memory.
//!
//! The hypervisor runs non-secure. If the GIC has the Security Extensions, all
//! that it sees is Group 1, and its view of the registers is the non-secure one;
//! else all interrupts are put into Group 0. Either way bit 0 of the control
//! registers enables them and GICC_IAR acknowledges them.
#![expect(unsafe_code, reason = "registers are named by the device tree")]

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering};

use arm_vgic_v2::{El2Gich, VirtualInterface};
use dtb_platform::{Gic, Interrupt, Platform, Trigger};
use hypervisor::cpu::PcpuId;
use hypervisor::telemetry::Watched;
use memory_addr::MemoryAddr;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::register_structs;
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};
use vm_contract::{HostPhysAddrRange, IntId};

use super::{CpuGic, Interrupts, KICK, PRIORITY};

register_structs! {
    /// The distributor, GICD.
    Gicd {
        (0x000 => ctlr: ReadWrite<u32>),
        (0x004 => typer: ReadOnly<u32>),
        (0x008 => _to_igroupr),
        (0x080 => igroupr: [ReadWrite<u32>; 32]),
        (0x100 => isenabler: [ReadWrite<u32>; 32]),
        (0x180 => icenabler: [ReadWrite<u32>; 32]),
        (0x200 => _ispendr),
        (0x280 => icpendr: [ReadWrite<u32>; 32]),
        (0x300 => isactiver: [ReadWrite<u32>; 32]),
        (0x380 => icactiver: [ReadWrite<u32>; 32]),
        (0x400 => ipriorityr: [ReadWrite<u8>; 1024]),
        (0x800 => itargetsr: [ReadWrite<u8>; 1024]),
        (0xc00 => icfgr: [ReadWrite<u32>; 64]),
        (0xd00 => _to_sgir),
        (0xf00 => sgir: WriteOnly<u32>),
        (0xf04 => _to_cpendsgir),
        (0xf10 => cpendsgir: [ReadWrite<u32>; 4]),
        (0xf20 => @END),
    }
}

register_structs! {
    /// The CPU interface, GICC.
    Gicc {
        (0x000 => ctlr: ReadWrite<u32>),
        (0x004 => pmr: ReadWrite<u32>),
        (0x008 => _bpr),
        (0x00c => iar: ReadOnly<u32>),
        (0x010 => eoir: WriteOnly<u32>),
        (0x014 => _to_dir),
        (0x1000 => dir: WriteOnly<u32>),
        (0x1004 => @END),
    }
}

/// GICD_CTLR and GICC_CTLR: interrupts of the group that is used are forwarded.
const ENABLE: u32 = 1 << 0;
/// GICC_CTLR.EOImodeNS, or EOImodeS where that is the only one: EOIR drops the
/// priority, DIR deactivates.
const EOI_MODE: u32 = 1 << 9;
/// GICC_CTLR: what the firmware has decided about the legacy bypass signals.
const BYPASS_DISABLE: u32 = 0b1111 << 5;
/// GICC_IAR: the INTID, below the number of the CPU that sent an SGI.
const IAR_INTID: u32 = 0x3ff;
/// GICD_SGIR: where the list of CPU interfaces begins.
const SGIR_TARGETS: u32 = 16;
/// The least size of GICH: up to its last list register.
const GICH_BYTES: usize = 0x200;
/// INTIDs 0 to 31, each CPU's own.
const PRIVATE: usize = 32;

/// What every CPU must know.
pub(super) struct Shared {
    gicd: &'static Gicd,
    gicc: &'static Gicc,
    /// The virtual interface control, GICH.
    gich: usize,
    /// Which CPU interface each CPU has, as a mask; 0 until it has come up.
    interfaces: Vec<AtomicU8>,
}

// SAFETY: every access is a single load or store of device memory. Once the
// distributor is configured, by one CPU, what is written are a CPU's own copies
// of registers, and registers that take commands.
unsafe impl Sync for Shared {}

impl Shared {
    /// Configures the distributor.
    ///
    /// # Safety
    /// As for [`MachineGic::bring_up`](super::MachineGic::bring_up).
    pub(super) unsafe fn bring_up(
        platform: &Platform,
        interrupts: Interrupts,
    ) -> Result<Self, &'static str> {
        let Gic::V2 {
            distributor,
            cpu,
            hyp,
            ..
        } = &platform.gic
        else {
            return Err("it is not a GICv2");
        };
        // SAFETY: the caller vouches for the address and that nobody else uses it.
        let gicd = unsafe { at::<Gicd>(distributor) }.ok_or("the distributor is too small")?;
        // SAFETY: as above.
        let gicc = unsafe { at::<Gicc>(cpu) }.ok_or("the CPU interface is too small")?;
        let gich = hyp
            .filter(|range| range.size() >= GICH_BYTES && range.start.is_aligned_4k())
            .ok_or("the device tree does not say where its GIC has GICH")?;
        gicd.ctlr.set(0);
        // GICD_TYPER.ITLinesNumber.
        let words = (gicd.typer.get() & 0x1f) as usize + 1;
        for (enable, group) in gicd.icenabler.iter().zip(&gicd.igroupr).take(words).skip(1) {
            enable.set(u32::MAX);
            group.set(0);
        }
        for line in interrupts.shared() {
            route(gicd, line).ok_or("the interrupt of a device cannot be configured")?;
        }
        gicd.ctlr.set(ENABLE);
        Ok(Self {
            gicd,
            gicc,
            gich: gich.start.into(),
            interfaces: platform.cpus.iter().map(|_| AtomicU8::new(0)).collect(),
        })
    }

    /// Prepares the CPU that calls this.
    ///
    /// # Safety
    /// As for [`MachineGic::bring_up_cpu`](super::MachineGic::bring_up_cpu).
    pub(super) unsafe fn bring_up_cpu(&self, id: PcpuId, interrupts: Interrupts) -> Interface {
        let gic = Interface {
            gicd: self.gicd,
            gicc: self.gicc,
            // SAFETY: the GICH frame of this GIC, mapped as device memory; this is
            // its only user on the CPU that calls this, which comes up once.
            ich: Watched::new(VirtualInterface::new(unsafe { El2Gich::new(self.gich) })),
        };
        gic.reset_private();
        for intid in interrupts.private() {
            if let Some(priority) = self.gicd.ipriorityr.get(intid.raw() as usize) {
                priority.set(PRIORITY);
            }
            set(&self.gicd.isenabler, intid);
        }
        self.gicc.pmr.set(0xff);
        let bypass = self.gicc.ctlr.get() & BYPASS_DISABLE;
        self.gicc.ctlr.set(bypass | EOI_MODE | ENABLE);
        if let Some(interface) = self.interfaces.get(id.index()) {
            interface.store(own_interface(self.gicd), Ordering::Release);
        }
        gic
    }

    /// Interrupts CPU `id`.
    pub(super) fn kick(&self, id: PcpuId) {
        if let Some(interface) = self.interfaces.get(id.index()) {
            let targets = u32::from(interface.load(Ordering::Acquire));
            self.gicd.sgir.set(targets << SGIR_TARGETS | KICK);
        }
    }
}

/// What one CPU sees of the distributor, and its CPU interface.
pub(crate) struct Interface {
    gicd: &'static Gicd,
    gicc: &'static Gicc,
    ich: Watched<VirtualInterface<El2Gich>>,
}

impl CpuGic for Interface {
    type Ich = VirtualInterface<El2Gich>;

    #[inline]
    fn ich(&mut self) -> &mut Watched<Self::Ich> {
        &mut self.ich
    }

    /// An SGI is deactivated at once: that needs to know who has sent it, which
    /// is told here and nowhere else.
    #[inline]
    fn acknowledge(&self) -> Option<IntId> {
        let acknowledged = self.gicc.iar.get();
        // Not there is what stands for no interrupt.
        let intid = IntId::new(acknowledged & IAR_INTID)?;
        self.gicc.eoir.set(acknowledged);
        if intid.is_sgi() {
            self.gicc.dir.set(acknowledged);
        }
        Some(intid)
    }

    #[inline]
    fn deactivate(&self, intid: IntId) {
        if !intid.is_sgi() {
            self.gicc.dir.set(intid.raw());
        }
    }

    fn disable(&mut self, private: IntId) {
        set(&self.gicd.icenabler, private);
    }

    fn activate(&self, private: IntId) {
        set(&self.gicd.isactiver, private);
        // Whoever reads what has been written finds it done.
        let [first, ..] = &self.gicd.isactiver;
        let _ = first.get();
    }
}

impl Interface {
    /// Puts all private interrupts into one state, whatever a boot loader has
    /// left behind.
    fn reset_private(&self) {
        let Gicd {
            icenabler: [enable, ..],
            icactiver: [active, ..],
            icpendr: [pending, ..],
            igroupr: [group, ..],
            cpendsgir,
            ..
        } = self.gicd;
        for register in [enable, active, pending].into_iter().chain(cpendsgir) {
            register.set(u32::MAX);
        }
        group.set(0);
    }
}

/// Enables the interrupt of a device, for the CPU that calls this.
fn route(gicd: &Gicd, line: Interrupt) -> Option<()> {
    let (intid, edge) = (line.id, line.trigger == Trigger::Edge);
    let index = intid.raw() as usize;
    let config = gicd.icfgr.get(index / 16)?;
    let bit = 0b10 << (index % 16 * 2);
    config.set(config.get() & !bit | if edge { bit } else { 0 });
    gicd.ipriorityr.get(index)?.set(PRIORITY);
    gicd.itargetsr.get(index)?.set(own_interface(gicd));
    // A boot loader may have left it active; then it would never come again.
    set(&gicd.icactiver, intid);
    set(&gicd.isenabler, intid);
    Some(())
}

/// Returns the mask of the CPU interface that belongs to the CPU that calls
/// this: what its own interrupts have for target. A GIC for one CPU alone says
/// nothing there.
fn own_interface(gicd: &Gicd) -> u8 {
    let own = gicd.itargetsr.iter().take(PRIVATE);
    own.map(Readable::get).find(|mask| *mask != 0).unwrap_or(1)
}

/// Writes the one bit of `intid` in registers where 0 changes nothing.
fn set(registers: &[ReadWrite<u32>], intid: IntId) {
    let index = intid.raw() as usize;
    if let Some(register) = registers.get(index / 32) {
        register.set(1 << (index % 32));
    }
}

/// Returns the registers in `range`, if they fit there.
///
/// # Safety
/// They are there, mapped as device memory for good, and used by nobody else.
unsafe fn at<T>(range: &HostPhysAddrRange) -> Option<&'static T> {
    let registers = core::ptr::with_exposed_provenance::<T>(range.start.into());
    if range.size() < size_of::<T>() || !registers.is_aligned() {
        return None;
    }
    // SAFETY: by the function's contract; all of it is behind cells.
    unsafe { registers.as_ref() }
}
