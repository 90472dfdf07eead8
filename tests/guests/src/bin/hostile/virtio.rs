//! A driver that does everything wrong: its device stops until it is reset, and then
//! works as before.

#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers of chance, and small ones"
)]

use core::sync::atomic::{AtomicBool, Ordering};

use test_guests::runtime::virtio::{
    BLOCK, Device, ENTROPY, INDIRECT, NEEDS_RESET, NETWORK, NEXT, Queue, QueueMemory, WRITE,
};
use test_guests::runtime::{machine, mmio, random::Random, smp, timer};
use test_guests::{check, check_eq, say};

const SIZE: u32 = 16;

/// How often descriptors and rings of chance are offered to each device.
const ROUNDS: usize = 2000;

static MEMORY: QueueMemory = QueueMemory::new();

/// The other CPU goes on to change what the device reads.
static CHANGES: AtomicBool = AtomicBool::new(false);

type Spoil = fn(&mut Queue);

/// What goes wrong before the device is live.
const SETUPS: [(&str, Spoil); 8] = [
    ("size 0", |queue| queue.size = 0),
    ("size 3", |queue| queue.size = 3),
    ("size 65536", |queue| queue.size = 65536),
    ("no descriptors", |queue| queue.descriptors = 0),
    ("descriptors behind RAM", |queue| {
        queue.descriptors = machine::ram_end();
    }),
    ("an available ring of a device's", |queue| {
        queue.driver = 0x0800_0000;
    }),
    ("a used ring at the end of addresses", |queue| {
        queue.device = 0_u64.wrapping_sub(8);
    }),
    ("a misaligned table", |queue| queue.descriptors += 1),
];

/// What goes wrong in the rings.
const CHAINS: [(&str, fn()); 7] = [
    ("a chain of one that loops", || {
        MEMORY.describe(0, MEMORY.buffers(), 1, NEXT, 0);
        MEMORY.offer(0, 0);
    }),
    ("a chain of many that loops", || {
        for number in 0..16 {
            let next = (number + 1) % 16;
            MEMORY.describe(number, MEMORY.buffers(), 1, NEXT, next);
        }
        MEMORY.offer(0, 5);
    }),
    ("a chain that leaves its table", || {
        MEMORY.describe(0, MEMORY.buffers(), 1, NEXT, 16);
        MEMORY.offer(0, 0);
    }),
    ("a head outside the table", || MEMORY.offer(0, u16::MAX)),
    ("more chains than the queue has", || MEMORY.set_offered(17)),
    ("an indirect table that was not agreed on", || {
        MEMORY.describe(0, MEMORY.buffers(), 16, INDIRECT, 0);
        MEMORY.offer(0, 0);
    }),
    ("readable after writable", || {
        MEMORY.describe(0, MEMORY.buffers(), 1, NEXT | WRITE, 1);
        MEMORY.describe(1, MEMORY.buffers(), 1, 0, 0);
        MEMORY.offer(0, 0);
    }),
];

/// Tries it with each device that there is.
pub(crate) fn check_all() {
    // A card looks for frames in what it may send, at once.
    for (id, name, queue) in [
        (ENTROPY, "entropy", 0),
        (BLOCK, "block", 0),
        (NETWORK, "network", 1),
    ] {
        if let Some(device) = Device::find(id) {
            check_device(device, name, queue);
            if id != NETWORK {
                check_works(device, id, name);
            }
            say!("the {name} device has had every wrong driver");
        }
    }
}

/// Goes on to try it.
pub(crate) fn check_for_ever() -> ! {
    let mut passes = 0;
    loop {
        check_all();
        passes += 1;
        say!("pass {passes} of wrong drivers is over");
    }
}

