//! VMs in the host's tree, read and written.

use dtb_platform::{
    BlobError, BootModule, ConfigError, Placement, Platform, RawNode, TreeError, VmConfig,
    add_bootargs, add_domains, add_nodes, vm_configs,
};
use proptest::prelude::*;

use crate::devices::{any_disks, any_net, make_own};
use crate::machines::{TestNode, board, node, qemu_virt};
use crate::platform::range;

/// A domain as it is written by hand: one-word memory size, one-word cells,
/// the command line at the domain.
pub(crate) fn domain(name: &str) -> TestNode {
    node(name)
        .text("compatible", "xen,domain")
        .words("#address-cells", &[1])
        .words("#size-cells", &[1])
        .words("cpus", &[2])
        .words("memory", &[0x4_0000])
        .text("bootargs", "of the domain")
        .child(
            node("kernel@48000000")
                .text("compatible", "multiboot,kernel\0multiboot,module")
                .words("reg", &[0x4800_0000, 0x100_0000]),
        )
        .child(node("notes").text("author", "nobody"))
}

pub(crate) fn ramdisk(start: u32) -> TestNode {
    node(&format!("ramdisk@{start:x}"))
        .text("compatible", "multiboot,ramdisk")
        .words("reg", &[start, 0x1001])
}

pub(crate) fn firmware(start: u32) -> TestNode {
    node(&format!("firmware@{start:x}"))
        .text("compatible", "armature,firmware")
        .words("reg", &[start, 0x10_0000])
}

/// A machine with these domains.
pub(crate) fn machine(domains: &[TestNode]) -> Vec<u8> {
    let chosen = domains
        .iter()
        .cloned()
        .fold(node("chosen"), TestNode::child);
    qemu_virt().without_child("chosen").child(chosen).blob()
}

/// Reads domains of which all are good, or returns the first error.
pub(crate) fn configs(domains: &[TestNode]) -> Result<Vec<VmConfig>, ConfigError> {
    all_of(&machine(domains))
}

pub(crate) fn all_of(blob: &[u8]) -> Result<Vec<VmConfig>, ConfigError> {
    let configs = vm_configs(blob).expect("a tree");
    configs.into_iter().collect()
}

/// The description of [`domain`].
pub(crate) fn described(name: &str) -> VmConfig {
    VmConfig {
        node: name.into(),
        name: name.into(),
        cpus: 2,
        memory_bytes: 0x1000_0000,
        boot: BootModule::Kernel(range(0x4800_0000, 0x100_0000)),
        ramdisk: None,
        bootargs: Some("of the domain".into()),
        placement: Placement::Automatic,
        weight: 100,
        priority: 0,
        its: false,
        disks: vec![],
        nets: vec![],
    }
}

#[test]
fn a_tree_without_domains_wants_no_vm() {
    assert_eq!(vm_configs(&qemu_virt().blob()), Ok(vec![]));
    assert_eq!(
        vm_configs(&qemu_virt().without_child("chosen").blob()),
        Ok(vec![])
    );
    assert_eq!(
        configs(&[domain("vm").text("status", "disabled")]),
        Ok(vec![])
    );
    assert_eq!(
        configs(&[domain("vm").text("compatible", "xen,xen-config")]),
        Ok(vec![])
    );
}

#[test]
fn a_domain_written_by_hand_is_understood() {
    assert_eq!(configs(&[domain("vm")]), Ok(vec![described("vm")]));
}

#[test]
fn every_part_of_a_domain_is_read() {
    let full = domain("vm@1")
        .text("armature,name", "router")
        .words("armature,affinity", &[3, 1])
        .words("armature,weight", &[10_000])
        .words("armature,priority", &[7])
        .flag("armature,its")
        .words("memory", &[0, 0x4])
        .edit("kernel@48000000", |kernel| {
            kernel.text("bootargs", "of the kernel")
        })
        .child(ramdisk(0x5000_0000));
    let expected = VmConfig {
        name: "router".into(),
        memory_bytes: 4096,
        ramdisk: Some(range(0x5000_0000, 0x1001)),
        bootargs: Some("of the kernel".into()),
        placement: Placement::Pinned(vec![3, 1]),
        weight: 10_000,
        priority: 7,
        its: true,
        ..described("vm@1")
    };
    assert_eq!(configs(&[full]), Ok(vec![expected]));

    let floating = domain("vm")
        .words("armature,cpu-set", &[2, 0, 3])
        .words("armature,weight", &[1]);
    let expected = VmConfig {
        placement: Placement::Within(vec![2, 0, 3]),
        weight: 1,
        ..described("vm")
    };
    assert_eq!(configs(&[floating]), Ok(vec![expected]));

    let bios = domain("vm")
        .without_child("kernel@48000000")
        .child(firmware(0x6000_0000));
    let boot = BootModule::Firmware(range(0x6000_0000, 0x10_0000));
    assert_eq!(
        configs(&[bios]),
        Ok(vec![VmConfig {
            boot,
            ..described("vm")
        }])
    );
}

