//! The block device (VirtIO 1.2, 5.2), request by request.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "numbers of tests are small, and one that leaves its arrays has failed"
)]

use virtio_devices::block::{BlockError, RequestId, SECTOR_BYTES};
use virtio_devices::fakes::{Buffer, DriverQueue, Rig, SimMemory, SlowDisk};
use virtio_devices::{
    Block, BlockBackend, BlockOptions, DriverFault, MemoryDisk, Surroundings, features,
};
use vm_contract::Width;

const MEMORY: u64 = 0x4000_0000;
const HEADERS: u64 = MEMORY + 0x1_0000;
const DATA: u64 = MEMORY + 0x2_0000;
const STATUSES: u64 = MEMORY + 0x1_8000;
const MEMORY_BYTES: usize = 0x40_0000;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;
/// No answer yet.
const NONE: u8 = 0xEE;

const RO: u64 = 1 << 5;
const FLUSH_FEATURE: u64 = 1 << 9;

type RamDisk = MemoryDisk<Vec<u8>>;

fn ram(sectors: usize) -> RamDisk {
    let bytes = (0..sectors * 512).map(|index| (index / 512 + index) as u8);
    MemoryDisk::new(bytes.collect(), "a disk in memory 1234567")
}

fn rig<B: BlockBackend>(disk: B) -> Rig<Block<B>> {
    Rig::new(Block::new(disk, BlockOptions::default()), MEMORY_BYTES)
}

/// Writes header `slot`, and clears the status byte beside it.
fn header(memory: &SimMemory, slot: u64, request: u32, sector: u64) -> Buffer {
    let address = HEADERS + 16 * slot;
    let whole = u128::from(request) | u128::from(sector) << 64;
    memory.set(address, &whole.to_le_bytes());
    memory.set(STATUSES + slot, &[NONE]);
    Buffer::readable(address, 16)
}

fn status_of(memory: &SimMemory, slot: u64) -> u8 {
    memory.bytes(STATUSES + slot, 1)[0]
}

/// Offers a request with `data` between header and status.
fn offer<B: BlockBackend>(
    rig: &Rig<Block<B>>,
    queue: &mut DriverQueue,
    slot: u64,
    request: (u32, u64),
    data: &[Buffer],
) -> u16 {
    let mut chain = vec![header(&rig.memory, slot, request.0, request.1)];
    chain.extend_from_slice(data);
    chain.push(Buffer::writable(STATUSES + slot, 1));
    queue.add(&rig.memory, &chain).expect("room")
}

/// Does one request and returns its status and the length told.
fn ask<B: BlockBackend>(
    rig: &mut Rig<Block<B>>,
    queue: &mut DriverQueue,
    request: (u32, u64),
    data: &[Buffer],
) -> (u8, u32) {
    let head = offer(rig, queue, 0, request, data);
    rig.notify(0);
    let (used, written) = queue.pop_used(&rig.memory).expect("an answer");
    assert_eq!(used, head);
    (status_of(&rig.memory, 0), written)
}

#[test]
fn the_configuration_tells_what_the_disk_is() {
    let mut rig = rig(ram(100));
    let field = |rig: &mut Rig<Block<RamDisk>>, offset: u64, width| {
        rig.try_read(0x100 + offset, width).expect("configuration")
    };
    assert_eq!(field(&mut rig, 0, Width::Dword), 100);
    assert_eq!(field(&mut rig, 12, Width::Word), 126);
    assert_eq!(field(&mut rig, 20, Width::Word), 512);
    assert_eq!(field(&mut rig, 34, Width::Half), 1);
    assert_eq!(field(&mut rig, 40, Width::Word), 1);
    let wanted = 1 << 2 | 1 << 6 | FLUSH_FEATURE | 1 << 13 | 1 << 14;
    assert_eq!(rig.offered() & 0xFF_FFFF, wanted);
    let options = BlockOptions {
        queues: 4,
        ..BlockOptions::default()
    };
    let mut rig = Rig::new(Block::new(ram(1).read_only(), options), MEMORY_BYTES);
    assert_eq!(
        rig.offered() & 0xFF_FFFF,
        1 << 2 | 1 << 6 | FLUSH_FEATURE | 1 << 12 | RO
    );
    assert_eq!(rig.try_read(0x100 + 34, Width::Half), Ok(4));
}

