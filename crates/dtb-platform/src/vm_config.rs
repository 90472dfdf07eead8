//! The VMs that a host tree asks for, in the style of Xen's dom0less binding.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use vm_contract::HostPhysAddrRange;

use crate::{ConfigError, Fault, GuestDevice, Placement, PropertyError, RawNode, layout};

mod disk;
mod neighbours;
mod net;
mod read;

pub use disk::{DiskConfig, DiskPart, DiskSource};
pub(crate) use neighbours::check_all;
pub use net::{NetConfig, VlanMode};
pub(crate) use read::check_properties;
pub use read::{vm_configs, vm_configs_on};

/// What names a domain node.
pub(crate) const DOMAIN: &str = "xen,domain";
/// What names each kind of module.
pub(crate) const KERNEL: &str = "multiboot,kernel";
pub(crate) const RAMDISK: &str = "multiboot,ramdisk";
pub(crate) const FIRMWARE: &str = "armature,firmware";
/// What names a disk and a network card.
pub(crate) const DISK: &str = "armature,disk";
pub(crate) const NET: &str = "armature,net";
/// What names any module.
pub(crate) const MODULE: &str = "multiboot,module";

/// The names of the properties.
pub(crate) mod property {
    pub(crate) const CPUS: &str = "cpus";
    pub(crate) const MEMORY: &str = "memory";
    pub(crate) const BOOTARGS: &str = "bootargs";
    pub(crate) const NAME: &str = "armature,name";
    pub(crate) const AFFINITY: &str = "armature,affinity";
    pub(crate) const CPU_SET: &str = "armature,cpu-set";
    pub(crate) const WEIGHT: &str = "armature,weight";
    pub(crate) const PRIORITY: &str = "armature,priority";
    pub(crate) const ITS: &str = "armature,its";
    pub(crate) const REG: &str = "reg";
    pub(crate) const HOST_DISK: &str = "armature,host-disk";
    pub(crate) const SECTORS: &str = "armature,sectors";
    pub(crate) const PARTITION: &str = "armature,partition";
    pub(crate) const READ_ONLY: &str = "armature,read-only";
    pub(crate) const MAC: &str = "local-mac-address";
    pub(crate) const VLAN: &str = "armature,vlan";
    pub(crate) const TRUNK: &str = "armature,trunk";
    pub(crate) const NATIVE_VLAN: &str = "armature,native-vlan";
    pub(crate) const ANY_SOURCE: &str = "armature,any-source";
    pub(crate) const HOST_NET: &str = "armature,host-net";
    /// Those that a domain node may have and that are ours alone.
    pub(super) const OURS: [&str; 6] = [NAME, AFFINITY, CPU_SET, WEIGHT, PRIORITY, ITS];
}