#[test]
fn two_vms_may_share_a_whole_module() {
    assert_eq!(
        configs(&[domain("a"), domain("b")]),
        Ok(vec![described("a"), described("b")])
    );
}

#[test]
fn adding_domains_keeps_everything_else() {
    let reserved = [(0x3000, 0x1000), (0x1_0000_0000, 0x2000)];
    let before = board().blob_reserving(&reserved);
    let added = add_domains(&before, &[described("vm")]).expect("a good description");
    assert_eq!(Platform::from_fdt(&added), Platform::from_fdt(&before));
    assert_eq!(all_of(&added), Ok(vec![described("vm")]));
    // Written by the same writer, a copy without additions is the same.
    assert_eq!(add_domains(&before, &[]), Ok(before.clone()));
    // And a second round adds to the first.
    let again = add_domains(&added, &[described("other")]).expect("a good description");
    assert_eq!(
        all_of(&again),
        Ok(vec![described("vm"), described("other")])
    );
}

#[test]
fn options_are_added_to_those_that_are_there() {
    let bootargs = |blob: &[u8]| Platform::from_fdt(blob).expect("a machine").bootargs;
    let plain = qemu_virt().without_child("chosen").blob();
    let once = add_bootargs(&plain, "armature.slice=5").expect("a word");
    assert_eq!(bootargs(&once).as_deref(), Some("armature.slice=5"));
    let twice = add_bootargs(&once, "armature.log=off quiet").expect("words");
    assert_eq!(
        bootargs(&twice).as_deref(),
        Some("armature.slice=5 armature.log=off quiet")
    );
    // Nothing else changes, neither before nor after.
    let added = add_domains(&twice, &[described("vm")]).expect("a good description");
    assert_eq!(all_of(&added), Ok(vec![described("vm")]));
    assert_eq!(bootargs(&added), bootargs(&twice));
    let last = add_bootargs(&added, "more").expect("a word");
    assert_eq!(all_of(&last), Ok(vec![described("vm")]));

    assert!(matches!(
        add_bootargs(&plain, "a\0b"),
        Err(TreeError::Format(_))
    ));
    let broken = qemu_virt()
        .without_child("chosen")
        .child(node("chosen").bytes("bootargs", b"no end"))
        .blob();
    assert!(matches!(
        add_bootargs(&broken, "more"),
        Err(TreeError::Config(ConfigError::Property(error))) if error.node == "/chosen"
    ));
}

#[test]
fn a_raw_node_is_added_whatever_it_says() {
    let host = qemu_virt().blob();
    let mut raw = RawNode::from(&described("vm"));
    assert_eq!(raw.name(), "vm");
    assert_eq!(raw.property("cpus"), Some(&[0, 0, 0, 2][..]));
    let added = add_nodes(&host, &[raw.clone()]).expect("a node");
    assert_eq!(all_of(&added), Ok(vec![described("vm")]));

    raw.set_words("cpus", &[300]);
    raw.remove("armature,name");
    let added = add_nodes(&host, &[raw.clone()]).expect("a node");
    assert!(all_of(&added).is_err());
    let exists = TreeError::NodeExists("/chosen/vm".into());
    assert_eq!(add_nodes(&added, &[raw]), Err(exists));
    assert!(matches!(
        add_nodes(&host, &[RawNode::new("a/b")]),
        Err(TreeError::Format(_))
    ));
}

#[test]
fn a_tree_without_chosen_gets_one() {
    let tree = qemu_virt().without_child("chosen").blob();
    let added = add_domains(&tree, &[described("vm")]).expect("a good description");
    assert_eq!(all_of(&added), Ok(vec![described("vm")]));
}

