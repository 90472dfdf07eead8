//! The console.

use std::collections::VecDeque;

use virtio_devices::Console;
use virtio_devices::fakes::FakeTerminal;
use virtio_drivers::device::console::{Size, VirtIOConsole};

use crate::arena::ArenaHal;
use crate::wire::{Machine, Wire};

#[test]
fn a_driver_writes_and_reads_what_a_model_does() {
    let backend = FakeTerminal {
        room: usize::MAX,
        ..FakeTerminal::default()
    };
    let machine = Machine::new(Console::new(80, 25, backend));
    let wire = Wire(machine.clone());
    let mut driver = VirtIOConsole::<ArenaHal, _>::new(wire).expect("the driver starts");
    let size = driver.size().expect("readable");
    let expected = Size {
        columns: 80,
        rows: 25,
    };
    assert_eq!(size, Some(expected));
    let mut typed: VecDeque<u8> = VecDeque::new();
    let mut shown = Vec::new();
    for round in 0..6_000_u32 {
        let number = round.wrapping_mul(0x9E37_79B9) >> 16;
        let byte = u8::try_from(number % 251).expect("a byte");
        match number % 5 {
            0 => {
                driver.send(byte).expect("sent");
                shown.push(byte);
            }
            1 => {
                let line = vec![byte; 1 + (number % 700) as usize];
                driver.send_bytes(&line).expect("sent");
                shown.extend(&line);
            }
            2 => {
                driver.emergency_write(byte).expect("offered");
                shown.push(byte);
            }
            3 => {
                let text = vec![byte; 1 + (number % 90) as usize];
                typed.extend(&text);
                machine.with(|mmio, around| {
                    mmio.device_mut().backend_mut().typed.extend(&text);
                    mmio.poll(around);
                });
                driver.ack_interrupt().expect("completed");
            }
            _ => {
                for _ in 0..number % 100 {
                    assert_eq!(driver.recv(true).expect("completed"), typed.pop_front());
                }
            }
        }
    }
    machine.with(|mmio, _| {
        assert_eq!(mmio.fault(), None);
        assert_eq!(mmio.device().backend().shown, shown);
    });
    while let Some(byte) = typed.pop_front() {
        assert_eq!(driver.recv(true).expect("completed"), Some(byte));
    }
    assert_eq!(driver.recv(true).expect("completed"), None);
}