#[test]
fn sectors_are_read_and_written_through_scattered_buffers() {
    let mut rig = rig(ram(8));
    let [mut queue] = rig.bring_up(FLUSH_FEATURE, 16);
    let pieces = [
        Buffer::writable(DATA, 1),
        Buffer::writable(DATA + 0x1000, 510),
        Buffer::writable(DATA + 0x2000, 513),
    ];
    let expected = ram(8).bytes()[1024..2048].to_vec();
    assert_eq!(ask(&mut rig, &mut queue, (IN, 2), &pieces), (OK, 1025));
    assert_eq!(rig.memory.bytes(DATA, 1), expected[..1]);
    assert_eq!(rig.memory.bytes(DATA + 0x1000, 510), expected[1..511]);
    assert_eq!(rig.memory.bytes(DATA + 0x2000, 513), expected[511..]);

    let pieces = pieces.map(|piece| Buffer::readable(piece.address, piece.bytes));
    assert_eq!(ask(&mut rig, &mut queue, (OUT, 5), &pieces), (OK, 1));
    let disk = rig.mmio.device().disk().bytes();
    assert_eq!(disk[5 * 512..7 * 512], expected);
    assert_eq!(disk[7 * 512..], ram(8).bytes()[7 * 512..], "and no more");
}

#[test]
fn status_and_header_may_share_buffers_with_the_data() {
    let mut rig = rig(ram(8));
    let [mut queue] = rig.bring_up(0, 16);
    // Header and data in one buffer; then data and status in one buffer.
    header(&rig.memory, 0, OUT, 1);
    rig.memory.set(HEADERS + 16, &[0xAB; 512]);
    let chain = [
        Buffer::readable(HEADERS, 528),
        Buffer::writable(STATUSES, 1),
    ];
    queue.add(&rig.memory, &chain).expect("room");
    header(&rig.memory, 100, IN, 1);
    let chain = [
        Buffer::readable(HEADERS + 1600, 16),
        Buffer::writable(DATA, 513),
    ];
    queue.add(&rig.memory, &chain).expect("room");
    rig.notify(0);
    assert_eq!(status_of(&rig.memory, 0), OK);
    assert_eq!(queue.pop_used(&rig.memory).map(|used| used.1), Some(1));
    assert_eq!(queue.pop_used(&rig.memory).map(|used| used.1), Some(513));
    let mut expected = vec![0xAB; 512];
    expected.push(OK);
    assert_eq!(rig.memory.bytes(DATA, 513), expected);
}

#[test]
fn ranges_beyond_the_end_fail() {
    let mut rig = rig(ram(8));
    let [mut queue] = rig.bring_up(0, 16);
    let before = rig.mmio.device().disk().bytes().to_vec();
    for (sector, bytes) in [
        (8, 512),
        (7, 1024),
        (u64::MAX, 512),
        (u64::MAX / 512, 512),
        (1 << 55, 512),
        (0, 511),
        (0, 513),
    ] {
        let write = [Buffer::readable(DATA, bytes)];
        assert_eq!(ask(&mut rig, &mut queue, (OUT, sector), &write).0, IOERR);
        let read = [Buffer::writable(DATA, bytes)];
        assert_eq!(ask(&mut rig, &mut queue, (IN, sector), &read), (IOERR, 0));
    }
    assert_eq!(rig.mmio.device().disk().bytes(), before);
    assert_eq!(rig.memory.bytes(DATA, 512), [0; 512]);
    assert_eq!(ask(&mut rig, &mut queue, (IN, 8), &[]), (OK, 1), "nothing");
    assert!(!rig.needs_reset());
}

