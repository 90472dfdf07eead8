//! Exceptions that EL2 delivers to a guest's EL1 in the hardware's place
//! (Arm DDI 0487, pseudocode AArch64.TakeException).

use crate::CpuFeatures;
use crate::TrapFrame;
use crate::exit::syndrome::{CM, EC_SHIFT, FNV, IL, WNR};

/// ESR_EL1.EC, the classes that are delivered. An abort's class is one more
/// when it was taken from EL1 itself.
const EC_UNKNOWN: u64 = 0x00;
const EC_ILLEGAL_STATE: u64 = 0x0E;
const EC_INSTRUCTION_ABORT: u64 = 0x20;
const EC_DATA_ABORT: u64 = 0x24;
const EC_FROM_SAME_LEVEL: u64 = 1;

/// PSTATE as SPSR_EL2 holds it, for a guest in AArch64 state.
mod pstate {
    /// EL1 with its own stack pointer.
    pub(super) const EL1H: u64 = 0b0101;
    /// M\[4\]: AArch32 state.
    pub(super) const AARCH32: u64 = 1 << 4;
    pub(super) const SP_ELX: u64 = 1;
    pub(super) const EL: u64 = 0b1100;
    pub(super) const DAIF: u64 = 0b1111 << 6;
    pub(super) const SSBS: u64 = 1 << 12;
    pub(super) const IL: u64 = 1 << 20;
    pub(super) const PAN: u64 = 1 << 22;
    pub(super) const DIT: u64 = 1 << 24;
    pub(super) const TCO: u64 = 1 << 25;
    pub(super) const NZCV: u64 = 0b1111 << 28;
    /// DIT, where SPSR_EL2 has it for a guest in AArch32 state.
    pub(super) const DIT_AARCH32: u64 = 1 << 21;
}

/// SCTLR_EL1.SPAN: an exception to EL1 leaves PSTATE.PAN as it is.
const SCTLR_SPAN: u64 = 1 << 23;
/// SCTLR_EL1.DSSBS: PSTATE.SSBS after an exception to EL1.
const SCTLR_DSSBS: u64 = 1 << 44;
/// VBAR_EL1, without its RES0 bits.
const VBAR_ADDRESS: u64 = !0x7FF;

/// Holds the EL1 registers that an exception reads and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExceptionRegisters {
    /// ESR_EL1; written.
    pub esr: u64,
    /// FAR_EL1; written by aborts whose address is known.
    pub far: u64,
    /// ELR_EL1; written.
    pub elr: u64,
    /// SPSR_EL1; written.
    pub spsr: u64,
    /// VBAR_EL1; only read.
    pub vbar: u64,
    /// SCTLR_EL1; only read.
    pub sctlr: u64,
}

/// Says why an access is refused, for an abort delivered to the guest.
/// Levels are those of a stage-1 walk, 0 to 3; only their low two bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortStatus {
    /// A synchronous external abort: nothing answers at the address.
    External,
    /// The address is not aligned as its memory type demands.
    Alignment,
    /// An output address has more bits than there are.
    AddressSize(u8),
    /// Nothing is mapped.
    Translation(u8),
    /// The mapping's access flag is clear.
    AccessFlag(u8),
    /// The mapping forbids this kind of access.
    Permission(u8),
    /// The memory does not support exclusive or atomic accesses.
    UnsupportedAtomic,
}

impl AbortStatus {
    /// Returns the code for ISS.DFSC or ISS.IFSC.
    const fn code(self) -> u64 {
        match self {
            Self::External => 0b01_0000,
            Self::Alignment => 0b10_0001,
            Self::AddressSize(level) => (level & 0b11) as u64,
            Self::Translation(level) => 0b00_0100 | (level & 0b11) as u64,
            Self::AccessFlag(level) => 0b00_1000 | (level & 0b11) as u64,
            Self::Permission(level) => 0b00_1100 | (level & 0b11) as u64,
            Self::UnsupportedAtomic => 0b11_0101,
        }
    }
}

/// An exception for a guest's EL1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// The instruction is undefined.
    Undefined,
    /// The guest returned to a state that it cannot be in: PSTATE.IL is set.
    IllegalState,
    /// A load, store or cache maintenance instruction is refused.
    DataAbort {
        /// The virtual address. `None` is for external aborts alone and says
        /// that it is not known; any other abort then reports FAR_EL1 as it
        /// happens to be.
        address: Option<u64>,
        /// Why.
        status: AbortStatus,
        /// Whether it would have written. Cache maintenance counts as a write.
        is_write: bool,
        /// Whether it is a cache maintenance instruction.
        is_cache_maintenance: bool,
    },
    /// An instruction fetch is refused.
    InstructionAbort {
        /// The virtual address, as for a data abort.
        address: Option<u64>,
        /// Why.
        status: AbortStatus,
    },
}

impl Exception {
    /// Returns the external abort that answers a data access where there is
    /// nothing.
    #[must_use]
    pub const fn external_data_abort(address: u64, is_write: bool) -> Self {
        Self::DataAbort {
            address: Some(address),
            status: AbortStatus::External,
            is_write,
            is_cache_maintenance: false,
        }
    }

