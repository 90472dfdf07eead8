//! The switch from outside: who gets what, who does not, and what is left over.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests are tests too"
)]

use vswitch::{
    ConfigError, DropReason, Endpoint, Frame, Limits, MacAddress, Offload, PinError, PortConfig,
    PortId, PortSet, Switch, Tag, VlanId, VlanSet,
};

const IPV4: [u8; 2] = [0x08, 0x00];

fn vlan(raw: u16) -> VlanId {
    VlanId::new(raw).unwrap()
}

fn mac(n: u8) -> MacAddress {
    MacAddress::new([2, 0, 0, 0, 0, n])
}

fn limits() -> Limits {
    Limits {
        queue_frames: 4,
        sender_frames: 2,
        ..Limits::usual(1, 99)
    }
}

fn frame(destination: MacAddress, source: MacAddress, rest: &[u8]) -> Vec<u8> {
    let (destination, source) = (destination.bytes(), source.bytes());
    [&destination[..], &source, rest].concat()
}

fn tagged(control: u16, rest: &[u8]) -> Vec<u8> {
    [&Tag::new(control).bytes()[..], rest].concat()
}

struct Net {
    switch: Switch,
    ports: Vec<Endpoint>,
}

impl Net {
    fn new(limits: &Limits, configs: impl IntoIterator<Item = PortConfig>) -> Self {
        let (switch, ports) = Switch::new(limits, configs).unwrap();
        Self { switch, ports }
    }

    /// Access ports of these VLANs.
    fn access(vlans: &[u16]) -> Self {
        Self::new(
            &limits(),
            vlans.iter().map(|raw| PortConfig::access(vlan(*raw))),
        )
    }

    fn send(&mut self, port: usize, bytes: &[u8]) -> Result<Vec<usize>, DropReason> {
        self.send_with(port, bytes, Offload::None)
    }

    fn send_with(
        &mut self,
        port: usize,
        bytes: &[u8],
        offload: Offload,
    ) -> Result<Vec<usize>, DropReason> {
        let mut frame = self.ports[port].frame(offload)?;
        frame.append(bytes)?;
        let wake = self.switch.submit(frame, 0)?;
        Ok(wake.map(PortId::index).collect())
    }

    fn receive(&mut self, port: usize) -> Option<Vec<u8>> {
        self.ports[port].receive().map(|frame| bytes(&frame))
    }

    fn dropped(&self, port: usize, reason: DropReason) -> u64 {
        self.ports[port].statistics().dropped(reason)
    }
}

fn bytes(frame: &Frame) -> Vec<u8> {
    let mut bytes = vec![0; frame.len()];
    assert_eq!(frame.copy_to(&mut bytes), Some(frame.len()));
    assert_eq!(frame.bytes().pieces().concat(), bytes);
    bytes
}

#[test]
fn a_learned_address_gets_its_frames_alone() {
    let mut net = Net::access(&[1, 1, 1]);
    let hello = frame(mac(1), mac(0), &IPV4);
    assert_eq!(net.send(0, &hello), Ok(vec![1, 2]));
    assert_eq!(net.send(1, &frame(mac(0), mac(1), &IPV4)), Ok(vec![0]));
    assert_eq!(net.send(0, &hello), Ok(vec![1]));
    assert_eq!(net.receive(1), Some(hello.clone()));
    assert_eq!(net.receive(1), Some(hello.clone()));
    assert_eq!(net.receive(2), Some(hello));
    assert_eq!(net.receive(2), None);
    let counted = net.ports[0].statistics();
    assert_eq!((counted.rx_frames, counted.rx_bytes), (2, 28));
    assert_eq!((counted.tx_frames, counted.tx_bytes), (1, 14));
    assert_eq!(net.switch.statistics(net.ports[0].id()), Some(counted));
}

#[test]
fn a_flood_takes_one_frame_of_the_pool() {
    let mut net = Net::access(&[1; 64]);
    let all = net.switch.pool().free();
    let woken = net.send(7, &frame(MacAddress::BROADCAST, mac(7), &IPV4));
    assert_eq!(woken.unwrap().len(), 63);
    assert_eq!(net.switch.pool().free(), all - 1);
    assert_eq!((0..64).filter_map(|port| net.receive(port)).count(), 63);
    assert_eq!(net.switch.pool().free(), all);
}

