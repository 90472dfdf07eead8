//! Loads and stores that reach devices.

use arm_vcpu::fakes;

use super::{
    DATA_ABORT, DATA_ABORT_BY_WRITE, ENTRY, INSTRUCTION_ABORT, VECTORS, WRITE, assert_abort,
    firmware_guest, one_guest, run_to_the_end, syndrome,
};

const UART: u64 = 0x0900_0000;
const UART_FLAGS: u64 = UART + 0x18;
/// Both FIFOs empty, and a terminal that is there: TXFE, RXFE, DCD, DSR, CTS.
const FLAGS_AT_REST: u64 = 0x97;
const GICD: u64 = 0x0800_0000;
const GICR_SGI_BASE: u64 = 0x080b_0000;
/// In the guest's address space, and in no device or memory.
const NOWHERE: u64 = 0x0b00_0000;

const WORD: u8 = 2;
const DWORD: u8 = 3;

#[test]
fn a_load_from_a_device_fills_the_register_and_steps_the_pc() {
    let mut rig = one_guest();
    rig.script(0, 0)
        .leave(|inside| {
            inside.frame.set_gpr(3, u64::MAX);
            fakes::load(UART_FLAGS, WORD, 3)
        })
        .look(|inside| {
            assert_eq!(inside.frame.gpr(3), FLAGS_AT_REST);
            assert_eq!(inside.frame.elr, ENTRY + 4);
        });
    run_to_the_end(&mut rig);
}

#[test]
fn what_is_stored_to_the_uart_appears_on_the_console() {
    let mut rig = one_guest();
    for byte in *b"hi\r\n" {
        rig.script(0, 0)
            .leave(move |inside| inside.store(UART, 0, byte.into()));
    }
    rig.script(0, 0)
        .look(|inside| assert_eq!(inside.frame.elr, ENTRY + 16));
    run_to_the_end(&mut rig);
    assert_eq!(rig.uart.sent(), "hi\r\n");
}

#[test]
fn a_load_from_nowhere_aborts() {
    let mut rig = one_guest();
    rig.script(0, 0)
        .leave(|inside| {
            inside.registers.vbar_el1 = VECTORS;
            inside.frame.set_gpr(3, 7);
            fakes::load(NOWHERE + 8, DWORD, 3)
        })
        .look(|inside| {
            assert_abort(inside, DATA_ABORT, NOWHERE + 8, ENTRY);
            assert_eq!(inside.frame.gpr(3), 7, "nothing was loaded");
        });
    run_to_the_end(&mut rig);
}

#[test]
fn a_store_to_nowhere_aborts() {
    let mut rig = one_guest();
    rig.script(0, 0)
        .leave(|inside| {
            inside.registers.vbar_el1 = VECTORS;
            inside.store(NOWHERE, WORD, 1)
        })
        .look(|inside| {
            assert_abort(inside, DATA_ABORT_BY_WRITE, NOWHERE, ENTRY);
        });
    run_to_the_end(&mut rig);
}

#[test]
fn an_access_that_leaves_a_device_reaches_nothing() {
    let mut rig = one_guest();
    rig.script(0, 0)
        .leave(|inside| {
            inside.registers.vbar_el1 = VECTORS;
            fakes::load(UART + 0xffc, DWORD, 3)
        })
        .look(|inside| {
            assert_abort(inside, DATA_ABORT, UART + 0xffc, ENTRY);
        });
    run_to_the_end(&mut rig);
}

#[test]
fn a_pair_of_loads_is_found_in_the_instruction() {
    const LDP_W1_W3_X2: u32 = 0x2940_0c41;
    let mut rig = one_guest();
    rig.set_word(0, 0x4008_0000, LDP_W1_W3_X2);
    rig.script(0, 0)
        .leave(|inside| {
            inside.frame.set_gpr(1, u64::MAX);
            inside.frame.set_gpr(2, UART_FLAGS);
            inside.frame.set_gpr(3, u64::MAX);
            fakes::undescribed_access(UART_FLAGS, false)
        })
        .look(|inside| {
            assert_eq!(inside.frame.gpr(1), FLAGS_AT_REST);
            assert_eq!(inside.frame.gpr(3), 0, "a reserved register");
            assert_eq!(inside.frame.elr, ENTRY + 4, "one step for both");
        });
    run_to_the_end(&mut rig);
}

#[test]
fn a_store_with_write_back_sends_and_moves_its_base() {
    const STR_W1_X2_POST_4: u32 = 0xb800_4441;
    let mut rig = one_guest();
    rig.set_word(0, 0x4008_0000, STR_W1_X2_POST_4);
    rig.script(0, 0)
        .leave(|inside| {
            inside.frame.set_gpr(1, b'x'.into());
            inside.frame.set_gpr(2, UART);
            fakes::undescribed_access(UART, true)
        })
        .look(|inside| {
            assert_eq!(inside.frame.gpr(2), UART + 4);
            assert_eq!(inside.frame.elr, ENTRY + 4);
        });
    run_to_the_end(&mut rig);
    assert_eq!(rig.uart.sent(), "x");
}

