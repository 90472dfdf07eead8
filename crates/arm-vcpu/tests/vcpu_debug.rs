//! The registers that the vCPU answers by itself.

use arm_vcpu::fakes::ScriptedGuest;
use arm_vcpu::{Aarch64VCpu, AxArchVCpu, AxVCpuExitReason, IdRegisters, RawExit, SystemRegister};
use proptest::prelude::*;
use vm_contract::GuestPhysAddr;

/// Six breakpoints and four watchpoints.
const DFR0: u64 = 5 << 12 | 3 << 20 | 6;
/// ID_AA64PFR0_EL1: AArch64 alone at EL1 and EL0.
const AARCH64: u64 = 0x11;
/// ID_AA64PFR0_EL1.GIC: system registers.
const GIC: u64 = 1 << 24;
const MDE: u64 = 1 << 15;

fn bound(guest: ScriptedGuest) -> Aarch64VCpu<ScriptedGuest> {
    bound_with(guest, AARCH64)
}

fn bound_with(guest: ScriptedGuest, pfr0: u64) -> Aarch64VCpu<ScriptedGuest> {
    let host = |register| match register {
        SystemRegister::ID_AA64DFR0_EL1 => DFR0,
        SystemRegister::ID_AA64PFR0_EL1 => pfr0,
        _ => 0,
    };
    guest.into_vcpu(GuestPhysAddr::from(0), IdRegisters::new(host, 40))
}

#[test]
fn id_registers_are_answered_and_cannot_be_written() {
    let mut vcpu = bound(ScriptedGuest::new());
    let pfr0 = vcpu.emulate_system_read(SystemRegister::ID_AA64PFR0_EL1);
    assert_eq!(pfr0.map(|value| value & 0xFF), Some(0x11));
    assert!(!vcpu.emulate_system_write(SystemRegister::ID_AA64PFR0_EL1, 0));
}

#[test]
fn the_auxiliary_control_register_reads_as_zero_and_ignores_writes() {
    let mut vcpu = bound(ScriptedGuest::new());
    assert!(vcpu.emulate_system_write(SystemRegister::ACTLR_EL1, u64::MAX));
    assert_eq!(vcpu.emulate_system_read(SystemRegister::ACTLR_EL1), Some(0));
}

#[test]
fn gic_system_registers_cannot_be_turned_off() {
    let mut vcpu = bound_with(ScriptedGuest::new(), AARCH64 | GIC);
    assert!(vcpu.emulate_system_write(SystemRegister::ICC_SRE_EL1, 0));
    let sre = vcpu.emulate_system_read(SystemRegister::ICC_SRE_EL1);
    assert_eq!(sre, Some(0b111), "SRE, DFB and DIB");
}

#[test]
fn a_guest_that_is_shown_no_gic_system_registers_has_none() {
    let mut vcpu = bound(ScriptedGuest::new());
    let sre = SystemRegister::ICC_SRE_EL1;
    assert_eq!(vcpu.emulate_system_read(sre), None);
    assert!(!vcpu.emulate_system_write(sre, 7));
}

#[test]
fn registers_of_others_are_left_to_them() {
    let mut vcpu = bound(ScriptedGuest::new());
    for register in [
        SystemRegister::ICC_SGI1R_EL1,
        SystemRegister::CNTP_CTL_EL0,
        SystemRegister::PMCR_EL0,
        SystemRegister::new(3, 0, 15, 2, 1),
        SystemRegister::new(2, 1, 0, 0, 1),
    ] {
        assert_eq!(vcpu.emulate_system_read(register), None, "{register}");
        assert!(!vcpu.emulate_system_write(register, 0), "{register}");
    }
}