#[test]
fn data_outside_of_memory_fails_alone() {
    let mut rig = rig(ram(8));
    let [mut queue] = rig.bring_up(0, 16);
    let wild = MEMORY + MEMORY_BYTES as u64 - 100;
    let read = [Buffer::writable(wild, 512)];
    assert_eq!(ask(&mut rig, &mut queue, (IN, 0), &read).0, IOERR);
    let write = [Buffer::readable(wild, 512)];
    assert_eq!(ask(&mut rig, &mut queue, (OUT, 0), &write).0, IOERR);
    let id = [Buffer::writable(0x10, 20)];
    assert_eq!(ask(&mut rig, &mut queue, (GET_ID, 0), &id).0, IOERR);
    let good = [Buffer::writable(DATA, 512)];
    assert_eq!(ask(&mut rig, &mut queue, (IN, 0), &good), (OK, 513));
}

#[test]
fn a_read_only_disk_stays_as_it_is() {
    let mut rig = rig(ram(8).read_only());
    let [mut queue] = rig.bring_up(RO, 16);
    let before = rig.mmio.device().disk().bytes().to_vec();
    let write = [Buffer::readable(DATA, 512)];
    assert_eq!(ask(&mut rig, &mut queue, (OUT, 0), &write), (IOERR, 1));
    for request in [DISCARD, WRITE_ZEROES] {
        range(&rig.memory, 0, 1, 0);
        let data = [Buffer::readable(DATA, 16)];
        assert_eq!(ask(&mut rig, &mut queue, (request, 0), &data).0, IOERR);
    }
    assert_eq!(rig.mmio.device().disk().bytes(), before);
}

fn range(memory: &SimMemory, sector: u64, sectors: u32, flags: u32) {
    let whole = u128::from(sector) | u128::from(sectors) << 64 | u128::from(flags) << 96;
    memory.set(DATA, &whole.to_le_bytes());
}

#[test]
fn discards_and_zeros_have_rules_of_their_own() {
    let mut rig = rig(ram(1 << 18));
    let [mut queue] = rig.bring_up(0, 16);
    let data = [Buffer::readable(DATA, 16)];
    let cases = [
        (DISCARD, 1, 2, 0, OK),
        (DISCARD, 1, 2, 1, UNSUPP),
        (DISCARD, 1, 2, 2, UNSUPP),
        (WRITE_ZEROES, 4, 2, 0, OK),
        (WRITE_ZEROES, 7, 1, 1, OK),
        (WRITE_ZEROES, 4, 2, 3, UNSUPP),
        (WRITE_ZEROES, 0, 0x2_0000, 0x8000_0000, UNSUPP),
        (WRITE_ZEROES, 0, 0x2_0001, 0, IOERR),
        (DISCARD, (1 << 18) - 1, 2, 0, IOERR),
        (DISCARD, u64::MAX, 2, 0, IOERR),
    ];
    for (request, sector, sectors, flags, status) in cases {
        range(&rig.memory, sector, sectors, flags);
        let answer = ask(&mut rig, &mut queue, (request, 0), &data);
        assert_eq!(answer, (status, 1), "{request} {sector} {sectors} {flags}");
    }
    let mut expected = ram(8).bytes().to_vec();
    for sector in [1, 2, 4, 5, 7] {
        expected[sector * 512..][..512].fill(0);
    }
    assert_eq!(rig.mmio.device().disk().bytes()[..4096], expected);
    for bytes in [0, 15, 17, 32] {
        let data = [Buffer::readable(DATA, bytes)];
        assert_eq!(ask(&mut rig, &mut queue, (DISCARD, 0), &data).0, IOERR);
    }
}