/// What the properties may be.
pub(crate) mod allowed {
    pub(super) const CPUS: &str = "one word, from 1 to 256";
    pub(super) const MEMORY: &str =
        "the size in KiB in one or two words, a multiple of 4, from 4 to 255 GiB";
    pub(super) const NAME: &str = "1 to 64 bytes of text without control characters";
    pub(crate) const AFFINITY: &str = "one word for each CPU, the number of a physical CPU";
    pub(crate) const CPU_SET: &str =
        "numbers of physical CPUs, one word each, at least one and none twice";
    pub(crate) const NO_CPU_SET: &str = "absent beside `armature,affinity`";
    pub(super) const WEIGHT: &str = "one word, from 1 to 10000";
    pub(super) const PRIORITY: &str = "one word, from 0 to 7";
    pub(crate) const CPUS_V2: &str = "one word, from 1 to 8, on this machine, which has a GICv2";
    pub(crate) const NO_ITS: &str = "absent on this machine, which has a GICv2";
    pub(super) const MODULE: &str = "one address and one size, not empty";
    pub(super) const BOOTARGS: &str = "one string that ends with a NUL";
    pub(super) const HOST_DISK: &str = "one word, the number of a disk of the machine";
    pub(super) const SOURCE: &str =
        "one word, the number of a disk of the machine, or `reg` must be there in its place";
    pub(super) const NO_HOST_DISK: &str = "absent beside `reg`";
    pub(super) const SECTORS: &str =
        "the number of the first sector and how many there are, at least one, in two words each";
    pub(super) const PARTITION: &str = "one word, the number of a partition, at least 1";
    pub(super) const NO_PART: &str = "absent beside `armature,sectors`";
    pub(super) const NO_REG: &str = "absent beside `armature,sectors` and `armature,partition`";
    pub(super) const DISK_MODULE: &str =
        "one address and one size, a multiple of 512 bytes and not empty";
    pub(super) const MAC: &str =
        "6 bytes, neither a group's address nor one that begins with 02:61:72";
    pub(super) const VLAN: &str = "one word, from 1 to 4094";
    pub(super) const NO_VLAN: &str = "absent beside `armature,trunk`";
    pub(super) const TRUNK: &str =
        "numbers from 1 to 4094, one word each, at least one and none twice";
    pub(super) const NATIVE_VLAN: &str = "one word, from 1 to 4094, and none of `armature,trunk`";
    pub(super) const NO_NATIVE_VLAN: &str = "absent without `armature,trunk`";
    pub(crate) const HOST_NET: &str = "one word, the number of a network card of the machine";
    pub(super) const NODE: &str = "a letter, then letters, digits or `,._+-`; at most 31";
}

const PAGE_BYTES: u64 = 4096;

/// A VM that the hypervisor is to build at boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmConfig {
    /// The name of the node under `/chosen` that describes it.
    pub node: String,
    /// What to call it; that of the node unless it has one of its own.
    pub name: String,
    /// How many vCPUs it has: 1 to [`layout::MAX_VCPUS`].
    pub cpus: u32,
    /// How much RAM it has: whole pages of 4 KiB.
    pub memory_bytes: u64,
    /// What it starts with.
    pub boot: BootModule,
    /// Where in the host's memory its initial ramdisk is.
    pub ramdisk: Option<HostPhysAddrRange>,
    /// The command line for the kernel.
    pub bootargs: Option<String>,
    /// Which physical CPUs run its vCPUs.
    pub placement: Placement,
    /// Its share of the CPU's time, against that of others of the same
    /// priority: one of [`VmConfig::WEIGHTS`].
    pub weight: u32,
    /// Who goes first: one of [`VmConfig::PRIORITIES`]. The higher runs as long
    /// as it has anything to do, and takes the CPU at once.
    pub priority: u8,
    /// Whether its GICv3 has an interrupt translation service, and LPIs.
    pub its: bool,
    /// Its disks, at most [`VmConfig::MAX_DISKS`].
    pub disks: Vec<DiskConfig>,
    /// Its network cards, at most [`VmConfig::MAX_NETS`].
    pub nets: Vec<NetConfig>,
}

/// What a VM starts with, and where in the host's memory that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootModule {
    /// A kernel, entered as its format says.
    Kernel(HostPhysAddrRange),
    /// Firmware, entered at address 0.
    Firmware(HostPhysAddrRange),
}

impl BootModule {
    /// Returns where in the host's memory it is.
    #[must_use]
    pub const fn range(self) -> HostPhysAddrRange {
        match self {
            Self::Kernel(range) | Self::Firmware(range) => range,
        }
    }
}

impl VmConfig {
    /// The weights that a VM may have.
    pub const WEIGHTS: RangeInclusive<u32> = 1..=10_000;
    /// The weight of a VM that says nothing about it.
    pub const USUAL_WEIGHT: u32 = 100;
    /// The priorities that a VM may have.
    pub const PRIORITIES: RangeInclusive<u8> = 0..=7;
    /// The priority of a VM that says nothing about it.
    pub const USUAL_PRIORITY: u8 = 0;

    /// The most disks that a VM may have.
    pub const MAX_DISKS: usize = 16;
    /// The most network cards that a VM may have.
    pub const MAX_NETS: usize = 8;
    /// The most network cards that all VMs may have together: the switch has one
    /// port more.
    pub const MAX_PORTS: usize = 63;

