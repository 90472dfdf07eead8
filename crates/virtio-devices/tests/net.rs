//! The network card, driven by the rules and against them.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests are tests too"
)]

use virtio_devices::fakes::{Buffer, DriverQueue, FakeCable, FakeFrame, Rig};
use virtio_devices::net::{self, Checksum, NetCounters};
use virtio_devices::{Net, Surroundings, features};

type Card = Rig<Net<FakeCable>>;

const RX: u32 = 0;
const TX: u32 = 1;
const CONTROL: u32 = 2;
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const BUFFERS: u64 = Card::MEMORY + 0x1_0000;
const ALL_RX: u64 = net::CTRL_VQ | net::CTRL_RX | net::CTRL_RX_EXTRA;

fn card(features: u64) -> (Card, [DriverQueue; 3]) {
    let mut rig = Rig::new(Net::new(OWN, 1500, FakeCable::default()), 0x4_0000);
    let queues = rig.bring_up(features | features::EVENT_IDX, 64);
    (rig, queues)
}

fn frame(destination: [u8; 6], bytes: usize) -> Vec<u8> {
    let rest = (0..bytes - 6).map(|n| u8::try_from(n % 251).unwrap());
    destination.into_iter().chain(rest).collect()
}

/// Makes a frame with a header available and notifies the card.
fn send(rig: &mut Card, queue: &mut DriverQueue, header: [u8; 12], bytes: &[u8]) {
    rig.memory.set(BUFFERS, &header);
    rig.memory.set(BUFFERS + 12, bytes);
    let length = u32::try_from(bytes.len()).unwrap();
    let buffers = [
        Buffer::readable(BUFFERS, 12),
        Buffer::readable(BUFFERS + 12, length),
    ];
    let head = queue.add(&rig.memory, &buffers);
    rig.notify(TX);
    assert_eq!(queue.pop_used(&rig.memory), head.zip(Some(0)));
}

/// Lets a frame come in; tells whether the card did all it could.
fn coming(rig: &mut Card, bytes: &[u8], checksum: Checksum) -> bool {
    rig.mmio
        .device_mut()
        .backend_mut()
        .coming
        .push_back(FakeFrame {
            bytes: bytes.to_vec(),
            checksum,
            cut: 13,
        });
    receive(rig) && !rig.needs_reset()
}

/// Tells whether the card did all it could.
fn receive(rig: &mut Card) -> bool {
    let around = Surroundings {
        memory: &rig.memory,
        line: &rig.line,
    };
    rig.mmio.receive(&around);
    !rig.mmio.has_work()
}

fn sent(rig: &mut Card) -> Vec<FakeFrame> {
    core::mem::take(&mut rig.mmio.device_mut().backend_mut().sent)
}

fn counters(rig: &Card) -> NetCounters {
    rig.mmio.device().counters()
}

const NEEDED: Checksum = Checksum::Needed {
    start: 34,
    offset: 16,
};
const NEEDED_HEADER: [u8; 12] = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0];

#[test]
fn the_configuration_tells_address_link_and_mtu() {
    let (mut rig, _) = card(0);
    assert_eq!(rig.offered() & 0xFF_FFFF, net::OFFERED);
    let config: Vec<u8> = (0..16)
        .map(|n| rig.try_read(0x100 + n, vm_contract::Width::Byte).unwrap())
        .map(|byte| u8::try_from(byte).unwrap())
        .collect();
    assert_eq!(config, [2, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0xDC, 5, 0, 0, 0, 0]);
    rig.mmio
        .change_config(&rig.line, |card| card.set_link_up(false));
    assert_eq!(rig.try_read(0x106, vm_contract::Width::Half), Ok(0));
    assert_eq!(rig.acknowledge(), 2);
}

#[test]
fn frames_go_out_as_they_are() {
    let (mut rig, [_, mut tx, _]) = card(net::CSUM);
    let bytes = frame(OTHER, 1514);
    send(&mut rig, &mut tx, [0; 12], &bytes);
    send(&mut rig, &mut tx, NEEDED_HEADER, &bytes);
    let out = sent(&mut rig);
    assert!(out.iter().all(|frame| frame.bytes == bytes));
    let checksums: Vec<_> = out.iter().map(|frame| frame.checksum).collect();
    assert_eq!(checksums, [Checksum::InFrame, NEEDED]);
    assert!(rig.line.is_high());
}

