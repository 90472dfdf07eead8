//! Whatever the ports are like and whoever sends: frames stay in their VLAN, and nobody
//! passes for another.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use proptest::prelude::*;
use vswitch::{Limits, MacAddress, Offload, PortConfig, PortMode, Switch, Tag, VlanId, VlanSet};

/// Few VLANs, so that ports meet.
fn vlans() -> impl Strategy<Value = VlanId> {
    (1..5_u16).prop_map(|raw| VlanId::new(raw * 1000).unwrap())
}

fn modes() -> impl Strategy<Value = PortMode> {
    let trunk = (
        prop::collection::vec(vlans(), 0..4),
        prop::option::of(vlans()),
    );
    prop_oneof![
        vlans().prop_map(PortMode::Access),
        trunk.prop_map(|(allowed, native)| PortMode::Trunk {
            allowed: allowed.into_iter().collect::<VlanSet>(),
            native,
        }),
    ]
}

/// Stations of several ports.
fn macs() -> impl Strategy<Value = MacAddress> {
    (0..6_u8).prop_map(|n| MacAddress::new([2, 0, 0, 0, 0, n]))
}

fn ports() -> impl Strategy<Value = Vec<(PortMode, Option<MacAddress>)>> {
    prop::collection::vec((modes(), prop::option::of(macs())), 2..9)
}

/// Who sends, to whom, as whom, with which tags.
type Sent = (usize, MacAddress, MacAddress, Vec<u16>);

fn frames() -> impl Strategy<Value = Vec<Sent>> {
    let destination = prop_oneof![4 => macs(), 1 => Just(MacAddress::BROADCAST)];
    let vlan = prop_oneof![1 => Just(0), 4 => vlans().prop_map(VlanId::raw)];
    let control = (vlan, 0..16_u16).prop_map(|(vlan, priority)| priority << 12 | vlan);
    let tags = prop::collection::vec(control, 0..3);
    prop::collection::vec((0..8_usize, destination, macs(), tags), 1..60)
}

/// The VLAN of a frame at a port of this mode, by its first tag.
fn vlan_at(mode: &PortMode, first: Option<Tag>) -> Option<VlanId> {
    let tagged = first.and_then(|tag| VlanId::new(tag.identifier()));
    match mode {
        PortMode::Access(vlan) => Some(*vlan),
        PortMode::Trunk { native, .. } => tagged.or(*native),
    }
}

fn is_in(mode: &PortMode, vlan: VlanId) -> bool {
    match mode {
        PortMode::Access(own) => *own == vlan,
        PortMode::Trunk { allowed, native } => allowed.contains(vlan) || *native == Some(vlan),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 3 } else { 1_000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn frames_stay_in_their_vlan_and_keep_to_their_port(ports in ports(), frames in frames()) {
        let configs = ports.iter().map(|(mode, only)| {
            let config = PortConfig::new(mode.clone());
            only.map_or(config.clone(), |only| config.only_from(only))
        });
        let limits = Limits { queue_frames: 4, sender_frames: 1, ..Limits::usual(1, 5) };
        let (mut switch, mut endpoints) = Switch::new(&limits, configs).unwrap();
        for (from, destination, source, tags) in frames {
            let from = from % ports.len();
            let tags: Vec<_> = tags.into_iter().map(Tag::new).collect();
            let mut frame = endpoints[from].frame(Offload::None).unwrap();
            frame.append(&destination.bytes()).unwrap();
            frame.append(&source.bytes()).unwrap();
            tags.iter().for_each(|tag| frame.append(&tag.bytes()).unwrap());
            frame.append(&[0x08, 0x00]).unwrap();
            let sender = &ports[from];
            let Ok(woken) = switch.submit(frame, 0) else { continue };
            prop_assert!(sender.1.is_none_or(|only| only == source), "spoofed");
            let vlan = vlan_at(&sender.0, tags.first().copied());
            let vlan = vlan.expect("a frame without a VLAN is dropped");
            prop_assert!(is_in(&sender.0, vlan), "a VLAN that the sender is not in");
            for to in woken {
                prop_assert!(to.index() != from);
                let mode = &ports[to.index()].0;
                prop_assert!(is_in(mode, vlan), "a VLAN that the receiver is not in");
                let received = endpoints[to.index()].receive().unwrap();
                let mut bytes = vec![0; received.len()];
                received.copy_to(&mut bytes).unwrap();
                prop_assert_eq!(&bytes[..6], &destination.bytes());
                prop_assert_eq!(&bytes[6..12], &source.bytes());
                // Whoever is behind the port finds it in the same VLAN.
                let tagged = bytes[12..14] == [0x81, 0];
                let first = tagged.then(|| Tag::new(u16::from_be_bytes([bytes[14], bytes[15]])));
                prop_assert_eq!(vlan_at(mode, first), Some(vlan));
            }
        }
    }
}
