//! The disks and network cards of VMs, and the uplink, read and written.

use dtb_platform::{
    ConfigError, DiskConfig, DiskPart, DiskSource, GuestDevice, NetConfig, Platform, TreeError,
    Uplink, VlanMode, VmConfig, add_domains, add_nodes, add_uplink, layout, uplink,
};
use proptest::prelude::*;
use vm_contract::{HostPhysAddrRange, VmId};

use crate::domains::{all_of, configs, described, domain};
use crate::machines::{TestNode, node, qemu_virt};
use crate::platform::range;
use crate::refusals::{only_error, read};

const HOST_DISK: &str = "it must be one word, the number of a disk of the machine";
const SECTORS: &str = "it must be the number of the first sector and how many there are, \
                       at least one, in two words each";
const PARTITION: &str = "it must be one word, the number of a partition, at least 1";
const VLAN: &str = "it must be one word, from 1 to 4094";
const TRUNK: &str = "it must be numbers from 1 to 4094, one word each, at least one and none twice";
const NATIVE: &str = "it must be one word, from 1 to 4094, and none of `armature,trunk`";
const MAC: &str = "it must be 6 bytes, neither a group's address nor one that begins with 02:61:72";

/// A whole disk of the machine.
fn disk(number: u32) -> TestNode {
    node("disk")
        .text("compatible", "armature,disk")
        .words("armature,host-disk", &[number])
}

fn ram_disk(start: u32, size: u32) -> TestNode {
    node(&format!("disk@{start:x}"))
        .text("compatible", "armature,disk\0multiboot,module")
        .words("reg", &[start, size])
}

fn net() -> TestNode {
    node("net").text("compatible", "armature,net")
}

fn host(disk: u32, part: DiskPart, read_only: bool) -> DiskConfig {
    DiskConfig {
        source: DiskSource::Host { disk, part },
        read_only,
    }
}

fn card(vlan: VlanMode) -> NetConfig {
    NetConfig {
        mac: None,
        vlan,
        anti_spoofing: true,
    }
}

#[test]
fn every_kind_of_disk_is_read_in_the_order_of_the_tree() {
    let vm = domain("vm")
        .child(disk(2))
        .child(net())
        .child(ram_disk(0x6000_0000, 0x400))
        .child(disk(0).words("armature,sectors", &[1, 2, 0, 4]))
        .child(
            disk(7)
                .words("armature,partition", &[3])
                .flag("armature,read-only"),
        );
    let module = DiskConfig {
        source: DiskSource::Module(range(0x6000_0000, 0x400)),
        read_only: false,
    };
    let sectors = DiskPart::Sectors {
        first: 0x1_0000_0002,
        count: 4,
    };
    let expected = VmConfig {
        disks: vec![
            host(2, DiskPart::Whole, false),
            module,
            host(0, sectors, false),
            host(7, DiskPart::Partition(3), true),
        ],
        nets: vec![card(VlanMode::Access(1))],
        ..described("vm")
    };
    let modules: Vec<_> = expected.modules().collect();
    let [kernel, disk] = [range(0x4800_0000, 0x100_0000), range(0x6000_0000, 0x400)];
    assert_eq!(modules, [kernel, disk]);
    assert_eq!(configs(&[vm]), Ok(vec![expected]));
}

#[test]
fn every_kind_of_network_card_is_read() {
    let vm = domain("vm")
        .child(
            net()
                .words("armature,vlan", &[4094])
                .bytes("local-mac-address", &[2, 0, 0, 0, 0, 9]),
        )
        .child(
            net()
                .words("armature,trunk", &[3, 2])
                .flag("armature,any-source"),
        )
        .child(
            net()
                .words("armature,trunk", &[1])
                .words("armature,native-vlan", &[5]),
        );
    let trunk = |tagged, native| card(VlanMode::Trunk { tagged, native });
    let nets = vec![
        NetConfig {
            mac: Some([2, 0, 0, 0, 0, 9]),
            ..card(VlanMode::Access(4094))
        },
        NetConfig {
            anti_spoofing: false,
            ..trunk(vec![3, 2], None)
        },
        trunk(vec![1], Some(5)),
    ];
    assert_eq!(configs(&[vm]).map(|vms| vms[0].nets.clone()), Ok(nets));
}

