//! The VMs that a host tree asks for, in the style of Xen's dom0less binding.

use alloc::format;
use alloc::string::String;
use core::ops::RangeInclusive;

use vm_contract::HostPhysAddrRange;

use crate::{ConfigError, Fault, Placement, PropertyError, layout};

mod read;

pub use read::{vm_configs, vm_configs_on};

/// What names a domain node.
pub(crate) const DOMAIN: &str = "xen,domain";
/// What names each kind of module.
pub(crate) const KERNEL: &str = "multiboot,kernel";
pub(crate) const RAMDISK: &str = "multiboot,ramdisk";
pub(crate) const FIRMWARE: &str = "armature,firmware";
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
    pub(super) const ITS: &str = "empty";
    pub(crate) const CPUS_V2: &str = "one word, from 1 to 8, on this machine, which has a GICv2";
    pub(crate) const NO_ITS: &str = "absent on this machine, which has a GICv2";
    pub(super) const MODULE: &str = "one address and one size, not empty";
    pub(super) const BOOTARGS: &str = "one string that ends with a NUL";
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

/// Checks VMs each by itself and as neighbours.
pub(crate) fn check_all(configs: &[VmConfig]) -> Result<(), ConfigError> {
    for (index, config) in configs.iter().enumerate() {
        config.check()?;
        let earlier = configs.get(..index).unwrap_or_default();
        earlier
            .iter()
            .try_for_each(|earlier| config.check_beside(earlier))?;
    }
    Ok(())
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

    /// Returns the path of the node that describes the VM.
    pub(crate) fn path(&self) -> String {
        format!("/chosen/{}", self.node)
    }

    /// Returns where its modules are.
    pub(crate) fn modules(&self) -> impl Iterator<Item = HostPhysAddrRange> {
        [self.boot.range()].into_iter().chain(self.ramdisk)
    }

    /// Checks that the VM can be built beside an earlier one.
    fn check_beside(&self, earlier: &Self) -> Result<(), ConfigError> {
        for (ours, theirs) in [(&self.name, &earlier.name), (&self.node, &earlier.node)] {
            if ours == theirs {
                return Err(ConfigError::DuplicateName {
                    node: self.path(),
                    name: ours.clone(),
                });
            }
        }
        let collides = |ours: HostPhysAddrRange| {
            let mut theirs = earlier.modules();
            theirs.any(|theirs| ours != theirs && ours.overlaps(theirs))
        };
        if self.modules().any(collides) {
            return Err(ConfigError::Overlap {
                node: self.path(),
                other: earlier.path(),
            });
        }
        Ok(())
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
        if self
            .ramdisk
            .is_some_and(|ramdisk| ramdisk.overlaps(self.boot.range()))
        {
            return Err(ConfigError::Overlap {
                node: self.path(),
                other: self.path(),
            });
        }
        Ok(())
    }
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
