//! Commands, on a machine that runs.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use std::sync::Mutex;

use smccc::psci::PSCI_SYSTEM_OFF;
use vm_contract::VcpuId;

use super::command::HELP;
use crate::cpu::PhysicalInterrupt;
use crate::machine::Condition;
use crate::testing::{FakeBoard, FakeDisk, Mood, Plan, Rig, SLICE_MS};
use crate::vm::power::Phase;

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

/// Types a command to the monitor, which has the focus from the first one on.
fn command(rig: &mut Rig, line: &str) -> String {
    type_in(rig, &alloc::format!("\x1dm{line}\r"))
}

fn off(rig: &mut Rig, vms: core::ops::Range<usize>) {
    for vm in vms {
        rig.script(vm, 0).call(PSCI_SYSTEM_OFF, [0; 3]);
    }
    rig.run();
}

#[test]
fn vms_and_vcpus_are_listed_while_guests_run() {
    let mut rig = Rig::new(&[&[0, 1], &[0]]);
    rig.settle();
    let answer = command(&mut rig, "vms");
    assert!(
        answer.contains("0   running      1 of 2       4 MiB  vm\r\n"),
        "{answer}"
    );
    assert!(answer.contains("1   running      1 of 1       4 MiB  vm\r\n"));
    assert!(answer.ends_with("armature> "));
    let answer = type_in(&mut rig, "vcpus\r");
    assert!(
        answer.contains("0   1     1    off    100     0         1\r\n"),
        "{answer}"
    );
    let answer = type_in(&mut rig, "help\rnonsense\r");
    for line in HELP {
        assert!(answer.contains(line));
    }
    assert!(answer.contains("nonsense: no such command"));
    assert!(type_in(&mut rig, "stop 7\r").contains("VM 7: there is no such VM; try vms"));
    off(&mut rig, 0..2);
}

#[test]
fn a_key_lists_the_vms_without_the_monitor() {
    let mut rig = Rig::new(&[&[0]]);
    rig.settle();
    let answer = type_in(&mut rig, "\x1dl");
    assert!(
        answer.contains("0   running      1 of 1       4 MiB  vm"),
        "{answer}"
    );
    assert!(!answer.contains("armature>"), "the focus stays");
    off(&mut rig, 0..1);
}

#[test]
fn an_idle_cpu_answers_too() {
    let mut rig = Rig::new(&[&[0], &[1]]);
    rig.script(0, 0).call(PSCI_SYSTEM_OFF, [0; 3]);
    rig.settle();
    let answer = command(&mut rig, "vms");
    assert!(answer.contains("0   off          0 of 1"), "{answer}");
    assert!(!rig.hypervisor.is_over());
}

/// Returns the free frames as `mem` shows them.
fn free_frames(rig: &mut Rig) -> usize {
    let answer = command(rig, "mem");
    let (_, rest) = answer.split_once("frames free: ").expect("mem says so");
    let number = rest.split(' ').next().expect("a number");
    number.parse().expect("a number")
}

#[test]
fn one_vm_is_restarted_while_another_goes_on() {
    let mut rig = Rig::new(&[&[0, 1], &[0]]);
    rig.settle();
    for vm in 0..2 {
        rig.set_word(vm, SCRATCH, 7);
    }
    let before = free_frames(&mut rig);
    for life in 0..20 {
        rig.set_word(0, SCRATCH, life + 1);
        let answer = command(&mut rig, "restart 0");
        assert!(answer.contains("VM 0 starts anew"), "{answer}");
        rig.run_for(A_FEW_SLICES);
        assert_eq!(rig.word(0, SCRATCH), 0, "memory is as at first");
        assert_eq!(rig.vm(0).state(), Phase::Running);
        assert_alive(&mut rig, 0);
        assert_eq!(rig.word(1, SCRATCH), 7, "the other is undisturbed");
        assert_alive(&mut rig, 1);
    }
    assert_eq!(free_frames(&mut rig), before);
    off(&mut rig, 0..2);
    assert!(!rig.hypervisor.any_fault());
}

