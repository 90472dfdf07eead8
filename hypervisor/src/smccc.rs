//! The SMC Calling Convention (Arm DEN 0028, version 1.2) as guests see it.
//!
//! Nothing a guest says reaches firmware: every call is answered here, and a
//! call that nobody offers returns NOT_SUPPORTED. Only X0 changes; X1–X30 keep
//! their values, which the convention allows for every call offered.

use smccc::arch::{SMCCC_ARCH_FEATURES, SMCCC_VERSION};
use smccc::psci::PSCI_VERSION;
use vm_contract::VcpuId;

use crate::psci;
use crate::vm::Vm;
use crate::vm::power::StopReason;
use crate::vm::time::stolen_time_address;

/// PV_TIME_FEATURES and PV_TIME_ST of Arm DEN 0057.
const PV_TIME_FEATURES: u32 = 0xc500_0020;
const PV_TIME_ST: u32 = 0xc500_0021;

const VERSION_1_2: u64 = 0x1_0002;
const SUCCESS: u64 = 0;
/// In the low 32 bits for 32-bit calls as well: the convention sign-extends it.
pub(crate) const NOT_SUPPORTED: u64 = u64::MAX;

/// The bit of a function identifier that tells 64-bit calls from 32-bit ones.
const CALL_64_BIT: u32 = 1 << 30;

/// A call, as its registers say.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The function identifier: W0.
    pub function: u32,
    /// X1–X3, cut to 32 bits in a 32-bit call.
    pub arguments: [u64; 3],
}

impl Call {
    /// Makes a call out of X0–X3.
    #[must_use]
    pub const fn new(registers: [u64; 4]) -> Self {
        let [function, x1, x2, x3] = registers;
        let function = (function & 0xffff_ffff) as u32;
        let mask = if function & CALL_64_BIT == 0 {
            0xffff_ffff
        } else {
            u64::MAX
        };
        Self {
            function,
            arguments: [x1 & mask, x2 & mask, x3 & mask],
        }
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// X0 takes this value and the caller goes on.
    Return(u64),
    /// X0 takes this value once the caller has waited for an interrupt.
    Suspend(u64),
    /// The calling vCPU wants to be off; it is once it has left the CPU.
    CpuOff,
    /// The VM is stopping for this reason.
    Stop(StopReason),
}

/// Answers a call without parameters to a function that only returns a number, and
/// one to a function of a service that nobody offers: in short, what needs neither the
/// VM nor more than the function's identifier.
#[inline(always)]
#[must_use]
pub const fn constant(function: u32) -> Option<u64> {
    /// The bits of the identifier that name the owner of a fast call's service.
    const OWNER: u32 = 0xbf00_0000;
    const ARCHITECTURE: u32 = 0x8000_0000;
    const STANDARD: u32 = 0x8400_0000;
    const HYPERVISOR: u32 = 0x8500_0000;
    match function {
        PSCI_VERSION => Some(psci::VERSION_1_1),
        SMCCC_VERSION => Some(VERSION_1_2),
        _ => match function & OWNER {
            ARCHITECTURE | STANDARD | HYPERVISOR => None,
            _ => Some(NOT_SUPPORTED),
        },
    }
}

/// Answers a call that `caller` makes.
#[must_use]
pub fn answer(vm: &Vm, caller: VcpuId, call: Call) -> Answer {
    if let Some(value) = constant(call.function) {
        return Answer::Return(value);
    }
    match call.function {
        SMCCC_ARCH_FEATURES => Answer::Return(arch_feature(call.arguments[0])),
        PV_TIME_FEATURES => Answer::Return(pv_time_feature(call.arguments[0])),
        PV_TIME_ST => Answer::Return(usize::from(stolen_time_address(caller)) as u64),
        _ => psci::answer(vm, caller, call).unwrap_or(Answer::Return(NOT_SUPPORTED)),
    }
}

/// No workaround is offered: a guest that needs one of its own CPU's errata
/// handled in firmware is told that it is not there.
fn arch_feature(function: u64) -> u64 {
    let offered = [SMCCC_VERSION, SMCCC_ARCH_FEATURES, PV_TIME_FEATURES].map(u64::from);
    if offered.contains(&(function & 0xffff_ffff)) {
        SUCCESS
    } else {
        NOT_SUPPORTED
    }
}

fn pv_time_feature(function: u64) -> u64 {
    let offered = [PV_TIME_FEATURES, PV_TIME_ST].map(u64::from);
    if offered.contains(&(function & 0xffff_ffff)) {
        SUCCESS
    } else {
        NOT_SUPPORTED
    }
}
