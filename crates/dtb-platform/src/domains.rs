//! VM descriptions added to a host tree: the writing side of [`vm_configs`].
//!
//! [`vm_configs`]: crate::vm_configs

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use vm_contract::HostPhysAddrRange;
use vm_fdt::{FdtReserveEntry, FdtWriter};

use crate::blob::Blob;
use crate::tree::{Node, Tree};
use crate::vm_config::{self, DOMAIN, FIRMWARE, KERNEL, MODULE, RAMDISK, property};
use crate::{BootModule, TreeError, VmConfig};

/// Returns a copy of the tree `host_blob` with a node under `/chosen` for each
/// of `domains`, so that [`vm_configs`](crate::vm_configs) of it returns them.
/// `/chosen` is made if there is none.
///
/// # Errors
/// [`TreeError::Blob`] if the host's tree cannot be read, [`TreeError::Config`]
/// if a VM is not described correctly, [`TreeError::NodeExists`] if a node is
/// there already, and [`TreeError::Format`] if the host's tree has names that
/// the specification of the format forbids.
pub fn add_domains(host_blob: &[u8], domains: &[VmConfig]) -> Result<Vec<u8>, TreeError> {
    vm_config::check_all(domains)?;
    let blob = Blob::check(host_blob)?;
    let tree = Tree::read(&blob)?;
    let chosen = tree.find("/chosen");
    for domain in domains {
        let path = format!("/chosen/{}", domain.node);
        if chosen.is_some_and(|chosen| chosen.children().any(|node| node.name() == domain.node)) {
            return Err(TreeError::NodeExists(path));
        }
    }

    let reservations = tree
        .reservations()
        .iter()
        .filter(|(_, size)| *size > 0)
        .map(|&(address, size)| FdtReserveEntry::new(address, size))
        .collect::<Result<Vec<_>, _>>()?;
    let mut fdt = FdtWriter::new_with_mem_reserv(&reservations)?;
    fdt.set_boot_cpuid_phys(blob.boot_cpu());
    if let Some(root) = tree.find("/") {
        copy(&mut fdt, root, domains)?;
    }
    Ok(fdt.finish()?)
}

/// Copies `node` and everything under it, and adds the domains on the way. The
/// recursion is as deep as the tree, which the check of the blob bounds.
fn copy(fdt: &mut FdtWriter, node: Node<'_, '_>, domains: &[VmConfig]) -> Result<(), TreeError> {
    let copied = fdt.begin_node(node.name())?;
    for property in node.properties() {
        fdt.property(property.name, property.value)?;
    }
    for child in node.children() {
        copy(fdt, child, domains)?;
    }
    match node.path().as_str() {
        "/chosen" => write_domains(fdt, domains)?,
        "/" if node.tree().find("/chosen").is_none() => {
            let chosen = fdt.begin_node("chosen")?;
            write_domains(fdt, domains)?;
            fdt.end_node(chosen)?;
        }
        _ => {}
    }
    Ok(fdt.end_node(copied)?)
}

fn write_domains(fdt: &mut FdtWriter, domains: &[VmConfig]) -> Result<(), TreeError> {
    for domain in domains {
        let node = fdt.begin_node(&domain.node)?;
        fdt.property_string("compatible", DOMAIN)?;
        fdt.property_string(property::NAME, &domain.name)?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        fdt.property_u32(property::CPUS, domain.cpus)?;
        fdt.property_u64(property::MEMORY, domain.memory_bytes / 1024)?;
        if let Some(name) = domain.placement.property() {
            fdt.property_array_u32(name, domain.placement.named())?;
        }
        fdt.property_u32(property::WEIGHT, domain.weight)?;
        fdt.property_u32(property::PRIORITY, domain.priority.into())?;
        let kind = match domain.boot {
            BootModule::Kernel(_) => KERNEL,
            BootModule::Firmware(_) => FIRMWARE,
        };
        write_module(fdt, kind, domain.boot.range(), domain.bootargs.as_deref())?;
        if let Some(ramdisk) = domain.ramdisk {
            write_module(fdt, RAMDISK, ramdisk, None)?;
        }
        fdt.end_node(node)?;
    }
    Ok(())
}

fn write_module(
    fdt: &mut FdtWriter,
    kind: &str,
    range: HostPhysAddrRange,
    bootargs: Option<&str>,
) -> Result<(), TreeError> {
    let node = fdt.begin_node(&format!("module@{:x}", range.start.as_usize()))?;
    fdt.property_string_list("compatible", [kind, MODULE].map(String::from).to_vec())?;
    fdt.property_array_u64(
        property::REG,
        &[range.start.as_usize() as u64, range.size() as u64],
    )?;
    if let Some(bootargs) = bootargs {
        fdt.property_string(property::BOOTARGS, bootargs)?;
    }
    Ok(fdt.end_node(node)?)
}
