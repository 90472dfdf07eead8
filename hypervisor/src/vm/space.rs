//! What a VM has of the machine's memory: its RAM, the stage-2 tables that lead
//! there, and the VMID under which they are cached. All goes back when the VM
//! ends.

use alloc::sync::Arc;

use dtb_platform::layout;
use s2_mmu::{
    Attributes, HwVmid, LeafSize, MapError, Stage2, Stage2Config, Stage2Tlb, VmidAllocator,
};
use vm_contract::{GuestPhysAddr, GuestPhysAddrRange, HostPhysAddr, HostPhysAddrRange};

use super::build::BuildError;
use super::memory::GuestRam;
use crate::cpu::Machine;
use crate::frames::{FRAME_BYTES, FramePool, TableFrames};
use crate::lock::{RankedLock, rank};

/// The VMIDs of the machine.
pub type Vmids = RankedLock<VmidAllocator, { rank::VMIDS }>;

/// Registers of the machine that a guest uses without the hypervisor.
#[derive(Clone, Copy, Debug)]
pub struct PassedDevice {
    /// Where the guest finds them.
    pub start: GuestPhysAddr,
    /// Where they are: whole pages.
    pub registers: HostPhysAddrRange,
}

/// RAM, stage 2 and VMID of one VM.
pub struct Space {
    ram: GuestRam,
    /// Nothing changes the tables while the VM exists.
    stage2: Option<RankedLock<Stage2<TableFrames>, { rank::STAGE2 }>>,
    root: HostPhysAddr,
    vmid: HwVmid,
    vmids: Arc<Vmids>,
    machine: &'static dyn Machine,
}

impl Space {
    /// Maps `ram`, and what the guest has of the machine's devices.
    ///
    /// # Errors
    /// Too many VMs, or no memory for the tables. What was taken is given back.
    pub fn new(
        machine: &'static dyn Machine,
        config: Stage2Config,
        vmids: Arc<Vmids>,
        pool: Arc<FramePool>,
        ram: GuestRam,
        devices: &[PassedDevice],
    ) -> Result<Self, BuildError> {
        let budget = table_frames(&ram, config) + devices.len() * MOST_TABLES_PER_DEVICE;
        let vmid = vmids.lock().allocate().ok_or(BuildError::NoVmid)?;
        let tables = TableFrames::new(pool, budget);
        let stage2 = match Stage2::new(tables, config, vmid) {
            Ok(stage2) => stage2,
            Err(error) => {
                vmids.lock().free(vmid);
                return Err(error.into());
            }
        };
        let space = Self {
            ram,
            root: stage2.root(),
            stage2: Some(RankedLock::new(stage2)),
            vmid,
            vmids,
            machine,
        };
        space.map_all(devices)?;
        Ok(space)
    }

    fn map_all(&self, devices: &[PassedDevice]) -> Result<(), MapError> {
        let tlb = &mut MachineTlb(self.machine);
        let Some(stage2) = &self.stage2 else {
            return Ok(());
        };
        let mut stage2 = stage2.lock();
        for segment in self.ram.segments() {
            let attributes = Attributes::RAM.with_permissions(segment.permissions);
            let frames = segment.frames;
            stage2.map(
                tlb,
                segment.start,
                frames.start,
                frames.size_bytes as u64,
                attributes,
            )?;
        }
        for PassedDevice { start, registers } in devices {
            let size = registers.size() as u64;
            stage2.map(tlb, *start, registers.start, size, Attributes::DEVICE)?;
        }
        Ok(())
    }

    /// Returns the VM's memory.
    #[inline]
    #[must_use]
    pub const fn ram(&self) -> &GuestRam {
        &self.ram
    }

    /// Returns where the stage-2 tables begin.
    #[must_use]
    pub const fn root(&self) -> HostPhysAddr {
        self.root
    }

    /// Returns the VMID.
    #[must_use]
    pub const fn vmid(&self) -> HwVmid {
        self.vmid
    }

    /// Returns where an address of the guest's leads.
    #[cfg(test)]
    pub(crate) fn translate(&self, address: GuestPhysAddr) -> Option<s2_mmu::Translation> {
        self.stage2.as_ref()?.lock().translate(address)
    }

    /// Returns how many frames the tables take, and how many they may.
    #[must_use]
    pub fn table_frames(&self) -> (usize, usize) {
        self.stage2.as_ref().map_or((0, 0), |stage2| {
            let stage2 = stage2.lock();
            (stage2.memory().used(), stage2.memory().budget())
        })
    }
}

impl Drop for Space {
    /// No vCPU of the VM exists any more. The RAM goes back after this, when no
    /// translation leads there.
    fn drop(&mut self) {
        if let Some(stage2) = self.stage2.take() {
            drop(stage2.into_inner().destroy(&mut MachineTlb(self.machine)));
        }
        self.vmids.lock().free(self.vmid);
    }
}

/// How many tables, below the root, lead to a device that lies within 2 MiB.
const MOST_TABLES_PER_DEVICE: usize = 3;

/// Returns how many frames of tables a VM with this memory may take: enough to
/// map all of it page by page.
fn table_frames(ram: &GuestRam, config: Stage2Config) -> usize {
    const SPAN: usize = 512 * FRAME_BYTES;
    let mapped: usize = ram
        .segments()
        .iter()
        .map(|segment| segment.frames.size_bytes)
        .sum();
    let leaves = mapped.div_ceil(SPAN) + ram.segments().len();
    // Root, and one table a level for each region of the address map.
    let upper = leaves.div_ceil(512) + 2 * [layout::RAM, layout::FIRMWARE].len() + 2;
    config.root_frames() + leaves + upper
}

/// The TLBs of all CPUs, as the machine gives access to them.
struct MachineTlb(&'static dyn Machine);

impl Stage2Tlb for MachineTlb {
    fn publish(&mut self) {
        self.0.publish_tables();
    }

    fn invalidate(&mut self, vttbr: u64, _range: GuestPhysAddrRange, _stride: LeafSize) {
        self.0.forget_guest(vttbr);
    }

    fn invalidate_all(&mut self, vttbr: u64) {
        self.0.forget_guest(vttbr);
    }
}
