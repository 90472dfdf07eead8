//! Calls by HVC and SMC.

use arm_vcpu::fakes;
use smccc::arch::{SMCCC_ARCH_FEATURES, SMCCC_VERSION};
use smccc::psci::{PSCI_SYSTEM_OFF, PSCI_VERSION};

use super::{ENTRY, one_guest, run_to_the_end};
use crate::testing::{FakeBoard, Inside, Rig, Script};

const NOT_SUPPORTED: u64 = u64::MAX;

/// Fills every register with a value of its own.
fn fill_registers(inside: &mut Inside<'_>) {
    for n in 0..31 {
        inside.frame.set_gpr(n, 0x1111_0000_0000_0000 + n as u64);
    }
}

/// Checks that only X0 has changed since, to `x0`.
fn assert_only_x0(inside: &Inside<'_>, x0: u64) {
    assert_eq!(inside.frame.gpr(0), x0);
    for n in 1..31 {
        assert_eq!(
            inside.frame.gpr(n),
            0x1111_0000_0000_0000 + n as u64,
            "X{n}"
        );
    }
}

fn call_with_full_registers(script: &Script, function: u64, exit: arm_vcpu::RawExit) {
    script.leave(move |inside| {
        fill_registers(inside);
        inside.frame.set_gpr(0, function);
        exit
    });
}

#[test]
fn a_hypercall_is_answered_in_x0_alone() {
    let mut rig = one_guest();
    call_with_full_registers(rig.script(0, 0), PSCI_VERSION.into(), fakes::hypercall(0));
    rig.script(0, 0).look(|inside| {
        assert_only_x0(inside, 0x1_0001);
        // The CPU, not the hypervisor, steps over HVC; this one has not.
        assert_eq!(inside.frame.elr, ENTRY);
    });
    run_to_the_end(&mut rig);
}

#[test]
fn an_smc_is_answered_as_well_and_stepped_over() {
    let mut rig = one_guest();
    let function = SMCCC_VERSION.into();
    call_with_full_registers(rig.script(0, 0), function, fakes::secure_monitor_call(0));
    rig.script(0, 0).look(|inside| {
        assert_only_x0(inside, 0x1_0002);
        assert_eq!(inside.frame.elr, ENTRY + 4);
    });
    run_to_the_end(&mut rig);
}

#[test]
fn a_call_with_an_immediate_is_not_supported() {
    let mut rig = one_guest();
    for exit in [fakes::hypercall(1), fakes::secure_monitor_call(0xffff)] {
        call_with_full_registers(rig.script(0, 0), PSCI_VERSION.into(), exit);
        rig.script(0, 0)
            .look(|inside| assert_only_x0(inside, NOT_SUPPORTED));
    }
    run_to_the_end(&mut rig);
}

#[test]
fn no_function_that_nobody_offers_goes_anywhere() {
    let mut rig = one_guest();
    // Every owner's range, fast and yielding, 32 and 64 bits.
    for owner in 0..64u64 {
        for kind in [0x0000_0000, 0x4000_0000, 0x8000_0000, 0xc000_0000] {
            let function = kind | owner << 24 | 0xfe0f;
            call_with_full_registers(rig.script(0, 0), function, fakes::secure_monitor_call(0));
            rig.script(0, 0)
                .look(|inside| assert_only_x0(inside, NOT_SUPPORTED));
        }
    }
    run_to_the_end(&mut rig);
}

#[test]
fn stolen_time_is_offered_and_counts_what_others_run() {
    const PV_TIME_FEATURES: u32 = 0xc500_0020;
    const PV_TIME_ST: u32 = 0xc500_0021;
    const STOLEN_TIME: usize = 0x090a_0000;
    let mut rig = Rig::new(&[&[0], &[0]]);
    for (function, argument, result) in [
        (SMCCC_ARCH_FEATURES, PV_TIME_FEATURES, 0),
        (SMCCC_ARCH_FEATURES, PV_TIME_ST, NOT_SUPPORTED),
        (PV_TIME_FEATURES, PV_TIME_FEATURES, 0),
        (PV_TIME_FEATURES, PV_TIME_ST, 0),
        (PV_TIME_FEATURES, PV_TIME_ST + 1, NOT_SUPPORTED),
        (PV_TIME_ST, 0, STOLEN_TIME as u64),
    ] {
        rig.script(0, 0)
            .call(function, [argument.into(), 0, 0])
            .look(move |inside| {
                assert_eq!(inside.frame.gpr(0), result, "{function:#x} {argument:#x}");
            });
    }
    rig.run_for(100 * FakeBoard::FREQUENCY);
    assert!(rig.script(0, 0).is_done());
    let words = [0, 4, 8, 12].map(|offset| rig.word(0, STOLEN_TIME + offset));
    let [revision, attributes, low, high] = words;
    assert_eq!((revision, attributes), (0, 0));
    let stolen_ms = (u64::from(high) << 32 | u64::from(low)) / 1_000_000;
    assert!(stolen_ms.abs_diff(50_000) <= 20, "{stolen_ms} ms");
    for vm in 0..2 {
        rig.script(vm, 0).call(PSCI_SYSTEM_OFF, [0; 3]);
    }
    rig.run();
}
