//! vCPUs that may run on several CPUs.

use alloc::vec::Vec;

use vm_contract::VcpuId;

use super::{SLICE_TICKS, run_to_the_end, send_sgi, turn_on};
use crate::cpu::PcpuId;
use crate::testing::{FakeBoard, Plan, Rig};

/// VMs of one vCPU each, which may run on any CPU, and where each begins.
fn floating(homes: &[&[u32]]) -> Rig {
    Rig::from_plan(&Plan {
        homes,
        floating: true,
        ..Plan::default()
    })
}

/// Returns what share of the time since `since` each VM's first vCPU has run, in
/// percent.
fn shares(rig: &Rig, vms: usize, since: u64) -> Vec<u64> {
    let now = rig.now();
    (0..vms)
        .map(|vm| {
            let vm = rig.vm(vm);
            let time = vm.time(VcpuId::new(0)).expect("vCPU 0");
            time.usage(now).run * 100 / (now - since)
        })
        .collect()
}

#[test]
fn who_waits_goes_to_a_cpu_that_is_idle() {
    // Both begin on the same CPU: VM 1 at the second of its CPUs, VM 0's second
    // vCPU as well.
    let mut rig = floating(&[&[0, 1], &[0]]);
    turn_on(&rig, 1, 0);
    rig.script(1, 0).call(smccc::psci::PSCI_SYSTEM_OFF, [0; 3]);
    rig.run_for(3 * SLICE_TICKS);
    let vm = rig.vm(0);
    let homes = [0, 1].map(|vcpu| vm.mailbox(VcpuId::new(vcpu)).expect("a vCPU").home());
    assert_ne!(homes[0], homes[1]);
    let load = [0, 1].map(|cpu| rig.hypervisor.cpus().load(PcpuId::new(cpu)));
    assert_eq!(load, [1, 1]);
    run_to_the_end(&mut rig, 1);
}

#[test]
fn an_idle_cpu_takes_over_what_waits_elsewhere() {
    let mut rig = floating(&[&[0, 1], &[0], &[0]]);
    rig.enable_interrupts(0);
    turn_on(&rig, 1, 0);
    rig.run_for(SLICE_TICKS);
    // Four vCPUs on two CPUs; those of VM 0 go to sleep.
    for vcpu in 0..2 {
        rig.script(0, vcpu).wait();
    }
    rig.run_for(4 * SLICE_TICKS);
    let began = rig.now();
    let before = [1, 2].map(|vm| {
        let vm = rig.vm(vm);
        vm.time(VcpuId::new(0)).expect("vCPU 0").usage(began).run
    });
    rig.run_for(10 * SLICE_TICKS);
    for (vm, before) in [1, 2].into_iter().zip(before) {
        let vm = rig.vm(vm);
        let ran = vm
            .time(VcpuId::new(0))
            .expect("vCPU 0")
            .usage(rig.now())
            .run
            - before;
        assert_eq!(ran, 10 * SLICE_TICKS, "each has a CPU for itself");
    }
    drop(rig);
}

#[test]
fn three_on_two_cpus_have_two_thirds_each() {
    let mut rig = floating(&[&[0], &[1], &[0]]);
    rig.settle();
    rig.run_for(2000 * SLICE_TICKS);
    let shares = shares(&rig, 3, Rig::START);
    for share in &shares {
        assert!(share.abs_diff(66) <= 3, "{shares:?}");
    }
    run_to_the_end(&mut rig, 3);
}

#[test]
fn weights_count_where_vcpus_meet() {
    let mut rig = Rig::from_plan(&Plan {
        homes: &[&[0], &[0], &[0]],
        shares: &[(100, 0), (200, 0), (100, 0)],
        ..Plan::default()
    });
    rig.settle();
    rig.run_for(1000 * SLICE_TICKS);
    let shares = shares(&rig, 3, Rig::START);
    for (share, fair) in shares.iter().zip([25, 50, 25]) {
        assert!(share.abs_diff(fair) <= 1, "{shares:?}");
    }
    run_to_the_end(&mut rig, 3);
}

