//! VMs and vCPUs that start and stop.

use arm_vcpu::RawExit;
use smccc::psci::{PSCI_CPU_OFF, PSCI_CPU_SUSPEND_64, PSCI_SYSTEM_OFF, PSCI_SYSTEM_RESET};
use vm_contract::VcpuId;

use super::{ENTRY, SLICE_TICKS, run_to_the_end, send_sgi, turn_on};
use crate::smccc::{Answer, Call, answer};
use crate::testing::{Plan, Rig, VM_BYTES};

/// Free memory of every guest.
const SCRATCH: usize = 0x4030_0000;

#[test]
fn a_vm_that_turns_itself_off_ends_the_loop_of_every_cpu() {
    let mut rig = Rig::new(&[&[0, 1, 2]]);
    turn_on(&rig, 1, 0);
    rig.settle();
    // vCPU 1 spins, vCPU 2 was never on.
    run_to_the_end(&mut rig, 1);
    assert!(!rig.hypervisor.any_fault());
}

#[test]
fn any_vcpu_may_turn_the_vm_off() {
    let mut rig = Rig::new(&[&[0, 1]]);
    turn_on(&rig, 1, 0);
    rig.script(0, 1).call(PSCI_SYSTEM_OFF, [0; 3]);
    rig.run();
    assert!(rig.is_over());
}

#[test]
fn a_vcpu_goes_on_off_and_on_again() {
    let mut rig = Rig::new(&[&[0, 1]]);
    for life in 0..50 {
        turn_on(&rig, 1, 1000 + life);
        rig.script(0, 1)
            .look(move |inside| {
                assert_eq!(inside.frame.elr, ENTRY);
                assert_eq!(inside.frame.gpr(0), 1000 + life);
                assert_eq!(inside.frame.gpr(7), 0, "nothing is left of an earlier life");
                assert_eq!(inside.registers.vbar_el1, 0);
                assert_eq!(inside.registers.timer.ctl, 0);
                inside.frame.set_gpr(7, 7);
                inside.registers.vbar_el1 = 0x4010_0000;
                inside.arm_timer(u64::MAX);
            })
            .call(PSCI_CPU_OFF, [0; 3]);
        rig.settle();
        assert!(rig.script(0, 0).is_done() && rig.script(0, 1).is_done());
        assert!(!rig.vm(0).is_on(VcpuId::new(1)));
    }
    run_to_the_end(&mut rig, 1);
}

#[test]
fn a_vcpu_that_starts_has_no_timer_interrupt_of_an_earlier_life() {
    let mut rig = Rig::new(&[&[0, 1]]);
    rig.enable_interrupts(0);
    turn_on(&rig, 1, 0);
    // It never takes the interrupt.
    rig.script(0, 1)
        .look(|inside| inside.arm_timer(inside.count + 100));
    rig.settle();
    rig.advance_to(rig.now() + 100);
    rig.settle();
    rig.script(0, 1).call(PSCI_CPU_OFF, [0; 3]);
    rig.settle();
    turn_on(&rig, 1, 0);
    rig.script(0, 1).look(|inside| {
        inside.open_interrupts();
        assert_eq!(inside.handle_interrupt(), None);
    });
    rig.settle();
    assert!(rig.script(0, 1).is_done());
    run_to_the_end(&mut rig, 1);
}

#[test]
fn the_last_vcpu_to_go_off_takes_the_vm_with_it() {
    let mut rig = Rig::new(&[&[0, 1]]);
    turn_on(&rig, 1, 0);
    rig.script(0, 1).call(PSCI_CPU_OFF, [0; 3]);
    rig.settle();
    rig.script(0, 0).call(PSCI_CPU_OFF, [0; 3]);
    rig.run();
    assert!(rig.is_over());
    assert!(!rig.hypervisor.any_fault());
}

#[test]
fn a_reset_starts_the_vm_as_it_was_at_first() {
    const UART_IMSC: u64 = 0x0900_0038;
    let mut rig = Rig::new(&[&[0, 1]]);
    let tree = rig.vm(0).clone();
    rig.enable_interrupts(0);
    turn_on(&rig, 1, 0);
    rig.script(0, 0)
        .look(|inside| inside.open_interrupts())
        .leave(|inside| inside.store(UART_IMSC, 2, 0x7ff));
    rig.settle();
    rig.set_word(0, SCRATCH, 0xdead_beef);
    rig.set_word(0, 0x4008_0000, 0);
    rig.script(0, 0).call(PSCI_SYSTEM_RESET, [0; 3]);
    rig.settle();

    assert!(!tree.is_stopping());
    assert!(tree.is_on(VcpuId::new(0)));
    assert!(!tree.is_on(VcpuId::new(1)));
    assert_eq!(rig.word(0, SCRATCH), 0, "memory is clear");
    assert_eq!(
        rig.word(0, 0x4008_0000),
        0xd503_201f,
        "and the image is back"
    );
    let tree_address = 0x4000_0000 + (VM_BYTES / 2);
    rig.script(0, 0)
        .look(move |inside| {
            assert_eq!(inside.frame.elr, ENTRY);
            assert_eq!(inside.frame.gpr(0), tree_address);
            assert_eq!(inside.ich.signalled(), None);
        })
        .exit(arm_vcpu::fakes::load(UART_IMSC, 2, 4))
        .look(|inside| assert_eq!(inside.frame.gpr(4), 0, "devices are reset"))
        // GICD_CTLR
        .exit(arm_vcpu::fakes::load(0x0800_0000, 2, 4))
        .look(|inside| assert_eq!(inside.frame.gpr(4) & 0b11, 0, "so is the distributor"));
    rig.settle();
    assert!(rig.script(0, 0).is_done());
    turn_on(&rig, 1, 5);
    run_to_the_end(&mut rig, 1);
}

