//! The Power State Coordination Interface for guests (Arm DEN 0022, version 1.1).

use smccc::arch::SMCCC_VERSION;
use smccc::psci::error::{ALREADY_ON, INTERNAL_FAILURE, INVALID_ADDRESS, INVALID_PARAMETERS};
use smccc::psci::{
    PSCI_AFFINITY_INFO_32, PSCI_AFFINITY_INFO_64, PSCI_CPU_OFF, PSCI_CPU_ON_32, PSCI_CPU_ON_64,
    PSCI_CPU_SUSPEND_32, PSCI_CPU_SUSPEND_64, PSCI_FEATURES, PSCI_MIGRATE_INFO_TYPE,
    PSCI_SYSTEM_OFF, PSCI_SYSTEM_RESET, PSCI_SYSTEM_RESET2_32, PSCI_SYSTEM_RESET2_64, PSCI_VERSION,
};
use vm_contract::{GuestPhysAddr, VcpuId};

use crate::smccc::{Answer, Call, NOT_SUPPORTED};
use crate::vm::Vm;
use crate::vm::power::{CpuOnError, Start, StopReason};

pub(crate) const VERSION_1_1: u64 = 0x1_0001;
const SUCCESS: u64 = 0;
/// No trusted OS that would have to be moved between CPUs.
const MIGRATION_NOT_REQUIRED: u64 = 2;
const AFFINITY_ON: u64 = 0;
const AFFINITY_OFF: u64 = 1;
/// MPIDR_EL1: Aff3 in [39:32], Aff2–Aff0 in [23:0].
const AFFINITY_BITS: u64 = 0xff_00ff_ffff;
/// CPU_SUSPEND's `power_state` in the original format: StateID [15:0],
/// StateType [16], PowerLevel [25:24].
const POWER_STATE_BITS: u64 = 0x0301_ffff;
/// SYSTEM_RESET2's only architectural type.
const SYSTEM_WARM_RESET: u64 = 0;

/// Answers a PSCI call; `None` if the function is not offered.
pub(crate) fn answer(vm: &Vm, caller: VcpuId, call: Call) -> Option<Answer> {
    let [first, second, third] = call.arguments;
    Some(match call.function {
        PSCI_VERSION => Answer::Return(VERSION_1_1),
        PSCI_FEATURES => Answer::Return(features(first)),
        PSCI_CPU_ON_32 | PSCI_CPU_ON_64 => Answer::Return(cpu_on(vm, caller, first, second, third)),
        PSCI_CPU_OFF => Answer::CpuOff,
        PSCI_CPU_SUSPEND_32 | PSCI_CPU_SUSPEND_64 => suspend(first),
        PSCI_AFFINITY_INFO_32 | PSCI_AFFINITY_INFO_64 => {
            Answer::Return(affinity_info(vm, first, second))
        }
        PSCI_MIGRATE_INFO_TYPE => Answer::Return(MIGRATION_NOT_REQUIRED),
        PSCI_SYSTEM_OFF => stop(vm, caller, StopReason::Off),
        PSCI_SYSTEM_RESET => stop(vm, caller, StopReason::Reset),
        PSCI_SYSTEM_RESET2_32 | PSCI_SYSTEM_RESET2_64 if first == SYSTEM_WARM_RESET => {
            stop(vm, caller, StopReason::Reset)
        }
        PSCI_SYSTEM_RESET2_32 | PSCI_SYSTEM_RESET2_64 => error(INVALID_PARAMETERS),
        _ => return None,
    })
}

fn features(function: u64) -> u64 {
    let Ok(function) = u32::try_from(function & 0xffff_ffff) else {
        return NOT_SUPPORTED;
    };
    match function {
        PSCI_VERSION | PSCI_FEATURES | PSCI_CPU_ON_32 | PSCI_CPU_ON_64 | PSCI_CPU_OFF
        | PSCI_AFFINITY_INFO_32 | PSCI_AFFINITY_INFO_64 | PSCI_MIGRATE_INFO_TYPE
        | PSCI_SYSTEM_OFF | PSCI_SYSTEM_RESET | PSCI_SYSTEM_RESET2_32 | PSCI_SYSTEM_RESET2_64
        | SMCCC_VERSION
        // Original power_state format, platform-coordinated: both flags 0.
        | PSCI_CPU_SUSPEND_32 | PSCI_CPU_SUSPEND_64 => SUCCESS,
        _ => NOT_SUPPORTED,
    }
}

fn cpu_on(vm: &Vm, caller: VcpuId, target: u64, entry: u64, context: u64) -> u64 {
    let Some(vcpu) = vm.vcpu_by_affinity(target) else {
        return code(INVALID_PARAMETERS);
    };
    let entry = match usize::try_from(entry).map(GuestPhysAddr::from) {
        Ok(entry) if vm.ram().is_executable(entry) && usize::from(entry).is_multiple_of(4) => entry,
        _ => return code(INVALID_ADDRESS),
    };
    match vm.cpu_on(vcpu, Start { entry, context }, caller) {
        Ok(()) => SUCCESS,
        Err(CpuOnError::AlreadyOn) => code(ALREADY_ON),
        Err(CpuOnError::Unknown) => code(INVALID_PARAMETERS),
        Err(CpuOnError::Stopping) => code(INTERNAL_FAILURE),
    }
}

/// Every state is entered as a standby state, which the specification permits
/// (a power-down request may be downgraded): the call returns once an interrupt
/// is there to wake the vCPU.
fn suspend(power_state: u64) -> Answer {
    if power_state & !POWER_STATE_BITS != 0 {
        return error(INVALID_PARAMETERS);
    }
    Answer::Suspend(SUCCESS)
}

