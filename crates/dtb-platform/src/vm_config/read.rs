//! From domain nodes to configurations, each node judged alone.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use vm_contract::HostPhysAddrRange;

use super::{
    BootModule, DISK, DOMAIN, DiskConfig, FIRMWARE, KERNEL, NET, NetConfig, RAMDISK, VmConfig,
    allowed, property,
};
use crate::blob::Blob;
use crate::tree::{Node, Tree};
use crate::{BlobError, ConfigError, MachineFacts, Placement, PropertyError, cells};

/// What is ours, or the boot loader's: there must be nothing unknown of it.
const OURS: &str = "armature,";
const LOADERS: &str = "multiboot,";

/// Reads the VMs that `blob` asks for: the children of `/chosen` compatible
/// with `xen,domain`, in the order of the tree.
///
/// Each is judged alone: whatever is wrong with one of them is one error in its
/// place. If two do not go together, because of their names or because a module
/// of one overlaps a part of a module of the other, then the later one is at
/// fault. Different VMs may use the very same module, for instance one kernel.
///
/// # Errors
/// The tree cannot be read at all. Inside, whoever configured the VM is to
/// blame; the error names the node and the property, and says what is allowed
/// there.
pub fn vm_configs(blob: &[u8]) -> Result<Vec<Result<VmConfig, ConfigError>>, BlobError> {
    judged(blob, |_| Ok(()))
}

/// Reads the VMs that `blob` asks for, as [`vm_configs`] does, and judges each
/// against the machine before its neighbours: what the machine cannot do for one
/// VM is not held against another.
///
/// # Errors
/// As for [`vm_configs`], and inside as for [`MachineFacts::check`].
pub fn vm_configs_on(
    blob: &[u8],
    machine: &MachineFacts<'_>,
) -> Result<Vec<Result<VmConfig, ConfigError>>, BlobError> {
    judged(blob, |config| machine.check(config))
}

fn judged(
    blob: &[u8],
    fits: impl Fn(&VmConfig) -> Result<(), ConfigError>,
) -> Result<Vec<Result<VmConfig, ConfigError>>, BlobError> {
    let blob = Blob::check(blob)?;
    let tree = Tree::read(&blob)?;
    let domains = tree.find("/chosen").into_iter().flat_map(|chosen| {
        chosen
            .children()
            .filter(|node| node.is_compatible(&[DOMAIN]) && node.is_available())
    });
    let mut configs: Vec<Result<VmConfig, ConfigError>> = Vec::new();
    for domain in domains {
        let config = VmConfig::read(domain).and_then(|config| {
            fits(&config)?;
            // Only those that will be there can be in the way.
            config.check_after(configs.iter().flatten())?;
            Ok(config)
        });
        configs.push(config);
    }
    Ok(configs)
}

impl VmConfig {
    fn read(node: Node<'_, '_>) -> Result<Self, ConfigError> {
        use property::{CPUS, ITS, MEMORY, NAME, PRIORITY, WEIGHT};
        check_properties(node, &property::OURS)?;
        let cpus = node.word(CPUS, allowed::CPUS)?;
        let memory_kib = node.number(MEMORY, allowed::MEMORY)?;
        let weight = node.word(WEIGHT, allowed::WEIGHT)?;
        let priority = node
            .word(PRIORITY, allowed::PRIORITY)?
            .map(|word| u8::try_from(word).map_err(|_| node.invalid(PRIORITY, allowed::PRIORITY)))
            .transpose()?;
        let its = node.flag(ITS)?;
        let parts = Parts::read(node)?;
        let config = Self {
            node: node.name().into(),
            name: node.string(NAME)?.unwrap_or(node.name()).into(),
            cpus: cpus.ok_or_else(|| node.missing(CPUS, allowed::CPUS))?,
            memory_bytes: memory_kib
                .ok_or_else(|| node.missing(MEMORY, allowed::MEMORY))?
                // Too much in any case.
                .saturating_mul(1024),
            boot: parts
                .boot
                .ok_or_else(|| ConfigError::BootModules { node: node.path() })?,
            ramdisk: parts.ramdisk,
            bootargs: parts
                .bootargs
                .or(node.string(property::BOOTARGS)?)
                .map(String::from),
            placement: Placement::read(node)?,
            weight: weight.unwrap_or(Self::USUAL_WEIGHT),
            priority: priority.unwrap_or(Self::USUAL_PRIORITY),
            its,
            disks: parts.disks,
            nets: parts.nets,
        };
        config.check()?;
        Ok(config)
    }
}