#[test]
fn frames_stay_in_their_vlan() {
    let mut net = Net::access(&[10, 20, 10, 20]);
    // The same address in the other VLAN does not attract them.
    net.switch.pin(vlan(20), mac(9), net.ports[1].id()).unwrap();
    assert_eq!(net.send(0, &frame(mac(9), mac(0), &IPV4)), Ok(vec![2]));
    let broadcast = frame(MacAddress::BROADCAST, mac(3), &IPV4);
    assert_eq!(net.send(3, &broadcast), Ok(vec![1]));
    assert_eq!(net.ports[0].statistics().tx_frames, 0);
}

#[test]
fn trunks_tag_what_access_ports_do_not() {
    let allowed: VlanSet = [10, 20].map(vlan).into_iter().collect();
    let trunk = PortConfig::trunk(allowed, Some(vlan(30)));
    let access = [10, 20, 30].map(|raw| PortConfig::access(vlan(raw)));
    let mut net = Net::new(&limits(), [trunk].into_iter().chain(access));
    let everybody = |source, rest: &[u8]| frame(MacAddress::BROADCAST, mac(source), rest);

    // Out: tagged, but in the native VLAN.
    assert_eq!(net.send(1, &everybody(1, &IPV4)), Ok(vec![0]));
    assert_eq!(net.receive(0), Some(everybody(1, &tagged(10, &IPV4))));
    assert_eq!(net.send(3, &everybody(3, &IPV4)), Ok(vec![0]));
    assert_eq!(net.receive(0), Some(everybody(3, &IPV4)));
    // In: the tag goes, whatever its priority, and one only.
    assert_eq!(
        net.send(0, &everybody(9, &tagged(0xE014, &IPV4))),
        Ok(vec![2])
    );
    assert_eq!(net.receive(2), Some(everybody(9, &IPV4)));
    let double = tagged(20, &tagged(10, &IPV4));
    assert_eq!(net.send(0, &everybody(9, &double)), Ok(vec![2]));
    assert_eq!(net.receive(2), Some(everybody(9, &tagged(10, &IPV4))));
    for control in [0, 0xE000] {
        let priority = everybody(9, &tagged(control, &IPV4));
        assert_eq!(net.send(0, &priority), Ok(vec![3]));
        assert_eq!(net.receive(3), Some(everybody(9, &IPV4)));
    }
    for control in [11, 0xFFF] {
        let foreign = everybody(9, &tagged(control, &IPV4));
        assert_eq!(net.send(0, &foreign), Err(DropReason::VlanNotAllowed));
    }
}

#[test]
fn a_tag_within_a_native_frame_does_not_change_its_vlan() {
    let trunk = || PortConfig::trunk(VlanSet::all(), Some(vlan(30)));
    let mut net = Net::new(&limits(), [trunk(), trunk(), PortConfig::access(vlan(30))]);
    let sent = frame(mac(1), mac(0), &tagged(0, &tagged(10, &IPV4)));
    assert_eq!(net.send(0, &sent), Ok(vec![1, 2]));
    let kept = frame(mac(1), mac(0), &tagged(30, &tagged(10, &IPV4)));
    assert_eq!(net.receive(1), Some(kept));
    for rest in [tagged(10, &IPV4), tagged(0, &tagged(10, &IPV4))] {
        let refused = net.send(2, &frame(mac(1), mac(0), &rest));
        assert_eq!(refused, Err(DropReason::TaggedOnAccess));
    }
}

#[test]
fn priority_survives_from_trunk_to_trunk() {
    let trunk = || PortConfig::trunk(VlanSet::all(), None);
    let mut net = Net::new(&limits(), [trunk(), trunk()]);
    let sent = frame(mac(1), mac(0), &tagged(0xB00A, &IPV4));
    assert_eq!(net.send(0, &sent), Ok(vec![1]));
    let received = net.ports[1].receive().unwrap();
    assert_eq!(received.tag(), Some(Tag::new(0xB00A)));
    assert_eq!(bytes(&received), sent);
    let untagged = net.send(0, &frame(mac(1), mac(0), &IPV4));
    assert_eq!(untagged, Err(DropReason::NoNativeVlan));
}

