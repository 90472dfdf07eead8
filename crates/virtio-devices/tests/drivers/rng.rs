//! The entropy device.

use virtio_devices::fakes::{Buffer, Rig};
use virtio_devices::{EntropySource, Rng, features};
use virtio_drivers::device::rng::VirtIORng;

use crate::arena::ArenaHal;
use crate::wire::{Machine, Wire};

/// A stream that tests can foretell, and that may run dry.
struct Counter {
    next: u8,
    left: usize,
}

impl EntropySource for Counter {
    fn fill(&mut self, bytes: &mut [u8]) -> usize {
        let count = bytes.len().min(self.left);
        for byte in bytes.iter_mut().take(count) {
            *byte = self.next;
            self.next = self.next.wrapping_add(1);
        }
        self.left -= count;
        count
    }
}

fn counter(left: usize) -> Rng<Counter> {
    Rng::new(Counter { next: 0, left })
}

#[test]
fn a_driver_gets_the_bytes_of_the_source() {
    let machine = Machine::new(counter(usize::MAX));
    let mut driver =
        VirtIORng::<ArenaHal, _>::new(Wire(machine.clone())).expect("the driver starts");
    let mut next: u8 = 0;
    let rounds = if cfg!(miri) { 40 } else { 3000 };
    for round in 0..rounds {
        let mut bytes = vec![0; 1 + round * 37 % 1500];
        let got = driver.request_entropy(&mut bytes).expect("bytes");
        assert_eq!(got, bytes.len().min(1024));
        for byte in &bytes[..got] {
            assert_eq!(*byte, next);
            next = next.wrapping_add(1);
        }
        assert!(bytes[got..].iter().all(|byte| *byte == 0));
        driver.ack_interrupt();
        assert!(!machine.line.is_high());
    }
    assert!(machine.line.rises() > 0);
    machine.with(|mmio, _| assert_eq!(mmio.fault(), None));
}

#[test]
fn a_request_waits_while_the_source_is_dry() {
    let mut rig = Rig::new(counter(0), 0x10000);
    let [mut queue] = rig.bring_up(features::EVENT_IDX, 8);
    let target = Rig::<Rng<Counter>>::MEMORY + 0x8000;
    let head = queue.add(&rig.memory, &[Buffer::writable(target, 4)]);
    rig.notify(0);
    assert_eq!(queue.pop_used(&rig.memory), None);
    rig.mmio.device_mut().source_mut().left = 3;
    rig.poll();
    assert_eq!(queue.pop_used(&rig.memory), head.zip(Some(3)));
    assert_eq!(rig.memory.bytes(target, 4), [0, 1, 2, 0]);
    assert!(rig.line.is_high());
}
