//! Domains that cannot be followed: one error for each, and the others stay.

use dtb_platform::{
    ConfigError, GicVersion, MachineFacts, Placement, Platform, VmConfig, layout, vm_configs,
    vm_configs_on,
};
use proptest::prelude::*;

use crate::domains::{described, domain, firmware, machine, ramdisk};
use crate::machines::{TestNode, node, qemu_virt};
use crate::platform::range;

const CPUS: &str = "it must be one word, from 1 to 256";
const MEMORY: &str =
    "it must be the size in KiB in one or two words, a multiple of 4, from 4 to 255 GiB";
const AFFINITY: &str = "it must be one word for each CPU, the number of a physical CPU";
const CPU_SET: &str =
    "it must be numbers of physical CPUs, one word each, at least one and none twice";
const WEIGHT: &str = "it must be one word, from 1 to 10000";
const PRIORITY: &str = "it must be one word, from 0 to 7";
const NAME: &str = "it must be 1 to 64 bytes of text without control characters";
const STRING: &str = "it must be one string that ends with a NUL";
const REG: &str = "it must be pairs of an address and a size, in one or two cells each, \
                   that the parents' `ranges` translate";
const MODULE: &str = "it must be one address and one size, not empty";
const BOOT: &str = "it must have exactly one module to start, \
                    compatible with `multiboot,kernel` or `armature,firmware`";
const KIND: &str = "it must contain exactly one of \
                    `multiboot,kernel`, `multiboot,ramdisk`, `armature,firmware`, `armature,disk` \
                    and `armature,net`";
const KNOWN: &str = "it must be `armature,name`, `armature,affinity`, `armature,cpu-set`, \
                     `armature,weight`, `armature,priority`, or `armature,its`";

/// The kernel's node in [`domain`].
const KERNEL: &str = "kernel@48000000";

/// The error for a domain among good ones, which stay as they are.
#[track_caller]
pub(crate) fn only_error(
    judge: impl Fn(&[u8]) -> Vec<Result<VmConfig, ConfigError>>,
    bad: TestNode,
) -> String {
    let blob = machine(&[domain("first"), bad, domain("last")]);
    match judge(&blob).as_slice() {
        [Ok(first), Err(error), Ok(last)] => {
            assert_eq!(*first, described("first"));
            assert_eq!(*last, described("last"));
            error.to_string()
        }
        other => panic!("not one error between two VMs: {other:#?}"),
    }
}

pub(crate) fn read(blob: &[u8]) -> Vec<Result<VmConfig, ConfigError>> {
    vm_configs(blob).expect("a tree")
}

/// Changes the kernel's node.
fn kernel(change: impl FnOnce(TestNode) -> TestNode) -> TestNode {
    domain("vm").edit(KERNEL, change)
}

fn without_kernel() -> TestNode {
    domain("vm").without_child(KERNEL)
}

