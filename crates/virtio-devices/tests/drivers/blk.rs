//! The block device, compared with a plain copy of its disk.

#![expect(
    clippy::indexing_slicing,
    reason = "a test that leaves its own arrays has failed"
)]

use std::collections::BTreeMap;
use std::rc::Rc;

use virtio_devices::block::RequestId;
use virtio_devices::fakes::SlowDisk;
use virtio_devices::{Block, BlockOptions, MemoryDisk};
use virtio_drivers::device::blk::{BlkReq, BlkResp, SECTOR_SIZE, VirtIOBlk};

use crate::arena::ArenaHal;
use crate::wire::{Machine, Wire};

const SECTORS: usize = 256;
/// How much is done; Miri is slow.
const OPERATIONS: usize = if cfg!(miri) { 60 } else { 10_000 };
const REQUESTS: usize = if cfg!(miri) { 40 } else { 4_000 };

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let seed = self.below(251);
        (0..len)
            .map(|index| u8::try_from((index * 7 + seed) % 251).expect("8 bits"))
            .collect()
    }
}

#[test]
fn random_operations_agree_with_a_plain_copy() {
    let disk = MemoryDisk::new(vec![0; SECTORS * SECTOR_SIZE], "ram");
    let machine = Machine::new(Block::new(disk, BlockOptions::default()));
    let mut driver =
        VirtIOBlk::<ArenaHal, _>::new(Wire(machine.clone())).expect("the driver starts");
    assert_eq!(driver.capacity(), SECTORS as u64);
    assert!(!driver.readonly());
    let mut identity = [0; 20];
    assert_eq!(driver.device_id(&mut identity), Ok(3));
    assert_eq!(&identity[..3], b"ram");

    let mut model = vec![0; SECTORS * SECTOR_SIZE];
    let mut numbers = Numbers(0x1234_5678_9ABC_DEF1);
    for _ in 0..OPERATIONS {
        let sector = numbers.below(SECTORS + 4);
        let count = 1 + numbers.below(16);
        let range = sector * SECTOR_SIZE..(sector + count) * SECTOR_SIZE;
        let fits = sector + count <= SECTORS;
        match numbers.below(8) {
            0 => driver.flush().expect("it can"),
            1..4 => {
                let bytes = numbers.bytes(count * SECTOR_SIZE);
                assert_eq!(driver.write_blocks(sector, &bytes).is_ok(), fits);
                if fits {
                    model[range].copy_from_slice(&bytes);
                }
            }
            _ => {
                let mut bytes = vec![0; count * SECTOR_SIZE];
                assert_eq!(driver.read_blocks(sector, &mut bytes).is_ok(), fits);
                if fits {
                    assert_eq!(bytes, model[range]);
                }
            }
        }
        driver.ack_interrupt();
    }
    drop(driver);
    machine.with(|mmio, _| {
        assert_eq!(mmio.fault(), None);
        assert_eq!(mmio.device().disk().bytes(), model);
    });
}

#[test]
fn a_read_only_disk_is_known_as_such() {
    let disk = MemoryDisk::new(vec![7; 4096], "rom").read_only();
    let machine = Machine::new(Block::new(disk, BlockOptions::default()));
    let mut driver =
        VirtIOBlk::<ArenaHal, _>::new(Wire(machine.clone())).expect("the driver starts");
    assert!(driver.readonly());
    assert!(driver.write_blocks(0, &[0; 512]).is_err());
    let mut bytes = [0; 512];
    driver.read_blocks(7, &mut bytes).expect("it can");
    assert_eq!(bytes, [7; 512]);
}

/// A request between its start and its end. Boxes: the driver keeps pointers.
struct UnderWay {
    sector: usize,
    writes: bool,
    request: Box<BlkReq>,
    data: Vec<u8>,
    response: Box<BlkResp>,
}

type SlowMachine = Machine<Block<SlowDisk>>;
type Driver = VirtIOBlk<ArenaHal, Wire<Block<SlowDisk>>>;

