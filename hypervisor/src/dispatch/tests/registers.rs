//! Trapped system registers.

use arm_vcpu::{SystemRegister, fakes};

use super::{ENTRY, VECTORS, assert_undefined, one_guest, run_to_the_end};
use crate::testing::Rig;

/// S3_0_C15_C0_0: implementation defined, so nobody's.
const NOBODYS: SystemRegister = SystemRegister::new(3, 0, 15, 0, 0);

#[test]
fn registers_that_do_not_exist_are_undefined() {
    let mut rig = one_guest();
    for is_read in [true, false] {
        rig.script(0, 0)
            .leave(move |inside| {
                inside.registers.vbar_el1 = VECTORS;
                inside.frame.elr = ENTRY;
                inside.frame.set_gpr(2, 77);
                fakes::system_register(NOBODYS, 2, is_read)
            })
            .look(|inside| {
                assert_undefined(inside);
                assert_eq!(inside.frame.gpr(2), 77);
            });
    }
    run_to_the_end(&mut rig);
}

#[test]
fn id_registers_read_as_the_vm_was_told() {
    let mut rig = one_guest();
    let told = rig.vm(0).vcpu_facts().id_registers.clone();
    for register in [
        SystemRegister::ID_AA64PFR0_EL1,
        SystemRegister::ID_AA64MMFR0_EL1,
    ] {
        let value = told.read(register).expect("an ID register");
        assert_ne!(value, 0);
        rig.script(0, 0)
            .exit(fakes::system_register(register, 6, true))
            .look(move |inside| assert_eq!(inside.frame.gpr(6), value));
    }
    rig.script(0, 0)
        .look(|inside| assert_eq!(inside.frame.elr, ENTRY + 8));
    run_to_the_end(&mut rig);
}

#[test]
fn an_id_register_cannot_be_written() {
    let mut rig = one_guest();
    rig.script(0, 0)
        .leave(|inside| {
            inside.registers.vbar_el1 = VECTORS;
            inside.write_register(SystemRegister::ID_AA64PFR0_EL1, 0)
        })
        .look(|inside| {
            assert_undefined(inside);
        });
    run_to_the_end(&mut rig);
}

#[test]
fn the_physical_timer_counts_with_the_machine_and_sets_the_deadline() {
    let mut rig = one_guest();
    rig.script(0, 0)
        .leave(|inside| inside.write_register(SystemRegister::CNTP_TVAL_EL0, 500))
        .leave(|inside| inside.write_register(SystemRegister::CNTP_CTL_EL0, 1))
        .exit(fakes::system_register(
            SystemRegister::CNTP_CVAL_EL0,
            4,
            true,
        ))
        .look(|inside| {
            assert_eq!(inside.frame.gpr(4), Rig::START + 500);
            assert_eq!(inside.frame.elr, ENTRY + 12);
        });
    rig.settle();
    assert_eq!(rig.cpu(0).wires().deadline, Some(Rig::START + 500));
    rig.script(0, 0)
        .leave(|inside| inside.write_register(SystemRegister::CNTP_CTL_EL0, 0));
    rig.settle();
    assert_eq!(
        rig.cpu(0).wires().deadline,
        None,
        "a timer that is off has none"
    );
    run_to_the_end(&mut rig);
}

#[test]
fn the_physical_timer_raises_its_interrupt_until_it_is_stopped() {
    let mut rig = one_guest();
    rig.enable_interrupts(0);
    rig.script(0, 0)
        .look(|inside| inside.open_interrupts())
        .leave(|inside| inside.write_register(SystemRegister::CNTP_TVAL_EL0, 500))
        .leave(|inside| inside.write_register(SystemRegister::CNTP_CTL_EL0, 1))
        .wait()
        .exit(fakes::system_register(
            SystemRegister::CNTP_CTL_EL0,
            4,
            true,
        ))
        .look(|inside| {
            assert_eq!(inside.frame.gpr(4), 0b101, "ENABLE and ISTATUS");
            // A level: ended while it is still high, it is there again.
            assert_eq!(inside.handle_interrupt(), Some(30));
        })
        .wait()
        .look(|inside| assert_eq!(inside.acknowledge(), Some(30)))
        .leave(|inside| inside.write_register(SystemRegister::CNTP_CTL_EL0, 0))
        .look(|inside| inside.ich.end(arm_vgic_core::Group::One, 30))
        .exit(fakes::hypercall(1))
        .look(|inside| assert_eq!(inside.ich.signalled(), None));
    rig.settle();
    assert_eq!(rig.now(), Rig::START);
    run_to_the_end(&mut rig);
    assert_eq!(rig.now(), Rig::START + 500);
}

