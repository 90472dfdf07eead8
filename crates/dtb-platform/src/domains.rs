//! Additions to a host tree: the writing side of [`vm_configs`].
//!
//! [`vm_configs`]: crate::vm_configs

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use vm_fdt::{FdtReserveEntry, FdtWriter};

use crate::blob::Blob;
use crate::tree::{Node, Tree};
use crate::vm_config::{self, DOMAIN, FIRMWARE, KERNEL, RAMDISK, module_node, property};
use crate::{BootModule, ConfigError, TreeError, VmConfig};

/// Returns a copy of the tree `host_blob` with a node under `/chosen` for each
/// of `domains`, so that [`vm_configs`](crate::vm_configs) of it returns them.
/// `/chosen` is made if there is none.
///
/// # Errors
/// [`TreeError::Config`] if a VM is not described correctly, and else those of
/// [`add_nodes`].
pub fn add_domains(host_blob: &[u8], domains: &[VmConfig]) -> Result<Vec<u8>, TreeError> {
    vm_config::check_all(domains)?;
    let nodes: Vec<_> = domains.iter().map(RawNode::from).collect();
    add_nodes(host_blob, &nodes)
}

/// Returns a copy of the tree `host_blob` with `nodes` under `/chosen`, whatever
/// they say. `/chosen` is made if there is none.
///
/// # Errors
/// [`TreeError::Blob`] if the host's tree cannot be read,
/// [`TreeError::NodeExists`] if a node is there already, and
/// [`TreeError::Format`] if a name, new or old, is one that the specification of
/// the format forbids.
pub fn add_nodes(host_blob: &[u8], nodes: &[RawNode]) -> Result<Vec<u8>, TreeError> {
    let blob = Blob::check(host_blob)?;
    let tree = Tree::read(&blob)?;
    let chosen = tree.find("/chosen");
    let taken =
        |name: &str| chosen.is_some_and(|chosen| chosen.children().any(|node| node.name() == name));
    if let Some(node) = nodes.iter().find(|node| taken(&node.name)) {
        return Err(TreeError::NodeExists(format!("/chosen/{}", node.name)));
    }
    let bootargs = None;
    extend(&blob, &tree, &Additions { nodes, bootargs })
}

/// Returns a copy of the tree `host_blob` with more words at the end of
/// `/chosen/bootargs`, both of which are made if there are none.
///
/// # Errors
/// [`TreeError::Blob`] if the host's tree cannot be read,
/// [`TreeError::Config`] if the command line that is there already is no string,
/// and [`TreeError::Format`] if `words` contains a NUL, or a name in the tree is
/// one that the specification of the format forbids.
pub fn add_bootargs(host_blob: &[u8], words: &str) -> Result<Vec<u8>, TreeError> {
    let blob = Blob::check(host_blob)?;
    let tree = Tree::read(&blob)?;
    let earlier = match tree.find("/chosen") {
        Some(chosen) => chosen
            .string(property::BOOTARGS)
            .map_err(ConfigError::from)?,
        None => None,
    };
    let bootargs = match earlier.unwrap_or_default() {
        "" => words.into(),
        earlier => format!("{earlier} {words}"),
    };
    let additions = Additions {
        nodes: &[],
        bootargs: Some(bootargs),
    };
    extend(&blob, &tree, &additions)
}

/// A node to be added to a tree. Nothing of what it says is checked, so that it
/// can say what no [`VmConfig`] does.
///
/// ```
/// use dtb_platform::RawNode;
///
/// let mut vm = RawNode::new("vm");
/// vm.set("compatible", b"xen,domain\0");
/// vm.set_words("cpus", &[4]);
/// assert_eq!(vm.property("cpus"), Some(&[0, 0, 0, 4][..]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawNode {
    name: String,
    properties: Vec<(String, Vec<u8>)>,
    /// The nodes below it.
    pub children: Vec<RawNode>,
}

impl RawNode {
    /// Makes a node without properties, called `name`, with the unit address if
    /// it has one.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            properties: Vec::new(),
            children: Vec::new(),
        }
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the value of a property, if it has that.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&[u8]> {
        let found = self.properties.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_slice())
    }

    /// Gives it a property, in place of one of the same name.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.remove(name);
        self.properties.push((name.into(), value.into()));
    }

    /// Gives it a property of 32-bit words.
    pub fn set_words(&mut self, name: &str, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        self.set(name, &bytes);
    }

    /// Gives it a property that is one string.
    pub fn set_text(&mut self, name: &str, text: &str) {
        self.set(name, &[text.as_bytes(), &[0]].concat());
    }

    /// Takes a property from it. No effect if it has none of this name.
    pub fn remove(&mut self, name: &str) {
        self.properties.retain(|(own, _)| own != name);
    }

    fn write(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        let node = fdt.begin_node(&self.name)?;
        for (name, value) in &self.properties {
            fdt.property(name, value)?;
        }
        for child in &self.children {
            child.write(fdt)?;
        }
        Ok(fdt.end_node(node)?)
    }
}

