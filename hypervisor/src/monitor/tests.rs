//! Commands, on a machine that runs.

use alloc::string::{String, ToString};

use smccc::psci::PSCI_SYSTEM_OFF;
use vm_contract::VcpuId;

use super::*;
use crate::cpu::PhysicalInterrupt;
use crate::sched::SLICE_MS;
use crate::testing::{FakeBoard, Mood, Rig};
use crate::vm::power::{Phase, StopReason};

/// Types on the console and returns what the machine then prints.
fn type_in(rig: &mut Rig, text: &str) -> String {
    let before = rig.uart.sent().len();
    rig.uart.type_in(text.as_bytes());
    // The interrupt is asserted as long as there is something to receive.
    while rig.uart.has_received() {
        rig.cpu(0).wires().raised.push(PhysicalInterrupt::Console);
        rig.settle();
    }
    rig.uart.sent()[before..].to_string()
}

const A_FEW_SLICES: u64 = 3 * FakeBoard::FREQUENCY * SLICE_MS / 1000;

/// Free memory of every guest.
const SCRATCH: usize = 0x4030_0000;

/// Checks that the guest of `vm` executes what it is told.
fn assert_alive(rig: &mut Rig, vm: usize) {
    rig.script(vm, 0).look(|_| {});
    rig.run_for(A_FEW_SLICES);
    assert!(rig.script(vm, 0).is_done(), "VM {vm} runs");
}

#[test]
fn commands_are_understood_or_explained() {
    for (line, command) in [
        ("", Command::Nothing),
        ("  vms ", Command::Vms),
        ("restart 12", Command::Restart(12)),
        ("log debug", Command::Log(log::LevelFilter::Debug)),
    ] {
        assert_eq!(Command::parse(line), Ok(command));
    }
    for (line, error) in [
        ("vmss", "vmss: no such command; try help"),
        ("stop", "stop wants the number of a VM"),
        ("stop x", "stop wants the number of a VM"),
        ("stop 70000", "stop wants the number of a VM"),
        (
            "log loud",
            "log wants one of off, error, warn, info, debug, trace",
        ),
        ("vms 1", "1: too much on this line"),
    ] {
        let got = Command::parse(line).expect_err(line);
        assert_eq!(got.to_string(), error);
    }
}

#[test]
fn vms_and_vcpus_are_listed_while_guests_run() {
    let mut rig = Rig::new(&[&[0, 1], &[0]]);
    rig.settle();
    let answer = type_in(&mut rig, "\x1dmvms\r");
    assert!(
        answer.contains("0   running      1 of 2       4 MiB  vm\r\n"),
        "{answer}"
    );
    assert!(answer.contains("1   running      1 of 1       4 MiB  vm\r\n"));
    assert!(answer.ends_with("armature> "));
    let answer = type_in(&mut rig, "vcpus\r");
    assert!(answer.contains("0   1     1    off\r\n"), "{answer}");
    let answer = type_in(&mut rig, "help\rnonsense\r");
    for line in HELP {
        assert!(answer.contains(line));
    }
    assert!(answer.contains("nonsense: no such command"));
    assert!(type_in(&mut rig, "stop 7\r").contains("there is no VM 7"));
}

#[test]
fn an_idle_cpu_answers_too() {
    let mut rig = Rig::new(&[&[0], &[1]]);
    rig.script(0, 0).call(PSCI_SYSTEM_OFF, [0; 3]);
    rig.settle();
    let answer = type_in(&mut rig, "\x1dmvms\r");
    assert!(answer.contains("0   off          0 of 1"), "{answer}");
    assert!(!rig.hypervisor.is_over());
}

#[test]
fn one_vm_is_restarted_while_another_goes_on() {
    let mut rig = Rig::new(&[&[0, 1], &[0]]);
    rig.settle();
    for vm in 0..2 {
        rig.set_word(vm, SCRATCH, 7);
    }
    for life in 0..20 {
        rig.set_word(0, SCRATCH, life + 1);
        let answer = type_in(
            &mut rig,
            if life == 0 {
                "\x1dmrestart 0\r"
            } else {
                "restart 0\r"
            },
        );
        assert!(answer.contains("VM 0 starts anew"), "{answer}");
        rig.run_for(A_FEW_SLICES);
        assert_eq!(rig.word(0, SCRATCH), 0, "memory is as at first");
        assert_eq!(rig.vm(0).state(), Phase::Running);
        assert_alive(&mut rig, 0);
        assert_eq!(rig.word(1, SCRATCH), 7, "the other is undisturbed");
        assert_alive(&mut rig, 1);
    }
    for vm in 0..2 {
        rig.script(vm, 0).call(PSCI_SYSTEM_OFF, [0; 3]);
    }
    rig.run();
    assert!(!rig.hypervisor.any_fault());
}

#[test]
fn a_vm_that_was_stopped_starts_again() {
    let mut rig = Rig::new(&[&[0], &[1, 0]]);
    rig.settle();
    for life in 0..20 {
        let answer = type_in(
            &mut rig,
            if life == 0 {
                "\x1dmstop 1\r"
            } else {
                "stop 1\r"
            },
        );
        assert!(answer.contains("VM 1 stops"), "{answer}");
        assert_eq!(rig.vm(1).state(), Phase::Stopped(StopReason::Off));
        assert!(!rig.vm(1).is_on(VcpuId::new(0)));
        assert!(type_in(&mut rig, "stop 1\r").contains("VM 1 does not run"));
        assert_alive(&mut rig, 0);
        assert!(type_in(&mut rig, "restart 1\r").contains("VM 1 starts anew"));
        assert_alive(&mut rig, 1);
    }
    type_in(&mut rig, "stop 1\r");
    assert!(!rig.hypervisor.is_over());
    type_in(&mut rig, "stop 0\r");
    assert!(rig.hypervisor.is_over());
    rig.run();
    assert_eq!(rig.step(0), Mood::Gone);
}