#[test]
fn other_requests_are_answered() {
    let mut rig = rig(ram(8));
    let [mut queue] = rig.bring_up(FLUSH_FEATURE, 16);
    let id = [Buffer::writable(DATA, 20)];
    assert_eq!(ask(&mut rig, &mut queue, (GET_ID, 0), &id), (OK, 21));
    assert_eq!(rig.memory.bytes(DATA, 20), b"a disk in memory 123");
    let short = [Buffer::writable(DATA + 0x100, 6)];
    assert_eq!(ask(&mut rig, &mut queue, (GET_ID, 0), &short), (OK, 7));
    assert_eq!(rig.memory.bytes(DATA + 0x100, 7), b"a disk\0");
    assert_eq!(ask(&mut rig, &mut queue, (FLUSH, 0), &[]), (OK, 1));
    for unknown in [2, 3, 5, 14, u32::MAX] {
        assert_eq!(ask(&mut rig, &mut queue, (unknown, 0), &[]), (UNSUPP, 1));
    }
}

#[test]
fn requests_without_header_or_status_stop_the_device() {
    let cases: [&[Buffer]; 4] = [
        &[Buffer::readable(HEADERS, 16)],
        &[Buffer::writable(STATUSES, 1)],
        &[Buffer::readable(HEADERS, 15), Buffer::writable(STATUSES, 1)],
        &[Buffer::readable(HEADERS, 16), Buffer::writable(STATUSES, 0)],
    ];
    // More often than there is room for requests: none of it may get lost.
    for round in 0..100 {
        let mut rig = rig(ram(8));
        let [mut queue] = rig.bring_up(0, 16);
        header(&rig.memory, 0, FLUSH, 0);
        queue
            .add(&rig.memory, cases[round % cases.len()])
            .expect("room");
        rig.notify(0);
        assert_eq!(rig.mmio.fault(), Some(DriverFault::Request));
    }
}

#[test]
fn faults_lose_no_room() {
    let options = BlockOptions {
        in_flight: 2,
        ..BlockOptions::default()
    };
    let mut rig = Rig::new(Block::new(ram(8), options), MEMORY_BYTES);
    for _ in 0..10 {
        let [mut queue] = rig.bring_up(0, 16);
        let data = [Buffer::writable(DATA, 512)];
        assert_eq!(ask(&mut rig, &mut queue, (IN, 0), &data), (OK, 513));
        let chain = [header(&rig.memory, 0, IN, 0), Buffer::writable(0x10, 1)];
        queue.add(&rig.memory, &chain).expect("room");
        rig.notify(0);
        assert!(rig.needs_reset());
    }
}

#[test]
fn seg_max_segments_are_taken_and_no_more() {
    let options = BlockOptions {
        segments: 4,
        ..BlockOptions::default()
    };
    for (segments, taken) in [(4, true), (5, false)] {
        let mut rig = Rig::new(Block::new(ram(8), options), MEMORY_BYTES);
        let [mut queue] = rig.bring_up(0, 16);
        let data: Vec<_> = (0..segments)
            .map(|index| Buffer::writable(DATA + 0x1000 * index, 512))
            .collect();
        offer(&rig, &mut queue, 0, (IN, 0), &data);
        rig.notify(0);
        assert_eq!(queue.pop_used(&rig.memory).is_some(), taken);
        let fault = (!taken).then_some(DriverFault::ChainTooLong);
        assert_eq!(rig.mmio.fault(), fault);
    }
}

fn complete(rig: &mut Rig<Block<SlowDisk>>, id: RequestId) {
    let around = Surroundings {
        memory: &rig.memory,
        line: &rig.line,
    };
    rig.mmio.complete(&around, id);
}

fn pending(rig: &Rig<Block<SlowDisk>>) -> Vec<RequestId> {
    rig.mmio.device().disk().pending()
}