#[test]
fn each_bad_disk_is_one_error_and_the_others_stay() {
    let ram = || ram_disk(0x6000_0000, 0x400);
    for (bad, message) in [
        (
            node("disk").text("compatible", "armature,disk"),
            format!(
                "/disk: `armature,host-disk` is missing: {HOST_DISK}, \
                 or `reg` must be there in its place"
            ),
        ),
        (
            disk(0).words("armature,host-disk", &[0, 0]),
            format!("/disk: `armature,host-disk` is invalid: {HOST_DISK}"),
        ),
        (
            disk(0).words("armature,sectors", &[0, 0, 1]),
            format!("/disk: `armature,sectors` is invalid: {SECTORS}"),
        ),
        (
            disk(0).words("armature,sectors", &[0, 0, 0, 0]),
            format!(": `armature,sectors` is invalid: {SECTORS}"),
        ),
        (
            disk(0).words("armature,sectors", &[u32::MAX, u32::MAX, 0, 1]),
            format!(": `armature,sectors` is invalid: {SECTORS}"),
        ),
        (
            disk(0).words("armature,partition", &[0]),
            format!(": `armature,partition` is invalid: {PARTITION}"),
        ),
        (
            disk(0)
                .words("armature,partition", &[1])
                .words("armature,sectors", &[0, 0, 0, 1]),
            "/disk: `armature,partition` is invalid: it must be absent beside `armature,sectors`"
                .into(),
        ),
        (
            disk(0).words("reg", &[0x6000_0000, 0x400]),
            "/disk: `armature,host-disk` is invalid: it must be absent beside `reg`".into(),
        ),
        (
            ram().words("armature,partition", &[1]),
            "/disk@60000000: `reg` is invalid: it must be absent beside `armature,sectors` and \
             `armature,partition`"
                .into(),
        ),
        (
            ram_disk(0x6000_0000, 0x401),
            ": `reg` is invalid: it must be one address and one size, a multiple of 512 bytes and \
             not empty"
                .into(),
        ),
        (
            ram_disk(0x48ff_fe00, 0x400),
            ": its modules must not overlap each other".into(),
        ),
        (
            disk(0).words("armature,read-only", &[1]),
            "/disk: `armature,read-only` is invalid: it must be empty".into(),
        ),
        (
            disk(0).flag("armature,readonly"),
            "/disk: `armature,readonly` is not known: it must be `armature,host-disk`, \
             `armature,sectors`, `armature,partition`, or `armature,read-only`"
                .into(),
        ),
    ] {
        let error = only_error(read, domain("vm").child(bad));
        assert_eq!(error, format!("/chosen/vm{message}"));
    }
}

#[test]
fn each_bad_network_card_is_one_error_and_the_others_stay() {
    let mac = |bytes: &[u8]| net().bytes("local-mac-address", bytes);
    let trunk = |words: &[u32]| net().words("armature,trunk", words);
    for (bad, message) in [
        (
            mac(&[2, 0, 0, 0, 0]),
            format!("/net: `local-mac-address` is invalid: {MAC}"),
        ),
        (
            mac(&[1, 0, 0, 0, 0, 1]),
            format!(": `local-mac-address` is invalid: {MAC}"),
        ),
        (
            mac(&[0; 6]),
            format!(": `local-mac-address` is invalid: {MAC}"),
        ),
        (
            mac(&NetConfig::usual_mac(VmId::new(9), 0)),
            format!(": `local-mac-address` is invalid: {MAC}"),
        ),
        (
            net().words("armature,vlan", &[0]),
            format!(": `armature,vlan` is invalid: {VLAN}"),
        ),
        (
            net().words("armature,vlan", &[4095]),
            format!(": `armature,vlan` is invalid: {VLAN}"),
        ),
        (
            net().words("armature,vlan", &[0x1_0001]),
            format!("/net: `armature,vlan` is invalid: {VLAN}"),
        ),
        (
            trunk(&[]),
            format!(": `armature,trunk` is invalid: {TRUNK}"),
        ),
        (
            trunk(&[2, 1, 2]),
            format!(": `armature,trunk` is invalid: {TRUNK}"),
        ),
        (
            trunk(&[0x1_0001]),
            format!("/net: `armature,trunk` is invalid: {TRUNK}"),
        ),
        (
            trunk(&[1, 2]).words("armature,native-vlan", &[2]),
            format!(": `armature,native-vlan` is invalid: {NATIVE}"),
        ),
        (
            net().words("armature,native-vlan", &[2]),
            "/net: `armature,native-vlan` is invalid: it must be absent without `armature,trunk`"
                .into(),
        ),
        (
            trunk(&[1]).words("armature,vlan", &[2]),
            "/net: `armature,vlan` is invalid: it must be absent beside `armature,trunk`".into(),
        ),
        (
            net().words("armature,mac", &[2]),
            "/net: `armature,mac` is not known: it must be `armature,vlan`, `armature,trunk`, \
             `armature,native-vlan`, or `armature,any-source`"
                .into(),
        ),
    ] {
        let error = only_error(read, domain("vm").child(bad));
        assert_eq!(error, format!("/chosen/vm{message}"));
    }
}

