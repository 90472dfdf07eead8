//! From a VM's description to the VM.

use alloc::sync::Arc;
use alloc::vec::Vec;

use arm_vcpu::IdRegisters;
use arm_vgic_v3::{Vgic, VgicConfig, VgicError};
use dtb_platform::layout;
use dtb_platform::{BootModule, GuestGic, GuestTree, Placement, TreeError, VmConfig};
use primecell_devices::{Pl011, Pl031};
use s2_mmu::{Attributes, HwVmid, MapError, Stage2, Stage2Config, Stage2Tlb};
use thiserror::Error;
use vm_contract::{GuestPhysAddrRange, HostPhysAddrRange, IntId, VmId};

use super::bus::{Bus, DeviceLock, Overlap, Target};
use super::clock::SystemClock;
use super::mailbox::VcpuMailbox;
use super::memory::{GuestRam, OutOfMemory};
use super::power::Power;
use super::{BootImages, GUEST_CONDUIT, VcpuFacts, Vm};
use crate::console::{Console, GuestSerial};
use crate::cpu::{Machine, PcpuId};
use crate::frames::{FramePool, TableFrames};
use crate::loader::{Layout, LoadError, TREE_BYTES};
use crate::lock::RankedLock;

/// Shared interrupts of a VM: INTIDs 32–287, as QEMU's `virt` machine has.
const SPI_COUNT: u16 = 256;

