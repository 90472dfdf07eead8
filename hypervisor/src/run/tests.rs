//! CPUs that run the main loop.

use smccc::psci::PSCI_SYSTEM_OFF;

use crate::testing::Rig;

#[test]
fn a_vm_that_turns_itself_off_ends_the_loop() {
    let mut rig = Rig::new(&[&[0]]);
    rig.script(0, 0).call(PSCI_SYSTEM_OFF, [0; 3]);
    rig.run();
    assert!(!rig.hypervisor.any_fault());
}