    /// Returns the external abort that answers an instruction fetch where
    /// there is nothing.
    #[must_use]
    pub const fn external_instruction_abort(address: u64) -> Self {
        Self::InstructionAbort {
            address: Some(address),
            status: AbortStatus::External,
        }
    }

    /// Returns the value of ESR_EL1. IL is always set: none of these
    /// exceptions has room to say that the instruction was of 16 bits.
    const fn syndrome(self, from_el1: bool) -> u64 {
        let same = if from_el1 { EC_FROM_SAME_LEVEL } else { 0 };
        let (class, iss) = match self {
            Self::Undefined => (EC_UNKNOWN, 0),
            Self::IllegalState => (EC_ILLEGAL_STATE, 0),
            Self::DataAbort {
                address,
                status,
                is_write,
                is_cache_maintenance,
            } => {
                let write = if is_write || is_cache_maintenance {
                    WNR
                } else {
                    0
                };
                let maintenance = if is_cache_maintenance { CM } else { 0 };
                let iss = abort_iss(address, status) | write | maintenance;
                (EC_DATA_ABORT | same, iss)
            }
            Self::InstructionAbort { address, status } => {
                (EC_INSTRUCTION_ABORT | same, abort_iss(address, status))
            }
        };
        class << EC_SHIFT | IL | iss
    }

    const fn fault_address(self) -> Option<u64> {
        match self {
            Self::Undefined | Self::IllegalState => None,
            Self::DataAbort { address, .. } | Self::InstructionAbort { address, .. } => address,
        }
    }
}

/// Returns the part of the ISS that both kinds of abort have. FnV exists for
/// external aborts only.
const fn abort_iss(address: Option<u64>, status: AbortStatus) -> u64 {
    match (address, status) {
        (None, AbortStatus::External) => status.code() | FNV,
        _ => status.code(),
    }
}

/// Delivers `exception` to the guest's EL1: fills in the EL1 registers and
/// moves the guest to its vector.
///
/// `frame` must hold the instruction to blame as its PC: whoever refuses an HVC
/// this way steps back first. PSTATE becomes what the pseudocode makes of it:
/// EL1 with its own stack pointer and everything masked; PAN, SSBS and TCO as
/// SCTLR_EL1 and the features of the CPU say; flags and DIT as they were.
///
/// ```
/// use arm_vcpu::exception::{Exception, ExceptionRegisters, inject};
/// use arm_vcpu::{CpuFeatures, TrapFrame};
///
/// let mut registers = ExceptionRegisters { vbar: 0x8_0000, ..Default::default() };
/// let mut frame = TrapFrame { elr: 0x40_0000, spsr: 0, ..TrapFrame::default() };
/// inject(Exception::Undefined, &mut frame, &mut registers, CpuFeatures::empty());
/// assert_eq!(frame.elr, 0x8_0400, "from EL0 in AArch64 state");
/// assert_eq!(registers.elr, 0x40_0000);
/// assert_eq!(registers.esr, 0x0200_0000);
/// ```
pub fn inject(
    exception: Exception,
    frame: &mut TrapFrame,
    registers: &mut ExceptionRegisters,
    features: CpuFeatures,
) {
    let from = frame.spsr;
    let from_el1 = from & pstate::EL != 0 && from & pstate::AARCH32 == 0;
    let vector = if from & pstate::AARCH32 != 0 {
        0x600
    } else if !from_el1 {
        0x400
    } else if from & pstate::SP_ELX != 0 {
        0x200
    } else {
        0x000
    };

    registers.esr = exception.syndrome(from_el1);
    if let Some(address) = exception.fault_address() {
        registers.far = address;
    }
    registers.elr = frame.elr;
    registers.spsr = match exception {
        Exception::IllegalState => from | pstate::IL,
        _ => from,
    };

    frame.elr = (registers.vbar & VBAR_ADDRESS).wrapping_add(vector);
    frame.spsr = pstate_after(from, registers.sctlr, features);
}

/// Returns PSTATE at the vector. What is not named becomes zero: IL, SS, UAO,
/// BTYPE and ALLINT.
const fn pstate_after(from: u64, sctlr: u64, features: CpuFeatures) -> u64 {
    let kept = if from & pstate::AARCH32 == 0 {
        from & (pstate::NZCV | pstate::DIT | pstate::PAN | pstate::TCO)
    } else if from & pstate::DIT_AARCH32 != 0 {
        from & (pstate::NZCV | pstate::PAN) | pstate::DIT
    } else {
        from & (pstate::NZCV | pstate::PAN)
    };
    let mut to = kept | pstate::EL1H | pstate::DAIF;
    if features.contains(CpuFeatures::PAN) && sctlr & SCTLR_SPAN == 0 {
        to |= pstate::PAN;
    }
    if features.contains(CpuFeatures::SSBS) && sctlr & SCTLR_DSSBS != 0 {
        to |= pstate::SSBS;
    }
    if features.contains(CpuFeatures::MTE) {
        to |= pstate::TCO;
    }
    to
}