#[test]
fn each_bad_property_is_one_error_and_the_others_stay() {
    let with = |name: &str, words: &[u32]| domain("vm").words(name, words);
    let text = |name: &str, value: &str| domain("vm").text(name, value);
    for (bad, message) in [
        (with("cpus", &[0]), format!("`cpus` is invalid: {CPUS}")),
        (with("cpus", &[257]), format!("`cpus` is invalid: {CPUS}")),
        (with("cpus", &[0, 1]), format!("`cpus` is invalid: {CPUS}")),
        (
            domain("vm").without("", "cpus"),
            format!("`cpus` is missing: {CPUS}"),
        ),
        (
            domain("vm").without("", "memory"),
            format!("`memory` is missing: {MEMORY}"),
        ),
        (
            with("memory", &[0]),
            format!("`memory` is invalid: {MEMORY}"),
        ),
        (
            with("memory", &[0, 3]),
            format!("`memory` is invalid: {MEMORY}"),
        ),
        (
            with("memory", &[0, 5]),
            format!("`memory` is invalid: {MEMORY}"),
        ),
        (
            with("memory", &[0, 255 * 0x10_0000 + 4]),
            format!("`memory` is invalid: {MEMORY}"),
        ),
        (
            with("memory", &[u32::MAX, u32::MAX - 3]),
            format!("`memory` is invalid: {MEMORY}"),
        ),
        (
            with("memory", &[0, 0, 4]),
            format!("`memory` is invalid: {MEMORY}"),
        ),
        (
            with("armature,affinity", &[0]),
            format!("`armature,affinity` is invalid: {AFFINITY}"),
        ),
        (
            with("armature,affinity", &[]),
            format!("`armature,affinity` is invalid: {AFFINITY}"),
        ),
        (
            domain("vm").bytes("armature,affinity", &[0; 7]),
            format!("`armature,affinity` is invalid: {AFFINITY}"),
        ),
        (
            with("armature,cpu-set", &[]),
            format!("`armature,cpu-set` is invalid: {CPU_SET}"),
        ),
        (
            with("armature,cpu-set", &[2, 0, 2]),
            format!("`armature,cpu-set` is invalid: {CPU_SET}"),
        ),
        (
            domain("vm").bytes("armature,cpu-set", &[0; 5]),
            format!("`armature,cpu-set` is invalid: {CPU_SET}"),
        ),
        (
            with("armature,affinity", &[0, 1]).words("armature,cpu-set", &[0, 1]),
            "`armature,cpu-set` is invalid: it must be absent beside `armature,affinity`".into(),
        ),
        (
            with("armature,weight", &[0]),
            format!("`armature,weight` is invalid: {WEIGHT}"),
        ),
        (
            with("armature,weight", &[10_001]),
            format!("`armature,weight` is invalid: {WEIGHT}"),
        ),
        (
            with("armature,weight", &[0, 1]),
            format!("`armature,weight` is invalid: {WEIGHT}"),
        ),
        (
            with("armature,priority", &[8]),
            format!("`armature,priority` is invalid: {PRIORITY}"),
        ),
        (
            with("armature,priority", &[256]),
            format!("`armature,priority` is invalid: {PRIORITY}"),
        ),
        (
            text("armature,priority", "high"),
            format!("`armature,priority` is invalid: {PRIORITY}"),
        ),
        (
            with("armature,its", &[1]),
            "`armature,its` is invalid: it must be empty".into(),
        ),
        (
            with("armature,wieght", &[50]),
            format!("`armature,wieght` is not known: {KNOWN}"),
        ),
        (
            text("armature,name", ""),
            format!("`armature,name` is invalid: {NAME}"),
        ),
        (
            text("armature,name", "a\nb"),
            format!("`armature,name` is invalid: {NAME}"),
        ),
        (
            text("armature,name", &"n".repeat(65)),
            format!("`armature,name` is invalid: {NAME}"),
        ),
        (
            domain("vm").bytes("bootargs", b"no end"),
            format!("`bootargs` is invalid: {STRING}"),
        ),
        (
            text("armature,name", "first"),
            "the name `first` must not be that of another VM".into(),
        ),
    ] {
        let error = only_error(read, bad);
        assert_eq!(error, format!("/chosen/vm: {message}"));
    }
}

#[test]
fn each_bad_module_is_one_error_and_the_others_stay() {
    let vm = "/chosen/vm";
    let module = "/chosen/vm/kernel@48000000";
    let child = |name: &str, compatible: &str| {
        domain("vm").child(node(name).text("compatible", compatible))
    };
    for (bad, message) in [
        (
            kernel(|node| node.words("reg", &[0x4800_0000])),
            format!("{module}: `reg` is invalid: {REG}"),
        ),
        (
            kernel(|node| node.words("reg", &[])),
            format!("{module}: `reg` is invalid: {REG}"),
        ),
        (
            kernel(|node| node.words("reg", &[0x4800_0000, 0])),
            format!("{module}: `reg` is invalid: {MODULE}"),
        ),
        (
            kernel(|node| node.words("reg", &[0x4800_0000, 1, 0x4900_0000, 1])),
            format!("{module}: `reg` is invalid: {MODULE}"),
        ),
        (
            domain("vm").without(KERNEL, "reg"),
            format!("{module}: `reg` is missing: {REG}"),
        ),
        (
            domain("vm").words("#size-cells", &[0]),
            format!("{module}: `reg` is invalid: {REG}"),
        ),
        (
            kernel(|node| node.words("armature,weight", &[1])),
            format!(
                "{module}: `armature,weight` is not known: \
                 it must be one that does not begin with `armature,`"
            ),
        ),
        (
            kernel(|node| node.text("compatible", "multiboot,kernal")),
            format!("{module}: `compatible` is `multiboot,kernal`: {KIND}"),
        ),
        (
            kernel(|node| node.text("compatible", "multiboot,kernel\0multiboot,ramdisk")),
            format!("{module}: `compatible` is `multiboot,kernel`, `multiboot,ramdisk`: {KIND}"),
        ),
        (
            child("dtb", "multiboot,device-tree\0multiboot,module"),
            format!(
                "{vm}/dtb: `compatible` is `multiboot,device-tree`, `multiboot,module`: {KIND}"
            ),
        ),
        (
            child("disc", "armature,disc"),
            format!("{vm}/disc: `compatible` is `armature,disc`: {KIND}"),
        ),
        (without_kernel(), format!("{vm}: {BOOT}")),
        (
            domain("vm").child(firmware(0x6000_0000)),
            format!("{vm}: {BOOT}"),
        ),
        (
            domain("vm")
                .child(ramdisk(0x5000_0000))
                .child(ramdisk(0x5100_0000)),
            format!("{vm}: it must have at most one module compatible with `multiboot,ramdisk`"),
        ),
        (
            domain("vm").child(ramdisk(0x48ff_f000)),
            format!("{vm}: its modules must not overlap each other"),
        ),
        (
            without_kernel()
                .child(firmware(0x6000_0000))
                .child(ramdisk(0x48ff_f000)),
            format!("{vm}: its modules must not overlap a part of those of /chosen/first"),
        ),
    ] {
        assert_eq!(only_error(read, bad), message);
    }
}

