//! The sequences of accesses that real drivers make.

use crate::bench::Bench;
use crate::pl011::{
    CR, DR, FBRD, FEN, FR, FR_BUSY, FR_RXFE, FR_TXFF, IBRD, ICR, IFLS, IMSC, LCR_H, MIS, ON, RT,
    RX, TX, Terminal, uart,
};
use primecell_devices::Pl011;

/// Word length 8.
const WLEN_8: u64 = 0b11 << 5;

type Uart = Bench<Pl011<Terminal>>;

/// Waits for room, as every polling driver does.
fn put(uart: &Uart, byte: u8) {
    while uart.read(FR) & FR_TXFF != 0 {
        // The host catches up.
        uart.make_room(3);
    }
    uart.write(DR, byte.into());
}

#[test]
fn a_boot_loader_polls_both_ways() {
    let uart = uart(4);
    uart.write(CR, 0);
    uart.write(IBRD, 13);
    uart.write(FBRD, 1);
    uart.write(LCR_H, WLEN_8 | FEN);
    uart.write(CR, ON | 1 << 11);

    for byte in *b"prompt, longer than the room and the FIFO together> " {
        put(&uart, byte);
    }
    while uart.read(FR) & FR_BUSY != 0 {
        uart.make_room(1);
    }
    assert_eq!(
        uart.shown(),
        b"prompt, longer than the room and the FIFO together> "
    );

    let mut typed = Vec::new();
    for byte in *b"boot\r" {
        uart.receive(byte).unwrap();
    }
    while uart.read(FR) & FR_RXFE == 0 {
        let data = uart.read(DR);
        assert_eq!(data & 0xF00, 0, "no error");
        typed.push(data.to_le_bytes()[0]);
    }
    assert_eq!(typed, b"boot\r");
}

/// What an interrupt handler in the manner of a kernel's keeps.
struct Kernel<'a> {
    uart: &'a Uart,
    typed: Vec<u8>,
    queue: Vec<u8>,
}

impl Kernel<'_> {
    /// Opens the port: clears stale interrupts, discards stale input, enables.
    fn open(&self) {
        self.uart.write(ICR, 0x7FF);
        self.uart.write(IFLS, 2 << 3 | 2);
        self.uart.write(CR, 0);
        self.uart.write(LCR_H, WLEN_8 | FEN);
        self.uart.write(CR, ON);
        self.uart.write(ICR, RT | RX);
        for _ in 0..64 {
            if self.uart.read(FR) & FR_RXFE != 0 {
                break;
            }
            self.uart.read(DR);
        }
        self.uart.write(IMSC, RT | RX);
    }

    /// Writes out the queue: half a FIFO at once, the rest by interrupt.
    fn transmit(&mut self) {
        let burst = self.queue.len().min(16);
        for byte in self.queue.drain(..burst) {
            if self.uart.read(FR) & FR_TXFF == 0 {
                self.uart.write(DR, byte.into());
            }
        }
        let mask = if self.queue.is_empty() {
            RT | RX
        } else {
            RT | RX | TX
        };
        self.uart.write(IMSC, mask);
    }

    fn interrupt(&mut self) {
        for _ in 0..256 {
            let status = self.uart.read(MIS);
            if status == 0 {
                return;
            }
            self.uart.write(ICR, status & !(TX | RT | RX));
            if status & (RT | RX) != 0 {
                while self.uart.read(FR) & FR_RXFE == 0 {
                    self.typed.push(self.uart.read(DR).to_le_bytes()[0]);
                }
            }
            if status & TX != 0 {
                self.transmit();
            }
        }
        panic!("the interrupt storms");
    }
}

#[test]
fn a_kernel_is_driven_by_interrupts_alone() {
    let uart = uart(0);
    assert!(
        uart.receive(b'?').is_ok(),
        "typed too early, discarded by opening"
    );
    let mut kernel = Kernel {
        uart: &uart,
        typed: Vec::new(),
        queue: (0..200).collect(),
    };
    kernel.open();
    assert!(!uart.raised());

    kernel.transmit();
    let mut keys = (0u8..100).peekable();
    // The host takes a few bytes at a time, and types while it does.
    for _ in 0..200 {
        uart.make_room(3);
        while let Some(&key) = keys.peek()
            && key % 7 != 6
            && uart.receive(key).is_ok()
        {
            keys.next();
        }
        if let Some(key) = keys.next_if(|key| key % 7 == 6) {
            uart.receive(key).unwrap();
        }
        if uart.raised() {
            kernel.interrupt();
        }
        assert!(!uart.raised(), "the handler dealt with everything");
    }
    assert_eq!(uart.shown(), (0..200).collect::<Vec<u8>>());
    assert_eq!(kernel.typed, (0..100).collect::<Vec<u8>>());
}
