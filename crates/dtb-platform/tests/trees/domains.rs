//! VMs in the host's tree, read and written.

use dtb_platform::{
    BlobError, BootModule, ConfigError, Fault, Placement, Platform, TreeError, VmConfig,
    add_domains, vm_configs,
};
use proptest::prelude::*;

use crate::machines::{TestNode, board, node, qemu_virt};
use crate::platform::range;

/// A domain as it is written by hand: one-word memory size, one-word cells,
/// the command line at the domain.
fn domain(name: &str) -> TestNode {
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

fn ramdisk(start: u32) -> TestNode {
    node(&format!("ramdisk@{start:x}"))
        .text("compatible", "multiboot,ramdisk")
        .words("reg", &[start, 0x1001])
}

fn firmware(start: u32) -> TestNode {
    node(&format!("firmware@{start:x}"))
        .text("compatible", "armature,firmware")
        .words("reg", &[start, 0x10_0000])
}

fn configs(domains: &[TestNode]) -> Result<Vec<VmConfig>, ConfigError> {
    let chosen = domains
        .iter()
        .cloned()
        .fold(node("chosen"), TestNode::child);
    vm_configs(&qemu_virt().without_child("chosen").child(chosen).blob())
}

/// The description of [`domain`].
fn described(name: &str) -> VmConfig {
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
        ..described("vm@1")
    };
    assert_eq!(configs(&[full]), Ok(vec![expected]));

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
fn a_wrong_property_is_named_and_what_is_allowed_is_said() {
    let refused = |tree: TestNode, node: &str, property: &str, fault: Fault| match configs(&[tree])
    {
        Err(ConfigError::Property(error)) => {
            assert_eq!(
                (&*error.node, error.property, error.fault),
                (node, property, fault)
            );
        }
        other => panic!("{property}: {other:?}"),
    };
    use Fault::{Invalid, Missing};
    let vm = "/chosen/vm";
    for cpus in [0, 257] {
        refused(domain("vm").words("cpus", &[cpus]), vm, "cpus", Invalid);
    }
    refused(domain("vm").words("cpus", &[0, 1]), vm, "cpus", Invalid);
    refused(domain("vm").without("", "cpus"), vm, "cpus", Missing);
    refused(domain("vm").without("", "memory"), vm, "memory", Missing);
    for memory in [
        [0, 0],
        [0, 3],
        [0, 5],
        [0, 255 * 0x10_0000 + 4],
        [u32::MAX, u32::MAX - 3],
    ] {
        refused(domain("vm").words("memory", &memory), vm, "memory", Invalid);
    }
    refused(
        domain("vm").words("memory", &[0, 0, 4]),
        vm,
        "memory",
        Invalid,
    );
    refused(
        domain("vm").words("armature,affinity", &[0]),
        vm,
        "armature,affinity",
        Invalid,
    );
    refused(
        domain("vm").bytes("armature,affinity", &[0; 7]),
        vm,
        "armature,affinity",
        Invalid,
    );
    refused(
        domain("vm").text("armature,name", ""),
        vm,
        "armature,name",
        Invalid,
    );
    refused(
        domain("vm").text("armature,name", "a\nb"),
        vm,
        "armature,name",
        Invalid,
    );
    refused(
        domain("vm").text("armature,name", &"n".repeat(65)),
        vm,
        "armature,name",
        Invalid,
    );
    refused(
        domain("vm").bytes("bootargs", b"no end"),
        vm,
        "bootargs",
        Invalid,
    );

    let kernel = "/chosen/vm/kernel@48000000";
    let with_reg = |words: &[u32]| domain("vm").edit("kernel@48000000", |n| n.words("reg", words));
    for reg in [&[0x4800_0000][..], &[0x4800_0000, 0], &[0, 1, 2, 3], &[]] {
        refused(with_reg(reg), kernel, "reg", Invalid);
    }
    refused(
        domain("vm").without("kernel@48000000", "reg"),
        kernel,
        "reg",
        Missing,
    );
    refused(
        domain("vm").words("#size-cells", &[0]),
        kernel,
        "reg",
        Invalid,
    );

    let error = configs(&[domain("vm").words("cpus", &[300])]).expect_err("too many");
    assert_eq!(
        error.to_string(),
        "/chosen/vm: `cpus` is invalid: it must be one word, from 1 to 256"
    );
}

#[test]
fn a_vm_starts_with_exactly_one_module() {
    let path = || "/chosen/vm".to_string();
    let none = domain("vm").without_child("kernel@48000000");
    assert_eq!(
        configs(&[none]),
        Err(ConfigError::BootModules { node: path() })
    );
    let both = domain("vm").child(firmware(0x6000_0000));
    assert_eq!(
        configs(&[both]),
        Err(ConfigError::BootModules { node: path() })
    );
    let ramdisks = domain("vm")
        .child(ramdisk(0x5000_0000))
        .child(ramdisk(0x5100_0000));
    assert_eq!(
        configs(&[ramdisks]),
        Err(ConfigError::Ramdisks { node: path() })
    );
    let unknown = domain("vm").child(node("dtb").text("compatible", "multiboot,device-tree"));
    let node = "/chosen/vm/dtb".into();
    assert_eq!(
        configs(&[unknown]),
        Err(ConfigError::UnknownModule { node })
    );
}

#[test]
fn modules_may_be_shared_whole_but_never_in_part() {
    let overlap = |node: &str, other: &str| ConfigError::Overlap {
        node: format!("/chosen/{node}"),
        other: format!("/chosen/{other}"),
    };
    assert!(
        configs(&[domain("a"), domain("b")]).is_ok(),
        "the same kernel"
    );
    let within = domain("a").child(ramdisk(0x48ff_f000));
    assert_eq!(configs(&[within]), Err(overlap("a", "a")));
    let other = domain("b")
        .without_child("kernel@48000000")
        .child(firmware(0x6000_0000))
        .child(ramdisk(0x48ff_f000));
    assert_eq!(configs(&[domain("a"), other]), Err(overlap("b", "a")));
}

#[test]
fn two_vms_with_one_name_are_refused() {
    let named = domain("b").text("armature,name", "a");
    let error = ConfigError::DuplicateName {
        node: "/chosen/b".into(),
        name: "a".into(),
    };
    assert_eq!(configs(&[domain("a"), named]), Err(error));
}

#[test]
fn adding_domains_keeps_everything_else() {
    let reserved = [(0x3000, 0x1000), (0x1_0000_0000, 0x2000)];
    let before = board().blob_reserving(&reserved);
    let added = add_domains(&before, &[described("vm")]).expect("a good description");
    assert_eq!(Platform::from_fdt(&added), Platform::from_fdt(&before));
    assert_eq!(vm_configs(&added), Ok(vec![described("vm")]));
    // Written by the same writer, a copy without additions is the same.
    assert_eq!(add_domains(&before, &[]), Ok(before.clone()));
    // And a second round adds to the first.
    let again = add_domains(&added, &[described("other")]).expect("a good description");
    assert_eq!(
        vm_configs(&again),
        Ok(vec![described("vm"), described("other")])
    );
}

#[test]
fn a_tree_without_chosen_gets_one() {
    let tree = qemu_virt().without_child("chosen").blob();
    let added = add_domains(&tree, &[described("vm")]).expect("a good description");
    assert_eq!(vm_configs(&added), Ok(vec![described("vm")]));
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
        }
        let blob = add_domains(&qemu_virt().blob(), &wanted).expect("a good description");
        prop_assert_eq!(vm_configs(&blob), Ok(wanted));
    }
}
