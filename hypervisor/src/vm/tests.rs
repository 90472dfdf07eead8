//! A VM that is paused and goes on.

use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::cpu::Machine;
use crate::testing::{self, Mood, Threads};

#[test]
fn time_stands_still_from_when_the_last_vcpu_has_left() {
    let (vm, board) = testing::vm_on_board(2);
    let offset = vm.counter_offset();
    assert!(vm.try_enter());
    assert!(vm.pause());
    assert!(!vm.try_enter(), "nobody begins a turn");
    board.set_now(board.now_ticks() + 50);
    // The guest has seen its counter advance until here.
    assert!(!vm.resume(), "a vCPU is still in the guest");
    vm.leave(board.now_ticks());
    board.set_now(board.now_ticks() + 1000);
    assert!(vm.resume());
    assert_eq!(vm.counter_offset(), offset + 1000);
    assert!(!vm.resume());
    assert!(vm.try_enter());
}

/// vCPUs that have short turns, at the same time, while the VM is paused and goes
/// on again and again.
#[test]
fn no_guest_sees_its_counter_run_backwards() {
    const PAUSES: usize = if cfg!(miri) { 15 } else { 20_000 };
    let (vm, board) = testing::vm_on_board(2);
    let is_over = Arc::new(AtomicBool::new(false));
    let turns = Arc::new(AtomicUsize::new(0));
    let threads = Threads::spawn(board, |cpu| {
        let (vm, is_over, turns) = (Arc::clone(&vm), Arc::clone(&is_over), Arc::clone(&turns));
        move || {
            let mut last = 0;
            while !is_over.load(Ordering::Relaxed) {
                // As main loops do: who sees that it is paused does not even try.
                if !vm.is_paused() && vm.try_enter() {
                    let count = board.now_ticks() - vm.counter_offset();
                    assert!(last <= count, "{count} after {last}");
                    last = count;
                    vm.leave(board.now_ticks());
                    turns.fetch_add(1, Ordering::Relaxed);
                }
                board.pass(cpu, Mood::Awake);
            }
        }
    });
    threads.let_go();
    let report = || format!("{:?}", vm.state());
    for _ in 0..PAUSES {
        let before = turns.load(Ordering::Relaxed);
        assert!(vm.pause());
        threads.wait_until(|| vm.resume(), report);
        threads.wait_until(|| turns.load(Ordering::Relaxed) > before, report);
    }
    is_over.store(true, Ordering::Relaxed);
    threads.wait_until(|| threads.are_gone(), report);
}