/// Many requests at once on a slow disk, and a plain copy of its contents.
struct Run {
    machine: Rc<SlowMachine>,
    driver: Driver,
    under_way: BTreeMap<u16, UnderWay>,
    model: Vec<u8>,
    numbers: Numbers,
    ended: usize,
}

impl Run {
    fn new(disk: SlowDisk, seed: u64) -> Self {
        let machine = Machine::new(Block::new(disk, BlockOptions::default()));
        Self {
            driver: VirtIOBlk::new(Wire(machine.clone())).expect("the driver starts"),
            machine,
            under_way: BTreeMap::new(),
            model: vec![0; SECTORS * SECTOR_SIZE],
            numbers: Numbers(seed),
            ended: 0,
        }
    }

    /// Starts a request whose range is that of no other.
    fn start(&mut self) {
        let count = 1 + self.numbers.below(12);
        let sector = self.numbers.below(SECTORS - count);
        let is_apart = |other: &UnderWay| {
            sector + count <= other.sector
                || other.sector + other.data.len() / SECTOR_SIZE <= sector
        };
        if !self.under_way.values().all(is_apart) {
            return;
        }
        let mut new = UnderWay {
            sector,
            writes: self.numbers.below(2) == 0,
            request: Box::default(),
            data: self.numbers.bytes(count * SECTOR_SIZE),
            response: Box::default(),
        };
        let UnderWay {
            writes,
            request,
            data,
            response,
            ..
        } = &mut new;
        let token = if *writes {
            // SAFETY: request, data and response lie in boxes, are not touched
            // while the request is under way, and outlive it.
            unsafe { self.driver.write_blocks_nb(sector, request, data, response) }
        } else {
            // SAFETY: as above.
            unsafe { self.driver.read_blocks_nb(sector, request, data, response) }
        };
        if let Ok(token) = token {
            self.under_way.insert(token, new);
        }
    }

    /// Lets the disk end one of its requests, whichever.
    fn complete_one(&mut self) {
        let pending = self
            .machine
            .with(|mmio, _| -> Vec<RequestId> { mmio.device().disk().pending() });
        if !pending.is_empty() {
            let id = pending[self.numbers.below(pending.len())];
            self.machine.with(|mmio, around| mmio.complete(around, id));
        }
    }

    /// Takes everything that has ended and checks it.
    fn collect(&mut self) {
        while let Some(token) = self.driver.peek_used() {
            let mut done = self.under_way.remove(&token).expect("it was started");
            let (request, response) = (&done.request, &mut done.response);
            let result = if done.writes {
                // SAFETY: these are the same buffers as at the start.
                unsafe {
                    self.driver
                        .complete_write_blocks(token, request, &done.data, response)
                }
            } else {
                // SAFETY: as above.
                unsafe {
                    self.driver
                        .complete_read_blocks(token, request, &mut done.data, response)
                }
            };
            result.expect("no request fails");
            let start = done.sector * SECTOR_SIZE;
            let place = &mut self.model[start..start + done.data.len()];
            if done.writes {
                place.copy_from_slice(&done.data);
            } else {
                assert_eq!(place, done.data);
            }
            self.ended += 1;
        }
        self.driver.ack_interrupt();
    }
}

#[test]
fn requests_that_end_late_and_in_any_order_agree_with_a_plain_copy() {
    // Room in the disk, and how much it moves at once.
    for (room, max_bytes) in [(64, 1 << 20), (3, 1 << 20), (8, 2048)] {
        let disk = SlowDisk::new(SECTORS, room, max_bytes);
        let mut run = Run::new(disk, 0xFEDC_BA98_7654_3211 + room as u64);
        while run.ended < REQUESTS {
            match run.numbers.below(3) {
                0 => run.complete_one(),
                _ => run.start(),
            }
            run.collect();
        }
        while !run.under_way.is_empty() {
            run.complete_one();
            run.collect();
        }
        assert!(!run.machine.line.is_high());
        run.machine.with(|mmio, _| {
            assert_eq!(mmio.fault(), None);
            assert_eq!(mmio.device().disk().bytes(), run.model);
        });
    }
}
