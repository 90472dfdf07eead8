//! vCPUs that wait, and what wakes them.

use smccc::psci::PSCI_CPU_SUSPEND_64;

use super::{run_to_the_end, send_sgi, turn_on};
use crate::cpu::PcpuId;
use crate::machine::Condition;
use crate::testing::{Deed, FakeBoard, Mood, Rig};

/// A VM with one vCPU on each of two CPUs, and another VM on both, whose guests
/// wait for ever: WFI traps on both CPUs.
fn two_and_sleepers() -> Rig {
    let mut rig = Rig::new(&[&[0, 1], &[0], &[1]]);
    rig.enable_interrupts(0);
    for sleeper in [1, 2] {
        // A WFI that is not trapped yet ends when another vCPU appears.
        rig.script(sleeper, 0).wait().wait();
    }
    turn_on(&rig, 1, 0);
    rig.script(0, 0).look(|inside| inside.open_interrupts());
    rig.script(0, 1).look(|inside| inside.open_interrupts());
    rig.settle();
    rig
}

/// Returns how often a CPU has gone to sleep.
fn sleeps(rig: &Rig, cpu: usize) -> usize {
    rig.cpu(cpu)
        .wires()
        .deeds
        .iter()
        .filter(|deed| **deed == Deed::Sleep)
        .count()
}

#[test]
fn wfi_does_not_wait_when_an_interrupt_is_there() {
    let mut rig = two_and_sleepers();
    let slept = sleeps(&rig, 0);
    send_sgi(rig.script(0, 0), 2, 1 << 0);
    rig.script(0, 0).wait().look(|inside| {
        assert_eq!(inside.handle_interrupt(), Some(2));
    });
    rig.settle();
    assert!(rig.script(0, 0).is_done());
    assert_eq!(sleeps(&rig, 0), slept);
}

#[test]
fn wfi_waits_for_an_interrupt_that_the_guest_would_take() {
    let mut rig = two_and_sleepers();
    // Masked by priority: it is pending, and WFI sleeps on.
    rig.script(0, 1)
        .look(|inside| inside.ich.set_priority_mask(0))
        .wait();
    rig.settle();
    send_sgi(rig.script(0, 0), 2, 1 << 1);
    rig.script(0, 1)
        .look(|_| panic!("it has nothing to wake for"));
    rig.settle();
    assert!(!rig.script(0, 1).is_done());
    rig.script(0, 1).clear();
}

#[test]
fn an_sgi_of_another_cpu_wakes() {
    let mut rig = two_and_sleepers();
    rig.script(0, 1).wait();
    rig.settle();
    assert!(sleeps(&rig, 1) > 0, "CPU 1 sleeps");
    send_sgi(rig.script(0, 0), 7, 1 << 1);
    rig.script(0, 1)
        .look(|inside| assert_eq!(inside.handle_interrupt(), Some(7)));
    rig.settle();
    assert!(rig.script(0, 1).is_done());
}

#[test]
fn the_virtual_timer_wakes() {
    let mut rig = two_and_sleepers();
    rig.script(0, 0)
        .look(|inside| inside.arm_timer(4321))
        .wait()
        .look(|inside| assert_eq!(inside.handle_interrupt(), Some(27)));
    rig.settle();
    assert_eq!(rig.cpu(0).wires().deadline, Some(Rig::START + 4321));
    rig.advance_to(Rig::START + 4320);
    rig.settle();
    assert!(!rig.script(0, 0).is_done());
    rig.advance_to(Rig::START + 4321);
    rig.settle();
    assert!(rig.script(0, 0).is_done());
}

#[test]
fn a_timer_that_is_masked_or_off_does_not_wake() {
    for control in [0b00, 0b11] {
        let mut rig = two_and_sleepers();
        rig.script(0, 0)
            .look(move |inside| {
                inside.arm_timer(100);
                inside.registers.timer.ctl = control;
            })
            .wait();
        rig.settle();
        assert_eq!(rig.cpu(0).wires().deadline, None);
    }
}

#[test]
fn the_physical_timer_wakes() {
    use arm_vcpu::SystemRegister;
    let mut rig = two_and_sleepers();
    rig.script(0, 0)
        .leave(|inside| inside.write_register(SystemRegister::CNTP_TVAL_EL0, 4321))
        .leave(|inside| inside.write_register(SystemRegister::CNTP_CTL_EL0, 1))
        .wait()
        .look(|inside| assert_eq!(inside.acknowledge(), Some(30)));
    rig.settle();
    assert_eq!(rig.cpu(0).wires().deadline, Some(Rig::START + 4321));
    rig.advance_to(Rig::START + 4321);
    rig.settle();
    assert!(rig.script(0, 0).is_done());
}