#[test]
fn a_vm_has_no_more_devices_than_there_are_places() {
    let disks = |count: u32| (0..count).map(disk).fold(domain("vm"), TestNode::child);
    let nets = |count| {
        (0..count)
            .map(|_| net())
            .fold(domain("vm"), TestNode::child)
    };
    assert!(configs(&[disks(16)]).is_ok() && configs(&[nets(8)]).is_ok());
    assert_eq!(
        only_error(read, disks(17)),
        "/chosen/vm: it must have at most 16 nodes compatible with `armature,disk`"
    );
    assert_eq!(
        only_error(read, nets(9)),
        "/chosen/vm: it must have at most 8 nodes compatible with `armature,net`"
    );
    let mut vm = described("vm");
    vm.disks = (0..16)
        .map(|number| host(number, DiskPart::Whole, false))
        .collect();
    vm.nets = vec![card(VlanMode::default()); 8];
    let places = vm.disk_places().map(|(place, _)| place);
    let places: Vec<GuestDevice> = places
        .chain(vm.net_places().map(|(place, _)| place))
        .collect();
    let first: Vec<GuestDevice> = (0..24).filter_map(layout::virtio_mmio).collect();
    assert_eq!(places, first);
}

#[test]
fn the_switch_has_a_port_for_each_network_card() {
    let with = |nets: usize, name: &str| {
        let nets = (0..nets).map(|_| net());
        nets.fold(domain(name), TestNode::child)
    };
    let mut vms: Vec<_> = (0..7)
        .map(|number| with(8, &format!("vm{number}")))
        .collect();
    vms.push(with(8, "many"));
    vms.push(with(7, "last"));
    let read = read(&crate::domains::machine(&vms));
    let refused: Vec<_> = read.iter().filter_map(|vm| vm.as_ref().err()).collect();
    assert_eq!(
        refused.first().map(ToString::to_string).as_deref(),
        Some(
            "/chosen/many: with those of the VMs before it there must be at most 63 network cards"
        )
    );
    assert_eq!(refused.len(), 1);
}

#[test]
fn what_one_writes_nobody_else_has() {
    use DiskPart::{Partition, Sectors, Whole};
    let sectors = |first, count| Sectors { first, count };
    for (ours, theirs, refused) in [
        (host(0, Whole, false), host(1, Whole, false), false),
        (host(0, Whole, true), host(0, Whole, true), false),
        (host(0, Whole, true), host(0, Whole, false), true),
        (host(0, Whole, false), host(0, Partition(1), true), true),
        (
            host(0, Partition(2), false),
            host(0, Partition(1), false),
            false,
        ),
        (
            host(0, Partition(1), false),
            host(0, Partition(1), true),
            true,
        ),
        (
            host(0, Partition(1), false),
            host(0, sectors(0, 1), false),
            true,
        ),
        (
            host(0, sectors(8, 8), false),
            host(0, sectors(0, 8), false),
            false,
        ),
        (
            host(0, sectors(8, 8), false),
            host(0, sectors(16, 8), false),
            false,
        ),
        (
            host(0, sectors(8, 8), false),
            host(0, sectors(15, 8), true),
            true,
        ),
        (
            host(0, sectors(8, 8), true),
            host(0, sectors(0, 64), true),
            false,
        ),
    ] {
        let tree = qemu_virt().blob();
        let vm = |name, disks| VmConfig {
            disks,
            ..described(name)
        };
        let clash = |node: &str, other: &str| {
            let error = ConfigError::DiskClash {
                node: node.into(),
                other: other.into(),
                disk: 0,
            };
            if refused {
                Some(TreeError::Config(error))
            } else {
                None
            }
        };
        let apart = [vm("a", vec![ours]), vm("b", vec![theirs])];
        let error = add_domains(&tree, &apart).err();
        assert_eq!(
            error,
            clash("/chosen/b", "/chosen/a"),
            "{ours:?} {theirs:?}"
        );
        let together = [vm("a", vec![ours, theirs])];
        let error = add_domains(&tree, &together).err();
        assert_eq!(
            error,
            clash("/chosen/a", "/chosen/a"),
            "{ours:?} {theirs:?}"
        );
    }
}

