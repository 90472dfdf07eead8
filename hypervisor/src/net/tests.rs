use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use std::sync::{Mutex, MutexGuard};

use dtb_platform::Placement;

use super::*;
use crate::testing::{FakeBoard, config};

const BROADCAST: [u8; 6] = [0xff; 6];

/// A card of the machine at the end of a cable that the test holds.
#[derive(Default)]
struct Cable {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    room: usize,
    acknowledged: usize,
    notified: usize,
}

struct FakeCard(Arc<Mutex<Cable>>);

impl FakeCard {
    fn lock(&self) -> MutexGuard<'_, Cable> {
        self.0.lock().expect("no panic")
    }
}

impl NetHardware for FakeCard {
    fn receive_slots(&self) -> usize {
        100
    }

    fn acknowledge(&mut self) {
        self.lock().acknowledged += 1;
    }

    fn receive(&mut self, take: &mut dyn FnMut(&[u8])) -> bool {
        let frame = self.lock().received.pop_front();
        frame.inspect(|frame| take(frame)).is_some()
    }

    fn has_room(&mut self) -> bool {
        self.lock().room > 0
    }

    fn send(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> Option<usize>) {
        let mut buffer = vec![0; FRAME_BYTES + 4];
        let bytes = fill(&mut buffer).expect("it fits");
        buffer.truncate(bytes);
        let mut cable = self.lock();
        cable.room -= 1;
        cable.sent.push(buffer);
    }

    fn notify(&mut self) {
        self.lock().notified += 1;
    }
}

#[derive(Default)]
struct Listener(Mutex<Vec<usize>>);

impl Listener {
    fn take(&self) -> Vec<usize> {
        core::mem::take(&mut *self.0.lock().expect("no panic"))
    }
}

impl NetUser for Listener {
    fn frames_wait(&self, card: usize, _current: Option<(VmId, VcpuId)>) {
        // Whoever hears of it may take locks of lower ranks: none is held.
        drop(RankedLock::<_, { rank::VM_TABLE }>::new(()).lock());
        self.0.lock().expect("no panic").push(card);
    }
}

fn card(vlan: u16) -> NetConfig {
    NetConfig {
        mac: None,
        vlan: VlanMode::Access(vlan),
        anti_spoofing: true,
    }
}

fn vm(vlans: &[u16]) -> VmConfig {
    VmConfig {
        nets: vlans.iter().copied().map(card).collect(),
        ..config(1, Placement::Pinned(vec![0]))
    }
}

/// Two VMs in VLAN 1, between them one that was refused, and a card of the first in
/// VLAN 2. The way out is in VLAN 1.
fn network() -> (Network, Arc<Mutex<Cable>>) {
    let board: &'static FakeBoard = Box::leak(Box::new(FakeBoard::new(1, 4, 0)));
    let vms = [Some(vm(&[1, 2])), None, Some(vm(&[1]))];
    let cable = Arc::new(Mutex::new(Cable {
        room: 10,
        ..Cable::default()
    }));
    let hardware: Box<dyn NetHardware> = Box::new(FakeCard(Arc::clone(&cable)));
    let vlan = VlanMode::Access(1);
    let vms = vms.iter().map(Option::as_ref);
    let network = Network::new(board, vms, Some((&vlan, hardware)), 7);
    (network.expect("a good configuration"), cable)
}

fn frame(to: [u8; 6], from: [u8; 6]) -> Vec<u8> {
    [&to[..], &from, &[0x88, 0xb5], &[0x42; 46]].concat()
}

fn send(network: &Network, endpoint: &Endpoint, to: [u8; 6], from: [u8; 6]) {
    let frame = frame_of(endpoint, &frame(to, from)).expect("room");
    let wake = network.submit(frame);
    network.wake(wake, None);
}

fn usual(vm: u16, card: u8) -> [u8; 6] {
    NetConfig::usual_mac(VmId::new(vm), card)
}