/// The hypervisor's timer fires while the guest is on its way out by WFI: whoever
/// looks next must see that the guest's own timer has expired.
#[test]
fn a_physical_timer_that_expires_as_the_guest_leaves_wakes() {
    use arm_vcpu::SystemRegister;
    let mut rig = two_and_sleepers();
    let board = rig.board();
    rig.script(0, 0)
        .leave(|inside| inside.write_register(SystemRegister::CNTP_TVAL_EL0, 4321))
        .leave(|inside| inside.write_register(SystemRegister::CNTP_CTL_EL0, 1))
        .leave(move |_| {
            board.set_now(Rig::START + 4321);
            arm_vcpu::fakes::wait_for_interrupt()
        })
        .look(|inside| assert_eq!(inside.acknowledge(), Some(30)));
    rig.settle();
    assert!(rig.script(0, 0).is_done());
}

#[test]
fn a_suspended_vcpu_returns_from_its_call_when_an_interrupt_comes() {
    let mut rig = Rig::new(&[&[0, 1]]);
    rig.enable_interrupts(0);
    turn_on(&rig, 1, 0);
    rig.script(0, 1)
        .look(|inside| inside.open_interrupts())
        .call(PSCI_CPU_SUSPEND_64, [0; 3])
        .look(|inside| {
            assert_eq!(inside.frame.gpr(0), 0, "SUCCESS");
            assert_eq!(inside.handle_interrupt(), Some(1));
        });
    rig.settle();
    assert!(!rig.script(0, 1).is_done());
    send_sgi(rig.script(0, 0), 1, 1 << 1);
    rig.settle();
    assert!(rig.script(0, 1).is_done());
    run_to_the_end(&mut rig, 1);
}

/// However far CPU 1 has come on its way from the guest's WFI to its own sleep,
/// an SGI sent then wakes its vCPU.
#[test]
fn no_call_is_lost_between_wfi_and_sleep() {
    for steps_before in 0..6 {
        let mut rig = two_and_sleepers();
        rig.script(0, 1).wait().look(|inside| {
            assert_eq!(inside.handle_interrupt(), Some(3));
        });
        for _ in 0..steps_before {
            rig.step(1);
        }
        send_sgi(rig.script(0, 0), 3, 1 << 1);
        for _ in 0..3 {
            assert_ne!(rig.step(0), Mood::Gone);
        }
        rig.settle();
        assert!(rig.script(0, 1).is_done(), "after {steps_before} steps");
    }
}

/// A CPU looks at a vCPU that rests, and its alarm kicks another vCPU: just then
/// somebody stops the VM.
#[test]
fn no_stop_is_lost_while_a_cpu_looks_at_a_vcpu_that_rests() {
    const RTC_MATCH: u64 = 0x0901_0004;
    const RTC_MASK: u64 = 0x0901_0010;
    const RTC_CLEAR: u64 = 0x0901_001c;
    let mut rig = Rig::new(&[&[0, 1], &[1]]);
    rig.enable_interrupts(0);
    rig.script(1, 0).wait().wait();
    turn_on(&rig, 1, 0);
    rig.script(0, 1)
        .leave(|inside| inside.store(RTC_MATCH, 2, 1))
        .leave(|inside| inside.store(RTC_CLEAR, 2, 1))
        .leave(|inside| inside.store(RTC_MASK, 2, 1))
        .wait();
    rig.settle();
    let kicks = rig.cpu(0).wires().kicks;
    let vm = rig.vm(0);
    // The alarm's interrupt is for vCPU 0, which runs.
    rig.board()
        .at_next_kick(PcpuId::new(0), move || assert!(vm.turn_off()));
    rig.advance_to(FakeBoard::FREQUENCY + 1);
    rig.settle();
    assert!(rig.cpu(0).wires().kicks > kicks, "the alarm has rung");
    let slots = rig.hypervisor.slots();
    assert_eq!(slots[0].condition(), Condition::Off);
}

#[test]
fn a_guest_alone_on_its_cpu_waits_by_itself() {
    let mut rig = Rig::new(&[&[0]]);
    rig.enable_interrupts(0);
    rig.script(0, 0)
        .look(|inside| {
            inside.open_interrupts();
            inside.arm_timer(50);
        })
        .wait()
        .look(|inside| {
            inside.stop_timer();
            assert_eq!(inside.handle_interrupt(), Some(27));
        });
    run_to_the_end(&mut rig, 1);
    assert_eq!(sleeps(&rig, 0), 0, "WFI did not trap");
    assert_eq!(rig.now(), Rig::START + 50);
}
