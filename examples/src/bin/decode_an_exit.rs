//! Reads why a guest stopped: from three syndrome registers to a reason.
//!
//! `decode` has no effects and no hardware behind it, so it can serve any
//! hypervisor whose own vector table has saved ESR_EL2, FAR_EL2 and HPFAR_EL2.
//!
//! Expected output:
//!
//! ```text
//! store of 0x41 in 1 byte to IPA:0x9000000, by way of 0xffff800010000000
//! load of 2 bytes from IPA:0x9000018: 0x8090 arrives in x7 as 0xffffffffffff8090
//! hypercall 7, behind which the PC points already
//! MRS X2 of ID_AA64PFR0_EL1
//! no such class of exception: the guest takes Undefined
//! ```

use arm_vcpu::exit::{RawExit, Syndrome, decode};
use arm_vcpu::{AxVCpuExitReason as Exit, TrapFrame};

// ESR_EL2 (Arm DDI 0487, "ESR_EL2, Exception Syndrome Register (EL2)").
const CLASS_SHIFT: u32 = 26;
const CLASS_HVC64: u64 = 0x16;
const CLASS_SYSTEM_REGISTER: u64 = 0x18;
const CLASS_DATA_ABORT_LOWER: u64 = 0x24;
const CLASS_UNALLOCATED: u64 = 0x3F;
/// IL: the instruction has 32 bits.
const IL: u64 = 1 << 25;
/// ISV: the fields below describe the instruction.
const ISV: u64 = 1 << 24;
const SIZE_SHIFT: u32 = 22;
const SIGN_EXTEND: u64 = 1 << 21;
const REGISTER_SHIFT: u32 = 16;
/// SF: the register has 64 bits.
const SIXTY_FOUR: u64 = 1 << 15;
const WRITE: u64 = 1 << 6;
const TRANSLATION_FAULT_LEVEL_3: u64 = 0b00_0111;

/// Where the guest's kernel has mapped the UART for itself.
const VIRTUAL: u64 = 0xFFFF_8000_1000_0000;
/// HPFAR_EL2 for the page at 0x0900_0000: bits 47:12 of the address from bit 4.
const UART_PAGE: u64 = 0x0900_0000 >> 12 << 4;

fn main() {
    let mut frame = TrapFrame::default();
    frame.set_gpr(3, u64::from(b'A'));

    // STRB W3, [X0]
    let store = ISV | 3 << REGISTER_SHIFT | WRITE | TRANSLATION_FAULT_LEVEL_3;
    explain(CLASS_DATA_ABORT_LOWER, store, VIRTUAL, &frame);

    // LDRSH X7, [X0, #0x18]
    let load = ISV
        | 1 << SIZE_SHIFT
        | SIGN_EXTEND
        | 7 << REGISTER_SHIFT
        | SIXTY_FOUR
        | TRANSLATION_FAULT_LEVEL_3;
    explain(CLASS_DATA_ABORT_LOWER, load, VIRTUAL + 0x18, &frame);

    // HVC #7
    explain(CLASS_HVC64, 7, 0, &frame);

    // MRS X2, ID_AA64PFR0_EL1: op0 3, op2 0, op1 0, CRn 0, Rt 2, CRm 4, read.
    let read = 3 << 20 | 2 << 5 | 4 << 1 | 1;
    explain(CLASS_SYSTEM_REGISTER, read, 0, &frame);

    explain(CLASS_UNALLOCATED, 0, 0, &frame);
}

fn explain(class: u64, iss: u64, far: u64, frame: &TrapFrame) {
    let exit = RawExit::Synchronous(Syndrome {
        esr: class << CLASS_SHIFT | IL | iss,
        far,
        hpfar: UART_PAGE,
    });
    match decode(&exit, frame) {
        Exit::MmioWrite(write) => println!(
            "store of {:#x} in {} byte to {:?}, by way of {:#x}",
            write.value(),
            write.width().bytes(),
            write.address(),
            write.virtual_address(),
        ),
        Exit::MmioRead(read) => println!(
            "load of {} bytes from {:?}: 0x8090 arrives in x{} as {:#x}",
            read.width().bytes(),
            read.address(),
            read.target().register(),
            read.extend(0x8090),
        ),
        Exit::Hypercall { immediate } => {
            println!("hypercall {immediate}, behind which the PC points already");
        }
        Exit::SystemRegisterRead(read) => {
            println!("MRS X{} of {}", read.target(), read.register());
        }
        Exit::Injected(exception) => {
            println!("no such class of exception: the guest takes {exception:?}");
        }
        other => println!("{other:?}"),
    }
}