#[test]
fn wrong_frames_are_given_back_and_counted() {
    let (mut rig, [_, mut tx, _]) = card(0);
    let bytes = frame(OTHER, 60);
    // A checksum or segments that were not agreed on.
    send(&mut rig, &mut tx, NEEDED_HEADER, &bytes);
    send(
        &mut rig,
        &mut tx,
        [0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0],
        &bytes,
    );
    // Shorter than a header.
    let head = tx.add(&rig.memory, &[Buffer::readable(BUFFERS, 11)]);
    rig.notify(TX);
    assert_eq!(tx.pop_used(&rig.memory), head.zip(Some(0)));
    assert_eq!(counters(&rig).malformed, 3);
    send(&mut rig, &mut tx, [0; 12], &frame(OTHER, 1519));
    assert_eq!(counters(&rig).oversized, 1);
    rig.mmio
        .change_config(&rig.line, |card| card.set_link_up(false));
    send(&mut rig, &mut tx, [0; 12], &bytes);
    assert_eq!(counters(&rig).link_down, 1);
    assert_eq!(sent(&mut rig), []);
    assert!(!rig.needs_reset());
}

#[test]
fn a_checksum_outside_the_frame_is_refused() {
    let (mut rig, [_, mut tx, _]) = card(net::CSUM);
    send(&mut rig, &mut tx, NEEDED_HEADER, &frame(OTHER, 51));
    assert_eq!((counters(&rig).malformed, sent(&mut rig).len()), (1, 0));
    send(&mut rig, &mut tx, NEEDED_HEADER, &frame(OTHER, 52));
    assert_eq!(sent(&mut rig).len(), 1);
}

#[test]
fn a_frame_waits_for_a_buffer() {
    let (mut rig, [mut rx, ..]) = card(0);
    let bytes = frame(OWN, 100);
    assert!(coming(&mut rig, &bytes, Checksum::InFrame));
    assert_eq!(rx.pop_used(&rig.memory), None);
    let head = rx.add(&rig.memory, &[Buffer::writable(BUFFERS, 2000)]);
    assert!(rx.needs_notification(&rig.memory));
    rig.notify(RX);
    assert_eq!(rx.pop_used(&rig.memory), head.zip(Some(112)));
    let header = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    assert_eq!(rig.memory.bytes(BUFFERS, 12), header);
    assert_eq!(rig.memory.bytes(BUFFERS + 12, 100), bytes);
}

#[test]
fn a_buffer_that_is_too_small_comes_back_empty() {
    let (mut rig, [mut rx, ..]) = card(0);
    let small = rx.add(&rig.memory, &[Buffer::writable(BUFFERS, 111)]);
    let fits = rx.add(&rig.memory, &[Buffer::writable(BUFFERS, 112)]);
    let bytes = frame(OWN, 100);
    assert!(coming(&mut rig, &bytes, Checksum::InFrame));
    assert_eq!(rx.pop_used(&rig.memory), small.zip(Some(0)));
    assert_eq!(rx.pop_used(&rig.memory), None);
    assert!(coming(&mut rig, &bytes, Checksum::InFrame));
    assert_eq!(rx.pop_used(&rig.memory), fits.zip(Some(112)));
    assert_eq!((counters(&rig).no_room, counters(&rig).received), (1, 1));
}

#[test]
fn merged_buffers_take_a_frame_in_parts() {
    let (mut rig, [mut rx, ..]) = card(net::MRG_RXBUF);
    let bytes = frame(OWN, 100);
    // Two chains are not enough: the frame waits for a third.
    let first = rx.add(
        &rig.memory,
        &[
            Buffer::writable(BUFFERS, 5),
            Buffer::writable(BUFFERS + 5, 35),
        ],
    );
    let second = rx.add(&rig.memory, &[Buffer::writable(BUFFERS + 40, 40)]);
    assert!(coming(&mut rig, &bytes, Checksum::Valid));
    assert_eq!(rx.pop_used(&rig.memory), None);
    let third = rx.add(&rig.memory, &[Buffer::writable(BUFFERS + 80, 40)]);
    assert!(rx.needs_notification(&rig.memory));
    rig.notify(RX);
    let used: Vec<_> = core::iter::from_fn(|| rx.pop_used(&rig.memory)).collect();
    let expected = [(first, 40), (second, 40), (third, 32)];
    assert_eq!(used, expected.map(|(head, length)| (head.unwrap(), length)));
    assert_eq!(
        rig.memory.bytes(BUFFERS, 12),
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0]
    );
    assert_eq!(rig.memory.bytes(BUFFERS + 12, 100), bytes);
}