#[test]
fn clashes_name_the_disk_and_the_other_vm() {
    let other = domain("vm").child(disk(4));
    let vms = [domain("a").child(disk(4)), other];
    let error = read(&crate::domains::machine(&vms))
        .pop()
        .and_then(Result::err);
    assert_eq!(
        error.map(|error| error.to_string()).as_deref(),
        Some(
            "/chosen/vm: its part of the machine's disk 4 must not overlap that of /chosen/a, \
             unless both are read-only"
        )
    );
    assert_eq!(
        only_error(read, domain("vm").child(disk(4)).child(disk(4))),
        "/chosen/vm: its part of the machine's disk 4 must not overlap that of another disk of \
         it, unless both are read-only"
    );
}

#[test]
fn only_a_module_that_nobody_writes_is_shared() {
    let read_only = |name: &str| {
        let disk = ram_disk(0x6000_0000, 0x400).flag("armature,read-only");
        domain(name).child(disk)
    };
    assert!(configs(&[read_only("a"), read_only("b")]).is_ok());
    let writer = domain("b").child(ram_disk(0x6000_0000, 0x400));
    for vms in [[read_only("a"), writer.clone()], [writer, read_only("a")]] {
        assert!(matches!(configs(&vms), Err(ConfigError::Overlap { .. })));
    }
}

#[test]
fn no_two_network_cards_have_the_same_address() {
    let mac = || net().bytes("local-mac-address", &[0x52, 0x54, 0, 0, 0, 0xa]);
    let message = "`local-mac-address` is 52:54:00:00:00:0a: no other network card must have it";
    assert_eq!(
        only_error(read, domain("vm").child(mac()).child(mac())),
        format!("/chosen/vm: {message}")
    );
    let vms = [domain("a").child(mac()), domain("b").child(mac())];
    let error = configs(&vms).map_err(|error| error.to_string());
    assert_eq!(error, Err(format!("/chosen/b: {message}")));
}

#[test]
fn an_uplink_is_read_as_it_is_written() {
    let before = qemu_virt().blob();
    assert_eq!(uplink(&before), Ok(Ok(None)));
    for vlan in [
        VlanMode::Access(7),
        VlanMode::Trunk {
            tagged: vec![1, 9],
            native: Some(2),
        },
    ] {
        let wanted = Uplink { card: 3, vlan };
        let added = add_uplink(&before, &wanted).expect("a good description");
        assert_eq!(uplink(&added), Ok(Ok(Some(wanted.clone()))));
        assert_eq!(Platform::from_fdt(&added), Platform::from_fdt(&before));
        assert_eq!(all_of(&added), Ok(vec![]));
        let exists = TreeError::NodeExists("/chosen/uplink".into());
        assert_eq!(add_uplink(&added, &wanted), Err(exists));
    }
    let none = Uplink {
        card: 0,
        vlan: VlanMode::Access(0),
    };
    assert!(matches!(
        add_uplink(&before, &none),
        Err(TreeError::Config(ConfigError::Property(error))) if error.node == "/chosen/uplink"
    ));
}

