//! What the boot loader has put into memory for the VMs.
#![expect(unsafe_code, reason = "modules are raw memory")]

use alloc::vec::Vec;

use dtb_platform::{DiskSource, VmConfig};
use hypervisor::storage::RamDisk;
use vm_contract::HostPhysAddrRange;

/// Where the modules of all VMs lie.
pub(super) struct Modules {
    read_only: Vec<HostPhysAddrRange>,
    writable: Vec<HostPhysAddrRange>,
}

impl Modules {
    /// Finds those of VMs that were judged.
    pub(super) fn of<'a>(configs: impl Iterator<Item = &'a VmConfig> + Clone) -> Self {
        let disks = configs.clone().flat_map(|config| &config.disks);
        let writable: Vec<_> = disks
            .filter(|disk| !disk.read_only)
            .filter_map(|disk| match disk.source {
                DiskSource::Module(contents) => Some(contents),
                DiskSource::Host { .. } => None,
            })
            .collect();
        let all = configs.flat_map(VmConfig::modules);
        Self {
            read_only: all.filter(|range| !writable.contains(range)).collect(),
            writable,
        }
    }

    /// Returns all modules.
    pub(super) fn all(&self) -> impl Iterator<Item = HostPhysAddrRange> {
        self.read_only().chain(self.writable())
    }

    /// Returns those that nobody writes to.
    pub(super) fn read_only(&self) -> impl Iterator<Item = HostPhysAddrRange> {
        self.read_only.iter().copied()
    }

    /// Returns those that are disks which their VM writes to.
    pub(super) fn writable(&self) -> impl Iterator<Item = HostPhysAddrRange> {
        self.writable.iter().copied()
    }
}

/// Returns the bytes of a boot module, of a VM that was judged.
pub(super) fn bytes(range: HostPhysAddrRange) -> &'static [u8] {
    let start = core::ptr::with_exposed_provenance(range.start.into());
    // SAFETY: such modules are memory, mapped read-only and excluded from the free
    // memory: nobody ever writes to them.
    unsafe { core::slice::from_raw_parts(start, range.size()) }
}

/// Makes a disk of a module of a VM that was judged.
pub(super) fn ram_disk(contents: HostPhysAddrRange, is_writable: bool) -> RamDisk {
    // SAFETY: modules are memory that is mapped at its own address, those writable that
    // are disks which their VM writes to; `bytes` is called for no disk.
    unsafe { RamDisk::new(contents, is_writable) }
}
