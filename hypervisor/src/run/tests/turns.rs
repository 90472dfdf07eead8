//! Several vCPUs on one CPU.

use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::Mutex;

use arm_vcpu::SystemRegister;

use super::{SLICE_TICKS, run_to_the_end, turn_on};
use crate::cpu::PcpuId;
use crate::testing::{Deed, Rig};

/// Returns the VM that runs on CPU 0.
fn running(rig: &Rig) -> usize {
    let mut running = rig.hypervisor.cpus().running();
    let (cpu, vcpu) = running.next().expect("there is a CPU");
    assert_eq!(cpu, PcpuId::new(0));
    let (vm, _) = vcpu.expect("a guest runs");
    vm.raw().into()
}

#[test]
fn three_guests_that_never_stop_share_a_cpu_in_turn() {
    let mut rig = Rig::new(&[&[0], &[0], &[0]]);
    rig.settle();
    let first = running(&rig);
    for turn in first..first + 9 {
        assert_eq!(running(&rig), turn % 3);
        let end = rig.cpu(0).wires().deadline;
        assert_eq!(end, Some(rig.now() + SLICE_TICKS));
        rig.advance_to(rig.now() + SLICE_TICKS - 1);
        rig.settle();
        assert_eq!(running(&rig), turn % 3, "not before the slice ends");
        rig.advance_to(rig.now() + 1);
        rig.settle();
    }
    run_to_the_end(&mut rig, 3);
}

#[test]
fn a_guest_that_is_alone_has_no_slices() {
    let mut rig = Rig::new(&[&[0]]);
    rig.settle();
    assert_eq!(rig.cpu(0).wires().deadline, None);
    rig.advance_to(rig.now() + 100 * SLICE_TICKS);
    rig.settle();
    let deeds = rig.cpu(0).wires().deeds.clone();
    assert!(
        !deeds
            .iter()
            .any(|deed| matches!(deed, Deed::Deadline(Some(_))))
    );
}

#[test]
fn a_guest_whose_neighbours_wait_has_no_slices_either() {
    let mut rig = Rig::new(&[&[0], &[0]]);
    rig.script(0, 0).wait();
    rig.settle();
    assert_eq!(running(&rig), 1);
    // A slice was given while the first was still ready, or none at all.
    rig.advance_to(rig.now() + SLICE_TICKS);
    rig.settle();
    assert_eq!(running(&rig), 1);
    assert_eq!(rig.cpu(0).wires().deadline, None);
}

#[test]
fn a_guest_cannot_keep_the_cpu_by_programming_its_timer() {
    let mut rig = Rig::new(&[&[0], &[0]]);
    rig.settle();
    let first = running(&rig);
    let end = rig.cpu(0).wires().deadline;
    for control in [1, 0] {
        rig.script(first, 0)
            .leave(|inside| inside.write_register(SystemRegister::CNTP_CVAL_EL0, u64::MAX))
            .leave(move |inside| inside.write_register(SystemRegister::CNTP_CTL_EL0, control));
        rig.settle();
        assert_eq!(
            rig.cpu(0).wires().deadline,
            end,
            "its slice ends when it did"
        );
    }
    rig.advance_to(rig.now() + SLICE_TICKS);
    rig.settle();
    assert_eq!(running(&rig), 1 - first);
}

#[test]
fn a_guest_cannot_silence_a_neighbours_timer() {
    let mut rig = Rig::new(&[&[0], &[0]]);
    rig.enable_interrupts(0);
    rig.script(0, 0)
        .look(|inside| {
            inside.open_interrupts();
            inside.arm_timer(10 * SLICE_TICKS);
        })
        .wait()
        .look(|inside| assert_eq!(inside.handle_interrupt(), Some(27)));
    // The other guest leaves in its slice for the one that has to begin.
    rig.run_for(2 * SLICE_TICKS);
    assert_eq!(running(&rig), 1);
    for register in [SystemRegister::CNTP_CTL_EL0, SystemRegister::CNTP_CVAL_EL0] {
        rig.script(1, 0)
            .leave(move |inside| inside.write_register(register, 0));
    }
    rig.settle();
    rig.advance_to(Rig::START + 10 * SLICE_TICKS);
    rig.run_for(2 * SLICE_TICKS);
    rig.settle();
    assert!(rig.script(0, 0).is_done());
    run_to_the_end(&mut rig, 2);
}