#[test]
fn requests_end_in_any_order() {
    let mut rig = rig(SlowDisk::new(64, 8, 1 << 20));
    let [mut queue] = rig.bring_up(features::EVENT_IDX | FLUSH_FEATURE, 16);
    let heads: Vec<u16> = (0..4)
        .map(|slot| {
            let data = [Buffer::readable(DATA + 512 * slot, 512)];
            rig.memory.set(DATA + 512 * slot, &[slot as u8 + 1; 512]);
            offer(&rig, &mut queue, slot, (OUT, slot), &data)
        })
        .collect();
    rig.notify(0);
    assert_eq!(queue.pop_used(&rig.memory), None);
    // What a write writes is settled when it is started.
    rig.memory.set(DATA, &[0; 2048]);
    let ids = pending(&rig);
    assert_eq!(ids.len(), 4);
    for index in [2, 0, 3, 1] {
        let slot = index as u64;
        assert_eq!(status_of(&rig.memory, slot), NONE);
        complete(&mut rig, ids[index]);
        assert_eq!(status_of(&rig.memory, slot), OK);
        let (head, written) = queue.pop_used(&rig.memory).expect("an answer");
        assert_eq!((head, written), (heads[index], 1));
        let sector = &rig.mmio.device().disk().bytes()[512 * index..][..512];
        assert_eq!(sector, [index as u8 + 1; 512]);
        complete(&mut rig, ids[index]);
        assert_eq!(queue.pop_used(&rig.memory), None, "it ends once");
    }
}

#[test]
fn large_requests_are_done_in_parts() {
    let mut rig = rig(SlowDisk::new(64, 8, 1300));
    let [mut queue] = rig.bring_up(FLUSH_FEATURE, 16);
    let text: Vec<u8> = (0..5120_u32).map(|index| (index / 7) as u8).collect();
    rig.memory.set(DATA, &text);
    offer(
        &rig,
        &mut queue,
        0,
        (OUT, 3),
        &[
            Buffer::readable(DATA, 700),
            Buffer::readable(DATA + 700, 4420),
        ],
    );
    rig.notify(0);
    let mut parts = 0;
    while queue.pop_used(&rig.memory).is_none() {
        let ids = pending(&rig);
        assert_eq!(ids.len(), 1, "one part at a time");
        complete(&mut rig, ids[0]);
        parts += 1;
    }
    assert_eq!(parts, 5, "of 1024 bytes");
    assert_eq!(rig.mmio.device().disk().bytes()[1536..][..5120], text);

    rig.memory.set(DATA, &[0; 5120]);
    offer(
        &rig,
        &mut queue,
        0,
        (IN, 3),
        &[Buffer::writable(DATA, 5120)],
    );
    rig.notify(0);
    for part in 0..3 {
        if part == 2 {
            rig.mmio.device_mut().disk_mut().failure = Some(BlockError::Io);
        }
        let ids = pending(&rig);
        complete(&mut rig, ids[0]);
    }
    let (_, written) = queue.pop_used(&rig.memory).expect("an answer");
    assert_eq!((status_of(&rig.memory, 0), written), (IOERR, 2048));
    assert_eq!(rig.memory.bytes(DATA, 2048), text[..2048]);
}

#[test]
fn writes_are_made_durable_for_a_driver_that_does_not_flush() {
    for (features, flushes) in [(FLUSH_FEATURE, 0), (0, 1)] {
        let mut rig = rig(SlowDisk::new(64, 8, 1 << 20));
        let [mut queue] = rig.bring_up(features, 16);
        let data = [Buffer::readable(DATA, 512)];
        offer(&rig, &mut queue, 0, (OUT, 3), &data);
        rig.notify(0);
        while let Some(id) = pending(&rig).first() {
            assert_eq!(queue.pop_used(&rig.memory), None);
            complete(&mut rig, *id);
        }
        assert!(queue.pop_used(&rig.memory).is_some());
        assert_eq!(status_of(&rig.memory, 0), OK);
        assert_eq!(rig.mmio.device().disk().flushes, flushes);
    }
}

