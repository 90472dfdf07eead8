//! Calls to the firmware or hypervisor: SMCCC (DEN 0028) and PSCI (DEN 0022).

use core::sync::atomic::{AtomicBool, Ordering};

use super::code;
use super::probe::{self, Fault, Registers};

/// PSCI_VERSION.
pub const PSCI_VERSION: u32 = 0x8400_0000;
/// CPU_SUSPEND, 64-bit form.
pub const CPU_SUSPEND: u32 = 0xC400_0001;
/// CPU_SUSPEND, 32-bit form.
pub const CPU_SUSPEND_32: u32 = 0x8400_0001;
/// CPU_OFF.
pub const CPU_OFF: u32 = 0x8400_0002;
/// CPU_ON, 64-bit form.
pub const CPU_ON: u32 = 0xC400_0003;
/// AFFINITY_INFO, 64-bit form.
pub const AFFINITY_INFO: u32 = 0xC400_0004;
/// MIGRATE_INFO_TYPE.
pub const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
/// SYSTEM_OFF.
pub const SYSTEM_OFF: u32 = 0x8400_0008;
/// SYSTEM_RESET.
pub const SYSTEM_RESET: u32 = 0x8400_0009;
/// PSCI_FEATURES.
pub const PSCI_FEATURES: u32 = 0x8400_000A;
/// SYSTEM_RESET2, 64-bit form.
pub const SYSTEM_RESET2: u32 = 0xC400_0012;
/// SMCCC_VERSION.
pub const SMCCC_VERSION: u32 = 0x8000_0000;
/// SMCCC_ARCH_FEATURES.
pub const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;

/// The answer of success.
pub const SUCCESS: i64 = 0;
/// The answer to what nobody knows.
pub const NOT_SUPPORTED: i64 = -1;
/// PSCI: a parameter is wrong.
pub const INVALID_PARAMETERS: i64 = -2;
/// PSCI: the request is refused.
pub const DENIED: i64 = -3;
/// PSCI: the CPU is on.
pub const ALREADY_ON: i64 = -4;
/// PSCI: a CPU_ON of this CPU is under way.
pub const ON_PENDING: i64 = -5;
/// PSCI: the entry address is wrong.
pub const INVALID_ADDRESS: i64 = -9;

/// The instruction that makes the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// HVC with an immediate, 0 by the SMCCC.
    Hvc(u16),
    /// SMC with an immediate, 0 by the SMCCC.
    Smc(u16),
}

impl Conduit {
    /// Returns the instruction's encoding.
    #[must_use]
    pub const fn instruction(self) -> u32 {
        match self {
            Self::Hvc(immediate) => 0xD400_0002 | (immediate as u32) << 5,
            Self::Smc(immediate) => 0xD400_0003 | (immediate as u32) << 5,
        }
    }
}

static BY_SMC: AtomicBool = AtomicBool::new(false);

pub(super) fn set_conduit(smc: bool) {
    BY_SMC.store(smc, Ordering::Relaxed);
}

/// Returns the conduit that the device tree names.
#[must_use]
pub fn conduit() -> Conduit {
    if BY_SMC.load(Ordering::Relaxed) {
        Conduit::Smc(0)
    } else {
        Conduit::Hvc(0)
    }
}

/// Makes a call with x0 to x29 as given.
///
/// # Errors
/// The exception, if the conduit is undefined here.
pub fn call(conduit: Conduit, registers: &mut Registers) -> Result<(), Fault> {
    code::run(&[conduit.instruction()], registers)
}

/// Writes the call to this CPU's buffer for repeated [`probe::call`]s.
#[must_use]
pub fn prepare(conduit: Conduit) -> u64 {
    code::prepare(&[conduit.instruction()])
}

/// Makes a PSCI call through a conduit and returns the signed answer: of all
/// 64 bits of x0, or of the lower half if the function is a 32-bit one.
///
/// # Errors
/// The exception, if the conduit is undefined here.
pub fn psci_by(conduit: Conduit, function: u32, arguments: [u64; 3]) -> Result<i64, Fault> {
    let mut registers = [0; 30];
    registers[0] = u64::from(function);
    registers[1..4].copy_from_slice(&arguments);
    call(conduit, &mut registers)?;
    Ok(if function & 1 << 30 == 0 {
        i64::from(low_half(registers[0]))
    } else {
        registers[0].cast_signed()
    })
}

/// Makes a PSCI call through the machine's conduit.
pub fn psci(function: u32, arguments: [u64; 3]) -> i64 {
    match psci_by(conduit(), function, arguments) {
        Ok(answer) => answer,
        Err(fault) => super::verdict::fail(format_args!("PSCI call {function:#x}: {fault:?}")),
    }
}

/// Returns the lower half of a register as the signed number it is.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half is what is asked for"
)]
pub const fn low_half(value: u64) -> i32 {
    value as i32
}

/// Tells whether a hypervisor or firmware answers SMC: a virtual machine of
/// this project does; QEMU's own PSCI at EL1 leaves SMC undefined.
#[must_use]
pub fn smc_answers() -> bool {
    psci_by(Conduit::Smc(0), PSCI_VERSION, [0; 3]).is_ok()
}

/// Makes a call prepared by [`prepare`].
///
/// # Errors
/// The exception, if the conduit is undefined here.
pub fn call_prepared(code: u64, registers: &mut Registers) -> Result<(), Fault> {
    probe::call(code, registers)
}
