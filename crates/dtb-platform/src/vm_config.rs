//! The VMs that a host tree asks for, in the style of Xen's dom0less binding.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use vm_contract::HostPhysAddrRange;

use crate::blob::Blob;
use crate::tree::{Node, Tree};
use crate::{ConfigError, Fault, Placement, PropertyError, cells, layout};

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
    pub(crate) const REG: &str = "reg";
}

/// What the properties may be.
pub(crate) mod allowed {
    pub(super) const CPUS: &str = "one word, from 1 to 256";
    pub(super) const MEMORY: &str =
        "the size in KiB in one or two words, a multiple of 4, from 4 to 255 GiB";
    pub(super) const NAME: &str = "1 to 64 bytes of text without control characters";
    pub(crate) const AFFINITY: &str = "one word for each CPU, the number of a physical CPU";
    pub(crate) const CPU_SET: &str = "one or more words, each the number of another physical CPU, \
         and none beside `armature,affinity`";
    pub(super) const WEIGHT: &str = "one word, from 1 to 10000";
    pub(super) const PRIORITY: &str = "one word, from 0 to 7";
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

/// Reads the VMs that `blob` asks for: the children of `/chosen` compatible
/// with `xen,domain`, in the order of the tree.
///
/// Different VMs may use the very same module, for instance one kernel.
///
/// # Errors
/// Whoever configured the VMs is to blame; the error names the node and the
/// property, and says what is allowed there.
pub fn vm_configs(blob: &[u8]) -> Result<Vec<VmConfig>, ConfigError> {
    let blob = Blob::check(blob)?;
    let tree = Tree::read(&blob)?;
    let domains = tree.find("/chosen").into_iter().flat_map(|chosen| {
        chosen
            .children()
            .filter(|node| node.is_compatible(&[DOMAIN]) && node.is_available())
    });
    let configs = domains.map(VmConfig::read).collect::<Result<Vec<_>, _>>()?;
    check_together(&configs)?;
    Ok(configs)
}

/// Checks VMs each by itself and as neighbours.
pub(crate) fn check_all(configs: &[VmConfig]) -> Result<(), ConfigError> {
    configs.iter().try_for_each(VmConfig::check)?;
    check_together(configs)
}

fn check_together(configs: &[VmConfig]) -> Result<(), ConfigError> {
    for (index, config) in configs.iter().enumerate() {
        let earlier = configs.get(..index).unwrap_or_default();
        for other in earlier {
            for (ours, theirs) in [(&config.name, &other.name), (&config.node, &other.node)] {
                if ours == theirs {
                    return Err(ConfigError::DuplicateName {
                        node: config.path(),
                        name: ours.clone(),
                    });
                }
            }
            let collide = |ours: HostPhysAddrRange| {
                other
                    .modules()
                    .any(|theirs| ours != theirs && ours.overlaps(theirs))
            };
            if config.modules().any(collide) {
                return Err(ConfigError::Overlap {
                    node: config.path(),
                    other: other.path(),
                });
            }
        }
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
    fn path(&self) -> String {
        format!("/chosen/{}", self.node)
    }

    fn modules(&self) -> impl Iterator<Item = HostPhysAddrRange> {
        [self.boot.range()].into_iter().chain(self.ramdisk)
    }

    fn read(node: Node<'_, '_>) -> Result<Self, ConfigError> {
        use property::{CPUS, MEMORY, NAME, PRIORITY, WEIGHT};
        let cpus = node.word(CPUS, allowed::CPUS)?;
        let memory_kib = node.number(MEMORY, allowed::MEMORY)?;
        let weight = node.word(WEIGHT, allowed::WEIGHT)?;
        let priority = node
            .word(PRIORITY, allowed::PRIORITY)?
            .map(|word| u8::try_from(word).map_err(|_| node.invalid(PRIORITY, allowed::PRIORITY)))
            .transpose()?;
        let modules = Modules::read(node)?;
        let config = Self {
            node: node.name().into(),
            name: node.string(NAME)?.unwrap_or(node.name()).into(),
            cpus: cpus.ok_or_else(|| node.missing(CPUS, allowed::CPUS))?,
            memory_bytes: memory_kib
                .ok_or_else(|| node.missing(MEMORY, allowed::MEMORY))?
                // Too much in any case.
                .saturating_mul(1024),
            boot: modules
                .boot
                .ok_or_else(|| ConfigError::BootModules { node: node.path() })?,
            ramdisk: modules.ramdisk,
            bootargs: modules
                .bootargs
                .or(node.string(property::BOOTARGS)?)
                .map(String::from),
            placement: Placement::read(node)?,
            weight: weight.unwrap_or(Self::USUAL_WEIGHT),
            priority: priority.unwrap_or(Self::USUAL_PRIORITY),
        };
        config.check()?;
        Ok(config)
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

/// The modules under a domain node.
#[derive(Default)]
struct Modules<'a> {
    boot: Option<BootModule>,
    ramdisk: Option<HostPhysAddrRange>,
    bootargs: Option<&'a str>,
}

impl<'a> Modules<'a> {
    fn read(domain: Node<'_, 'a>) -> Result<Self, ConfigError> {
        let mut modules = Self::default();
        for node in domain.children().filter(|node| node.is_available()) {
            let kernel = node.is_compatible(&[KERNEL]);
            if kernel || node.is_compatible(&[FIRMWARE]) {
                let range = module_range(node)?;
                let boot = if kernel {
                    BootModule::Kernel(range)
                } else {
                    BootModule::Firmware(range)
                };
                if modules.boot.replace(boot).is_some() {
                    return Err(ConfigError::BootModules {
                        node: domain.path(),
                    });
                }
                modules.bootargs = node.string(property::BOOTARGS)?;
            } else if node.is_compatible(&[RAMDISK]) {
                if modules.ramdisk.replace(module_range(node)?).is_some() {
                    return Err(ConfigError::Ramdisks {
                        node: domain.path(),
                    });
                }
            } else if node.compatible().any(|name| name.starts_with("multiboot,")) {
                return Err(ConfigError::UnknownModule { node: node.path() });
            }
        }
        Ok(modules)
    }
}

fn module_range(node: Node<'_, '_>) -> Result<HostPhysAddrRange, PropertyError> {
    match cells::plain_reg(node)?.as_slice() {
        [range] if !range.is_empty() => Ok(*range),
        _ => Err(node.invalid(property::REG, allowed::MODULE)),
    }
}