#[test]
fn what_finds_no_room_waits_and_goes_on() {
    // Room for few in the disk, and for few in the device.
    for (room, in_flight) in [(2, 32), (32, 2), (3, 3), (1, 1)] {
        let options = BlockOptions {
            in_flight,
            ..BlockOptions::default()
        };
        let disk = SlowDisk::new(64, room, 1 << 20);
        let mut rig = Rig::new(Block::new(disk, options), MEMORY_BYTES);
        let [mut queue] = rig.bring_up(features::EVENT_IDX, 64);
        for slot in 0..16 {
            let data = [Buffer::writable(DATA + 512 * slot, 512)];
            offer(&rig, &mut queue, slot, (IN, slot), &data);
        }
        assert!(queue.needs_notification(&rig.memory));
        rig.notify(0);
        offer(&rig, &mut queue, 16, (FLUSH, 0), &[]);
        assert!(!queue.needs_notification(&rig.memory), "it looks by itself");
        let mut answers = 0;
        while let Some(id) = pending(&rig).last() {
            assert!(pending(&rig).len() <= room.min(in_flight.into()));
            complete(&mut rig, *id);
            while queue.pop_used(&rig.memory).is_some() {
                answers += 1;
            }
        }
        assert_eq!(answers, 17);
        offer(&rig, &mut queue, 0, (FLUSH, 0), &[]);
        assert!(queue.needs_notification(&rig.memory));
    }
}

#[test]
fn a_disk_without_room_is_asked_again_by_poll() {
    let mut rig = rig(SlowDisk::new(64, 0, 1 << 20));
    let [mut queue] = rig.bring_up(0, 16);
    offer(&rig, &mut queue, 0, (FLUSH, 0), &[]);
    rig.notify(0);
    assert!(pending(&rig).is_empty());
    assert!(!rig.mmio.has_work(), "nothing that could be done now");
    *rig.mmio.device_mut().disk_mut() = SlowDisk::new(64, 1, 1 << 20);
    rig.poll();
    let ids = pending(&rig);
    complete(&mut rig, ids[0]);
    assert_eq!(status_of(&rig.memory, 0), OK);
}

#[test]
fn a_reset_forgets_what_is_under_way() {
    let mut rig = rig(SlowDisk::new(64, 2, 1 << 20));
    for round in 1..=3 {
        let [mut queue] = rig.bring_up(0, 16);
        for slot in 0..4 {
            let data = [Buffer::writable(DATA + 512 * slot, 512)];
            offer(&rig, &mut queue, slot, (IN, slot), &data);
        }
        rig.notify(0);
        let old = pending(&rig);
        assert_eq!(old.len(), 2);
        rig.write(0x070, 0);
        assert_eq!(rig.mmio.device().disk().abandoned, 2 * round);
        for id in old {
            complete(&mut rig, id);
        }
        let [mut queue] = rig.bring_up(0, 16);
        let data = [Buffer::writable(DATA, 512)];
        offer(&rig, &mut queue, 7, (IN, 0), &data);
        rig.notify(0);
        let new = pending(&rig);
        for slot in 0..4 {
            assert_eq!(status_of(&rig.memory, slot), NONE);
        }
        complete(&mut rig, new[0]);
        assert_eq!(status_of(&rig.memory, 7), OK);
        assert!(queue.pop_used(&rig.memory).is_some());
        assert_eq!(queue.pop_used(&rig.memory), None);
    }
}

#[test]
fn a_reset_of_one_queue_leaves_the_others() {
    let options = BlockOptions {
        queues: 2,
        ..BlockOptions::default()
    };
    let disk = SlowDisk::new(64, 8, 1 << 20);
    let mut rig = Rig::new(Block::new(disk, options), MEMORY_BYTES);
    let [mut first, mut second] = rig.bring_up(features::RING_RESET | 1 << 12, 16);
    let data = [Buffer::writable(DATA, 512)];
    offer(&rig, &mut first, 0, (IN, 0), &data);
    offer(&rig, &mut second, 1, (IN, 0), &data);
    rig.notify(0);
    rig.notify(1);
    let ids = pending(&rig);
    assert_eq!(ids.len(), 2);
    rig.write(0x030, 0);
    rig.write(0x0C0, 1);
    assert_eq!(rig.mmio.device().disk().abandoned, 1);
    for id in ids {
        complete(&mut rig, id);
    }
    assert_eq!(status_of(&rig.memory, 0), NONE);
    assert_eq!(status_of(&rig.memory, 1), OK);
    assert!(second.pop_used(&rig.memory).is_some());
}

