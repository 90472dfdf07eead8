//! The machine's PL011.
#![expect(
    unsafe_code,
    reason = "the UART's registers are named by the device tree"
)]

use core::ptr::NonNull;

use arm_pl011_uart::{FifoLevel, Interrupts, PL011Registers, Uart, UniqueMmioPointer};
use dtb_platform::Platform;
use hypervisor::console::HostUart;

/// A PL011 that the boot loader has already configured.
pub(crate) struct Pl011 {
    uart: Uart<'static>,
}

impl Pl011 {
    /// Takes over the UART of the machine; `None` if it has none that is known.
    ///
    /// # Safety
    /// Called once, with the platform of this machine, whose UART is mapped as
    /// device memory.
    pub(crate) unsafe fn take(platform: &Platform) -> Option<Self> {
        let base = usize::from(platform.uart.as_ref()?.range.start);
        let registers = NonNull::new(core::ptr::with_exposed_provenance_mut::<PL011Registers>(
            base,
        ))?;
        // SAFETY: the caller vouches that these are a PL011's registers, mapped,
        // and used by nobody else.
        let registers = unsafe { UniqueMmioPointer::new(registers) };
        let mut uart = Uart::new(registers);
        uart.set_interrupt_masks(Interrupts::empty());
        uart.clear_interrupts(Interrupts::all());
        uart.set_interrupt_fifo_levels(FifoLevel::Bytes4, FifoLevel::Bytes16);
        Some(Self { uart })
    }

    fn listen(&mut self, interrupts: Interrupts, on: bool) {
        let mut masks = self.uart.interrupt_masks();
        masks.set(interrupts, on);
        self.uart.set_interrupt_masks(masks);
    }
}

impl HostUart for Pl011 {
    fn transmit(&mut self, bytes: &[u8]) -> usize {
        for (sent, byte) in bytes.iter().enumerate() {
            if self.uart.is_tx_fifo_full() {
                return sent;
            }
            self.uart.write_word(*byte);
        }
        bytes.len()
    }

    fn receive(&mut self) -> Option<u8> {
        // A byte received with an error (framing, overrun) is dropped.
        loop {
            match self.uart.read_word() {
                Ok(byte) => return byte,
                Err(_) => continue,
            }
        }
    }

    fn listen_receive(&mut self, on: bool) {
        self.listen(Interrupts::RXI | Interrupts::RTI, on);
    }

    fn listen_transmit(&mut self, on: bool) {
        self.listen(Interrupts::TXI, on);
    }
}