    /// Returns its disks, each with the place of its virtio device: these are the
    /// first of [`layout::virtio_mmio`].
    pub fn disk_places(&self) -> impl Iterator<Item = (GuestDevice, &DiskConfig)> {
        (0..).map_while(layout::virtio_mmio).zip(&self.disks)
    }

    /// Returns its network cards, each with the place of its virtio device: these
    /// follow those of the disks.
    pub fn net_places(&self) -> impl Iterator<Item = (GuestDevice, &NetConfig)> {
        let first = self.disks.len();
        (first..).map_while(layout::virtio_mmio).zip(&self.nets)
    }

    /// Returns the path of the node that describes the VM.
    pub(crate) fn path(&self) -> String {
        format!("/chosen/{}", self.node)
    }

    /// Checks everything that one VM can have wrong by itself.
    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |property, allowed| PropertyError {
            node: self.path(),
            property,
            fault: Fault::Invalid,
            allowed,
        };
        if !is_node_name(&self.node) {
            return Err(invalid("name of the node", allowed::NODE).into());
        }
        if !(1..=64).contains(&self.name.len()) || self.name.contains(char::is_control) {
            return Err(invalid(property::NAME, allowed::NAME).into());
        }
        if !(1..=u32::from(layout::MAX_VCPUS)).contains(&self.cpus) {
            return Err(invalid(property::CPUS, allowed::CPUS).into());
        }
        let most = layout::RAM.size() as u64;
        if !self.memory_bytes.is_multiple_of(PAGE_BYTES) || !(1..=most).contains(&self.memory_bytes)
        {
            return Err(invalid(property::MEMORY, allowed::MEMORY).into());
        }
        if let Err((property, allowed)) = self.placement.check(self.cpus) {
            return Err(invalid(property, allowed).into());
        }
        if !Self::WEIGHTS.contains(&self.weight) {
            return Err(invalid(property::WEIGHT, allowed::WEIGHT).into());
        }
        if !Self::PRIORITIES.contains(&self.priority) {
            return Err(invalid(property::PRIORITY, allowed::PRIORITY).into());
        }
        if self
            .bootargs
            .as_ref()
            .is_some_and(|text| text.contains('\0'))
        {
            return Err(invalid(property::BOOTARGS, allowed::BOOTARGS).into());
        }
        if self.modules().any(|module| module.start >= module.end) {
            return Err(invalid(property::REG, allowed::MODULE).into());
        }
        for (what, count, most) in [
            (DISK, self.disks.len(), Self::MAX_DISKS),
            (NET, self.nets.len(), Self::MAX_NETS),
        ] {
            if count > most {
                let node = self.path();
                return Err(ConfigError::TooManyDevices { node, what, most });
            }
        }
        let disks = self.disks.iter().map(DiskConfig::check);
        let nets = self.nets.iter().map(NetConfig::check);
        if let Some(Err((property, allowed))) = disks.chain(nets).find(Result::is_err) {
            return Err(invalid(property, allowed).into());
        }
        self.check_alone()
    }
}

/// Makes the node of a module of this kind.
pub(crate) fn module_node(name: &str, kind: &str, range: HostPhysAddrRange) -> RawNode {
    let [start, size] = [range.start.as_usize() as u64, range.size() as u64];
    let mut node = RawNode::new(format!("{name}@{start:x}"));
    node.set_text("compatible", &format!("{kind}\0{MODULE}"));
    let reg = [start, size].map(u64::to_be_bytes);
    node.set(property::REG, reg.as_flattened());
    node
}

/// Tells whether a node may have this name, with or without a unit address.
fn is_node_name(name: &str) -> bool {
    let is_part = |part: &str| {
        (1..=31).contains(&part.len())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b",._+-".contains(&byte))
    };
    let (base, unit) = name.split_once('@').unwrap_or((name, "0"));
    name.starts_with(|first: char| first.is_ascii_alphabetic()) && is_part(base) && is_part(unit)
}