fn check_device(device: Device, name: &str, queue: u32) {
    for (what, spoil) in SETUPS {
        let mut setup = MEMORY.queue(SIZE);
        spoil(&mut setup);
        prepare(device, queue, &setup);
        MEMORY.offer(0, 0);
        device.notify(queue);
        needs_reset(device, name, what);
    }
    for (what, spoil) in CHAINS {
        prepare(device, queue, &MEMORY.queue(SIZE));
        spoil();
        device.notify(queue);
        needs_reset(device, name, what);
    }
    overlapping(device, queue);
    let changer = machine::cpu_count() - 1;
    CHANGES.store(true, Ordering::Release);
    if changer > 0 {
        smp::start(changer, || {
            let mut random = Random::new(2);
            while CHANGES.load(Ordering::Acquire) {
                anything(&mut random);
            }
        });
    }
    fuzz(device, queue);
    CHANGES.store(false, Ordering::Release);
    if changer > 0 {
        smp::join(changer);
    }
}

/// Makes a device live with one descriptor of zeros and nothing offered.
fn prepare(device: Device, queue: u32, setup: &Queue) {
    device.begin();
    MEMORY.clear();
    device.set_queue(queue, setup);
    device.go();
}

fn needs_reset(device: Device, name: &str, what: &str) {
    let status = device.status();
    check!(
        status & NEEDS_RESET != 0,
        "{name}: {what} leaves the status at {status:#x}"
    );
}

/// Chains that have descriptors in common: only their driver suffers, if anybody.
fn overlapping(device: Device, queue: u32) {
    prepare(device, queue, &MEMORY.queue(SIZE));
    for number in 0..8 {
        let flags = if number == 7 { WRITE } else { NEXT | WRITE };
        MEMORY.describe(number, MEMORY.buffers(), 64, flags, number + 1);
    }
    for head in 0..8 {
        MEMORY.offer(head, head);
    }
    device.notify(queue);
}

/// Rings and descriptors of chance, which change while they are read.
fn fuzz(device: Device, queue: u32) {
    let mut random = Random::new(1);
    for _ in 0..ROUNDS {
        if device.status() & NEEDS_RESET != 0 || random.below(16) == 0 {
            prepare(device, queue, &MEMORY.queue(SIZE));
        }
        for _ in 0..4 {
            anything(&mut random);
        }
        MEMORY.set_offered(random.below(24) as u16);
        device.notify(queue);
    }
}

/// Writes something to the queue's memory, more often sensible than not.
fn anything(random: &mut Random) {
    let address = match random.below(8) {
        0 => random.draw(),
        1 => machine::ram_end() - random.below(64),
        2 => MEMORY.queue(SIZE).device,
        _ => MEMORY.buffers() + random.below(4096),
    };
    let length = match random.below(8) {
        0 => random.draw() as u32,
        _ => random.below(128) as u32,
    };
    let flags = match random.below(8) {
        0 => random.draw() as u16,
        _ => random.below(4) as u16,
    };
    let next = random.below(18) as u16;
    MEMORY.describe(random.below(16) as u16, address, length, flags, next);
    MEMORY.offer(random.below(16) as u16, random.below(17) as u16);
}

/// After all that the device does as it should.
fn check_works(device: Device, id: u32, name: &str) {
    prepare(device, 0, &MEMORY.queue(SIZE));
    let buffers = MEMORY.buffers();
    let (answer, marker) = (buffers + 1024, 0xA5A5_A5A5_u32);
    mmio::write32(answer, marker);
    if id == BLOCK {
        // A read of sector 0: header, data, status (VirtIO 1.2, 5.2.6).
        mmio::write64(buffers, 0);
        mmio::write64(buffers + 8, 0);
        MEMORY.describe(0, buffers, 16, NEXT, 1);
        MEMORY.describe(1, buffers + 512, 512, NEXT | WRITE, 2);
        MEMORY.describe(2, answer, 1, WRITE, 0);
    } else {
        MEMORY.describe(0, answer, 64, WRITE, 0);
    }
    MEMORY.offer(0, 0);
    device.notify(0);
    let done = timer::wait_until(|| MEMORY.used() == 1);
    check!(done, "{name}: a request after the others is not done");
    check_eq!(device.status() & NEEDS_RESET, 0, "{name}: NEEDS_RESET");
    let word = mmio::read32(answer);
    if id == BLOCK {
        check_eq!(word, marker & !0xFF, "{name}: the status of a request");
    } else {
        check!(word != marker, "{name}: nothing has been written");
    }
    device.begin();
}