#[test]
fn a_driver_that_takes_no_partial_checksum_gets_a_whole_one() {
    for guest_csum in [0, net::GUEST_CSUM] {
        let (mut rig, [mut rx, ..]) = card(guest_csum);
        for length in [98, 99] {
            rx.add(&rig.memory, &[Buffer::writable(BUFFERS, 2000)])
                .unwrap();
            let bytes = frame(OWN, length);
            assert!(coming(&mut rig, &bytes, NEEDED));
            rx.pop_used(&rig.memory).unwrap();
            let got = rig.memory.bytes(BUFFERS + 12, length);
            let flags = rig.memory.bytes(BUFFERS, 1)[0];
            if guest_csum != 0 {
                assert_eq!((flags, &got), (1, &bytes));
                continue;
            }
            assert_eq!(flags, 0);
            // What is summed and its sum cancel out, but for what the field held.
            let sum = |bytes: &[u8]| {
                let words = bytes.chunks(2).map(|pair| {
                    u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low))
                });
                words.sum::<u32>() % 0xFFFF
            };
            let field = sum(&bytes[50..52]);
            assert_eq!((sum(&got[34..]) + field) % 0xFFFF, 0);
            assert_eq!(got[..50], bytes[..50]);
            assert_eq!(got[52..], bytes[52..]);
        }
        assert!(!rig.needs_reset());
    }
}

/// Sends a command and returns the answer.
fn command(rig: &mut Card, queue: &mut DriverQueue, bytes: &[u8]) -> u8 {
    rig.memory.set(BUFFERS, bytes);
    let length = u32::try_from(bytes.len()).unwrap();
    let answer = BUFFERS + 0x1000;
    rig.memory.set(answer, &[0xFF]);
    let buffers = [
        Buffer::readable(BUFFERS, length),
        Buffer::writable(answer, 1),
    ];
    let head = queue.add(&rig.memory, &buffers);
    rig.notify(CONTROL);
    assert_eq!(queue.pop_used(&rig.memory), head.zip(Some(1)));
    rig.memory.bytes(answer, 1)[0]
}

#[test]
fn the_driver_chooses_what_it_receives() {
    let (mut rig, [mut rx, _, mut control]) = card(ALL_RX);
    let group = |n| [1, 0, 0x5E, 0, 0, n];
    let mut wanted = |rig: &mut Card, address| {
        rx.add(&rig.memory, &[Buffer::writable(BUFFERS, 2000)])
            .unwrap();
        let before = counters(rig).filtered;
        assert!(coming(rig, &frame(address, 60), Checksum::InFrame));
        while rx.pop_used(&rig.memory).is_some() {}
        counters(rig).filtered == before
    };
    assert!(
        wanted(&mut rig, OTHER),
        "before the driver has said anything"
    );
    assert_eq!(command(&mut rig, &mut control, &[0, 0, 0]), 0);
    assert!(wanted(&mut rig, OWN) && wanted(&mut rig, [0xFF; 6]));
    assert!(!wanted(&mut rig, OTHER) && !wanted(&mut rig, group(1)));
    let table = [
        &[1, 0, 1, 0, 0, 0][..],
        &OTHER,
        &[2, 0, 0, 0],
        &group(1),
        &group(2),
    ]
    .concat();
    assert_eq!(command(&mut rig, &mut control, &table), 0);
    assert!(wanted(&mut rig, OTHER) && wanted(&mut rig, group(2)));
    assert!(!wanted(&mut rig, group(3)));
    assert_eq!(command(&mut rig, &mut control, &[0, 1, 1]), 0);
    assert!(wanted(&mut rig, group(3)));
    assert_eq!(command(&mut rig, &mut control, &[0, 5, 1]), 0);
    assert!(!wanted(&mut rig, [0xFF; 6]));
}

#[test]
fn commands_that_are_not_whole_or_not_allowed_are_refused() {
    let (mut rig, [_, _, mut control]) = card(net::CTRL_VQ | net::CTRL_RX);
    let short_table = [&[1, 0, 2, 0, 0, 0][..], &OTHER, &[0, 0, 0, 0]].concat();
    let commands: [&[u8]; 9] = [
        &[0],
        &[0, 0],
        &[0, 6, 1],
        // Not agreed on.
        &[0, 2, 1],
        // The address of its own.
        &[1, 1, 2, 0, 0, 0, 0, 9],
        &[1, 0],
        &[1, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0],
        &short_table,
        &[7, 0, 0],
    ];
    for bytes in commands {
        assert_eq!(command(&mut rig, &mut control, bytes), 1, "{bytes:?}");
    }
    control.add(&rig.memory, &[Buffer::readable(BUFFERS, 3)]);
    rig.notify(CONTROL);
    assert!(rig.needs_reset(), "no place for an answer");
}