#[test]
fn what_cannot_be_added_is_refused() {
    let host = qemu_virt().blob();
    let added = add_domains(&host, &[described("vm")]).expect("a good description");
    let exists = TreeError::NodeExists("/chosen/vm".into());
    assert_eq!(add_domains(&added, &[described("vm")]), Err(exists));

    let refused = |change: fn(&mut VmConfig), property: &str| {
        let mut config = described("vm");
        change(&mut config);
        match add_domains(&host, &[config]) {
            Err(TreeError::Config(ConfigError::Property(error))) => {
                assert_eq!(error.property, property);
            }
            other => panic!("{other:?}"),
        }
    };
    refused(|vm| vm.node = "1st".into(), "name of the node");
    refused(|vm| vm.node = "a/b".into(), "name of the node");
    refused(|vm| vm.node = "n".repeat(32), "name of the node");
    refused(|vm| vm.memory_bytes = 4097, "memory");
    refused(
        |vm| vm.placement = Placement::Pinned(vec![1]),
        "armature,affinity",
    );
    refused(
        |vm| vm.placement = Placement::Within(vec![]),
        "armature,cpu-set",
    );
    refused(|vm| vm.weight = 0, "armature,weight");
    refused(|vm| vm.priority = 8, "armature,priority");
    refused(|vm| vm.bootargs = Some("a\0b".into()), "bootargs");
    refused(
        |vm| vm.boot = BootModule::Kernel(range(0x4000_0000, 0)),
        "reg",
    );
    refused(|vm| vm.ramdisk = Some(range(0x4000_0000, 0)), "reg");

    assert_eq!(
        add_domains(&host[..100], &[]),
        Err(TreeError::Blob(BlobError::Truncated))
    );
}

prop_compose! {
    fn any_config()(
        name in "[ -~]{1,64}",
        cpus in 1u32..=256,
        memory_pages in 1u64..=0x3fc_0000,
        firmware in any::<bool>(),
        boot_bytes in 1usize..=0x100_0000,
        ramdisk in proptest::option::of(1usize..=0x100_0000),
        bootargs in proptest::option::of("[ -~äλ]{0,100}"),
        placement in 0..3,
        cpu_set in proptest::collection::btree_set(any::<u32>(), 1..9),
        weight in VmConfig::WEIGHTS,
        priority in VmConfig::PRIORITIES,
        its in any::<bool>(),
        disks in any_disks(),
        nets in proptest::collection::vec(any_net(), 0..=VmConfig::MAX_NETS),
    ) -> VmConfig {
        let boot = range(0x1_0000_0000, boot_bytes);
        VmConfig {
            node: String::new(),
            name,
            cpus,
            memory_bytes: memory_pages * 4096,
            boot: if firmware { BootModule::Firmware(boot) } else { BootModule::Kernel(boot) },
            ramdisk: ramdisk.map(|bytes| range(0x1_0100_0000, bytes)),
            bootargs,
            placement: match placement {
                0 => Placement::Automatic,
                1 => Placement::Pinned((0..cpus).rev().collect()),
                _ => Placement::Within(cpu_set.into_iter().rev().collect()),
            },
            weight,
            priority,
            its,
            disks,
            nets,
        }
    }
}

proptest! {
    #[test]
    fn what_is_added_is_what_is_read(
        mut wanted in proptest::collection::vec(any_config(), 0..5),
    ) {
        // Each has memory and a name of its own.
        for (index, vm) in wanted.iter_mut().enumerate() {
            let apart = |range: vm_contract::HostPhysAddrRange| {
                crate::platform::range(
                    range.start.as_usize() + index * 0x1000_0000,
                    range.size(),
                )
            };
            vm.node = format!("vm{index}");
            vm.name = format!("{index}{}", vm.name.get(1..).unwrap_or_default());
            vm.boot = match vm.boot {
                BootModule::Kernel(range) => BootModule::Kernel(apart(range)),
                BootModule::Firmware(range) => BootModule::Firmware(apart(range)),
            };
            vm.ramdisk = vm.ramdisk.map(apart);
            make_own(&mut vm.disks, &mut vm.nets, index, apart);
        }
        let blob = add_domains(&qemu_virt().blob(), &wanted).expect("a good description");
        prop_assert_eq!(all_of(&blob), Ok(wanted));
    }
}