#[test]
fn a_checksum_is_left_to_the_receiver_with_its_place() {
    let trunk = PortConfig::trunk(VlanSet::all(), None);
    let mut net = Net::new(&limits(), [PortConfig::access(vlan(5)), trunk]);
    let needed = |start| Offload::ChecksumNeeded { start, offset: 2 };
    let payload = [&IPV4[..], &[0xAA, 0xBB, 0, 0, 0xCC]].concat();
    net.send_with(0, &frame(mac(1), mac(0), &payload), needed(14))
        .unwrap();
    let outward = net.ports[1].receive().unwrap();
    assert_eq!(outward.offload(), needed(18));
    let mut copy = [0; 64];
    let len = outward.copy_completed(&mut copy).unwrap();
    // 0xAABB + 0xCC00 with the carry added, and its complement.
    assert_eq!(copy[18..len], [0xAA, 0xBB, 0x89, 0x43, 0xCC]);
    assert_eq!(outward.offload(), needed(18));

    let back = frame(mac(0), mac(1), &tagged(5, &payload));
    net.send_with(1, &back, needed(18)).unwrap();
    assert_eq!(net.ports[0].receive().unwrap().offload(), needed(14));
    for start in [17, 22] {
        let bad = net.send_with(1, &back, needed(start));
        assert_eq!(bad, Err(DropReason::BadChecksum));
    }
    net.send_with(1, &back, Offload::ChecksumValid).unwrap();
    let valid = net.ports[0].receive().unwrap();
    assert_eq!(valid.offload(), Offload::ChecksumValid);
}

#[test]
fn nobody_uses_the_address_of_another() {
    let own = PortConfig::access(vlan(1)).only_from(mac(0));
    let mut net = Net::new(&limits(), [own, PortConfig::access(vlan(1))]);
    let pinned = net.ports[0].id();
    net.switch.pin(vlan(1), mac(0), pinned).unwrap();
    let send =
        |net: &mut Net, port, source| net.send(port, &frame(MacAddress::BROADCAST, source, &IPV4));
    assert_eq!(send(&mut net, 0, mac(0)), Ok(vec![1]));
    assert_eq!(send(&mut net, 0, mac(7)), Err(DropReason::Spoofed));
    assert_eq!(send(&mut net, 1, mac(0)), Err(DropReason::PinnedElsewhere));
    for nobody in [MacAddress::ZERO, MacAddress::BROADCAST] {
        assert_eq!(send(&mut net, 1, nobody), Err(DropReason::BadSource));
    }
    assert_eq!(net.switch.port_of(vlan(1), mac(0), 0), Some(pinned));
    assert_eq!(net.dropped(0, DropReason::Spoofed), 1);
    assert_eq!(net.dropped(1, DropReason::BadSource), 2);
}

#[test]
fn frames_of_a_wrong_length_and_for_bridges_go_nowhere() {
    let trunk = PortConfig::trunk(VlanSet::all(), Some(vlan(1)));
    let mut net = Net::new(&limits(), [trunk, PortConfig::access(vlan(1))]);
    let mut long = frame(mac(1), mac(0), &IPV4);
    assert_eq!(net.send(0, &long[..13]), Err(DropReason::TooShort));
    let cut = frame(mac(1), mac(0), &tagged(1, &[8]));
    assert_eq!(net.send(0, &cut), Err(DropReason::TooShort));
    long.resize(1514, 0);
    assert_eq!(net.send(0, &long), Ok(vec![1]));
    long.push(0);
    assert_eq!(net.send(0, &long), Err(DropReason::TooLong));
    let mut long = frame(mac(1), mac(0), &tagged(1, &IPV4));
    long.resize(1518, 0);
    assert_eq!(net.send(0, &long), Ok(vec![1]));
    let bridges = MacAddress::new([1, 0x80, 0xC2, 0, 0, 0]);
    let refused = net.send(0, &frame(bridges, mac(0), &IPV4));
    assert_eq!(refused, Err(DropReason::Reserved));
}

#[test]
fn a_slow_receiver_loses_its_own_frames_only() {
    let mut net = Net::access(&[1, 1, 1]);
    let broadcast = frame(MacAddress::BROADCAST, mac(0), &IPV4);
    for round in 0..100 {
        let expected = if round < 4 { vec![1, 2] } else { vec![2] };
        assert_eq!(net.send(0, &broadcast), Ok(expected));
        assert!(net.receive(2).is_some());
    }
    assert_eq!(net.dropped(1, DropReason::QueueFull), 96);
    assert_eq!(net.dropped(2, DropReason::QueueFull), 0);
    // And it can still send.
    assert_eq!(net.send(1, &frame(mac(0), mac(1), &IPV4)), Ok(vec![0]));
    assert_eq!(net.ports[1].discard(), 4);
    assert_eq!(net.send(0, &broadcast), Ok(vec![1, 2]));
}