#[test]
fn a_vm_that_is_off_has_nothing_and_starts_again() {
    let mut rig = Rig::new(&[&[0], &[1, 0]]);
    rig.settle();
    let with_both = free_frames(&mut rig);
    for _ in 0..20 {
        let answer = command(&mut rig, "stop 1");
        assert!(answer.contains("VM 1 stops"), "{answer}");
        assert_eq!(rig.hypervisor.slots()[1].condition(), Condition::Off);
        assert!(rig.hypervisor.slots()[1].vm().is_none());
        assert!(free_frames(&mut rig) >= with_both + 1024, "4 MiB are back");
        assert!(command(&mut rig, "stop 1").contains("VM 1: it is off"));
        assert!(command(&mut rig, "irq 1").contains("VM 1: it is off"));
        assert_alive(&mut rig, 0);
        assert!(command(&mut rig, "restart 1").contains("VM 1 starts anew"));
        assert_alive(&mut rig, 1);
        assert_eq!(free_frames(&mut rig), with_both);
    }
    command(&mut rig, "stop 1");
    assert!(!rig.hypervisor.is_over());
    command(&mut rig, "stop 0");
    assert!(rig.hypervisor.is_over());
    rig.run();
    assert_eq!(rig.step(0), Mood::Gone);
}

#[test]
fn a_vm_that_failed_is_stopped_alone_and_can_be_started_again() {
    let mut rig = Rig::new(&[&[0], &[0]]);
    rig.script(0, 0)
        .exit(arm_vcpu::fakes::hypercall(1))
        .exit(arm_vcpu::RawExit::SError { esr: 0xbf00_0002 });
    rig.run_for(A_FEW_SLICES);
    let report = rig.hypervisor.slots()[0].condition();
    assert_eq!(report, Condition::Failed);
    assert_alive(&mut rig, 1);
    command(&mut rig, "restart 0");
    assert_alive(&mut rig, 0);
    off(&mut rig, 0..2);
    assert!(rig.hypervisor.any_fault(), "the run as a whole has failed");
}

#[test]
fn a_paused_vm_does_nothing_and_loses_no_time() {
    let mut rig = Rig::new(&[&[0, 1], &[0]]);
    rig.enable_interrupts(0);
    rig.script(0, 0).look(|inside| {
        inside.open_interrupts();
        inside.arm_timer(inside.count + 1000 * FakeBoard::FREQUENCY);
    });
    rig.run_for(A_FEW_SLICES);
    assert!(rig.script(0, 0).is_done());
    assert!(command(&mut rig, "resume 0").contains("VM 0: it is not paused"));
    assert!(command(&mut rig, "pause 0").contains("VM 0 is paused"));
    assert!(command(&mut rig, "pause 0").contains("VM 0: it is paused"));
    let count = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&count);
    rig.script(0, 0)
        .look(move |inside| *seen.lock().expect("one at a time") = inside.count);
    let at = rig.now();
    rig.run_for(5000 * FakeBoard::FREQUENCY);
    assert!(!rig.script(0, 0).is_done(), "it is halted");
    assert_alive(&mut rig, 1);
    assert!(command(&mut rig, "vms").contains("0   paused"));
    let paused_for = rig.now() - at;
    assert!(command(&mut rig, "resume 0").contains("VM 0 goes on"));
    rig.run_for(A_FEW_SLICES);
    assert!(rig.script(0, 0).is_done());
    let count = *count.lock().expect("one at a time");
    assert!(count < paused_for, "its clock stood still: {count}");
    // The timer that it armed is not due yet, and comes in its own time.
    rig.script(0, 0)
        .look(|inside| assert_eq!(inside.ich.signalled(), None))
        .wait()
        .look(|inside| {
            inside.stop_timer();
            assert_eq!(inside.handle_interrupt(), Some(27));
        });
    rig.run_for(1100 * FakeBoard::FREQUENCY);
    assert!(rig.script(0, 0).is_done());
    off(&mut rig, 0..2);
}

#[test]
fn a_paused_vm_can_be_restarted_and_stopped() {
    let mut rig = Rig::new(&[&[0, 1], &[0]]);
    rig.settle();
    command(&mut rig, "pause 0");
    assert!(command(&mut rig, "restart 0").contains("VM 0 starts anew"));
    assert_alive(&mut rig, 0);
    command(&mut rig, "pause 0");
    assert!(command(&mut rig, "stop 0").contains("VM 0 stops"));
    assert_eq!(rig.hypervisor.slots()[0].condition(), Condition::Off);
    off(&mut rig, 1..2);
}

