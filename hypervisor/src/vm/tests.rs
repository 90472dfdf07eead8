//! A VM that is paused and goes on.

use crate::cpu::Machine;
use crate::testing;

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
