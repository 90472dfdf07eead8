//! Names the virtual machines in the device tree that the hypervisor reads.

use anyhow::{Context, Result};
use dtb_platform::{
    BootModule, DiskConfig, DiskSource, HostOptions, RawNode, Uplink, VmConfig, add_bootargs,
    add_domains, add_nodes, add_uplink,
};
use vm_contract::{HostPhysAddr, HostPhysAddrRange};

use super::disks::{self, DiskSpec, Home, HostDisk};
use super::spec::{Boot, MachineSpec, VmSpec};

/// Describes a virtual machine for the hypervisor, on a machine with these disks.
/// Its files take their addresses and sizes from `places`: what it boots first, then
/// its RAM disk, then its disks in memory.
pub(crate) fn describe(
    vm: &VmSpec,
    host_disks: &[HostDisk<'_>],
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
        disks: vm
            .disks
            .iter()
            .map(|disk| describe_disk(disk, host_disks, &mut place))
            .collect::<Result<_>>()?,
        nets: vm.nets.clone(),
    })
}

fn describe_disk(
    disk: &DiskSpec,
    host_disks: &[HostDisk<'_>],
    place: &mut impl FnMut() -> Result<HostPhysAddrRange>,
) -> Result<DiskConfig> {
    Ok(DiskConfig {
        source: match disk.home {
            Home::Memory => DiskSource::Module(place()?),
            Home::Disk(part) => DiskSource::Host {
                disk: disks::number_in(host_disks, disk).context("a disk has no image")?,
                part,
            },
        },
        read_only: disk.read_only,
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
    let mut tree = tree.context("cannot add the guests to the machine's device tree")?;
    if let Some(vlan) = machine.uplink.clone() {
        tree = add_uplink(&tree, &Uplink { card: 0, vlan })
            .context("cannot add the uplink to the machine's device tree")?;
    }
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
    use super::super::disks::Image;
    use super::super::spec::Initrd;
    use super::*;
    use dtb_platform::{
        DiskPart, GuestGic, GuestTree, NetConfig, Placement, Platform, VlanMode, layout, uplink,
        vm_configs,
    };
    use vm_contract::GuestPhysAddrRange;

    #[test]
    fn files_are_taken_in_the_order_kernel_ramdisk_disks() {
        let mut vm = VmSpec::new(Boot::Kernel("k".into()));
        vm.initrd = Some(Initrd::File("i".into()));
        vm.append("console=ttyAMA0");
        vm.append("quiet");
        vm.placement = Placement::Pinned(vec![3, 2, 1, 0]);
        vm.weight = 7;
        vm.priority = 3;
        vm.its = true;
        let mut places = [
            (0x1000, 0x10),
            (0x2000, 0x20),
            (0x3000, 0x200),
            (0x4000, 0x40),
        ]
        .into_iter();
        let disk = DiskSpec::whole(Image::File("b".into()));
        let memory = DiskSpec {
            home: Home::Memory,
            read_only: true,
            ..disk.clone()
        };
        vm.disks = vec![memory, disk];
        vm.nets = vec![NetConfig::default()];
        let vms = [vm];
        let [vm] = &vms;
        let host_disks = disks::of_machine(&vms);
        let config = describe(vm, &host_disks, &mut places).unwrap();
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
        let memory = HostPhysAddrRange::from_start_size(0x3000.into(), 0x200);
        let whole = DiskSource::Host {
            disk: 0,
            part: DiskPart::Whole,
        };
        let sources = config
            .disks
            .iter()
            .map(|disk| (disk.source, disk.read_only));
        let expected = [(DiskSource::Module(memory), true), (whole, false)];
        assert_eq!(sources.collect::<Vec<_>>(), expected);
        assert_eq!(config.nets, vm.nets);
        assert_eq!(places.next(), Some((0x4000, 0x40)));
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
        let configs = vms
            .each_ref()
            .map(|vm| describe(vm, &[], &mut places).unwrap());
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
    fn the_uplink_is_the_first_card_of_the_machine() {
        let (mut machine, configs) = two();
        let read = |machine: &MachineSpec| {
            let tree = add(&host_tree(), machine, &configs).unwrap();
            uplink(&tree).unwrap().unwrap()
        };
        assert_eq!(read(&machine), None);
        let vlan = VlanMode::Access(3);
        machine.uplink = Some(vlan.clone());
        assert_eq!(read(&machine), Some(Uplink { card: 0, vlan }));
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
        assert!(describe(&vm, &[], &mut std::iter::empty()).is_err());
    }
}
