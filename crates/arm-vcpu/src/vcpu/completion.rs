//! Paying the debts of an exit: values into registers, steps of the PC.

use super::Aarch64VCpu;
use crate::{
    AxVCpuExitReason, AxVCpuHal, MmioRead, MmioWrite, SystemRegisterRead, SystemRegisterWrite,
};

#[derive(Debug)]
pub(super) struct PendingPlan;
impl PendingPlan {
    pub(super) fn next_access(&self) -> AxVCpuExitReason {
        AxVCpuExitReason::WaitForEvent
    }
}

/// The length of every A64 instruction; what is trapped from AArch32 state
/// is either an MMIO access, which says its length, or becomes an exception.
const A64_INSTRUCTION: u64 = 4;

impl<H: AxVCpuHal> Aarch64VCpu<H> {
    /// Ends a load: `value` goes to its register, extended as the instruction
    /// says, and the PC steps past it.
    #[inline]
    pub fn complete_read(&mut self, read: MmioRead, value: u64) {
        self.frame
            .set_gpr(read.target().register(), read.extend(value));
        self.frame.step(read.instruction_length());
    }

    /// Ends a store: the PC steps past it.
    #[inline]
    pub fn complete_write(&mut self, write: MmioWrite) {
        self.frame.step(write.instruction_length());
    }

    /// Ends an MRS: `value` goes to its register and the PC steps past it.
    #[inline]
    pub fn complete_system_read(&mut self, read: SystemRegisterRead, value: u64) {
        self.frame.set_gpr(read.target(), value);
        self.frame.step(A64_INSTRUCTION);
    }

    /// Ends an MSR: the PC steps past it.
    #[inline]
    pub fn complete_system_write(&mut self, _: SystemRegisterWrite) {
        self.frame.step(A64_INSTRUCTION);
    }

    /// Steps the PC past the instruction there: a trapped SMC or WFI that has
    /// been answered, for example. A half-done access is dropped.
    #[inline]
    pub fn skip_instruction(&mut self) {
        self.plan = None;
        self.frame.step(A64_INSTRUCTION);
    }
}
