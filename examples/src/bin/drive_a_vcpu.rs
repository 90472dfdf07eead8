//! Runs a vCPU and answers its exits: the loop of a hypervisor, in small.
//!
//! The guest is a script of closures. On the machine `El2` takes the place of
//! `ScriptedGuest`; the loop stays the same.
//!
//! Expected output:
//!
//! ```text
//! hypercall 0x84000000 -> 0x10001
//! load from IPA:0x9000018 -> 0x90
//! store to IPA:0x9000000: 'v'
//! waits for an interrupt
//! the guest ended with x0 = 0x10001, x1 = 0x90, pc = 0x40080010
//! ```

use arm_vcpu::fakes::{ScriptedGuest, hypercall, load, store, wait_for_interrupt};
use arm_vcpu::{Aarch64VCpu, AxArchVCpu, AxVCpuExitReason as Exit, IdRegisters, VcpuError};

/// Where the guest begins.
const ENTRY: usize = 0x4008_0000;
/// PSCI_VERSION (Arm DEN 0022): the first call of most guests.
const PSCI_VERSION: u64 = 0x8400_0000;
/// Version 1.1, as PSCI_VERSION returns it.
const PSCI_1_1: usize = 0x1_0001;
/// Result of a call that is not offered (Arm DEN 0028).
const NOT_SUPPORTED: usize = usize::MAX;
/// The PL011's data and flag registers on QEMU's `virt` machine.
const UART_DATA: u64 = 0x0900_0000;
const UART_FLAGS: u64 = 0x0900_0018;
/// Transmit FIFO empty, receive FIFO empty (Arm DDI 0183, UARTFR).
const FLAGS_IDLE: u64 = 0x90;
/// An access of four bytes, and of one, as the syndrome says it.
const WORD: u8 = 2;
const BYTE: u8 = 0;

fn main() -> Result<(), VcpuError> {
    let guest = ScriptedGuest::new()
        .then(|frame, _| {
            frame.set_gpr(0, PSCI_VERSION);
            // The CPU leaves the PC behind an HVC.
            frame.elr += 4;
            hypercall(0)
        })
        .then_exit(load(UART_FLAGS, WORD, 1))
        .then(|frame, _| {
            frame.set_gpr(2, u64::from(b'v'));
            store(UART_DATA, BYTE, 2)
        })
        .then_exit(wait_for_interrupt());
    let mut vcpu = guest.into_vcpu(ENTRY.into(), IdRegisters::default());

    while vcpu.hal().steps_left() > 0 {
        let exit = vcpu.run()?;
        answer(&mut vcpu, exit);
    }
    vcpu.unbind()?;
    println!(
        "the guest ended with x0 = {:#x}, x1 = {:#x}, pc = {:#x}",
        vcpu.gpr(0),
        vcpu.gpr(1),
        vcpu.pc()
    );
    Ok(())
}

/// Pays what the guest is owed: a value, and one step of its PC.
fn answer(vcpu: &mut Aarch64VCpu<ScriptedGuest>, exit: Exit) {
    match exit {
        Exit::Hypercall { immediate: 0 } => {
            let function = vcpu.gpr(0);
            let result = if function == PSCI_VERSION {
                PSCI_1_1
            } else {
                NOT_SUPPORTED
            };
            println!("hypercall {function:#x} -> {result:#x}");
            vcpu.set_return_value(result);
        }
        Exit::MmioRead(read) => {
            println!("load from {:?} -> {FLAGS_IDLE:#x}", read.address());
            vcpu.complete_read(read, FLAGS_IDLE);
        }
        Exit::MmioWrite(write) => {
            let [byte, ..] = write.value().to_le_bytes();
            println!("store to {:?}: {:?}", write.address(), char::from(byte));
            vcpu.complete_write(write);
        }
        Exit::WaitForInterrupt => {
            println!("waits for an interrupt");
            vcpu.skip_instruction();
        }
        _ => vcpu.inject_undefined(),
    }
}