#[test]
fn modes_without_a_control_queue_are_refused() {
    let mut rig = Rig::new(Net::new(OWN, 1500, FakeCable::default()), 0x1000);
    assert!(!rig.negotiate(net::CTRL_RX));
    assert!(rig.negotiate(net::CTRL_RX | net::CTRL_VQ));
}

#[test]
fn a_reset_forgets_frame_and_filter() {
    let (mut rig, [_, _, mut control]) = card(ALL_RX);
    command(&mut rig, &mut control, &[0, 0, 0]);
    assert!(coming(&mut rig, &frame(OWN, 60), Checksum::InFrame));
    let [mut rx, ..]: [DriverQueue; 3] = rig.bring_up(0, 8);
    rx.add(&rig.memory, &[Buffer::writable(BUFFERS, 2000)])
        .unwrap();
    rig.notify(RX);
    assert_eq!(rx.pop_used(&rig.memory), None);
    assert!(coming(&mut rig, &frame(OTHER, 60), Checksum::InFrame));
    assert!(rx.pop_used(&rig.memory).is_some());
}

#[test]
fn buffers_outside_memory_stop_the_card() {
    let (mut rig, [_, mut tx, _]) = card(0);
    tx.add(&rig.memory, &[Buffer::readable(0x100, 80)]);
    rig.notify(TX);
    assert!(rig.needs_reset());
    let [mut rx, ..]: [DriverQueue; 3] = rig.bring_up(0, 8);
    rx.add(&rig.memory, &[Buffer::writable(0x100, 80)]);
    assert!(!coming(&mut rig, &frame(OWN, 60), Checksum::InFrame));
    assert!(rig.needs_reset());
}

#[test]
fn many_frames_for_others_do_not_keep_the_card_busy_for_ever() {
    let (mut rig, [_, _, mut control]) = card(ALL_RX);
    command(&mut rig, &mut control, &[0, 0, 0]);
    let strangers = (0..300).map(|_| FakeFrame {
        bytes: frame(OTHER, 60),
        ..FakeFrame::default()
    });
    rig.mmio.device_mut().backend_mut().coming.extend(strangers);
    assert!(!receive(&mut rig));
    rig.poll();
    assert!(!rig.mmio.has_work());
    assert_eq!(counters(&rig).filtered, 300);
}

#[test]
fn chains_of_many_descriptors_are_sent_in_several_turns() {
    let (mut rig, [_, mut tx, _]) = card(features::INDIRECT_DESC);
    rig.memory.set(BUFFERS, &[0; 12]);
    let pieces: Vec<_> = (0..200).map(|n| Buffer::readable(BUFFERS + n, 1)).collect();
    for _ in 0..60 {
        // All with the same table.
        tx.add_indirect(&rig.memory, BUFFERS + 0x1000, &pieces)
            .unwrap();
    }
    rig.notify(TX);
    assert!(rig.mmio.has_work());
    assert_eq!(sent(&mut rig).len(), 21);
    (0..2).for_each(|_| rig.poll());
    assert!(!rig.mmio.has_work());
    assert_eq!(sent(&mut rig).len(), 39);
}

#[test]
fn a_frame_in_too_many_pieces_is_not_tried_for_ever() {
    let (mut rig, [mut rx, ..]) = card(net::MRG_RXBUF | features::INDIRECT_DESC);
    let pieces: Vec<_> = (0..200).map(|n| Buffer::writable(BUFFERS + n, 1)).collect();
    let heads: Vec<_> = (0..3)
        .map(|_| {
            rx.add_indirect(&rig.memory, BUFFERS + 0x1000, &pieces)
                .unwrap()
        })
        .collect();
    assert!(coming(&mut rig, &frame(OWN, 600), Checksum::InFrame));
    let used: Vec<_> = core::iter::from_fn(|| rx.pop_used(&rig.memory)).collect();
    let empty = heads.into_iter().take(2).map(|head| (head, 0));
    assert_eq!(used, empty.collect::<Vec<_>>());
    assert_eq!(counters(&rig).no_room, 1);
}