#[test]
fn an_uplink_that_cannot_be_followed_is_refused() {
    let out = || {
        let mut node = dtb_platform::RawNode::new("out");
        node.set_text("compatible", "armature,uplink");
        node
    };
    let refused = |nodes: &[_]| {
        let tree = add_nodes(&qemu_virt().blob(), nodes).expect("nodes");
        let error = uplink(&tree).expect("a tree").err();
        error.map(|error| error.to_string())
    };
    assert_eq!(
        refused(&[out()]).as_deref(),
        Some(
            "/chosen/out: `armature,host-net` is missing: \
             it must be one word, the number of a network card of the machine"
        )
    );
    let mut unknown = out();
    unknown.set_words("armature,host-net", &[0]);
    unknown.set_words("armature,any-source", &[]);
    assert_eq!(
        refused(&[unknown]).as_deref(),
        Some(
            "/chosen/out: `armature,any-source` is not known: it must be `armature,host-net`, \
             `armature,vlan`, `armature,trunk`, or `armature,native-vlan`"
        )
    );
    let mut second = dtb_platform::RawNode::new("second");
    second.set_text("compatible", "armature,uplink");
    assert_eq!(
        refused(&[out(), second.clone()]).as_deref(),
        Some("/chosen/second: at most one node must be compatible with `armature,uplink`")
    );
    second.set_text("status", "disabled");
    second.set_words("armature,host-net", &[0]);
    assert_eq!(refused(&[second]), None);
}

#[test]
fn the_usual_address_of_every_card_is_its_own() {
    let macs = [(0, 0), (0, 1), (1, 0), (0x100, 0)];
    let macs = macs.map(|(vm, number)| NetConfig::usual_mac(VmId::new(vm), number));
    let all: std::collections::BTreeSet<_> = macs.iter().collect();
    assert_eq!(all.len(), macs.len());
    // One card's, and locally administered.
    assert!(macs.iter().all(|mac| mac[0] & 3 == 2));
}

prop_compose! {
    fn any_part()(
        kind in 0..3,
        first in any::<u32>(),
        count in 1u64..=u64::from(u32::MAX),
        number in 1u32..,
    ) -> DiskPart {
        match kind {
            0 => DiskPart::Whole,
            1 => DiskPart::Partition(number),
            _ => DiskPart::Sectors { first: u64::from(first) << 31, count },
        }
    }
}

prop_compose! {
    fn any_disk()(
        part in any_part(),
        sectors in proptest::option::of(1usize..100),
        read_only in any::<bool>(),
    ) -> DiskConfig {
        let source = match sectors {
            Some(sectors) => DiskSource::Module(range(0x1_0200_0000, sectors * 512)),
            None => DiskSource::Host { disk: 0, part },
        };
        DiskConfig { source, read_only }
    }
}

/// Disks for [`make_own`].
pub(crate) fn any_disks() -> impl Strategy<Value = Vec<DiskConfig>> {
    proptest::collection::vec(any_disk(), 0..=VmConfig::MAX_DISKS)
}

prop_compose! {
    /// A network card for [`make_own`].
    pub(crate) fn any_net()(
        has_mac in any::<bool>(),
        vlans in proptest::collection::btree_set(VlanMode::VLANS, 1..9),
        access in any::<bool>(),
        has_native in any::<bool>(),
        anti_spoofing in any::<bool>(),
    ) -> NetConfig {
        let mut tagged: Vec<u16> = vlans.into_iter().rev().collect();
        let vlan = match (access, tagged.len()) {
            (true, _) => VlanMode::Access(tagged[0]),
            (false, 1) => VlanMode::Trunk { tagged, native: None },
            (false, _) => {
                let native = tagged.pop().filter(|_| has_native);
                VlanMode::Trunk { tagged, native }
            }
        };
        NetConfig { mac: has_mac.then_some([2; 6]), vlan, anti_spoofing }
    }
}

/// Gives the VM with this index devices that no other has, nor it twice.
pub(crate) fn make_own(
    disks: &mut [DiskConfig],
    nets: &mut [NetConfig],
    index: usize,
    apart: impl Fn(HostPhysAddrRange) -> HostPhysAddrRange,
) {
    for (number, disk) in disks.iter_mut().enumerate() {
        match &mut disk.source {
            DiskSource::Host { disk, .. } => {
                *disk = u32::try_from(index * 100 + number).expect("few");
            }
            DiskSource::Module(module) => {
                let start = module.start.as_usize() + number * 0x1_0000;
                *module = apart(range(start, module.size()));
            }
        }
    }
    for (number, net) in nets.iter_mut().enumerate() {
        let byte = |number| u8::try_from(number).expect("few");
        net.mac = net.mac.map(|_| [2, 0, 0, 0, byte(index), byte(number)]);
    }
}
