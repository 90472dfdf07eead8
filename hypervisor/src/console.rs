//! The machine's UART, shared by the log and by the guest that it shows.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use primecell_devices::SerialBackend;
use spin::Once;
use vm_contract::{VcpuId, VmId};

use crate::lock::{RankedLock, rank};
use crate::vm::Vm;

/// What the hypervisor needs of a UART's driver.
pub trait HostUart: Send {
    /// Sends as many of `bytes` as fit at once; returns how many those were.
    fn transmit(&mut self, bytes: &[u8]) -> usize;

    /// Takes one received byte.
    fn receive(&mut self) -> Option<u8>;

    /// Asks for an interrupt while there is something to receive.
    fn listen_receive(&mut self, on: bool);

    /// Asks for an interrupt when there is room to transmit.
    fn listen_transmit(&mut self, on: bool);
}

/// The UART and the flow control between it and the guest.
pub struct Console {
    uart: RankedLock<Shared, { rank::CONSOLE }>,
    /// The guest's receive FIFO was full; bytes wait in the UART. Changed under
    /// the lock of `uart` only.
    receive_held: AtomicBool,
    /// The VMs whose serial lines are connected; the first one gets the input.
    connected: Once<Vec<Weak<Vm>>>,
}

struct Shared {
    uart: Box<dyn HostUart>,
    /// Whether the last byte sent ended a line.
    at_line_start: bool,
}

impl Console {
    /// Takes over a UART.
    #[must_use]
    pub fn new(uart: Box<dyn HostUart>) -> Self {
        Self {
            uart: RankedLock::new(Shared {
                uart,
                at_line_start: true,
            }),
            receive_held: AtomicBool::new(false),
            connected: Once::new(),
        }
    }

    /// Connects the serial lines of `vms`. What is typed goes to the first.
    pub fn connect(&self, vms: &[Arc<Vm>]) {
        self.connected
            .call_once(|| vms.iter().map(Arc::downgrade).collect());
    }

    /// Answers the UART's interrupt. `current` is the vCPU on whose behalf this
    /// CPU acts.
    pub fn service(&self, current: Option<(VmId, VcpuId)>) {
        let mut output_waits = false;
        for (n, vm) in self.connected.get().into_iter().flatten().enumerate() {
            let Some(vm) = vm.upgrade() else { continue };
            let current = current
                .filter(|(id, _)| *id == vm.id())
                .map(|(_, vcpu)| vcpu);
            output_waits |= vm.send_serial(current);
            if n == 0 {
                vm.receive_serial(current);
            }
        }
        if !output_waits {
            self.uart.lock().uart.listen_transmit(false);
        }
    }

    /// Begins to receive.
    pub fn listen(&self) {
        self.uart.lock().uart.listen_receive(true);
    }

    /// Writes a line of the hypervisor's own, beginning on a new line. Waits
    /// for the UART to take all of it.
    pub fn log(&self, arguments: fmt::Arguments<'_>) {
        let mut shared = self.uart.lock();
        if !shared.at_line_start {
            shared.send_all(b"\r\n");
        }
        // The sink never fails.
        let _ = write!(LineWriter(&mut shared), "[armature] {arguments}");
        shared.send_all(b"\r\n");
    }

    /// Sends what fits of a guest's output; asks for an interrupt when there is
    /// room again if not all of it did.
    pub fn transmit(&self, bytes: &[u8]) -> usize {
        let mut shared = self.uart.lock();
        let sent = shared.uart.transmit(bytes);
        if let Some(last) = bytes.get(..sent).and_then(<[u8]>::last) {
            shared.at_line_start = *last == b'\n';
        }
        if sent < bytes.len() {
            shared.uart.listen_transmit(true);
        }
        sent
    }

    /// Takes a received byte for the guest.
    pub fn receive(&self) -> Option<u8> {
        self.uart.lock().uart.receive()
    }

    /// Stops receiving until [`release_receive`](Self::release_receive): the
    /// guest has no room. Bytes wait in the UART and beyond, none is lost.
    pub fn hold_receive(&self) {
        let mut shared = self.uart.lock();
        self.receive_held.store(true, Ordering::Relaxed);
        shared.uart.listen_receive(false);
    }

    /// Receives again, if that was on hold: the guest has read its FIFO.
    #[inline]
    pub fn release_receive(&self) {
        if self.receive_held.load(Ordering::Relaxed) {
            let mut shared = self.uart.lock();
            self.receive_held.store(false, Ordering::Relaxed);
            shared.uart.listen_receive(true);
        }
    }
}

impl Shared {
    fn send_all(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let sent = self.uart.transmit(bytes);
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        self.at_line_start = true;
    }
}

/// Sends text, with line feeds as a terminal wants them.
struct LineWriter<'a>(&'a mut Shared);

impl Write for LineWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (n, line) in text.split('\n').enumerate() {
            if n > 0 {
                self.0.send_all(b"\r\n");
            }
            self.0.send_all(line.as_bytes());
        }
        Ok(())
    }
}

/// The end of a guest's serial line that is connected to the console.
pub struct GuestSerial(pub Arc<Console>);

impl SerialBackend for GuestSerial {
    fn transmit(&mut self, bytes: &[u8]) -> usize {
        self.0.transmit(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeUart;

    #[test]
    fn a_log_line_never_continues_a_guests_line() {
        let uart = FakeUart::default();
        let console = Console::new(Box::new(uart.clone()));
        assert_eq!(console.transmit(b"login: "), 7);
        console.log(format_args!("one\ntwo"));
        console.log(format_args!("three"));
        assert_eq!(
            uart.sent(),
            "login: \r\n[armature] one\r\ntwo\r\n[armature] three\r\n"
        );
    }

    #[test]
    fn a_full_uart_asks_for_room_and_takes_the_rest_later() {
        let uart = FakeUart::default();
        uart.set_room(3);
        let console = Console::new(Box::new(uart.clone()));
        assert_eq!(console.transmit(b"12345"), 3);
        assert!(uart.listens_transmit());
        uart.set_room(8);
        assert_eq!(console.transmit(b"45"), 2);
        console.service(None);
        assert!(!uart.listens_transmit(), "nothing waits any more");
        assert_eq!(uart.sent(), "12345");
    }

    #[test]
    fn reception_is_held_and_released_once() {
        let uart = FakeUart::default();
        let console = Console::new(Box::new(uart.clone()));
        console.listen();
        assert!(uart.listens_receive());
        console.hold_receive();
        assert!(!uart.listens_receive());
        console.release_receive();
        assert!(uart.listens_receive());
    }
}
