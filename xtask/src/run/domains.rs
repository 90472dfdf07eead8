//! Names the virtual machines in the device tree that the hypervisor reads.

use anyhow::{Context, Result};
use dtb_platform::{BootModule, VmConfig, add_domains};
use vm_contract::{HostPhysAddr, HostPhysAddrRange};

use super::spec::{Boot, VmSpec};

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
    })
}

/// Adds the virtual machines to the tree of the machine.
pub(crate) fn add(tree: &[u8], domains: &[VmConfig]) -> Result<Vec<u8>> {
    add_domains(tree, domains).context("cannot add the guests to the machine's device tree")
}

#[cfg(test)]
mod tests {
    use super::super::spec::Initrd;
    use super::*;
    use dtb_platform::Placement;

    #[test]
    fn files_are_taken_in_the_order_kernel_then_ramdisk() {
        let mut vm = VmSpec::new(Boot::Kernel("k".into()));
        vm.initrd = Some(Initrd::File("i".into()));
        vm.append("console=ttyAMA0");
        vm.append("quiet");
        vm.placement = Placement::Pinned(vec![3, 2, 1, 0]);
        vm.weight = 7;
        vm.priority = 3;
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
        assert_eq!(places.next(), Some((0x3000, 0x30)));
    }

    #[test]
    fn a_file_without_a_place_is_an_error() {
        let vm = VmSpec::new(Boot::Firmware("f".into()));
        assert!(describe(&vm, &mut std::iter::empty()).is_err());
    }
}