#[test]
fn a_reset_leaves_no_interrupt_of_the_life_before() {
    const UART_IMSC: u64 = 0x0900_0038;
    let mut rig = Rig::new(&[&[0]]);
    rig.enable_interrupts(0);
    rig.script(0, 0)
        // Transmit interrupt: pending as soon as a byte is sent.
        .leave(|inside| inside.store(0x0900_0030, 2, 0x301))
        .leave(|inside| inside.store(UART_IMSC, 2, 0x20))
        .leave(|inside| inside.store(0x0900_0000, 0, 0x41))
        .call(PSCI_SYSTEM_RESET, [0; 3]);
    rig.settle();
    rig.enable_interrupts(0);
    rig.script(0, 0)
        .look(|inside| inside.open_interrupts())
        // Whatever makes the list registers be looked at.
        .leave(|inside| inside.store(0x080b_0200, 2, 1))
        .look(|inside| {
            assert_eq!(inside.handle_interrupt(), Some(0));
            assert_eq!(inside.handle_interrupt(), None);
        });
    run_to_the_end(&mut rig, 1);
    assert!(rig.script(0, 0).is_done());
}

#[test]
fn a_reset_finds_vcpus_that_are_suspended() {
    let mut rig = Rig::new(&[&[0, 1]]);
    turn_on(&rig, 1, 0);
    rig.script(0, 1).call(PSCI_CPU_SUSPEND_64, [0; 3]);
    rig.settle();
    rig.script(0, 1)
        .look(|_| panic!("a vCPU of a stopping VM ran"));
    rig.script(0, 0).call(PSCI_SYSTEM_RESET, [0; 3]);
    rig.settle();
    assert!(!rig.vm(0).is_stopping(), "the reset came to its end");
    assert!(!rig.vm(0).is_on(VcpuId::new(1)));
    rig.script(0, 1).clear();
    run_to_the_end(&mut rig, 1);
}

#[test]
fn a_vcpu_counts_as_on_until_it_has_left_its_cpu() {
    // Else a reset could begin while it is still in its interrupt controller.
    let mut rig = Rig::new(&[&[0, 1]]);
    turn_on(&rig, 1, 0);
    rig.settle();
    let call = Call::new([PSCI_CPU_OFF.into(), 0, 0, 0]);
    assert_eq!(answer(&rig.vm(0), VcpuId::new(1), call), Answer::CpuOff);
    assert!(rig.vm(0).is_on(VcpuId::new(1)));
    run_to_the_end(&mut rig, 1);
}

#[test]
fn a_fault_stops_one_vm_alone() {
    let mut rig = Rig::new(&[&[0, 1], &[0], &[1]]);
    turn_on(&rig, 1, 0);
    rig.script(0, 1).exit(RawExit::SError { esr: 0xbf00_0002 });
    rig.run_for(5 * SLICE_TICKS);
    assert!(rig.hypervisor.any_fault());
    for vm in [1, 2] {
        rig.script(vm, 0)
            .look(|inside| assert_eq!(inside.frame.elr, ENTRY));
    }
    rig.settle();
    assert!(
        rig.script(1, 0).is_done() && rig.script(2, 0).is_done(),
        "the others go on"
    );
    assert!(!rig.hypervisor.is_over());
    for vm in [1, 2] {
        rig.script(vm, 0).call(PSCI_SYSTEM_OFF, [0; 3]);
    }
    rig.run();
    assert!(rig.hypervisor.any_fault());
}

#[test]
fn firmware_is_reset_to_its_entry_too() {
    let mut rig = Rig::from_plan(&Plan {
        firmware: true,
        ..Plan::default()
    });
    rig.script(0, 0)
        .call(PSCI_SYSTEM_RESET, [0; 3])
        .look(|inside| {
            assert_eq!((inside.frame.elr, inside.frame.gpr(0)), (0, 0x4000_0000));
        });
    run_to_the_end(&mut rig, 1);
}

#[test]
fn interrupts_sent_to_a_vcpu_that_is_off_wait_for_it() {
    let mut rig = Rig::new(&[&[0, 1]]);
    rig.enable_interrupts(0);
    send_sgi(rig.script(0, 0), 6, 1 << 1);
    turn_on(&rig, 1, 0);
    rig.script(0, 1).look(|inside| {
        inside.open_interrupts();
        assert_eq!(inside.handle_interrupt(), Some(6));
    });
    rig.settle();
    assert!(rig.script(0, 1).is_done());
    run_to_the_end(&mut rig, 1);
}
