//! More interrupts than list registers.

use arm_vgic_v3::{FakeIch, Group};

use crate::machine::{BOOT, Machine};

#[test]
fn everything_pending_comes_in_priority_order_through_one_list_register() {
    for lr_count in [1, 2, 4] {
        let mut machine = Machine::ready(1, lr_count);
        for (spi, n) in (32..96u32).zip(0u8..) {
            machine.set_priority(0, spi, (n.wrapping_mul(37) % 30) << 3);
            machine.line(spi, true);
        }
        let mut last = 0;
        for _ in 32..96 {
            let intid = machine.ack(BOOT).expect("nothing is dropped");
            let priority = ((intid - 32) as u8).wrapping_mul(37) % 30;
            assert!(priority >= last, "{intid} came too late");
            last = priority;
            machine.line(intid, false);
            machine.end(BOOT, intid);
        }
        assert_eq!(machine.ack(BOOT), None);
        assert!(!machine.cpus[0].maintenance());
    }
}

#[test]
fn nested_interrupts_beyond_the_list_registers_end_in_order() {
    let mut machine = Machine::ready(1, 2);
    for (spi, n) in (40..50u32).zip(0u8..) {
        machine.set_priority(0, spi, 0x98 - 8 * n);
        machine.line(spi, true);
        assert_eq!(machine.ack(BOOT), Some(spi), "each preempts the one before");
        machine.line(spi, false);
    }
    for spi in (40..50).rev() {
        machine.end(BOOT, spi);
        assert!(!machine.bit(0, 0x300, spi), "{spi} is no longer active");
        machine.line(spi, true);
        assert_eq!(machine.ack(BOOT), Some(spi), "and can come again");
        machine.line(spi, false);
        machine.end(BOOT, spi);
    }
}

#[test]
fn separate_deactivation_in_any_order_finds_its_interrupt() {
    let mut ich = FakeIch::new(2);
    ich.set_eoi_mode(true);
    let mut machine = Machine::with_cpus(1, &ich);
    machine.cpus[0].set_eoi_mode(true);
    machine.enable_all();
    machine.refresh(BOOT);
    for spi in 40..46 {
        machine.line(spi, true);
        assert_eq!(machine.ack(BOOT), Some(spi));
        machine.end(BOOT, spi);
        machine.line(spi, false);
    }
    for spi in [43, 40, 45, 41, 44, 42] {
        assert!(machine.bit(0, 0x300, spi));
        machine.deactivate(BOOT, spi);
        assert!(!machine.bit(0, 0x300, spi), "{spi}");
    }
}

#[test]
fn interrupts_of_a_group_that_the_guest_masks_do_not_fill_the_list_registers() {
    let mut machine = Machine::ready(1, 2);
    machine.gicd(0x84, !(1 << 20));
    machine.set_priority(0, 52, 0xC0);
    machine.cpus[0].set_group_enabled(Group::One, false);
    (40..50).for_each(|spi| machine.line(spi, true));
    machine.line(52, true);
    assert_eq!(machine.ack_group(BOOT, Group::Zero), Some(52));
    machine.end_group(BOOT, Group::Zero, 52);
}