#[test]
fn a_sender_that_hoards_frames_leaves_the_rest() {
    let mut net = Net::access(&[1, 1]);
    let hoard: Vec<_> = (0..2)
        .map(|_| net.ports[0].frame(Offload::None).unwrap())
        .collect();
    let refused = net.ports[0].frame(Offload::None);
    assert_eq!(refused.err(), Some(DropReason::ShareUsed));
    assert_eq!(net.send(1, &frame(mac(0), mac(1), &IPV4)), Ok(vec![0]));
    drop(hoard);
    assert_eq!(net.send(0, &frame(mac(1), mac(0), &IPV4)), Ok(vec![1]));
}

#[test]
fn a_full_pool_is_enough_whatever_ports_hold() {
    let mut net = Net::access(&[1; 8]);
    for (n, port) in (0..).zip(&net.ports) {
        net.switch.pin(vlan(1), mac(n), port.id()).unwrap();
    }
    let mut hands = Vec::new();
    // No frame is shared: each goes to one receiver, until every queue is full.
    for to in 0..8u8 {
        let from = (to + 1) % 8;
        while net.send(from.into(), &frame(mac(to), mac(from), &IPV4)) == Ok(vec![to.into()]) {}
    }
    for port in 0..8 {
        hands.extend((0..2).map(|_| net.ports[port].frame(Offload::None).unwrap()));
    }
    assert_eq!(net.switch.pool().free(), 0);
    let reasons = (0..8).map(|port| net.dropped(port, DropReason::PoolEmpty));
    assert_eq!(reasons.sum::<u64>(), 0);
    drop(hands);
    (0..8).for_each(|port| assert_eq!(net.ports[port].discard(), 4));
    assert_eq!(net.switch.pool().free(), net.switch.pool().capacity());
}

#[test]
fn a_port_that_is_down_neither_sends_nor_receives() {
    let mut net = Net::access(&[1, 1]);
    let (first, second) = (net.ports[0].id(), net.ports[1].id());
    net.send(1, &frame(mac(0), mac(1), &IPV4)).unwrap();
    net.switch.set_up(second, false);
    assert_eq!(net.switch.port_of(vlan(1), mac(1), 0), None);
    let sent = frame(mac(1), mac(0), &IPV4);
    assert_eq!(net.send(0, &sent), Err(DropReason::NoReceiver));
    net.switch.pin(vlan(1), mac(1), second).unwrap();
    assert_eq!(net.send(0, &sent), Err(DropReason::NoReceiver));
    assert_eq!(net.send(1, &sent), Err(DropReason::LinkDown));
    net.switch.set_up(second, true);
    assert_eq!(net.send(0, &sent), Ok(vec![1]));
    assert_eq!(
        net.send(0, &frame(mac(0), mac(0), &IPV4)),
        Err(DropReason::SamePort)
    );
    assert_eq!(net.switch.learned(first), 1);
}

#[test]
fn a_port_can_change_its_vlan() {
    let mut net = Net::access(&[1, 2]);
    let broadcast = frame(MacAddress::BROADCAST, mac(0), &IPV4);
    assert_eq!(net.send(0, &broadcast), Err(DropReason::NoReceiver));
    let second = net.ports[1].id();
    net.switch
        .configure(second, PortConfig::access(vlan(1)).as_uplink());
    assert_eq!(net.send(0, &broadcast), Ok(vec![1]));
    assert_eq!(net.switch.uplinks(), PortSet::from_iter([second]));
}