#[test]
fn times_add_up() {
    let mut rig = Rig::new(&[&[0], &[0]]);
    rig.settle();
    rig.run_for(100 * FakeBoard::FREQUENCY);
    let now = rig.now();
    let [one, other] = [0, 1].map(|vm| {
        let vm = rig.vm(vm);
        vm.time(VcpuId::new(0)).expect("vCPU 0").usage(now)
    });
    let total = now - Rig::START;
    let slice = FakeBoard::FREQUENCY * SLICE_MS / 1000;
    assert_eq!(one.run + other.run, total);
    assert!(one.run.abs_diff(other.run) <= slice);
    assert!((one.run + one.stolen).abs_diff(total) <= slice);
    let answer = command(&mut rig, "stats");
    assert!(
        answer.contains("VM  vCPU  CPU     run ms   stolen ms"),
        "{answer}"
    );
    assert!(
        answer.contains("0   0     0        50000       49990")
            || answer.contains("0   0     0        50000       50000"),
        "{answer}"
    );
    off(&mut rig, 0..2);
}

#[test]
fn stats_tell_how_many_want_a_cpu_also_where_there_is_but_one() {
    let mut rig = Rig::new(&[&[0], &[0], &[0]]);
    rig.settle();
    let load = |rig: &mut Rig| {
        let answer = command(rig, "stats");
        let mut lines = answer.lines().skip_while(|line| !line.starts_with("CPU "));
        let line = lines.nth(1).expect("a line for CPU 0");
        let load = line.split_whitespace().nth(1).map(str::parse::<usize>);
        load.expect("a load").expect("a number")
    };
    assert_eq!(load(&mut rig), 3);
    rig.script(1, 0).call(PSCI_SYSTEM_OFF, [0; 3]);
    rig.run_for(2 * A_FEW_SLICES);
    assert_eq!(load(&mut rig), 2);
    rig.script(2, 0).call(PSCI_SYSTEM_OFF, [0; 3]);
    off(&mut rig, 0..1);
}

#[test]
fn interrupts_of_a_vm_are_listed() {
    let mut rig = Rig::new(&[&[0], &[0]]);
    rig.settle();
    let answer = command(&mut rig, "irq 0");
    assert!(answer.contains("INTID  vCPU  enabled"), "{answer}");
    assert!(!answer.contains("\r\n27 "), "{answer}");
    rig.enable_interrupts(0);
    let vm = rig.vm(0);
    let pending = |vgic: &mut crate::vm::vgic::Vgic| {
        let kicks = vgic.set_pending(VcpuId::new(0), vm_contract::IntId::spi(5).expect("an SPI"));
        ((), kicks)
    };
    vm.with_vgic(None, pending);
    rig.settle();
    let answer = command(&mut rig, "irq 0");
    assert!(
        answer.contains("27     0     yes      -        -       0x00"),
        "{answer}"
    );
    assert!(
        answer.contains("37     any   yes      yes      -       0x00"),
        "{answer}"
    );
    off(&mut rig, 0..2);
}

#[test]
fn exits_are_told_by_vcpu_and_reason_also_of_a_vm_that_is_off() {
    const PSCI_VERSION: u32 = 0x8400_0000;
    let mut rig = Rig::new(&[&[0, 1], &[0]]);
    for _ in 0..3 {
        rig.script(0, 0).call(PSCI_VERSION, [0; 3]);
    }
    rig.settle();
    let answer = command(&mut rig, "stats 0");
    assert!(
        answer.contains("\n0     hvc                     3 "),
        "{answer}"
    );
    assert!(!answer.contains("\n1     hvc"), "{answer}");
    assert!(command(&mut rig, "stats 2").contains("VM 2: there is no such VM"));
    rig.script(0, 0).call(PSCI_SYSTEM_OFF, [0; 3]);
    rig.settle();
    let answer = command(&mut rig, "stats 0");
    assert!(
        answer.contains("\n0     hvc                     4 "),
        "{answer}"
    );
    off(&mut rig, 1..2);
}

#[test]
fn devices_that_vms_share_are_listed() {
    let mut rig = Rig::from_plan(&Plan {
        homes: &[&[0], &[0]],
        disk: Some(FakeDisk::default()),
        ..Plan::default()
    });
    rig.settle();
    let answer = command(&mut rig, "disks");
    assert!(answer.contains("whole, 2 MiB"), "{answer}");
    let answer = command(&mut rig, "net");
    let ports = answer.lines().filter(|line| line.ends_with(" 0        0"));
    assert_eq!(ports.count(), 2, "{answer}");
    off(&mut rig, 0..2);
    let mut rig = Rig::new(&[&[0]]);
    rig.settle();
    assert!(command(&mut rig, "net").contains("VM  card"));
}
