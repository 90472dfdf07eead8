//! Names the virtual machines in the device tree that the hypervisor reads.

use anyhow::{Context, Result};
use dtb_platform::{
    BootModule, HostOptions, RawNode, VmConfig, add_bootargs, add_domains, add_nodes,
};
use vm_contract::{HostPhysAddr, HostPhysAddrRange};

use super::spec::{Boot, MachineSpec, VmSpec};

/// Describes a virtual machine for the hypervisor. Its files take their
/// addresses and sizes from `places`: what it boots first, then its RAM disk.
pub(crate) fn describe(
    vm: &VmSpec,
    places: &mut impl Iterator<Item = (u64, u64)>,
) -> Result<VmConfig> {
    let mut place = || -> Result<HostPhysAddrRange> {
        let (address, size) = places.next().context("a file has no place in memory")?;
        let start = HostPhysAddr::from(usize::try_from(address)?);
        Ok(HostPhysAddrRange::from_start_size(
            start,
            usize::try_from(size)?,
        ))
    };
    Ok(VmConfig {
        node: vm.name.clone(),
        name: vm.name.clone(),
        cpus: vm.vcpus,
        memory_bytes: vm.memory_mib << 20,
        boot: match vm.boot {
            Boot::Kernel(_) => BootModule::Kernel(place()?),
            Boot::Firmware(_) => BootModule::Firmware(place()?),
        },
        ramdisk: vm.initrd.as_ref().map(|_| place()).transpose()?,
        bootargs: vm.bootargs.clone(),
        placement: vm.placement.clone(),
        weight: vm.weight,
        priority: vm.priority,
        its: vm.its,
        disks: Vec::new(),
        nets: Vec::new(),
    })
}

/// Adds the virtual machines, each of which has its description among `domains`,
/// and the hypervisor's own options to the tree of the machine.
pub(crate) fn add(tree: &[u8], machine: &MachineSpec, domains: &[VmConfig]) -> Result<Vec<u8>> {
    let vms = &machine.vms;
    let tree = if vms.iter().all(|vm| vm.spoil.is_none()) {
        add_domains(tree, domains)
    } else {
        let nodes: Vec<_> = domains.iter().zip(vms).map(spoiled).collect();
        add_nodes(tree, &nodes)
    };
    let tree = tree.context("cannot add the guests to the machine's device tree")?;
    add_bootargs(&tree, &options(machine))
        .context("cannot add options to the machine's device tree")
}

/// Returns the hypervisor's own options.
fn options(machine: &MachineSpec) -> String {
    // QEMU has nothing in its memory but what it loads, and its first
    // instructions, which lie below the hypervisor.
    let mut options = format!("{}=zero", HostOptions::MEMORY);
    if let Some(slice_ms) = machine.slice_ms {
        options += &format!(" {}={slice_ms}", HostOptions::SLICE);
    }
    if machine.trace {
        options += &format!(" {}=on", HostOptions::TRACE);
    }
    options
}

fn spoiled((domain, vm): (&VmConfig, &VmSpec)) -> RawNode {
    let mut node = RawNode::from(domain);
    if let Some(spoil) = vm.spoil {
        spoil(&mut node);
    }
    node
}

#[cfg(test)]
mod tests {
    use super::super::spec::Initrd;
    use super::*;
    use dtb_platform::{GuestGic, GuestTree, Placement, Platform, layout, vm_configs};
    use vm_contract::GuestPhysAddrRange;

    #[test]
    fn files_are_taken_in_the_order_kernel_then_ramdisk() {
        let mut vm = VmSpec::new(Boot::Kernel("k".into()));
        vm.initrd = Some(Initrd::File("i".into()));
        vm.append("console=ttyAMA0");
        vm.append("quiet");
        vm.placement = Placement::Pinned(vec![3, 2, 1, 0]);
        vm.weight = 7;
        vm.priority = 3;
        vm.its = true;
        let mut places = [(0x1000, 0x10), (0x2000, 0x20), (0x3000, 0x30)].into_iter();
        let config = describe(&vm, &mut places).unwrap();
        assert_eq!(usize::from(config.boot.range().start), 0x1000);
        assert_eq!(
            config
                .ramdisk
                .map(|range| (usize::from(range.start), range.size())),
            Some((0x2000, 0x20))
        );
        assert_eq!(config.bootargs.as_deref(), Some("console=ttyAMA0 quiet"));
        assert_eq!(config.memory_bytes, 512 << 20);
        assert_eq!(config.placement, vm.placement);
        assert_eq!((config.weight, config.priority), (7, 3));
        assert!(config.its);
        assert_eq!(places.next(), Some((0x3000, 0x30)));
    }

    /// A machine's tree: that of a guest is one.
    fn host_tree() -> Vec<u8> {
        let ram = [GuestPhysAddrRange::from_start_size(
            layout::RAM.start,
            1 << 30,
        )];
        let gic = GuestGic::V3 {
            distributor: layout::GIC_DISTRIBUTOR,
            redistributors: &layout::redistributor_regions(1),
            its: None,
        };
        let vcpus = [layout::affinity(0)];
        GuestTree::virt(&vcpus, &ram, gic).to_blob().unwrap()
    }

    /// Two machines, and how they are described.
    fn two() -> (MachineSpec, [VmConfig; 2]) {
        let vms = ["a", "b"].map(|name| {
            let mut vm = VmSpec::new(Boot::Kernel("k".into()));
            vm.name = name.to_owned();
            vm
        });
        let mut places = std::iter::repeat((0x4800_0000, 0x1000));
        let configs = vms.each_ref().map(|vm| describe(vm, &mut places).unwrap());
        (MachineSpec::of(1, vms.into()), configs)
    }

    #[test]
    fn what_is_asked_for_is_an_option_of_the_hypervisor() {
        let (mut machine, configs) = two();
        let host = host_tree();
        let options = |machine: &MachineSpec| {
            let tree = add(&host, machine, &configs).unwrap();
            let bootargs = Platform::from_fdt(&tree).unwrap().bootargs;
            HostOptions::parse(&bootargs.unwrap_or_default())
        };
        let usual = HostOptions {
            memory_is_zero: true,
            ..HostOptions::default()
        };
        assert_eq!(options(&machine), (usual, vec![]));
        machine.slice_ms = Some(25);
        let (both, refused) = options(&machine);
        assert_eq!((both.slice_ms, both.trace, refused), (25, false, vec![]));
        machine.trace = true;
        let (both, refused) = options(&machine);
        assert_eq!((both.slice_ms, both.trace, refused), (25, true, vec![]));
    }

    #[test]
    fn a_spoiled_node_is_written_between_good_ones() {
        let (mut machine, configs) = two();
        machine.vms[0].spoil = Some(|node| node.set_words("cpus", &[300]));
        let tree = add(&host_tree(), &machine, &configs).unwrap();
        let read = vm_configs(&tree).unwrap();
        assert!(matches!(read.as_slice(), [Err(_), Ok(b)] if *b == configs[1]));
    }

    #[test]
    fn a_file_without_a_place_is_an_error() {
        let vm = VmSpec::new(Boot::Firmware("f".into()));
        assert!(describe(&vm, &mut std::iter::empty()).is_err());
    }
}
