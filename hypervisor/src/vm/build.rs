//! From a VM's description to the VM.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU64};

use arm_vcpu::IdRegisters;
use arm_vgic_v3::its::Its;
use dtb_platform::layout::{self, REDISTRIBUTOR_BYTES};
use dtb_platform::{BootModule, GuestGic, GuestTree, TreeError, VmConfig};
use primecell_devices::{Pl011, Pl031};
use s2_mmu::{MapError, PAGE_BYTES, Permissions, Stage2Config};
use thiserror::Error;
use vm_contract::{GuestPhysAddrRange, HostPhysAddrRange, IntId, VcpuId, VmId};

use super::bus::{Bus, DeviceLock, Overlap, Target};
use super::clock::SystemClock;
use super::its::LPI_COUNT;
use super::mailbox::VcpuMailbox;
use super::memory::{GuestRam, OutOfMemory};
use super::power::Power;
use super::space::{PassedDevice, Space, Vmids};
use super::time::{self, TickLength};
use super::vgic::{Frame, HostGic, Vgic, VgicError};
use super::virtio::{DiskProblem, FillEntropy};
use super::{BootImages, GUEST_CONDUIT, Member, VcpuFacts, Vm};
use crate::console::{Console, GuestSerial};
use crate::cpu::Machine;
use crate::devices::HostDevices;
use crate::frames::FramePool;
use crate::loader::{Layout, LoadError, TREE_BYTES};
use crate::lock::RankedLock;
use crate::sched::{CpuSet, Cpus, Share, first_home};
use crate::storage::RamDisk;

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
    /// One of its disks cannot be had.
    #[error("disk {number}: {problem}")]
    Disk {
        /// Which of its disks.
        number: usize,
        /// What is wrong.
        problem: DiskProblem,
    },
    /// One of its network cards cannot be joined to the switch.
    #[error("network card {number}: its port of the switch is not free")]
    Net {
        /// Which of its cards.
        number: usize,
    },
    /// Two of its devices are in each other's way.
    #[error(transparent)]
    Bus(#[from] Overlap),
    /// Its memory reaches beyond what this machine can translate.
    #[error("its memory ends beyond the {0} bits of guest physical address of this machine")]
    MemoryTooLarge(u8),
    /// A vCPU may run on no CPU of this machine.
    #[error("vCPU {0} may run on no CPU that this machine has")]
    NoCpu(VcpuId),
    /// All VMIDs are in use.
    #[error("there are as many VMs as this machine can tell apart")]
    NoVmid,
    /// The CPU cannot run its vCPUs.
    #[error("vCPU: {0}")]
    Vcpu(#[from] arm_vcpu::VcpuError),
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
    /// The interrupt controller.
    pub gic: HostGic,
    /// The physical interrupt of the virtual timer.
    pub virtual_timer: IntId,
    /// The time of day, in seconds since the epoch.
    pub now_seconds: u64,
    /// Where entropy comes from, if the machine has a source.
    pub entropy: Option<FillEntropy>,
}

/// Builds VMs on one machine, at boot and when one that was off is to run again.
pub struct VmBuilder {
    /// The machine.
    pub machine: &'static dyn Machine,
    /// What is known about it.
    pub host: HostFacts,
    /// Its free memory.
    pub pool: Arc<FramePool>,
    /// Its VMIDs.
    pub vmids: Arc<Vmids>,
    /// Its console.
    pub console: Arc<Console>,
    /// Its CPUs.
    pub cpus: Arc<Cpus>,
    /// Its devices that VMs share.
    pub devices: Arc<HostDevices>,
    /// Returns the bytes of a boot module. They never change and no guest can
    /// reach them.
    pub module: fn(HostPhysAddrRange) -> &'static [u8],
    /// Makes a disk of a module, which can be written if the second argument says so:
    /// then it is that of one VM alone.
    pub ram_disk: fn(HostPhysAddrRange, bool) -> RamDisk,
}

impl VmBuilder {
    /// Builds a VM, ready to be [`Boot`](super::boot::Boot)ed. Each of `cpu_sets`
    /// says where one of its vCPUs may run.
    ///
    /// # Errors
    /// [`BuildError`] says what stands in the way. Everything that the VM had so
    /// far has been given back.
    pub fn build(
        &self,
        id: VmId,
        config: &VmConfig,
        cpu_sets: &[CpuSet],
    ) -> Result<Vm, BuildError> {
        let vcpu_count = u16::try_from(config.cpus)
            .unwrap_or(u16::MAX)
            .min(layout::MAX_VCPUS);
        let affinities: Vec<u64> = (0..vcpu_count).map(layout::affinity).collect();
        let members = members(id, &affinities, cpu_sets)?;
        let memory = self.memory_range(config)?;
        let image = (self.module)(config.boot.range());
        let ramdisk = config.ramdisk.map(self.module);
        let span = usize::from(memory.start) as u64..usize::from(memory.end) as u64;

        let mut bus = Bus::default();
        let mut ram = GuestRam::new(Arc::clone(&self.pool));
        ram.add(memory.start, memory.size(), Permissions::all())?;
        let stolen_time = usize::from(vcpu_count) * time::STRIDE_BYTES;
        let stolen_time = stolen_time.next_multiple_of(PAGE_BYTES);
        ram.add(layout::STOLEN_TIME.start, stolen_time, Permissions::READ)?;
        let plan = match config.boot {
            BootModule::Kernel(_) => {
                Layout::plan(image, ramdisk.map(|bytes| bytes.len() as u64), span)?
            }
            BootModule::Firmware(_) => {
                let size = image.len().next_multiple_of(PAGE_BYTES);
                if size > layout::FIRMWARE.size() || (memory.size() as u64) < TREE_BYTES {
                    return Err(LoadError::DoesNotFit.into());
                }
                ram.add(
                    layout::FIRMWARE.start,
                    size,
                    Permissions::READ | Permissions::EXECUTE,
                )?;
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

        let space = Space::new(
            self.machine,
            self.host.stage2,
            Arc::clone(&self.vmids),
            Arc::clone(&self.pool),
            ram,
            self.passed_device().as_slice(),
        )?;

        let regions = self.redistributor_regions(vcpu_count);
        let vgic = self.vgic(&affinities, &regions, config.its)?;
        let clock = SystemClock::new(self.machine, self.host.now_seconds);
        let serial = GuestSerial::new(Arc::clone(&self.console), id);
        let serial = Arc::new(DeviceLock::new(Pl011::new(
            layout::UART.range.start,
            serial,
        )));
        let rtc = Arc::new(DeviceLock::new(Pl031::new(layout::RTC.range.start, clock)));
        add_gic(&mut bus, self.host.gic, &regions)?;
        if config.its {
            bus.add(layout::GIC_ITS, Target::Its)?;
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

        let (virtio, virtio_places) = self.add_virtio(id, config, &mut bus)?;

        let mut tree = GuestTree::virt(
            &affinities,
            core::slice::from_ref(&memory),
            self.guest_gic(&regions, config.its),
        );
        tree.psci = GUEST_CONDUIT;
        tree.virtio_mmio = &virtio_places;
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
            its: config.its.then(|| RankedLock::new(Its::new())),
            power: RankedLock::new(Power::new(affinities.len())),
            halt: AtomicU8::new(super::halt::NO),
            members,
            share: Share::new(config.weight, config.priority),
            vcpus_left: AtomicU16::new(0),
            vcpu_facts: VcpuFacts {
                midr: self.host.midr,
                vtcr: self.host.stage2.vtcr(),
                hw_vmid: space.vmid().raw(),
                stage2_root: space.root(),
                virtual_timer: self.host.virtual_timer,
                id_registers: Arc::clone(&self.host.id_registers),
            },
            counter_offset: AtomicU64::new(self.machine.now_ticks()),
            inside: AtomicU16::new(0),
            paused_at: AtomicU64::new(0),
            serial,
            serial_intid: layout::UART.interrupt,
            virtio,
            rtc,
            rtc_intid: layout::RTC.interrupt,
            clock,
            tick_length: TickLength::of(clock.ticks_per_second()),
            console: Arc::clone(&self.console),
            images: BootImages {
                image,
                ramdisk,
                tree,
                layout: plan,
            },
            machine: self.machine,
            cpus: Arc::clone(&self.cpus),
            devices: Arc::clone(&self.devices),
            space,
        })
    }

    /// Returns where the redistributors of a GICv3 lie for the guest.
    fn redistributor_regions(&self, vcpu_count: u16) -> Vec<GuestPhysAddrRange> {
        match self.host.gic {
            HostGic::V2 { .. } => Vec::new(),
            HostGic::V3 => layout::redistributor_regions(vcpu_count),
        }
    }

    fn vgic(
        &self,
        affinities: &[u64],
        regions: &[GuestPhysAddrRange],
        has_its: bool,
    ) -> Result<Vgic, VgicError> {
        Ok(match self.host.gic {
            HostGic::V2 { .. } => Vgic::V2(arm_vgic_v2::Vgic::new(&arm_vgic_v2::VgicConfig {
                vcpu_count: affinities.len(),
                spi_count: SPI_COUNT,
            })?),
            HostGic::V3 => {
                let vgic = arm_vgic_v3::Vgic::new(&arm_vgic_v3::VgicConfig {
                    affinities,
                    spi_count: SPI_COUNT,
                })?;
                let frames = |region: &GuestPhysAddrRange| region.size() / REDISTRIBUTOR_BYTES;
                let vgic = vgic.with_redistributor_regions(regions.iter().map(frames));
                Vgic::V3(if has_its {
                    vgic.with_lpis(LPI_COUNT)
                } else {
                    vgic
                })
            }
        })
    }

    /// Returns what the guest uses of the machine's GIC by itself: the CPU
    /// interface of a GICv2, but for the page with GICC_DIR.
    fn passed_device(&self) -> Option<PassedDevice> {
        match self.host.gic {
            HostGic::V2 { cpu_interface } => Some(PassedDevice {
                start: layout::GIC_CPU_INTERFACE.start,
                registers: HostPhysAddrRange::from_start_size(cpu_interface, PAGE_BYTES),
            }),
            HostGic::V3 => None,
        }
    }

    fn guest_gic<'a>(
        &self,
        redistributors: &'a [GuestPhysAddrRange],
        has_its: bool,
    ) -> GuestGic<'a> {
        let distributor = layout::GIC_DISTRIBUTOR;
        match self.host.gic {
            HostGic::V2 { .. } => GuestGic::V2 {
                distributor,
                cpu: layout::GIC_CPU_INTERFACE,
            },
            HostGic::V3 => GuestGic::V3 {
                distributor,
                redistributors,
                its: has_its.then_some(layout::GIC_ITS),
            },
        }
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
}

/// Puts the interrupt controller into the address map.
fn add_gic(bus: &mut Bus, gic: HostGic, regions: &[GuestPhysAddrRange]) -> Result<(), Overlap> {
    let frame = match gic {
        HostGic::V2 { .. } => {
            let trapped = GuestPhysAddrRange {
                start: layout::GIC_CPU_INTERFACE.start + PAGE_BYTES,
                end: layout::GIC_CPU_INTERFACE.end,
            };
            let first_byte = PAGE_BYTES as u64;
            bus.add(trapped, Target::CpuInterface { first_byte })?;
            Frame::DistributorV2
        }
        HostGic::V3 => Frame::Distributor,
    };
    let target = |frame, first_byte| Target::Vgic { frame, first_byte };
    bus.add(layout::GIC_DISTRIBUTOR, target(frame, 0))?;
    let mut first_byte = 0;
    for region in regions {
        bus.add(*region, target(Frame::Redistributors, first_byte))?;
        first_byte += region.size() as u64;
    }
    Ok(())
}

/// Describes the vCPUs, each at its first home.
fn members(id: VmId, affinities: &[u64], cpu_sets: &[CpuSet]) -> Result<Vec<Member>, BuildError> {
    let member = |(vcpu, affinity): (u16, &u64)| {
        let cpus = cpu_sets.get(usize::from(vcpu)).copied().unwrap_or_default();
        if cpus.is_empty() {
            return Err(BuildError::NoCpu(VcpuId::new(vcpu)));
        }
        Ok(Member {
            affinity: *affinity,
            cpus,
            mailbox: Arc::new(VcpuMailbox::new(first_home(&cpus, id.raw(), vcpu))),
            time: Arc::default(),
        })
    };
    (0..).zip(affinities).map(member).collect()
}