#[test]
fn each_vm_that_the_machine_cannot_have_is_one_error_and_the_others_stay() {
    let occupied = [
        (range(0x4020_0000, 0x10_0000), "the hypervisor"),
        (range(0x6800_0000, 0x1_0000), "its device tree"),
    ];
    let reserved = [range(0x7000_0000, 0x1000)];
    let judge = |blob: &[u8]| {
        let platform = Platform::from_fdt(blob).expect("a machine");
        let machine = MachineFacts {
            reserved: &reserved,
            ..MachineFacts::of(&platform, &occupied)
        };
        vm_configs_on(blob, &machine).expect("a tree")
    };
    let with = |name: &str, words: &[u32]| domain("vm").words(name, words);
    let at = |start: u32| kernel(|node| node.words("reg", &[start, 0x1000]));
    let outside = "must lie within one range of the machine's memory";
    for (bad, message) in [
        (
            with("armature,affinity", &[3, 4]),
            "`armature,affinity` names CPU 4: it must name CPUs below 4, which is how many there \
             are"
            .into(),
        ),
        (
            with("armature,cpu-set", &[u32::MAX]),
            "`armature,cpu-set` names CPU 4294967295: it must name CPUs below 4, which is how \
             many there are"
                .into(),
        ),
        (
            with("memory", &[0x10_0004]),
            "`memory` is 1048580 KiB: it must be at most 1048576 KiB, which is all that the \
             machine has"
                .into(),
        ),
        (
            at(0x3fff_f800),
            format!("its module at 0x3ffff800 to 0x400007ff {outside}"),
        ),
        (
            at(0x9000_0000),
            format!("its module at 0x90000000 to 0x90000fff {outside}"),
        ),
        (
            // Over everything, the modules of the others included.
            kernel(|node| node.words("reg", &[0x4000_0000, 0x4000_0001])),
            format!("its module at 0x40000000 to 0x80000000 {outside}"),
        ),
        (
            at(0x402f_f001),
            "its module at 0x402ff001 to 0x40300000 must not overlap the hypervisor at 0x40200000 \
             to 0x402fffff"
                .into(),
        ),
        (
            at(0x6800_0000),
            "its module at 0x68000000 to 0x68000fff must not overlap its device tree at \
             0x68000000 to 0x6800ffff"
                .into(),
        ),
        (
            domain("vm").child(ramdisk(0x6fff_f000)),
            "its module at 0x6ffff000 to 0x70000000 must not overlap reserved memory at \
             0x70000000 to 0x70000fff"
                .into(),
        ),
    ] {
        let error = only_error(judge, bad);
        assert_eq!(error, format!("/chosen/vm: {message}"));
    }
}

