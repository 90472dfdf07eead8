//! The network card.

use std::collections::VecDeque;

use virtio_devices::Net;
use virtio_devices::fakes::{FakeCable, FakeFrame};
use virtio_devices::net::Checksum;
use virtio_drivers::device::net::VirtIONetRaw;

use crate::arena::ArenaHal;
use crate::wire::{Machine, Wire};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const ROUNDS: u32 = 5_000;

/// A sequence without a pattern (xorshift32).
struct Dice(u32);

impl Dice {
    fn below(&mut self, end: u32) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        (self.0 % end) as usize
    }

    fn frame(&mut self) -> Vec<u8> {
        let length = 14 + self.below(1501);
        (0..length)
            .map(|_| u8::try_from(self.below(256)).expect("a byte"))
            .collect()
    }
}

#[test]
fn a_driver_sends_and_receives_what_a_model_does() {
    let machine = Machine::new(Net::new(MAC, 1500, FakeCable::default()));
    let wire = Wire(machine.clone());
    let mut driver = VirtIONetRaw::<ArenaHal, _, 16>::new(wire).expect("the driver starts");
    assert_eq!(driver.mac_address(), MAC);
    let mut dice = Dice(0x1234_5678);
    let mut buffers: VecDeque<(u16, Box<[u8; 2048]>)> = VecDeque::new();
    let mut expected: VecDeque<Vec<u8>> = VecDeque::new();
    for _ in 0..ROUNDS {
        match dice.below(4) {
            0 => {
                let frame = dice.frame();
                driver.send(&frame).expect("sent");
                let sent = machine.with(|mmio, _| mmio.device_mut().backend_mut().sent.pop());
                assert_eq!(sent.map(|sent| sent.bytes), Some(frame));
            }
            1 if buffers.len() < 16 => {
                let mut buffer = Box::new([0; 2048]);
                // SAFETY: the buffer stays where it is until it is completed.
                let token = unsafe { driver.receive_begin(&mut buffer[..]) }.expect("room");
                buffers.push_back((token, buffer));
            }
            2 if expected.len() < 32 => {
                let bytes = dice.frame();
                expected.push_back(bytes.clone());
                let cut = dice.below(1600);
                machine.with(|mmio, around| {
                    mmio.device_mut().backend_mut().coming.push_back(FakeFrame {
                        bytes,
                        checksum: Checksum::InFrame,
                        cut,
                    });
                    mmio.receive(around);
                });
            }
            _ => {
                let Some(token) = driver.poll_receive() else {
                    assert!(buffers.is_empty() || expected.is_empty());
                    continue;
                };
                let (oldest, mut buffer) = buffers.pop_front().expect("a buffer was given");
                assert_eq!(token, oldest);
                // SAFETY: it is the buffer of that token.
                let got = unsafe { driver.receive_complete(token, &mut buffer[..]) };
                let (header, length) = got.expect("completed");
                let frame = expected.pop_front().expect("a frame was sent");
                assert_eq!(buffer[header..header + length], frame);
                assert_eq!(buffer[10..12], [1, 0], "one buffer");
                driver.ack_interrupt();
            }
        }
    }
    machine.with(|mmio, _| {
        assert_eq!(mmio.fault(), None);
        let counted = mmio.device().counters();
        assert!(counted.received > 500 && counted.transmitted > 500);
        assert_eq!(counted.no_room + counted.malformed + counted.oversized, 0);
    });
}