/// Why a VM could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// There is not enough memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// Its images cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its stage-2 tables cannot be made.
    #[error("stage-2 tables: {0}")]
    Map(#[from] MapError),
    /// Its interrupt controller cannot be made.
    #[error("interrupt controller: {0}")]
    Vgic(#[from] VgicError),
    /// Its device tree cannot be made.
    #[error("device tree: {0}")]
    Tree(#[from] TreeError),
    /// Two of its devices are in each other's way.
    #[error(transparent)]
    Bus(#[from] Overlap),
    /// Its memory reaches beyond what this machine can translate.
    #[error("its memory ends beyond the {0} bits of guest physical address of this machine")]
    MemoryTooLarge(u8),
    /// It is to live on a CPU that this machine does not have.
    #[error("affinity names CPU {0}, which this machine does not have")]
    NoSuchCpu(u32),
}

/// What a VM inherits from the machine.
#[derive(Clone)]
pub struct HostFacts {
    /// The form of stage-2 tables.
    pub stage2: Stage2Config,
    /// The ID registers as guests see them.
    pub id_registers: Arc<IdRegisters>,
    /// MIDR_EL1.
    pub midr: u64,
    /// The physical interrupt of the virtual timer.
    pub virtual_timer: IntId,
    /// How many CPUs there are.
    pub cpu_count: u16,
    /// The time of day, in seconds since the epoch.
    pub now_seconds: u64,
}

/// Builds VMs on one machine.
pub struct VmBuilder<'a> {
    /// The machine.
    pub machine: &'static dyn Machine,
    /// What is known about it.
    pub host: &'a HostFacts,
    /// Its free memory.
    pub pool: &'a Arc<FramePool>,
    /// Its console.
    pub console: &'a Arc<Console>,
}

impl VmBuilder<'_> {
    /// Builds a VM and loads its images, ready to be started with
    /// [`Vm::boot`]. `module` returns the bytes of a boot module.
    ///
    /// # Errors
    /// [`BuildError`] says what stands in the way. Memory of the VM goes back to the
    /// pool, its stage-2 tables do not: the machine does not start then.
    pub fn build(
        &self,
        id: VmId,
        hw_vmid: HwVmid,
        config: &VmConfig,
        tlb: &mut impl Stage2Tlb,
        module: impl Fn(HostPhysAddrRange) -> &'static [u8],
    ) -> Result<Vm, BuildError> {
        let vcpu_count = u16::try_from(config.cpus)
            .unwrap_or(u16::MAX)
            .min(layout::MAX_VCPUS);
        let affinities: Vec<u64> = (0..vcpu_count).map(layout::affinity).collect();
        let memory = self.memory_range(config)?;
        let image = module(config.boot.range());
        let ramdisk = config.ramdisk.map(module);
        let span = usize::from(memory.start) as u64..usize::from(memory.end) as u64;

        let mut bus = Bus::default();
        let mut ram = GuestRam::new(Arc::clone(self.pool));
        ram.add(memory.start, memory.size(), true)?;
        let plan = match config.boot {
            BootModule::Kernel(_) => {
                Layout::plan(image, ramdisk.map(|bytes| bytes.len() as u64), span)?
            }
            BootModule::Firmware(_) => {
                let size = image.len().next_multiple_of(s2_mmu::PAGE_BYTES);
                if size > layout::FIRMWARE.size() || (memory.size() as u64) < TREE_BYTES {
                    return Err(LoadError::DoesNotFit.into());
                }
                ram.add(layout::FIRMWARE.start, size, false)?;
                // The rest of the flash that firmware expects to lie in.
                let rest = GuestPhysAddrRange {
                    start: layout::FIRMWARE.start + size,
                    end: layout::FIRMWARE.end,
                };
                if !rest.is_empty() {
                    bus.add(rest, Target::Empty)?;
                }
                Layout::firmware(&span)
            }
        };

        let tables = TableFrames::new(Arc::clone(self.pool));
        let mut stage2 = Stage2::new(tables, self.host.stage2, hw_vmid)?;
        for segment in ram.segments() {
            let attributes = if segment.writable {
                Attributes::RAM
            } else {
                Attributes::ROM
            };
            let frames = segment.frames;
            stage2.map(
                tlb,
                segment.start,
                frames.start,
                frames.size_bytes as u64,
                attributes,
            )?;
        }

        let regions = layout::redistributor_regions(vcpu_count);
        let vgic = Vgic::new(&VgicConfig {
            affinities: &affinities,
            spi_count: SPI_COUNT,
        })?
        .with_redistributor_regions(
            regions
                .iter()
                .map(|region| region.size() / layout::REDISTRIBUTOR_BYTES),
        );
        let clock = SystemClock::new(self.machine, self.host.now_seconds);
        let serial = GuestSerial::new(Arc::clone(self.console), id);
        let serial = Arc::new(DeviceLock::new(Pl011::new(
            layout::UART.range.start,
            serial,
        )));
        let rtc = Arc::new(DeviceLock::new(Pl031::new(layout::RTC.range.start, clock)));
        bus.add(layout::GIC_DISTRIBUTOR, Target::Distributor)?;
        let mut first_byte = 0;
        for region in &regions {
            bus.add(*region, Target::Redistributors { first_byte })?;
            first_byte += region.size() as u64;
        }
        bus.add(
            layout::UART.range,
            Target::Device {
                device: serial.clone(),
                intid: layout::UART.interrupt,
            },
        )?;
        bus.add(
            layout::RTC.range,
            Target::Device {
                device: rtc.clone(),
                intid: layout::RTC.interrupt,
            },
        )?;

        let mut tree = GuestTree::virt(
            &affinities,
            core::slice::from_ref(&memory),
            GuestGic::V3 {
                distributor: layout::GIC_DISTRIBUTOR,
                redistributors: &regions,
                its: None,
            },
        );
        tree.psci = GUEST_CONDUIT;
        tree.bootargs = config.bootargs.as_deref();
        tree.initrd = plan
            .initrd
            .zip(ramdisk)
            .map(|(start, bytes)| GuestPhysAddrRange::from_start_size(start, bytes.len()));
        let tree = tree.to_blob()?;
        if tree.len() as u64 > TREE_BYTES {
            return Err(LoadError::DoesNotFit.into());
        }

        Ok(Vm {
            id,
            name: config.name.clone(),
            bus,
            vgic: RankedLock::new(vgic),
            power: RankedLock::new(Power::new(affinities.len())),
            stopping: false.into(),
            ran_before: false.into(),
            mailboxes: self.homes(id, vcpu_count, &config.placement)?,
            affinities,
            vcpu_facts: VcpuFacts {
                midr: self.host.midr,
                vtcr: self.host.stage2.vtcr(),
                hw_vmid: hw_vmid.raw(),
                stage2_root: stage2.root(),
                cntvoff: self.machine.now_ticks(),
                virtual_timer: self.host.virtual_timer,
                id_registers: Arc::clone(&self.host.id_registers),
            },
            serial,
            serial_intid: layout::UART.interrupt,
            rtc,
            rtc_intid: layout::RTC.interrupt,
            clock,
            console: Arc::clone(self.console),
            images: BootImages {
                image,
                ramdisk,
                tree,
                layout: plan,
            },
            machine: self.machine,
            ram,
            _stage2: RankedLock::new(stage2),
        })
    }

    fn memory_range(&self, config: &VmConfig) -> Result<GuestPhysAddrRange, BuildError> {
        let too_large = BuildError::MemoryTooLarge(self.host.stage2.ipa_bits());
        let start = usize::from(layout::RAM.start);
        let end = usize::try_from(config.memory_bytes)
            .ok()
            .and_then(|size| start.checked_add(size))
            .filter(|end| {
                *end <= usize::from(layout::RAM.end)
                    && *end as u64 <= 1 << self.host.stage2.ipa_bits()
            })
            .ok_or(too_large)?;
        Ok(GuestPhysAddrRange::new(start.into(), end.into()))
    }

    /// Decides where each vCPU lives: where the configuration says, else spread
    /// over all CPUs.
    fn homes(
        &self,
        id: VmId,
        vcpu_count: u16,
        placement: &Placement,
    ) -> Result<Vec<VcpuMailbox>, BuildError> {
        let cpus = self.host.cpu_count.max(1);
        let affinity: &[u32] = match placement {
            Placement::Pinned(cpus) => cpus,
            Placement::Automatic | Placement::Within(_) => &[],
        };
        (0..vcpu_count)
            .map(|vcpu| {
                let home = match affinity.get(usize::from(vcpu)) {
                    Some(cpu) => u16::try_from(*cpu)
                        .ok()
                        .filter(|cpu| *cpu < cpus)
                        .ok_or(BuildError::NoSuchCpu(*cpu))?,
                    None => vcpu.wrapping_add(id.raw()) % cpus,
                };
                Ok(VcpuMailbox::new(PcpuId::new(home)))
            })
            .collect()
    }
}