#[test]
fn a_gicv2_has_no_more_than_8_cpus_and_no_its() {
    let blob = qemu_virt().blob();
    let platform = Platform::from_fdt(&blob).expect("a machine");
    let judge = |gic, config: &VmConfig| {
        let machine = MachineFacts {
            gic,
            ..MachineFacts::of(&platform, &[])
        };
        let refused = machine.check(config).err();
        refused.map(|error| error.to_string())
    };
    let mut many = described("vm");
    many.cpus = 8;
    assert_eq!(judge(GicVersion::V2, &many), None);
    many.cpus = 9;
    assert_eq!(judge(GicVersion::V3, &many), None);
    let message = "/chosen/vm: `cpus` is invalid: it must be one word, from 1 to 8, on this \
                   machine, which has a GICv2";
    assert_eq!(judge(GicVersion::V2, &many).as_deref(), Some(message));

    let mut translates = described("vm");
    translates.its = true;
    assert_eq!(judge(GicVersion::V3, &translates), None);
    let message = "/chosen/vm: `armature,its` is invalid: it must be absent on this machine, \
                   which has a GICv2";
    assert_eq!(judge(GicVersion::V2, &translates).as_deref(), Some(message));
}

#[test]
fn what_a_refused_vm_claims_is_free_for_the_next() {
    let claims = domain("claims").words("cpus", &[300]);
    let overlaps = domain("next")
        .text("armature,name", "claims")
        .edit(KERNEL, |node| node.words("reg", &[0x4800_1000, 0x1000]));
    let configs = read(&machine(&[claims, overlaps]));
    assert!(configs[0].is_err() && configs[1].is_ok(), "{configs:#?}");

    // Nor does a module that lies outside memory keep others out.
    let vast = domain("vast").edit(KERNEL, |node| {
        node.words("reg", &[0x4000_0000, 0xb000_0000])
    });
    let blob = machine(&[vast, domain("next")]);
    let platform = Platform::from_fdt(&blob).expect("a machine");
    let configs = vm_configs_on(&blob, &MachineFacts::of(&platform, &[])).expect("a tree");
    assert!(configs[0].is_err() && configs[1].is_ok(), "{configs:#?}");
}

#[test]
fn messages_and_bounds_say_the_same() {
    assert!(CPUS.ends_with(&format!("from 1 to {}", layout::MAX_VCPUS)));
    assert_eq!(GicVersion::V3.max_cpus(), layout::MAX_VCPUS.into());
    assert_eq!(GicVersion::V2.max_cpus(), 8);
    let (first, last) = VmConfig::WEIGHTS.into_inner();
    assert!(WEIGHT.ends_with(&format!("from {first} to {last}")));
    let (first, last) = VmConfig::PRIORITIES.into_inner();
    assert!(PRIORITY.ends_with(&format!("from {first} to {last}")));
    assert!(VmConfig::WEIGHTS.contains(&VmConfig::USUAL_WEIGHT));
    assert!(VmConfig::PRIORITIES.contains(&VmConfig::USUAL_PRIORITY));
}

proptest! {
    /// Of any CPUs that are named, those that exist pass and no others.
    #[test]
    fn a_vm_is_refused_exactly_if_it_names_a_cpu_that_is_not_there(
        cpus in proptest::collection::btree_set(0u32..12, 1..6),
        pinned in any::<bool>(),
        cpu_count in 1usize..12,
    ) {
        let memory = [range(0x4000_0000, 0x4000_0000)];
        let facts = MachineFacts { memory: &memory, reserved: &[], cpu_count, gic: GicVersion::V3, occupied: &[] };
        let fits = cpus.iter().all(|cpu| (*cpu as usize) < cpu_count);
        let cpus: Vec<u32> = cpus.into_iter().collect();
        let mut config = described("vm");
        config.cpus = u32::try_from(cpus.len()).expect("few");
        config.placement = if pinned { Placement::Pinned(cpus) } else { Placement::Within(cpus) };
        prop_assert_eq!(facts.check(&config).is_ok(), fits);
    }

    /// Whatever becomes of some domains, each of the others stays as it is.
    #[test]
    fn one_domain_is_never_held_against_another(bad in proptest::collection::vec(0usize..5, 1..8)) {
        let name = |index: usize| format!("vm{index}");
        let domains: Vec<_> = bad.iter().enumerate().map(|(index, kind)| {
            let domain = domain(&name(index));
            match kind {
                0 => domain.words("cpus", &[0]),
                1 => domain.without_child(KERNEL),
                2 => domain.words("armature,unknown", &[]),
                _ => domain,
            }
        }).collect();
        for (index, config) in read(&machine(&domains)).into_iter().enumerate() {
            prop_assert_eq!(config.is_ok(), bad[index] > 2);
            if let Ok(config) = config {
                prop_assert_eq!(config, described(&name(index)));
            }
        }
    }
}
