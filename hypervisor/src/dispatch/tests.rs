//! Exits of a guest, one kind after the other, as the guest experiences them.

mod calls;
mod faults;
mod gicv2;
mod interrupts;
mod its;
mod mmio;
mod registers;

use smccc::psci::PSCI_SYSTEM_OFF;

use crate::testing::{Inside, Plan, Rig};

/// Where kernels are entered.
const ENTRY: u64 = 0x4008_0000;

/// Lets the only guest of `rig` turn itself off, and runs it until then.
fn run_to_the_end(rig: &mut Rig) {
    rig.script(0, 0).call(PSCI_SYSTEM_OFF, [0; 3]);
    rig.run();
}

/// A machine with one VM that has one vCPU.
fn one_guest() -> Rig {
    Rig::new(&[&[0]])
}

/// The same, and the guest is firmware in read-only memory at address 0.
fn firmware_guest() -> Rig {
    Rig::from_plan(&Plan {
        firmware: true,
        ..Plan::default()
    })
}

/// VBAR_EL1 of guests that take exceptions.
const VECTORS: u64 = 0x4010_0000;

/// ESR_EL1: class, IL set, ISS.
const fn syndrome(class: u64, iss: u64) -> u64 {
    class << 26 | 1 << 25 | iss
}

/// A synchronous external abort, as ISS.DFSC and ISS.IFSC say it.
const EXTERNAL: u64 = 0x10;
/// ISS.WnR.
const WRITE: u64 = 1 << 6;
const INSTRUCTION_ABORT: u64 = syndrome(0x21, EXTERNAL);
const DATA_ABORT: u64 = syndrome(0x25, EXTERNAL);
const DATA_ABORT_BY_WRITE: u64 = syndrome(0x25, EXTERNAL | WRITE);

/// Checks that the guest has just taken a synchronous exception from EL1 to
/// EL1, with the instruction at `elr` to blame.
fn assert_taken(inside: &Inside<'_>, esr: u64, elr: u64) {
    const SYNCHRONOUS_FROM_EL1H: u64 = 0x200;
    const EL1H_ALL_MASKED: u64 = 0x3c5;
    assert_eq!(inside.frame.elr, VECTORS + SYNCHRONOUS_FROM_EL1H);
    assert_eq!(inside.frame.spsr & 0x3df, EL1H_ALL_MASKED);
    assert_eq!(inside.registers.esr_el1, esr, "ESR_EL1");
    assert_eq!(inside.registers.elr_el1, elr, "ELR_EL1");
    assert_eq!(inside.registers.spsr_el1, EL1H_ALL_MASKED, "SPSR_EL1");
}

/// Checks that the guest has just taken an abort on address `far`.
fn assert_abort(inside: &Inside<'_>, esr: u64, far: u64, elr: u64) {
    assert_taken(inside, esr, elr);
    assert_eq!(inside.registers.far_el1, far, "FAR_EL1");
}

/// Checks that the guest's first instruction has turned out to be undefined.
fn assert_undefined(inside: &Inside<'_>) {
    assert_taken(inside, syndrome(0, 0), ENTRY);
}
