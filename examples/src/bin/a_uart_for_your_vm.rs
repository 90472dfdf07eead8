//! Gives a VM of another hypervisor a PL011: what that hypervisor supplies is a
//! place for the bytes, a wire, and the guest's memory (which a UART never
//! touches).
//!
//! Expected output:
//!
//! ```text
//! the guest wrote "hi"
//! 'k' arrives: the wire is high
//! the guest reads 0x6b: the wire is low
//! identification: 11 10 34 00 0d f0 05 b1
//! a doubleword: the register does not take accesses of this width
//! ```

use std::cell::Cell;
use std::error::Error;

use primecell_devices::{Pl011, SerialBackend};
use vm_contract::{
    AccessError, BaseDeviceOps, DeviceContext, GuestMemory, GuestPhysAddr, IrqLine, VcpuId, Width,
};

/// Where QEMU's `virt` machine has it.
const BASE: GuestPhysAddr = GuestPhysAddr::from_usize(0x0900_0000);
// Registers (Arm DDI 0183, "Summary of registers").
const UARTDR: u64 = 0x000;
const UARTIMSC: u64 = 0x038;
const UARTPERIPHID0: u64 = 0xFE0;
/// UARTIMSC: receive and receive-timeout interrupts.
const RECEIVE: u64 = 1 << 4 | 1 << 6;

/// Where output goes.
#[derive(Default)]
struct Screen(Vec<u8>);

impl SerialBackend for Screen {
    fn transmit(&mut self, bytes: &[u8]) -> usize {
        self.0.extend_from_slice(bytes);
        bytes.len()
    }
}

/// A wire that ends here. In a hypervisor its other end is the interrupt
/// controller: `Vgic::set_spi_level`.
#[derive(Default)]
struct Wire(Cell<bool>);

impl Wire {
    fn state(&self) -> &'static str {
        if self.0.get() { "high" } else { "low" }
    }
}

impl IrqLine for Wire {
    fn set_level(&self, asserted: bool) {
        self.0.set(asserted);
    }
}

/// A guest without memory: a UART needs none.
struct NoMemory;

impl GuestMemory for NoMemory {
    fn read(&self, _: GuestPhysAddr, _: &mut [u8]) -> Result<(), AccessError> {
        Err(AccessError::OutsideMemory)
    }

    fn write(&self, _: GuestPhysAddr, _: &[u8]) -> Result<(), AccessError> {
        Err(AccessError::OutsideMemory)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let wire = Wire::default();
    let context = DeviceContext {
        vcpu: VcpuId::new(0),
        memory: &NoMemory,
        line: &wire,
    };
    let mut uart = Pl011::new(BASE, Screen::default());

    // These are the calls that an MMIO exit turns into.
    for byte in *b"hi" {
        uart.write(&context, UARTDR, Width::Byte, byte.into())?;
    }
    let written = String::from_utf8_lossy(&uart.backend().0).into_owned();
    println!("the guest wrote {written:?}");

    uart.write(&context, UARTIMSC, Width::Word, RECEIVE)?;
    uart.receive(&wire, b'k')?;
    println!("'k' arrives: the wire is {}", wire.state());
    let byte = uart.read(&context, UARTDR, Width::Word)?;
    println!("the guest reads {byte:#x}: the wire is {}", wire.state());

    print!("identification:");
    for n in 0..8 {
        let id = uart.read(&context, UARTPERIPHID0 + 4 * n, Width::Word)?;
        print!(" {id:02x}");
    }
    println!();

    // An error is for the bus to answer: here, reads as zero.
    if let Err(error) = uart.read(&context, UARTDR, Width::Dword) {
        println!("a doubleword: {error}");
    }
    Ok(())
}