#[test]
fn a_clock_alarm_is_kept_by_a_guest_that_never_leaves() {
    const RTC_MATCH: u64 = 0x0901_0004;
    const RTC_MASK: u64 = 0x0901_0010;
    let mut rig = one_guest();
    rig.enable_interrupts(0);
    rig.script(0, 0)
        .look(|inside| inside.open_interrupts())
        .leave(|inside| inside.store(RTC_MASK, 2, 1))
        .leave(|inside| inside.store(RTC_MATCH, 2, 2))
        .wait()
        .look(|inside| assert_eq!(inside.acknowledge(), Some(34)));
    rig.settle();
    assert!(
        rig.cpu(0).wires().deadline.is_some(),
        "nothing else will wake it"
    );
    run_to_the_end(&mut rig);
    assert_eq!(rig.now() / crate::testing::FakeBoard::FREQUENCY, 2);
}

#[test]
fn an_sgi_kicks_the_cpu_of_its_target_once() {
    let mut rig = Rig::new(&[&[0, 1]]);
    rig.enable_interrupts(0);
    rig.script(0, 0)
        .call(smccc::psci::PSCI_CPU_ON_64, [1, ENTRY, 0]);
    rig.script(0, 1).look(|inside| inside.open_interrupts());
    rig.settle();
    let kicks = rig.cpu(1).wires().kicks;

    // SGIs 3, 3 and 4 to affinity 1, while CPU 1 does not get to run.
    for sgi in [3, 3, 4u64] {
        let value = sgi << 24 | 1 << 1;
        rig.script(0, 0)
            .leave(move |inside| inside.write_register(SystemRegister::ICC_SGI1R_EL1, value));
    }
    while !rig.script(0, 0).is_done() {
        rig.step(0);
    }
    assert_eq!(
        rig.cpu(1).wires().kicks,
        kicks + 1,
        "one call until it is taken"
    );

    rig.script(0, 1).look(|inside| {
        assert_eq!(inside.handle_interrupt(), Some(3));
        assert_eq!(inside.handle_interrupt(), Some(4));
        assert_eq!(inside.handle_interrupt(), None, "two sent as one");
    });
    rig.settle();
    rig.script(0, 0)
        .leave(|inside| inside.write_register(SystemRegister::ICC_SGI1R_EL1, 5 << 24 | 1 << 1));
    rig.script(0, 1)
        .look(|inside| assert_eq!(inside.handle_interrupt(), Some(5)));
    rig.settle();
    assert_eq!(rig.cpu(1).wires().kicks, kicks + 2);
    assert!(rig.script(0, 1).is_done());
    run_to_the_end(&mut rig);
}

#[test]
fn an_sgi_to_oneself_needs_no_kick() {
    let mut rig = one_guest();
    rig.enable_interrupts(0);
    let kicks = rig.cpu(0).wires().kicks;
    rig.script(0, 0)
        .look(|inside| inside.open_interrupts())
        .leave(|inside| inside.write_register(SystemRegister::ICC_SGI1R_EL1, 9 << 24 | 1))
        .look(|inside| assert_eq!(inside.handle_interrupt(), Some(9)));
    rig.settle();
    assert_eq!(rig.cpu(0).wires().kicks, kicks);
    assert!(rig.script(0, 0).is_done());
    run_to_the_end(&mut rig);
}
