//! The console: a PL011, polled.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use super::{mmio, mmu};

/// Where the UART's registers lie.
pub const BASE: u64 = 0x0900_0000;
/// Data register.
pub const UARTDR: u64 = BASE;
/// Flag register.
pub const UARTFR: u64 = BASE + 0x18;
const UARTLCR_H: u64 = BASE + 0x2C;
const UARTCR: u64 = BASE + 0x30;
/// Interrupt mask register.
pub const UARTIMSC: u64 = BASE + 0x38;
/// Raw interrupt status.
pub const UARTRIS: u64 = BASE + 0x3C;
/// Masked interrupt status.
pub const UARTMIS: u64 = BASE + 0x40;
/// Interrupt clear register.
pub const UARTICR: u64 = BASE + 0x44;
/// The UART's interrupt.
pub const INTID: u32 = 33;
/// The transmit interrupt's bit in the four interrupt registers.
pub const TX_INTERRUPT: u32 = 1 << 5;

const FR_TXFF: u32 = 1 << 5;
const FR_BUSY: u32 = 1 << 3;

static LOCK: AtomicBool = AtomicBool::new(false);

/// Prepares the UART: 8 bits, no FIFO, transmitter and receiver on.
pub(super) fn init() {
    mmio::write32(UARTIMSC, 0);
    mmio::write32(UARTLCR_H, 3 << 5);
    mmio::write32(UARTCR, 1 | 1 << 8 | 1 << 9);
}

/// Brings the console back after its registers were written at random, and
/// frees it if its owner will not return.
pub fn recover() {
    LOCK.store(false, Ordering::Release);
    init();
}

struct Port;

impl Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                send(b'\r');
            }
            send(byte);
        }
        Ok(())
    }
}

fn send(byte: u8) {
    while mmio::read32(UARTFR) & FR_TXFF != 0 {
        core::hint::spin_loop();
    }
    mmio::write32(UARTDR, u32::from(byte));
}

/// Waits until the last byte has left the UART.
pub fn drain() {
    while mmio::read32(UARTFR) & FR_BUSY != 0 {
        core::hint::spin_loop();
    }
}

/// Prints one line; see [`say!`](crate::say).
pub fn print_line(text: fmt::Arguments<'_>) {
    // Read-modify-write needs cached memory, hence the MMU; before that
    // there is one CPU only.
    let shared = mmu::is_enabled();
    while shared && LOCK.swap(true, Ordering::Acquire) {
        core::hint::spin_loop();
    }
    // `Port` has no errors.
    let _ = writeln!(Port, "{text}");
    if shared {
        LOCK.store(false, Ordering::Release);
    }
}