#[test]
fn a_higher_priority_has_the_cpu_while_it_wants_it() {
    let mut rig = Rig::from_plan(&Plan {
        homes: &[&[0], &[0]],
        shares: &[(100, 0), (100, 3)],
        ..Plan::default()
    });
    rig.enable_interrupts(1);
    rig.script(1, 0)
        .look(|inside| {
            inside.open_interrupts();
            inside.arm_timer(inside.count + 50 * SLICE_TICKS);
        })
        .wait()
        .look(|inside| {
            inside.stop_timer();
            assert_eq!(inside.handle_interrupt(), Some(27));
        });
    rig.run_for(50 * SLICE_TICKS - 1);
    assert!(!rig.script(1, 0).is_done(), "the other runs meanwhile");
    let ran = shares(&rig, 1, Rig::START);
    assert!(ran[0] >= 99, "{ran:?}");
    rig.run_for(2);
    assert!(rig.script(1, 0).is_done(), "at once, in the other's turn");
    let at = rig.now();
    rig.run_for(100 * SLICE_TICKS);
    let vm = rig.vm(1);
    let usage = vm.time(VcpuId::new(0)).expect("vCPU 0").usage(rig.now());
    assert!(usage.run >= rig.now() - at, "it spins and keeps the CPU");
    drop(rig);
}

/// A vCPU that sleeps most of the time wakes up on time, however many others
/// never sleep.
#[test]
fn who_wakes_up_does_not_wait_for_those_who_spin() {
    const ROUNDS: usize = 50;
    let mut rig = Rig::new(&[&[0], &[0], &[0], &[0]]);
    rig.enable_interrupts(0);
    rig.script(0, 0).look(|inside| inside.open_interrupts());
    for _ in 0..ROUNDS {
        let due = alloc::sync::Arc::new(core::sync::atomic::AtomicU64::new(0));
        let armed = alloc::sync::Arc::clone(&due);
        rig.script(0, 0)
            .look(move |inside| {
                let at = inside.count + 5 * SLICE_TICKS;
                armed.store(at, core::sync::atomic::Ordering::Relaxed);
                inside.arm_timer(at);
            })
            .wait()
            .look(move |inside| {
                inside.stop_timer();
                assert_eq!(inside.handle_interrupt(), Some(27));
                let late = inside.count - due.load(core::sync::atomic::Ordering::Relaxed);
                assert!(late <= SLICE_TICKS / 10, "{late} ticks late");
            });
    }
    rig.run_for(6 * ROUNDS as u64 * SLICE_TICKS);
    assert!(rig.script(0, 0).is_done());
    run_to_the_end(&mut rig, 4);
}

#[test]
fn an_interrupt_finds_a_vcpu_that_has_moved() {
    let mut rig = floating(&[&[0, 1], &[0], &[1], &[0]]);
    rig.enable_interrupts(0);
    turn_on(&rig, 1, 0);
    rig.script(0, 1).look(|inside| inside.open_interrupts());
    for round in 0..100 {
        // Both spin, and share two CPUs with three that spin as well.
        rig.run_for(SLICE_TICKS * (10 + round % 7));
        let sgi = round % 16;
        send_sgi(rig.script(0, 0), sgi, 1 << 1);
        rig.script(0, 1).wait().look(move |inside| {
            assert_eq!(inside.handle_interrupt(), u32::try_from(sgi).ok());
        });
        for _ in 0..100 {
            rig.run_for(SLICE_TICKS);
            if rig.script(0, 1).is_done() && rig.script(0, 0).is_done() {
                break;
            }
        }
        assert!(rig.script(0, 1).is_done(), "round {round}");
    }
    let vm = rig.vm(0);
    let moves: u64 = [0, 1]
        .map(|vcpu| vm.time(VcpuId::new(vcpu)).expect("a vCPU").usage(0).moves)
        .iter()
        .sum();
    assert!(moves > 10, "only {moves} moves");
    run_to_the_end(&mut rig, 4);
}

#[test]
fn a_machine_whose_guests_all_wait_sleeps() {
    let mut rig = floating(&[&[0, 1], &[0], &[1]]);
    for vm in 0..3 {
        rig.script(vm, 0).wait().wait().wait();
    }
    rig.run_for(10 * FakeBoard::FREQUENCY);
    let deeds = |rig: &Rig| [0, 1].map(|cpu| rig.cpu(cpu).wires().deeds.len());
    let before = deeds(&rig);
    rig.run_for(1000 * FakeBoard::FREQUENCY);
    assert_eq!(deeds(&rig), before, "nothing happens");
    drop(rig);
}