#[test]
fn an_instruction_that_makes_no_such_access_is_not_carried_out() {
    // The guest has changed its code meanwhile.
    const LDR_W1_X2_POST_4: u32 = 0xb840_4441;
    let mut rig = one_guest();
    rig.set_word(0, 0x4008_0000, LDR_W1_X2_POST_4);
    rig.script(0, 0)
        .exit(fakes::undescribed_access(UART, true))
        .look(|inside| assert_eq!(inside.frame.elr, ENTRY, "it runs again"));
    run_to_the_end(&mut rig);
    assert_eq!(rig.uart.sent(), "");
}

#[test]
fn the_distributor_answers() {
    let mut rig = one_guest();
    rig.script(0, 0)
        .leave(|inside| inside.store(GICD, WORD, 0b10))
        .exit(fakes::load(GICD, WORD, 4))
        .exit(fakes::load(GICD + 4, WORD, 5))
        // No register of 16 bits: reads as zero.
        .leave(|inside| {
            inside.frame.set_gpr(6, 1);
            fakes::load(GICD + 4, 1, 6)
        })
        .look(|inside| {
            assert_eq!(inside.frame.gpr(4) & 0b11, 0b10, "GICD_CTLR.EnableGrp1");
            assert_eq!(
                inside.frame.gpr(5) & 0x1f,
                8,
                "GICD_TYPER.ITLinesNumber: 288 INTIDs"
            );
            assert_eq!(inside.frame.gpr(6), 0);
            assert_eq!(inside.frame.elr, ENTRY + 16);
        });
    run_to_the_end(&mut rig);
}

#[test]
fn a_guest_sees_its_own_interrupt_become_active_and_inactive() {
    const ISPENDR0: u64 = GICR_SGI_BASE + 0x200;
    const ISACTIVER0: u64 = GICR_SGI_BASE + 0x300;
    let mut rig = one_guest();
    rig.enable_interrupts(0);
    rig.script(0, 0)
        .look(|inside| inside.open_interrupts())
        .leave(|inside| inside.store(ISPENDR0, WORD, 1 << 5))
        .look(|inside| assert_eq!(inside.acknowledge(), Some(5)))
        .exit(fakes::load(ISACTIVER0, WORD, 4))
        .look(|inside| {
            assert_eq!(inside.frame.gpr(4), 1 << 5);
            inside.ich.end(arm_vgic_core::Group::One, 5);
        })
        .exit(fakes::load(ISACTIVER0, WORD, 4))
        .look(|inside| assert_eq!(inside.frame.gpr(4), 0));
    run_to_the_end(&mut rig);
}

#[test]
fn firmware_finds_its_tree_at_the_start_of_memory() {
    let mut rig = firmware_guest();
    rig.script(0, 0).look(|inside| {
        assert_eq!(inside.frame.elr, 0);
        assert_eq!(inside.frame.gpr(0), 0x4000_0000);
    });
    assert_eq!(rig.word(0, 0x4000_0000), 0xd00d_feed_u32.swap_bytes());
    run_to_the_end(&mut rig);
}

/// What a store to memory that stage 2 maps read-only causes: a permission
/// fault at level 3, which does not fill HPFAR_EL2.
const fn refused_store(address: u64, described: bool) -> arm_vcpu::RawExit {
    const PERMISSION_LEVEL_3: u64 = 0x0f;
    // ISV, SAS = word, SRT = X1.
    let access = if described {
        1 << 24 | 2 << 22 | 1 << 16
    } else {
        0
    };
    let iss = access | WRITE | PERMISSION_LEVEL_3;
    arm_vcpu::RawExit::Synchronous(arm_vcpu::Syndrome {
        esr: syndrome(0x24, iss),
        far: address,
        hpfar: 0,
    })
}

#[test]
fn a_store_to_firmwares_memory_is_ignored() {
    let mut rig = firmware_guest();
    rig.script(0, 0)
        .leave(|inside| {
            inside.frame.set_gpr(1, 0xdead_beef);
            refused_store(0x40, true)
        })
        .look(|inside| assert_eq!(inside.frame.elr, 4));
    rig.settle();
    assert!(rig.script(0, 0).is_done());
    assert_eq!(rig.word(0, 0x40), 0);
}

#[test]
fn a_pair_of_stores_to_firmwares_memory_is_ignored_once() {
    const STP_X1_X3_X2: u32 = 0xa900_0c41;
    let mut rig = firmware_guest();
    rig.set_word(0, 0, STP_X1_X3_X2);
    rig.script(0, 0)
        .leave(|inside| {
            inside.frame.set_gpr(2, 0x40);
            refused_store(0x40, false)
        })
        .look(|inside| assert_eq!(inside.frame.elr, 4));
    run_to_the_end(&mut rig);
}

#[test]
fn a_fetch_from_outside_memory_aborts() {
    const TRANSLATION_LEVEL_3: u64 = 0x07;
    let mut rig = one_guest();
    rig.script(0, 0)
        .leave(|inside| {
            inside.registers.vbar_el1 = VECTORS;
            inside.frame.elr = UART;
            arm_vcpu::RawExit::Synchronous(arm_vcpu::Syndrome {
                esr: syndrome(0x20, TRANSLATION_LEVEL_3),
                far: UART,
                hpfar: UART >> 8,
            })
        })
        .look(|inside| {
            assert_abort(inside, INSTRUCTION_ABORT, UART, UART);
        });
    run_to_the_end(&mut rig);
}