#[test]
fn frames_reach_those_in_their_vlan_and_the_outside() {
    let (network, cable) = network();
    let first = network.join(VmId::new(0), 0).expect("its card");
    let mut other = network.join(VmId::new(0), 1).expect("its other card");
    let mut third = network.join(VmId::new(2), 0).expect("its card");
    let listener: Arc<Listener> = Arc::default();
    for endpoint in [&first, &other, &third] {
        let user: Weak<dyn NetUser> = Arc::downgrade(&(listener.clone() as Arc<_>));
        network.listen(endpoint.id(), user);
    }
    send(&network, &first, BROADCAST, usual(0, 0));
    assert_eq!(listener.take(), [0]);
    assert!(other.receive().is_none());
    assert_eq!(third.receive().map(|frame| frame.len()), Some(60));
    {
        let cable = cable.lock().expect("no panic");
        assert_eq!(cable.sent, [frame(BROADCAST, usual(0, 0))]);
        assert_eq!(cable.notified, 1);
    }
    send(&network, &third, usual(0, 0), usual(2, 0));
    assert_eq!(cable.lock().expect("no panic").sent.len(), 1, "it is known");
    // Pretending to be somebody else.
    send(&network, &first, BROADCAST, usual(2, 0));
    assert!(third.receive().is_none());
}

#[test]
fn frames_from_outside_reach_the_vms() {
    let (network, cable) = network();
    let mut first = network.join(VmId::new(0), 0).expect("its card");
    let outside = [0x52, 0x55, 10, 0, 2, 2];
    {
        let mut cable = cable.lock().expect("no panic");
        for _ in 0..70 {
            cable.received.push_back(frame(BROADCAST, outside));
        }
        cable.received.push_back(vec![1, 2, 3]);
        cable.received.push_back(vec![0; 3000]);
    }
    network.service_uplink(None);
    assert_eq!((0..100).map_while(|_| first.receive()).count(), 70);
    let cable = cable.lock().expect("no panic");
    assert_eq!((cable.acknowledged, cable.received.len()), (1, 0));
    let statistics = network.uplink_statistics().expect("there is one");
    assert_eq!(statistics.drops().map(|(_, count)| count).sum::<u64>(), 2);
}

#[test]
fn what_the_card_has_no_room_for_is_sent_later() {
    let (network, cable) = network();
    let first = network.join(VmId::new(0), 0).expect("its card");
    for _ in 0..15 {
        send(&network, &first, BROADCAST, usual(0, 0));
    }
    assert_eq!(cable.lock().expect("no panic").sent.len(), 10);
    cable.lock().expect("no panic").room = 10;
    network.service_uplink(None);
    assert_eq!(cable.lock().expect("no panic").sent.len(), 15);
}

#[test]
fn a_card_is_joined_once_and_again_when_its_vm_starts_anew() {
    let (network, _) = network();
    let first = network.join(VmId::new(0), 0).expect("its card");
    let third = network.join(VmId::new(2), 0).expect("its card");
    for (vm, card) in [(0, 0), (0, 2), (1, 0), (3, 0)] {
        assert!(network.join(VmId::new(vm), card).is_none(), "{vm} {card}");
    }
    send(&network, &third, BROADCAST, usual(2, 0));
    network.leave(first);
    // Nobody is there.
    send(&network, &third, usual(0, 0), usual(2, 0));
    let mut first = network.join(VmId::new(0), 0).expect("its card");
    assert!(first.receive().is_none(), "of the life before");
    send(&network, &third, usual(0, 0), usual(2, 0));
    assert!(first.receive().is_some());
}

#[test]
fn there_is_no_vlan_0() {
    let board: &'static FakeBoard = Box::leak(Box::new(FakeBoard::new(1, 4, 0)));
    let bad = vm(&[0]);
    let network = Network::new(board, [Some(&bad)].into_iter(), None, 7);
    assert_eq!(network.err(), Some(NetworkError::NoVlan(0)));
}