#[test]
fn only_breakpoints_that_are_shown_exist() {
    let mut vcpu = bound(ScriptedGuest::new());
    assert!(vcpu.emulate_system_write(SystemRegister::dbgbvr(5), 0x1000));
    assert_eq!(
        vcpu.emulate_system_read(SystemRegister::dbgbvr(5)),
        Some(0x1000)
    );
    assert!(!vcpu.emulate_system_write(SystemRegister::dbgbvr(6), 0x1000));
    assert_eq!(vcpu.emulate_system_read(SystemRegister::dbgbcr(6)), None);
    assert!(vcpu.emulate_system_write(SystemRegister::dbgwvr(3), 0x1003));
    assert_eq!(
        vcpu.emulate_system_read(SystemRegister::dbgwvr(3)),
        Some(0x1000)
    );
    assert_eq!(vcpu.emulate_system_read(SystemRegister::dbgwcr(4)), None);
}

#[test]
fn reserved_bits_of_debug_controls_stay_zero() {
    let mut vcpu = bound(ScriptedGuest::new());
    for (register, kept) in [
        (SystemRegister::MDSCR_EL1, 0xB001),
        (SystemRegister::dbgbcr(0), 0x00FF_E1E7),
        (SystemRegister::dbgwcr(0), 0x1F1F_FFFF),
    ] {
        assert!(vcpu.emulate_system_write(register, u64::MAX));
        assert_eq!(vcpu.emulate_system_read(register), Some(kept));
    }
}

#[test]
fn the_os_lock_is_held_after_reset_and_follows_the_guest() {
    let mut vcpu = bound(ScriptedGuest::new());
    let status = SystemRegister::OSLSR_EL1;
    assert_eq!(vcpu.emulate_system_read(status), Some(0b1010));
    assert!(vcpu.emulate_system_write(SystemRegister::OSLAR_EL1, 0));
    assert_eq!(vcpu.emulate_system_read(status), Some(0b1000));
}

#[test]
fn debug_registers_reach_the_cpu_at_once_and_end_with_a_reset() {
    let mut vcpu = bound(
        ScriptedGuest::new()
            .then(|_, registers| {
                assert!(registers.debug.armed());
                assert_eq!(registers.debug.mdscr(), MDE);
                assert_eq!(registers.debug.breakpoints().len(), 6);
                assert_eq!(registers.debug.breakpoints()[2].control, 1);
                assert_eq!(registers.debug.watchpoints().len(), 4);
                RawExit::Irq
            })
            .then(|_, registers| {
                assert!(!registers.debug.armed());
                assert!(registers.debug.os_locked());
                assert_eq!(registers.debug.breakpoints().len(), 6);
                assert_eq!(registers.debug.breakpoints()[2].control, 0);
                RawExit::Irq
            }),
    );
    assert!(vcpu.emulate_system_write(SystemRegister::dbgbcr(2), 1));
    assert!(vcpu.emulate_system_write(SystemRegister::MDSCR_EL1, MDE));
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
    vcpu.reset(GuestPhysAddr::from(0), 0);
    assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::ExternalInterrupt));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_register_access_changes_more_than_debug_state(
        (op0, op1, crn, crm, op2) in (
            prop_oneof![0..4u8, Just(2)],
            prop_oneof![0..8u8, Just(0)],
            prop_oneof![0..16u8, Just(0)],
            0..16u8,
            0..8u8,
        ),
        value: u64,
    ) {
        let register = SystemRegister::new(op0, op1, crn, crm, op2);
        let mut vcpu = bound_with(ScriptedGuest::new(), AARCH64 | GIC);
        let before = vcpu.emulate_system_read(register);
        if vcpu.emulate_system_write(register, value) {
            let after = vcpu.emulate_system_read(register);
            prop_assert!(op0 == 2 || after == before, "{register}");
            // What was read is written back without effect.
            if let Some(after) = after {
                prop_assert!(vcpu.emulate_system_write(register, after));
                prop_assert_eq!(vcpu.emulate_system_read(register), Some(after));
            }
        } else {
            prop_assert_eq!(vcpu.emulate_system_read(register), before);
        }
    }
}