impl From<&VmConfig> for RawNode {
    /// Makes the domain node that describes a VM.
    fn from(config: &VmConfig) -> Self {
        let mut node = Self::new(config.node.as_str());
        node.set_text("compatible", DOMAIN);
        node.set_text(property::NAME, &config.name);
        node.set_words("#address-cells", &[2]);
        node.set_words("#size-cells", &[2]);
        node.set_words(property::CPUS, &[config.cpus]);
        let memory_kib = config.memory_bytes / 1024;
        node.set(property::MEMORY, &memory_kib.to_be_bytes());
        if let Some(name) = config.placement.property() {
            node.set_words(name, config.placement.named());
        }
        node.set_words(property::WEIGHT, &[config.weight]);
        node.set_words(property::PRIORITY, &[config.priority.into()]);
        if config.its {
            node.set(property::ITS, &[]);
        }
        let kind = match config.boot {
            BootModule::Kernel(_) => KERNEL,
            BootModule::Firmware(_) => FIRMWARE,
        };
        let module = |kind, range| module_node("module", kind, range);
        let mut boot = module(kind, config.boot.range());
        if let Some(bootargs) = &config.bootargs {
            boot.set_text(property::BOOTARGS, bootargs);
        }
        node.children.push(boot);
        node.children
            .extend(config.ramdisk.map(|range| module(RAMDISK, range)));
        let disks = config.disks.iter().enumerate();
        let disks = disks.map(|(number, disk)| disk.node(number));
        let nets = config.nets.iter().enumerate();
        let nets = nets.map(|(number, net)| net.node(number));
        node.children.extend(disks.chain(nets));
        node
    }
}

/// What `/chosen` gets.
struct Additions<'a> {
    nodes: &'a [RawNode],
    /// Its command line, if that is another than before.
    bootargs: Option<String>,
}

impl Additions<'_> {
    fn write_bootargs(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        match &self.bootargs {
            Some(bootargs) => Ok(fdt.property_string(property::BOOTARGS, bootargs)?),
            None => Ok(()),
        }
    }

    fn write_nodes(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        self.nodes.iter().try_for_each(|node| node.write(fdt))
    }
}

/// Returns a copy of `tree`, which comes from `blob`, with additions.
fn extend(
    blob: &Blob<'_>,
    tree: &Tree<'_>,
    additions: &Additions<'_>,
) -> Result<Vec<u8>, TreeError> {
    let reservations = tree
        .reservations()
        .iter()
        .filter(|(_, size)| *size > 0)
        .map(|&(address, size)| FdtReserveEntry::new(address, size))
        .collect::<Result<Vec<_>, _>>()?;
    let mut fdt = FdtWriter::new_with_mem_reserv(&reservations)?;
    fdt.set_boot_cpuid_phys(blob.boot_cpu());
    if let Some(root) = tree.find("/") {
        copy(&mut fdt, root, additions)?;
    }
    Ok(fdt.finish()?)
}

/// Copies `node` and everything under it, and makes the additions on the way.
/// The recursion is as deep as the tree, which the check of the blob bounds.
fn copy(
    fdt: &mut FdtWriter,
    node: Node<'_, '_>,
    additions: &Additions<'_>,
) -> Result<(), TreeError> {
    let copied = fdt.begin_node(node.name())?;
    let path = node.path();
    let is_chosen = path == "/chosen";
    let replaced = |name| is_chosen && name == property::BOOTARGS && additions.bootargs.is_some();
    for property in node.properties() {
        if !replaced(property.name) {
            fdt.property(property.name, property.value)?;
        }
    }
    if is_chosen {
        additions.write_bootargs(fdt)?;
    }
    for child in node.children() {
        copy(fdt, child, additions)?;
    }
    if is_chosen {
        additions.write_nodes(fdt)?;
    } else if path == "/" && node.tree().find("/chosen").is_none() {
        let chosen = fdt.begin_node("chosen")?;
        additions.write_bootargs(fdt)?;
        additions.write_nodes(fdt)?;
        fdt.end_node(chosen)?;
    }
    Ok(fdt.end_node(copied)?)
}
