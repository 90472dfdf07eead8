//! Physical interrupts that arrive while a guest runs.

use alloc::vec::Vec;

use arm_vcpu::fakes;
use vm_contract::IntId;

use super::{ENTRY, one_guest, run_to_the_end};
use crate::cpu::PhysicalInterrupt;
use crate::testing::{Deed, Inside, Plan, Rig};

const TIMER: u32 = 27;

/// A guest whose interrupts are on.
fn ready_guest() -> Rig {
    let rig = one_guest();
    rig.enable_interrupts(0);
    rig.script(0, 0).look(|inside| inside.open_interrupts());
    rig
}

fn timer_entry(inside: &Inside<'_>) -> arm_vgic_core::ListRegister {
    let mut entries = inside
        .ich
        .list_registers()
        .iter()
        .filter(|lr| lr.intid() == TIMER);
    *entries.next().expect("the timer has a list register")
}

#[test]
fn the_virtual_timer_reaches_the_guest_linked_to_the_physical_interrupt() {
    let mut rig = ready_guest();
    rig.script(0, 0)
        // The VM's counter was zero at the start.
        .look(|inside| inside.arm_timer(300))
        .wait()
        .look(|inside| {
            let entry = timer_entry(inside);
            assert_eq!(entry.pintid(), Some(27));
            assert!(entry.is_pending());
            assert_eq!(inside.acknowledge(), Some(TIMER));
            inside.arm_timer(800);
            inside.ich.end(arm_vgic_core::Group::One, TIMER);
        })
        .wait()
        .look(|inside| {
            inside.stop_timer();
            assert_eq!(inside.handle_interrupt(), Some(TIMER));
        });
    run_to_the_end(&mut rig);
    assert_eq!(rig.now(), Rig::START + 800);
    let deeds = &rig.cpu(0).wires().deeds;
    let touched = |deed: &&Deed| matches!(deed, Deed::Activate(_) | Deed::Deactivate(_));
    assert_eq!(
        deeds.iter().filter(touched).count(),
        0,
        "the guest deactivates it by itself"
    );
}

#[test]
fn a_timer_that_was_stopped_before_its_interrupt_was_seen_is_withdrawn() {
    const SGI_BASE: u64 = 0x080b_0000;
    const ICENABLER0: u64 = SGI_BASE + 0x180;
    let mut rig = ready_guest();
    rig.script(0, 0)
        // Disabled, so that it waits in the interrupt controller.
        .leave(|inside| inside.store(ICENABLER0, 2, 1 << TIMER))
        .look(|inside| inside.arm_timer(300));
    rig.settle();
    rig.advance_to(Rig::START + 300);
    rig.settle();
    assert!(rig.cpu(0).wires().timer_active, "taken, and not handed out");
    rig.script(0, 0)
        .look(|inside| inside.stop_timer())
        .leave(|inside| inside.store(ICENABLER0 - 0x80, 2, 1 << TIMER))
        .look(|inside| assert_eq!(inside.ich.signalled(), None, "nothing to see"));
    run_to_the_end(&mut rig);
    assert!(!rig.cpu(0).wires().timer_active);
    assert!(rig.cpu(0).wires().deeds.contains(&Deed::Deactivate(TIMER)));
}

#[test]
fn interrupts_beyond_the_list_registers_follow_by_maintenance() {
    let plan = Plan {
        lr_count: 2,
        ..Plan::default()
    };
    let mut rig = Rig::from_plan(&plan);
    rig.enable_interrupts(0);
    let script = rig.script(0, 0);
    script.look(|inside| inside.open_interrupts());
    script.leave(|inside| inside.store(0x080b_0200, 2, 0xffff));
    for _ in 0..16 {
        script.wait().look(|inside| {
            let held = inside
                .ich
                .list_registers()
                .iter()
                .filter(|lr| !lr.is_inactive());
            assert!(held.count() <= 2);
            assert!(inside.handle_interrupt().is_some_and(|intid| intid < 16));
        });
    }
    script.look(|inside| assert_eq!(inside.handle_interrupt(), None));
    run_to_the_end(&mut rig);
}

const UART_LCR_H: u64 = 0x0900_002c;
const FIFOS: u64 = 1 << 4;
const UART_CR: u64 = 0x0900_0030;
const ENABLE_BOTH_WAYS: u64 = 0x301;
const UART_IMSC: u64 = 0x0900_0038;
const RECEIVE_AND_TIMEOUT: u64 = 0x50;

#[test]
fn the_consoles_interrupt_feeds_the_guests_uart() {
    let mut rig = ready_guest();
    rig.script(0, 0)
        .leave(|inside| inside.store(UART_LCR_H, 2, FIFOS))
        .leave(|inside| inside.store(UART_CR, 2, ENABLE_BOTH_WAYS))
        .leave(|inside| inside.store(UART_IMSC, 2, RECEIVE_AND_TIMEOUT))
        .wait()
        .look(|inside| assert_eq!(inside.acknowledge(), Some(33)))
        .exit(fakes::load(0x0900_0000, 2, 4))
        .exit(fakes::load(0x0900_0000, 2, 5))
        .look(|inside| {
            assert_eq!(inside.frame.gpr(4), b'o'.into());
            assert_eq!(inside.frame.gpr(5), b'k'.into());
        });
    rig.settle();
    rig.uart.type_in(b"ok");
    rig.cpu(0).wires().raised.push(PhysicalInterrupt::Console);
    run_to_the_end(&mut rig);
}

#[test]
fn what_a_guest_does_not_read_waits_until_it_does() {
    // Without FIFOs the guest's UART has room for one byte.
    const MORE_THAN_FITS: usize = 300;
    let mut rig = ready_guest();
    rig.script(0, 0)
        .leave(|inside| inside.store(UART_CR, 2, ENABLE_BOTH_WAYS))
        .leave(|inside| inside.store(UART_IMSC, 2, RECEIVE_AND_TIMEOUT));
    rig.settle();
    let typed: Vec<u8> = (b'a'..=b'z').cycle().take(MORE_THAN_FITS).collect();
    rig.uart.type_in(&typed);
    for _ in 0..3 {
        rig.cpu(0).wires().raised.push(PhysicalInterrupt::Console);
        rig.settle();
    }
    assert!(
        !rig.uart.listens_receive(),
        "the last bytes wait in the machine's UART"
    );
    for (n, byte) in typed.into_iter().enumerate() {
        rig.script(0, 0)
            .exit(fakes::load(0x0900_0000, 2, 4))
            .look(move |inside| assert_eq!(inside.frame.gpr(4), byte.into(), "byte {n}"));
        rig.settle();
        if rig.uart.listens_receive() {
            rig.cpu(0).wires().raised.push(PhysicalInterrupt::Console);
            rig.settle();
        }
    }
    assert!(rig.uart.listens_receive());
    run_to_the_end(&mut rig);
}

#[test]
fn an_interrupt_that_nobody_asked_for_is_finished_and_forgotten() {
    let mut rig = one_guest();
    let nobodys = IntId::spi(900).expect("an SPI");
    rig.cpu(0)
        .wires()
        .raised
        .push(PhysicalInterrupt::Unexpected(nobodys));
    rig.script(0, 0)
        .look(|inside| assert_eq!(inside.frame.elr, ENTRY));
    run_to_the_end(&mut rig);
}