/// Looks at all vCPUs that agree with `target` in the affinity fields from
/// `lowest_level` up: on if one of them is.
fn affinity_info(vm: &Vm, target: u64, lowest_level: u64) -> u64 {
    let ignored: u64 = match lowest_level {
        0 => 0,
        1 => 0xff,
        2 => 0xffff,
        3 => 0xff_ffff,
        _ => return code(INVALID_PARAMETERS),
    };
    if target & !AFFINITY_BITS != 0 {
        return code(INVALID_PARAMETERS);
    }
    let mut found = None;
    for (vcpu, affinity) in vm.affinities() {
        if (affinity ^ target) & !ignored == 0 {
            if vm.is_on(vcpu) {
                return AFFINITY_ON;
            }
            found = Some(AFFINITY_OFF);
        }
    }
    found.unwrap_or(code(INVALID_PARAMETERS))
}

fn stop(vm: &Vm, caller: VcpuId, reason: StopReason) -> Answer {
    vm.request_stop(reason, Some(caller));
    Answer::Stop(reason)
}

fn error(status: i32) -> Answer {
    Answer::Return(code(status))
}

/// Widens a status as the convention wants it: sign-extended.
fn code(status: i32) -> u64 {
    i64::from(status).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn call(vm: &Vm, function: u32, arguments: [u64; 3]) -> Option<Answer> {
        let [a, b, c] = arguments;
        answer(
            vm,
            VcpuId::new(0),
            Call::new([u64::from(function), a, b, c]),
        )
    }

    fn value(vm: &Vm, function: u32, arguments: [u64; 3]) -> u64 {
        match call(vm, function, arguments) {
            Some(Answer::Return(value)) => value,
            other => panic!("{other:?}"),
        }
    }

    const ENTRY: u64 = 0x4000_0000;

    #[test]
    fn every_offered_function_is_a_feature_and_no_other() {
        let vm = testing::vm(2);
        for function in (0x8400_0000..=0x8400_00ff).chain(0xc400_0000..=0xc400_00ff) {
            if matches!(function, PSCI_CPU_OFF | PSCI_SYSTEM_OFF | PSCI_SYSTEM_RESET) {
                continue;
            }
            let offered = call(&vm, function, [u64::MAX; 3]).is_some();
            let listed = value(&vm, PSCI_FEATURES, [u64::from(function), 0, 0]) == SUCCESS;
            assert_eq!(offered, listed, "{function:#x}");
        }
    }

    #[test]
    fn cpu_on_checks_target_then_address_then_state() {
        let vm = testing::vm(2);
        let on = |target, entry| value(&vm, PSCI_CPU_ON_64, [target, entry, 7]);
        assert_eq!(on(2, ENTRY), code(INVALID_PARAMETERS));
        assert_eq!(on(1 << 31 | 1, ENTRY), code(INVALID_PARAMETERS));
        assert_eq!(on(1, 0x900_0000), code(INVALID_ADDRESS));
        assert_eq!(on(1, ENTRY + 2), code(INVALID_ADDRESS));
        assert_eq!(on(1, u64::MAX), code(INVALID_ADDRESS));
        assert_eq!(on(0, ENTRY), code(ALREADY_ON));
        assert_eq!(on(1, ENTRY), SUCCESS);
        assert_eq!(on(1, ENTRY), code(ALREADY_ON));
        assert!(
            vm.mailbox(VcpuId::new(1))
                .is_some_and(|mailbox| mailbox.called())
        );
    }

    #[test]
    fn the_32_bit_call_ignores_the_upper_halves() {
        let vm = testing::vm(2);
        let high = 0xdead_beef_0000_0000;
        assert_eq!(
            value(&vm, PSCI_CPU_ON_32, [high | 1, high | ENTRY, high | 5]),
            SUCCESS
        );
        let start = vm.take_start(VcpuId::new(1)).expect("it was turned on");
        assert_eq!(
            start,
            Start {
                entry: GuestPhysAddr::from(0x4000_0000),
                context: 5
            }
        );
    }

    #[test]
    fn affinity_info_tells_on_from_off() {
        let vm = testing::vm(2);
        let info = |target, level| value(&vm, PSCI_AFFINITY_INFO_64, [target, level, 0]);
        assert_eq!(info(0, 0), AFFINITY_ON);
        assert_eq!(info(1, 0), AFFINITY_OFF);
        assert_eq!(info(1, 1), AFFINITY_ON, "one in the cluster is on");
        assert_eq!(info(2, 0), code(INVALID_PARAMETERS));
        assert_eq!(info(0, 4), code(INVALID_PARAMETERS));
        assert_eq!(info(1 << 24, 0), code(INVALID_PARAMETERS));
    }

    #[test]
    fn suspend_waits_and_succeeds_unless_the_state_is_malformed() {
        let vm = testing::vm(1);
        assert_eq!(
            call(&vm, PSCI_CPU_SUSPEND_64, [0, 0, 0]),
            Some(Answer::Suspend(SUCCESS))
        );
        assert_eq!(
            value(&vm, PSCI_CPU_SUSPEND_64, [1 << 30, 0, 0]),
            code(INVALID_PARAMETERS)
        );
    }

    #[test]
    fn only_the_warm_reset_is_a_second_reset() {
        let vm = testing::vm(1);
        let vendor = 1 << 31;
        assert_eq!(
            value(&vm, PSCI_SYSTEM_RESET2_64, [vendor, 0, 0]),
            code(INVALID_PARAMETERS)
        );
        assert_eq!(
            call(&vm, PSCI_SYSTEM_RESET2_64, [SYSTEM_WARM_RESET, 0, 0]),
            Some(Answer::Stop(StopReason::Reset))
        );
        assert!(vm.is_stopping());
    }
}
