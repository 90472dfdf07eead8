//! What is to run: a machine and its virtual machines.
//!
//! Flags, and tests, make these descriptions; everything after only reads
//! them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use dtb_platform::{GicVersion, NetConfig, Placement, RawNode, VlanMode, VmConfig};

use super::disks::DiskSpec;
use crate::guest::Guests;
use crate::guest::initramfs::{self, Purpose};

/// A machine and what it runs.
#[derive(Clone, Debug)]
pub(crate) struct MachineSpec {
    pub(crate) vms: Vec<VmSpec>,
    pub(crate) pcpus: u32,
    /// The CPU model as the user names it.
    pub(crate) cpu: String,
    /// The interrupt controller, the machine's and so each guest's.
    pub(crate) gic: GicVersion,
    /// The length of slices in milliseconds, unless it is the usual one.
    pub(crate) slice_ms: Option<u32>,
    pub(crate) qemu_args: Vec<String>,
    /// The VLANs of the switch that a network card of the machine is in, which
    /// reaches QEMU's user network; without it the machine has no card.
    pub(crate) uplink: Option<VlanMode>,
    /// Whether to wait for a debugger.
    pub(crate) gdb: bool,
    /// Whether to count instructions.
    pub(crate) count_instructions: bool,
    /// Whether to trace it from the start.
    pub(crate) trace: bool,
    /// Before which instruction's first execution the counting ends, by its
    /// virtual address.
    pub(crate) count_until: Option<u64>,
    pub(crate) mode: Mode,
}

/// What lies below the guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The hypervisor, on a machine with EL2.
    Hypervisor,
    /// Nothing: the only guest runs on QEMU itself.
    Bare,
}

/// One virtual machine.
#[derive(Clone, Debug)]
pub(crate) struct VmSpec {
    pub(crate) name: String,
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u64,
    pub(crate) boot: Boot,
    pub(crate) initrd: Option<Initrd>,
    pub(crate) bootargs: Option<String>,
    /// Which physical CPUs run the virtual ones.
    pub(crate) placement: Placement,
    pub(crate) weight: u32,
    pub(crate) priority: u8,
    /// Whether its GICv3 has an interrupt translation service.
    pub(crate) its: bool,
    pub(crate) disks: Vec<DiskSpec>,
    pub(crate) nets: Vec<NetConfig>,
    /// For tests: spoils the node that describes it to the hypervisor.
    pub(crate) spoil: Option<fn(&mut RawNode)>,
}

/// What a virtual machine starts with.
#[derive(Clone, Debug)]
pub(crate) enum Boot {
    /// A kernel: arm64 `Image`, ELF64 or raw.
    Kernel(PathBuf),
    /// Firmware that starts at address 0.
    Firmware(PathBuf),
}

impl Boot {
    /// Returns the file to start.
    pub(crate) fn file(&self) -> &PathBuf {
        match self {
            Self::Kernel(file) | Self::Firmware(file) => file,
        }
    }
}

/// Where an initial RAM disk comes from.
#[derive(Clone, Debug)]
pub(crate) enum Initrd {
    File(PathBuf),
    /// An archive that was built for this run, and whether it offers a shell.
    Built {
        archive: Vec<u8>,
        shell: bool,
    },
}

impl MachineSpec {
    /// Describes a machine for one virtual machine.
    pub(crate) fn new(vm: VmSpec) -> Self {
        Self::of(vm.vcpus, vec![vm])
    }

    /// Describes a machine of `pcpus` physical CPUs.
    pub(crate) fn of(pcpus: u32, vms: Vec<VmSpec>) -> Self {
        Self {
            pcpus,
            vms,
            cpu: "max".to_owned(),
            gic: GicVersion::default(),
            slice_ms: None,
            qemu_args: Vec::new(),
            uplink: None,
            gdb: false,
            count_instructions: false,
            trace: false,
            count_until: None,
            mode: Mode::Hypervisor,
        }
    }
}

impl VmSpec {
    /// Describes a virtual machine of usual size.
    pub(crate) fn new(boot: Boot) -> Self {
        Self {
            name: "vm0".to_owned(),
            vcpus: 4,
            memory_mib: 512,
            boot,
            initrd: None,
            bootargs: None,
            placement: Placement::Automatic,
            weight: VmConfig::USUAL_WEIGHT,
            priority: VmConfig::USUAL_PRIORITY,
            its: false,
            disks: Vec::new(),
            nets: Vec::new(),
            spoil: None,
        }
    }

    /// Returns the files that it needs and that were not built for it.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let initrd = match &self.initrd {
            Some(Initrd::File(file)) => Some(file),
            Some(Initrd::Built { .. }) | None => None,
        };
        [self.boot.file()].into_iter().chain(initrd)
    }

    /// Unpacks more into the file system of a RAM disk that is built here.
    pub(crate) fn unpack(&mut self, more: &[u8]) {
        if let Some(Initrd::Built { archive, .. }) = &mut self.initrd {
            // Each archive starts at a multiple of four bytes.
            archive.resize(archive.len().next_multiple_of(4), 0);
            archive.extend_from_slice(more);
        }
    }

    /// Gives Debian's kernel the drivers for its disks and network cards, which it
    /// has as modules. Other kernels are on their own.
    pub(crate) fn add_drivers(&mut self, guests: &Guests) -> Result<()> {
        let (disks, nets) = (!self.disks.is_empty(), !self.nets.is_empty());
        let built = matches!(self.initrd, Some(Initrd::Built { .. }));
        if built && (disks || nets) && *self.boot.file() == guests.linux()? {
            self.unpack(&guests.drivers(disks, nets)?);
        }
        Ok(())
    }

    /// Tells whether the shell of a RAM disk that is built here will show its
    /// prompt.
    pub(crate) fn offers_shell(&self) -> bool {
        matches!(self.initrd, Some(Initrd::Built { shell: true, .. }))
    }

    /// Adds to the kernel command line.
    pub(crate) fn append(&mut self, more: &str) {
        let bootargs = self.bootargs.get_or_insert_default();
        if !bootargs.is_empty() {
            bootargs.push(' ');
        }
        bootargs.push_str(more);
    }
}

/// A Linux kernel with the RAM disk that is built here.
pub(crate) struct GuestLinux {
    pub(crate) kernel: PathBuf,
    pub(crate) purpose: Purpose,
}

impl GuestLinux {
    /// Describes a virtual machine that boots it.
    pub(crate) fn vm(self, guests: &Guests) -> Result<VmSpec> {
        let mut vm = VmSpec::new(Boot::Kernel(self.kernel));
        let path = guests.busybox()?;
        let busybox = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let archive = initramfs::build(&busybox, &self.purpose)?;
        let shell = matches!(self.purpose, Purpose::Shell { .. });
        vm.initrd = Some(Initrd::Built { archive, shell });
        vm.append("earlycon console=ttyAMA0");
        Ok(vm)
    }
}
