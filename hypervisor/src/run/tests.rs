//! CPUs that run the main loop.

mod concurrent;
mod lives;
mod moving;
mod power;
mod shuffled;
mod turns;
mod waiting;

use arm_vcpu::SystemRegister;
use smccc::psci::{PSCI_CPU_ON_64, PSCI_SYSTEM_OFF};

use crate::testing::{FakeBoard, Rig, SLICE_MS, Script};

/// Where kernels are entered.
const ENTRY: u64 = 0x4008_0000;

/// Counter ticks in a slice.
const SLICE_TICKS: u64 = FakeBoard::FREQUENCY * SLICE_MS / 1000;

/// Makes vCPU 0 of VM 0 turn vCPU `target` on.
fn turn_on(rig: &Rig, target: u64, context: u64) {
    turn_on_in(rig, 0, target, context);
}

/// Makes vCPU 0 of VM `vm` turn vCPU `target` on.
fn turn_on_in(rig: &Rig, vm: usize, target: u64, context: u64) {
    rig.script(vm, 0)
        .call(PSCI_CPU_ON_64, [target, ENTRY, context])
        .look(|inside| assert_eq!(inside.frame.gpr(0), 0, "SUCCESS"));
}

/// Makes a guest send SGI `sgi` to the vCPUs in `targets`.
fn send_sgi(script: &Script, sgi: u64, targets: u64) {
    let value = sgi << 24 | targets;
    script.leave(move |inside| inside.write_register(SystemRegister::ICC_SGI1R_EL1, value));
}

/// Turns VM `vm` off and runs the machine to its end.
fn run_to_the_end(rig: &mut Rig, vms: usize) {
    for vm in 0..vms {
        rig.script(vm, 0).call(PSCI_SYSTEM_OFF, [0; 3]);
    }
    rig.run();
    assert!(rig.is_over());
}