/// Checks that all of the properties that are ours are `known`: with a typing
/// error in its name, one would do nothing.
pub(crate) fn check_properties(
    node: Node<'_, '_>,
    known: &'static [&str],
) -> Result<(), ConfigError> {
    let unknown = node
        .properties()
        .iter()
        .find(|property| property.name.starts_with(OURS) && !known.contains(&property.name));
    match unknown {
        None => Ok(()),
        Some(property) => Err(ConfigError::UnknownProperty {
            node: node.path(),
            property: property.name.into(),
            known,
        }),
    }
}

/// What is under a domain node: modules and devices.
#[derive(Default)]
struct Parts<'a> {
    boot: Option<BootModule>,
    ramdisk: Option<HostPhysAddrRange>,
    bootargs: Option<&'a str>,
    disks: Vec<DiskConfig>,
    nets: Vec<NetConfig>,
}

/// What a node under a domain node is.
#[derive(Clone, Copy)]
enum Kind {
    Kernel,
    Firmware,
    Ramdisk,
    Disk,
    Net,
}

impl<'a> Parts<'a> {
    fn read(domain: Node<'_, 'a>) -> Result<Self, ConfigError> {
        let mut parts = Self::default();
        for node in domain.children().filter(|node| node.is_available()) {
            match kind(node)? {
                None => {}
                Some(Kind::Disk) => parts.disks.push(DiskConfig::read(node)?),
                Some(Kind::Net) => parts.nets.push(NetConfig::read(node)?),
                Some(Kind::Ramdisk) => parts.ramdisk(domain, node)?,
                Some(Kind::Kernel) => parts.boot(domain, node, BootModule::Kernel)?,
                Some(Kind::Firmware) => parts.boot(domain, node, BootModule::Firmware)?,
            }
        }
        Ok(parts)
    }

    /// Takes the initial ramdisk of `domain`.
    fn ramdisk(&mut self, domain: Node<'_, 'a>, node: Node<'_, 'a>) -> Result<(), ConfigError> {
        match self.ramdisk.replace(module(node)?) {
            None => Ok(()),
            Some(_) => Err(ConfigError::Ramdisks {
                node: domain.path(),
            }),
        }
    }

    /// Takes the module of `domain` that it starts with.
    fn boot(
        &mut self,
        domain: Node<'_, 'a>,
        node: Node<'_, 'a>,
        kind: fn(HostPhysAddrRange) -> BootModule,
    ) -> Result<(), ConfigError> {
        if self.boot.replace(kind(module(node)?)).is_some() {
            let node = domain.path();
            return Err(ConfigError::BootModules { node });
        }
        self.bootargs = node.string(property::BOOTARGS)?;
        Ok(())
    }
}

/// Tells what a node below a domain is, or that it is nothing of ours.
fn kind(node: Node<'_, '_>) -> Result<Option<Kind>, ConfigError> {
    const KINDS: [(&str, Kind); 5] = [
        (KERNEL, Kind::Kernel),
        (FIRMWARE, Kind::Firmware),
        (RAMDISK, Kind::Ramdisk),
        (DISK, Kind::Disk),
        (NET, Kind::Net),
    ];
    let mut kinds = KINDS.iter().filter(|(name, _)| node.is_compatible(&[name]));
    let ours = |name: &&str| name.starts_with(LOADERS) || name.starts_with(OURS);
    match (kinds.next(), kinds.next()) {
        (Some((_, kind)), None) => Ok(Some(*kind)),
        (None, _) if !node.compatible().any(|name| ours(&name)) => Ok(None),
        _ => Err(ConfigError::PartKind {
            node: node.path(),
            compatible: node.compatible().fold(String::new(), |list, name| {
                let comma = if list.is_empty() { "" } else { ", " };
                format!("{list}{comma}`{name}`")
            }),
        }),
    }
}

/// Reads a module of which nothing is said but where it is.
fn module(node: Node<'_, '_>) -> Result<HostPhysAddrRange, ConfigError> {
    check_properties(node, &[])?;
    Ok(range(node)?)
}

/// Reads where a module is.
pub(super) fn range(node: Node<'_, '_>) -> Result<HostPhysAddrRange, PropertyError> {
    match cells::plain_reg(node)?.as_slice() {
        [range] if !range.is_empty() => Ok(*range),
        _ => Err(node.invalid(property::REG, allowed::MODULE)),
    }
}
