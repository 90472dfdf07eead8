//! The fields of ESR_EL2 (Arm DDI 0487, "ESR_EL2, Exception Syndrome
//! Register (EL2)"). No behaviour: what the fields mean together is read in
//! the parent module.

/// ESR_EL2.EC, what kind of exception this is. Only the classes that are
/// treated apart have a name.
pub(super) mod class {
    /// Trapped WFI, WFE, WFIT or WFET.
    pub(crate) const WFX: u64 = 0x01;
    /// Illegal execution state.
    pub(crate) const ILLEGAL_STATE: u64 = 0x0E;
    /// HVC in AArch64 state.
    pub(crate) const HVC64: u64 = 0x16;
    /// SMC in AArch64 state.
    pub(crate) const SMC64: u64 = 0x17;
    /// Trapped MSR, MRS or system instruction in AArch64 state.
    pub(crate) const SYSTEM_REGISTER: u64 = 0x18;
    /// Instruction abort from EL1 or EL0.
    pub(crate) const INSTRUCTION_ABORT: u64 = 0x20;
    /// Instruction abort from EL2 itself.
    pub(crate) const INSTRUCTION_ABORT_SAME: u64 = 0x21;
    /// Data abort from EL1 or EL0.
    pub(crate) const DATA_ABORT: u64 = 0x24;
    /// Data abort from EL2 itself.
    pub(crate) const DATA_ABORT_SAME: u64 = 0x25;
    /// SError interrupt.
    pub(crate) const SERROR: u64 = 0x2F;
}

/// The shift of ESR_ELx.EC.
pub(crate) const EC_SHIFT: u32 = 26;
/// ESR_ELx.IL: the instruction has 32 bits.
pub(crate) const IL: u64 = 1 << 25;

/// ISS.ISV of a data abort: the access is described in bits 23:14.
pub(super) const ISV: u64 = 1 << 24;
pub(super) const SAS_SHIFT: u32 = 22;
pub(super) const SSE: u64 = 1 << 21;
pub(super) const SRT_SHIFT: u32 = 16;
pub(super) const SF: u64 = 1 << 15;
/// ISS.FnV of an abort: FAR is not valid.
pub(crate) const FNV: u64 = 1 << 10;
/// ISS.CM of a data abort: a cache maintenance instruction.
pub(crate) const CM: u64 = 1 << 8;
/// ISS.S1PTW of an abort: stage 2 failed for a stage-1 table walk.
pub(super) const S1PTW: u64 = 1 << 7;
/// ISS.WNR of a data abort: a write.
pub(crate) const WNR: u64 = 1 << 6;
/// ISS.DFSC or IFSC.
pub(super) const FAULT_STATUS: u64 = 0x3F;

/// Tells whether a fault status code is one of a translation fault. The levels
/// 0 to 3 vary the low two bits; level -1 has a code of its own.
pub(super) const fn is_translation_fault(status: u64) -> bool {
    status & !0b11 == 0b00_0100 || status == 0b10_1011
}

/// Returns the number of bytes of the instruction that an ESR_ELx describes,
/// by its IL bit: 4, or 2 for a T32 instruction of 16 bits.
///
/// ```
/// use arm_vcpu::exit::instruction_length;
///
/// assert_eq!(instruction_length(0x5A00_0000), 4, "HVC");
/// assert_eq!(instruction_length(0x9000_0000), 2, "T32, IL = 0");
/// ```
#[inline]
#[must_use]
pub const fn instruction_length(esr: u64) -> u64 {
    instruction_bytes(esr) as u64
}

/// As [`instruction_length`], in the form that tokens keep.
#[inline]
pub(super) const fn instruction_bytes(esr: u64) -> u8 {
    // 2, and another 2 if IL is set.
    2 + (esr >> 24 & 0b10) as u8
}