#[test]
fn a_reset_of_one_queue_makes_room_for_the_others() {
    let options = BlockOptions {
        queues: 2,
        in_flight: 1,
        ..BlockOptions::default()
    };
    let disk = SlowDisk::new(64, 8, 1 << 20);
    let mut rig = Rig::new(Block::new(disk, options), MEMORY_BYTES);
    let wanted = features::RING_RESET | features::EVENT_IDX | 1 << 12;
    let [mut first, mut second] = rig.bring_up(wanted, 16);
    offer(&rig, &mut first, 0, (FLUSH, 0), &[]);
    rig.notify(0);
    offer(&rig, &mut second, 1, (FLUSH, 0), &[]);
    rig.notify(1);
    let held = pending(&rig);
    assert_eq!(held.len(), 1);
    rig.write(0x030, 0);
    rig.write(0x0C0, 1);
    let now = pending(&rig);
    assert_eq!(now.len(), 1);
    assert_ne!(now, held);
    complete(&mut rig, now[0]);
    assert!(second.pop_used(&rig.memory).is_some());
}

#[test]
fn no_queue_starves_another() {
    let options = BlockOptions {
        queues: 3,
        in_flight: 1,
        ..BlockOptions::default()
    };
    let disk = SlowDisk::new(64, 8, 1 << 20);
    let mut rig = Rig::new(Block::new(disk, options), MEMORY_BYTES);
    let mut queues: [DriverQueue; 3] = rig.bring_up(1 << 12, 16);
    let mut answers = [0; 3];
    for (number, queue) in queues.iter_mut().enumerate() {
        for slot in 0..4 {
            offer(&rig, queue, 8 * number as u64 + slot, (FLUSH, 0), &[]);
        }
        rig.notify(number as u32);
    }
    for _ in 0..6 {
        let ids = pending(&rig);
        complete(&mut rig, ids[0]);
        for (number, queue) in queues.iter_mut().enumerate() {
            answers[number] += usize::from(queue.pop_used(&rig.memory).is_some());
        }
    }
    assert_eq!(answers, [2, 2, 2]);
}

#[test]
fn a_request_costs_few_accesses_to_memory() {
    let mut rig = rig(ram(8));
    let wanted = features::EVENT_IDX | features::INDIRECT_DESC | FLUSH_FEATURE;
    let [mut queue] = rig.bring_up(wanted, 16);
    let chain = [
        header(&rig.memory, 0, IN, 0),
        Buffer::writable(DATA, 512),
        Buffer::writable(STATUSES, 1),
    ];
    queue
        .add_indirect(&rig.memory, MEMORY + 0x1_4000, &chain)
        .expect("room");
    let before = rig.memory.accesses();
    rig.notify(0);
    assert_eq!(status_of(&rig.memory, 0), OK);
    // Index, entry, descriptor, table, header; data, status, used entry;
    // notification wanted, index again; used index, interrupt wanted.
    assert_eq!(rig.memory.accesses() - before, 12);
}

#[test]
fn a_long_run_is_interrupted_and_goes_on() {
    let mut rig = rig(ram(4096));
    let [mut queue] = rig.bring_up(features::EVENT_IDX, 64);
    for slot in 0..6 {
        let data = [Buffer::writable(DATA, 2 << 20)];
        offer(&rig, &mut queue, slot, (IN, 0), &data);
    }
    rig.notify(0);
    let mut answers = 0;
    let mut polls = 0;
    loop {
        while queue.pop_used(&rig.memory).is_some() {
            answers += 1;
        }
        if !rig.mmio.has_work() {
            break;
        }
        rig.poll();
        polls += 1;
        assert!(polls < 10);
    }
    assert_eq!(answers, 6);
    assert!(polls >= 2, "12 MiB are not copied in one go");
    assert_eq!(
        rig.memory.bytes(DATA, 2 << 20),
        rig.mmio.device().disk().bytes()
    );
    assert_eq!(
        rig.mmio.device().disk().capacity_sectors() * SECTOR_BYTES,
        2 << 20
    );
}
