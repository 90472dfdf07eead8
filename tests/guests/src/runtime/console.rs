//! The console: a PL011, polled.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::{mmio, mmu};

/// Where the UART's registers lie.
pub const BASE: u64 = 0x0900_0000;
/// Data register.
pub const UARTDR: u64 = BASE;
/// Flag register.
pub const UARTFR: u64 = BASE + 0x18;
/// Integer baud rate register.
pub const UARTIBRD: u64 = BASE + 0x24;
/// Fractional baud rate register.
pub const UARTFBRD: u64 = BASE + 0x28;
/// Line control register.
pub const UARTLCR_H: u64 = BASE + 0x2C;
/// Control register.
pub const UARTCR: u64 = BASE + 0x30;
/// Interrupt FIFO level select register.
pub const UARTIFLS: u64 = BASE + 0x34;
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
const FR_RXFE: u32 = 1 << 4;
const FR_BUSY: u32 = 1 << 3;

static LOCK: AtomicBool = AtomicBool::new(false);

/// UARTLCR_H, UARTCR and UARTIMSC as they were at entry.
static AT_ENTRY: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];

/// Returns UARTLCR_H, UARTCR and UARTIMSC as they were at entry.
#[must_use]
pub fn at_entry() -> [u32; 3] {
    AT_ENTRY
        .each_ref()
        .map(|register| register.load(Ordering::Relaxed))
}

/// Notes what the UART is like, then prepares it.
pub(super) fn take_over() {
    for (register, slot) in [UARTLCR_H, UARTCR, UARTIMSC].iter().zip(&AT_ENTRY) {
        slot.store(mmio::read32(*register), Ordering::Relaxed);
    }
    init();
}

/// Prepares the UART: 8 bits, no FIFO, transmitter and receiver on.
fn init() {
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

/// Returns the next byte that was typed, if there is one.
#[must_use]
pub fn typed() -> Option<u8> {
    if mmio::read32(UARTFR) & FR_RXFE != 0 {
        return None;
    }
    let [byte, ..] = mmio::read32(UARTDR).to_le_bytes();
    Some(byte)
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