#[test]
fn pins_are_for_stations_on_ports_and_bounded() {
    let few = Limits {
        pinned: 1,
        ..limits()
    };
    let mut net = Net::new(&few, [PortConfig::access(vlan(1))]);
    let port = net.ports[0].id();
    let missing = PortId::new(1).unwrap();
    assert_eq!(
        net.switch.pin(vlan(1), mac(1), missing),
        Err(PinError::NoPort)
    );
    let group = net.switch.pin(vlan(1), MacAddress::BROADCAST, port);
    assert_eq!(group, Err(PinError::BadAddress));
    assert_eq!(net.switch.pin(vlan(1), mac(1), port), Ok(()));
    assert_eq!(net.switch.pin(vlan(1), mac(2), port), Err(PinError::Full));
    assert!(net.switch.unpin(vlan(1), mac(1)));
    assert_eq!(net.switch.pin(vlan(1), mac(2), port), Ok(()));
}

#[test]
fn frames_of_another_switch_are_refused_and_given_back() {
    let mut one = Net::access(&[1, 1]);
    let mut other = Net::access(&[1, 1]);
    let mut stray = other.ports[0].frame(Offload::None).unwrap();
    stray.append(&frame(mac(1), mac(0), &IPV4)).unwrap();
    assert_eq!(one.switch.submit(stray, 0), Err(DropReason::Foreign));
    assert_eq!(other.switch.pool().free(), other.switch.pool().capacity());
    assert_eq!(other.send(0, &frame(mac(1), mac(0), &IPV4)), Ok(vec![1]));
}

#[test]
fn a_frame_that_cannot_be_filled_stays_as_it_was() {
    let net = Net::access(&[1]);
    let mut frame = net.ports[0].frame(Offload::None).unwrap();
    frame.append(&[1, 2, 3]).unwrap();
    let failed = frame.append_with(4, |_| Err(DropReason::TooShort));
    assert_eq!(failed, Err(DropReason::TooShort));
    assert_eq!(frame.append(&[0; 2000]), Err(DropReason::TooLong));
    assert_eq!(frame.len(), 3);
    drop(frame);
    assert!(net.ports[0].frame(Offload::None).unwrap().is_empty());
}

#[test]
fn impossible_switches_are_refused() {
    let build = |limits: &Limits, ports: usize| {
        let ports = (0..ports).map(|_| PortConfig::access(vlan(1)));
        Switch::new(limits, ports).map(drop)
    };
    assert_eq!(build(&limits(), 0), Err(ConfigError::Ports(0)));
    assert_eq!(build(&limits(), 65), Err(ConfigError::Ports(65)));
    let mut wrong = limits();
    wrong.frame_bytes = 65_001;
    assert_eq!(build(&wrong, 1), Err(ConfigError::FrameBytes(65_001)));
    let mut wrong = limits();
    wrong.pool_frames = Some(0);
    assert_eq!(build(&wrong, 1), Err(ConfigError::Frames));
    let mut wrong = limits();
    wrong.queue_frames = 0;
    assert_eq!(build(&wrong, 1), Err(ConfigError::Frames));
    let mut wrong = limits();
    wrong.learned_per_port = 1 << 20;
    assert_eq!(build(&wrong, 1), Err(ConfigError::Addresses));
}

#[test]
fn devices_on_several_cpus_share_a_switch() {
    const FRAMES: u32 = if cfg!(miri) { 20 } else { 20_000 };
    let configs = (0..4).map(|_| PortConfig::access(vlan(1)));
    let (switch, ports) = Switch::new(&limits(), configs).unwrap();
    let pool = switch.pool().clone();
    let switch = std::sync::Mutex::new(switch);
    std::thread::scope(|scope| {
        for mut port in ports {
            let switch = &switch;
            scope.spawn(move || {
                let own = u8::try_from(port.id().index()).unwrap();
                let mut last = [0; 4];
                for number in 1..=FRAMES {
                    let mut out = port.frame(Offload::None).unwrap();
                    let rest = [&IPV4[..], &number.to_le_bytes()].concat();
                    out.append(&frame(MacAddress::BROADCAST, mac(own), &rest))
                        .unwrap();
                    assert!(switch.lock().unwrap().submit(out, 0).is_ok());
                    while let Some(frame) = port.receive() {
                        // Whole, and in the order of its sender.
                        let bytes = bytes(&frame);
                        let sender = usize::from(bytes[11]);
                        let number = u32::from_le_bytes(*bytes[14..].first_chunk().unwrap());
                        assert!(number > last[sender] && number <= FRAMES);
                        last[sender] = number;
                    }
                }
            });
        }
    });
    drop(switch);
    assert_eq!(pool.free(), pool.capacity());
}