#[test]
fn whoever_waits_gives_the_cpu_away_at_once() {
    let mut rig = Rig::new(&[&[0], &[0]]);
    let order = Arc::new(Mutex::new(Vec::new()));
    for round in 0..3 {
        for vm in 0..2 {
            let order = Arc::clone(&order);
            // WFE: it goes on when its turn comes.
            rig.script(vm, 0).leave(move |_| {
                order.lock().expect("one at a time").push((round, vm));
                arm_vcpu::RawExit::Synchronous(arm_vcpu::Syndrome {
                    esr: 0x01 << 26 | 1 << 25 | 1,
                    far: 0,
                    hpfar: 0,
                })
            });
        }
    }
    run_to_the_end(&mut rig, 2);
    let order = order.lock().expect("all have ended");
    let rounds: Vec<_> = order.iter().map(|(round, _)| *round).collect();
    assert_eq!(rounds, [0, 0, 1, 1, 2, 2], "{order:?}");
    assert_eq!(rig.now(), Rig::START, "nobody had to wait for a slice");
}

/// How often translations were dropped on the rig's CPU since the last call.
fn drops(rig: &Rig) -> usize {
    let deeds = core::mem::take(&mut rig.cpu(0).wires().deeds);
    deeds.iter().filter(|deed| **deed == Deed::Forget).count()
}

#[test]
fn translations_are_dropped_between_vcpus_of_a_vm_and_only_then() {
    let mut rig = Rig::new(&[&[0, 0]]);
    turn_on(&rig, 1, 0);
    rig.settle();
    rig.advance_to(rig.now() + SLICE_TICKS);
    rig.settle();
    drops(&rig);
    rig.advance_to(rig.now() + SLICE_TICKS);
    rig.settle();
    assert_eq!(drops(&rig), 1);
    // Exits that end no turn.
    for vcpu in 0..2 {
        for _ in 0..3 {
            rig.script(0, vcpu).exit(arm_vcpu::fakes::hypercall(1));
        }
    }
    rig.settle();
    assert_eq!(drops(&rig), 0);
    run_to_the_end(&mut rig, 1);
}

#[test]
fn vms_keep_their_translations_while_others_have_the_cpu() {
    let mut rig = Rig::new(&[&[0], &[0]]);
    rig.settle();
    rig.advance_to(rig.now() + SLICE_TICKS);
    rig.settle();
    drops(&rig);
    for _ in 0..3 {
        rig.advance_to(rig.now() + SLICE_TICKS);
        rig.settle();
    }
    assert_eq!(drops(&rig), 0);
    run_to_the_end(&mut rig, 2);
}

#[test]
fn a_timer_in_flight_follows_its_guest_and_frees_the_next_ones() {
    let mut rig = Rig::new(&[&[0], &[0]]);
    for vm in 0..2 {
        rig.enable_interrupts(vm);
        rig.script(vm, 0).look(|inside| {
            inside.open_interrupts();
            inside.arm_timer(3 * SLICE_TICKS);
        });
    }
    rig.run_for(2 * SLICE_TICKS);
    rig.advance_to(Rig::START + 3 * SLICE_TICKS);
    // Whoever runs then has its timer interrupt in hand when its slice ends.
    rig.settle();
    let (first, second) = (running(&rig), 1 - running(&rig));
    rig.cpu(0).wires().deeds.clear();
    rig.script(first, 0)
        .look(|inside| assert_eq!(inside.acknowledge(), Some(27)));
    rig.settle();
    rig.script(second, 0).look(|inside| {
        inside.stop_timer();
        assert_eq!(
            inside.handle_interrupt(),
            Some(27),
            "the same PPI, of another guest"
        );
    });
    rig.advance_to(rig.now() + SLICE_TICKS);
    rig.settle();
    assert_eq!(running(&rig), second);
    assert!(rig.script(second, 0).is_done());
    rig.script(first, 0).look(|inside| {
        inside.stop_timer();
        inside.ich.end(arm_vgic_core::Group::One, 27);
    });
    rig.advance_to(rig.now() + SLICE_TICKS);
    rig.settle();
    assert!(rig.script(first, 0).is_done());
    assert!(!rig.cpu(0).wires().timer_active);
    let deeds = rig.cpu(0).wires().deeds.clone();
    let moves: Vec<_> = deeds
        .iter()
        .filter(|d| matches!(d, Deed::Activate(_) | Deed::Deactivate(_)))
        .collect();
    assert_eq!(moves, [&Deed::Deactivate(27), &Deed::Activate(27)]);
    run_to_the_end(&mut rig, 2);
}
