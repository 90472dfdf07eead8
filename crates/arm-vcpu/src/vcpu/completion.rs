//! Paying the debts of an exit: values into registers, steps of the PC.

use vm_contract::GuestMemory;

use super::Aarch64VCpu;
use crate::exception::{AbortStatus, Exception};
use crate::exit::instruction_length;
use crate::instruction::{AccessPlan, Element, decode_access};
use crate::stage1::{Stage1Registers, WalkError, fetch_instruction};
use crate::{
    AxVCpuExitReason, AxVCpuHal, LiveRegister, MmioRead, MmioWrite, SystemRegisterRead,
    SystemRegisterWrite, UndecodedAccess,
};

/// The length of MRS and MSR, which only A64 has.
const A64_INSTRUCTION: u64 = 4;
/// SPSR_EL2.SP: the guest uses the stack pointer of its exception level.
const SPSR_SP: u64 = 1;

/// An instruction of which some accesses may be done. Registers change only
/// when all are, so an abort in the middle leaves an instruction that can be
/// started anew.
#[derive(Debug)]
pub(super) struct PendingPlan {
    plan: AccessPlan,
    first: Option<u64>,
}

impl PendingPlan {
    const fn new(plan: AccessPlan) -> Self {
        Self { plan, first: None }
    }

    /// Returns the access that is due, as an exit.
    #[cold]
    #[inline(never)]
    pub(super) const fn next_access(&self) -> AxVCpuExitReason {
        self.next_element().as_exit()
    }

    const fn next_element(&self) -> &Element {
        match (self.first, self.plan.second()) {
            (Some(_), Some(second)) => second,
            _ => self.plan.first(),
        }
    }
}

impl<H: AxVCpuHal> Aarch64VCpu<H> {
    /// Ends a load: `value` goes to its register, extended as the instruction
    /// says, and the PC steps past it. Of an instruction that makes two
    /// accesses, only the second ends it, and the next
    /// [`run`](crate::AxArchVCpu::run) reports that one without entering the
    /// guest.
    #[inline(always)]
    pub fn complete_read(&mut self, read: MmioRead, value: u64) {
        if self.has_plan() {
            return self.advance_plan(value);
        }
        self.frame
            .set_gpr(read.target().register(), read.extend(value));
        self.frame.step(read.instruction_length());
    }

    /// Ends a store: the PC steps past it. Of an instruction that makes two
    /// accesses, only the second ends it.
    #[inline(always)]
    pub fn complete_write(&mut self, write: MmioWrite) {
        if self.has_plan() {
            return self.advance_plan(0);
        }
        self.frame.step(write.instruction_length());
    }

    /// Ends an MRS: `value` goes to its register and the PC steps past it.
    #[inline(always)]
    pub fn complete_system_read(&mut self, read: SystemRegisterRead, value: u64) {
        self.frame.set_gpr(read.target(), value);
        self.frame.step(A64_INSTRUCTION);
    }

    /// Ends an MSR: the PC steps past it.
    #[inline(always)]
    pub fn complete_system_write(&mut self, _write: SystemRegisterWrite) {
        self.frame.step(A64_INSTRUCTION);
    }

    /// Steps the PC past the instruction that ended the last run, which has
    /// been answered or ignored: a trapped SMC, WFI or WFE, or cache
    /// maintenance. Not for HVC, which the PC is past already. A half-done
    /// access is dropped.
    #[inline]
    pub fn skip_instruction(&mut self) {
        self.drop_plan();
        self.frame.step(instruction_length(self.esr));
    }

    /// Finds out from the instruction itself what an access does that its
    /// syndrome does not describe, and returns the first of the accesses that
    /// it makes, to be answered like any other.
    ///
    /// Where that is not possible the guest gets an external abort and the
    /// result is [`Injected`](AxVCpuExitReason::Injected). `None` means that
    /// the instruction can no longer be found, or is no longer the same,
    /// because the guest changes its memory or tables meanwhile: it should
    /// simply run again.
    pub fn decode_undecoded(
        &mut self,
        access: UndecodedAccess,
        memory: &dyn GuestMemory,
    ) -> Option<AxVCpuExitReason> {
        let fetched = fetch_instruction(&self.stage1_registers(), memory, self.frame.elr);
        let exception = match fetched {
            Ok(instruction) => {
                let sp = self.read(self.stack_pointer());
                match decode_access(instruction, &self.frame, sp, &access) {
                    Ok(plan) => {
                        let pending = PendingPlan::new(plan);
                        let first = pending.next_access();
                        self.put_plan(pending);
                        return Some(first);
                    }
                    Err(error) => error.exception(&access)?,
                }
            }
            // The guest will meet these by itself.
            Err(
                WalkError::Translation(_)
                | WalkError::AddressSize(_)
                | WalkError::AccessFlag(_)
                | WalkError::Misaligned,
            ) => return None,
            Err(WalkError::OutsideMemory | WalkError::Unsupported) => Exception::DataAbort {
                address: Some(access.virtual_address()),
                status: AbortStatus::External,
                is_write: access.is_write(),
                is_cache_maintenance: false,
            },
        };
        self.inject(exception);
        Some(AxVCpuExitReason::Injected(exception))
    }

    /// Returns the registers of the guest's own stage 1, for
    /// [`translate`](crate::stage1::translate).
    #[must_use]
    pub fn stage1_registers(&self) -> Stage1Registers {
        Stage1Registers {
            sctlr: self.read(LiveRegister::SctlrEl1),
            tcr: self.read(LiveRegister::TcrEl1),
            ttbr0: self.read(LiveRegister::Ttbr0El1),
            ttbr1: self.read(LiveRegister::Ttbr1El1),
        }
    }

    /// Ends one access of a plan, and with the last one the instruction.
    #[cold]
    fn advance_plan(&mut self, value: u64) {
        let Some(pending) = self.take_plan() else {
            return;
        };
        let loaded = match (pending.first, pending.plan.second()) {
            (None, Some(_)) => {
                self.put_plan(PendingPlan {
                    first: Some(value),
                    ..pending
                });
                return;
            }
            (None, None) => [value, 0],
            (Some(first), _) => [first, value],
        };
        let stack_pointer = self.stack_pointer();
        if let Some(value) = pending.plan.finish(loaded, &mut self.frame) {
            self.write(stack_pointer, value);
        }
    }

    /// Returns which stack pointer the guest uses.
    const fn stack_pointer(&self) -> LiveRegister {
        if self.frame.spsr & SPSR_SP == 0 {
            LiveRegister::SpEl0
        } else {
            LiveRegister::SpEl1
        }
    }
}
