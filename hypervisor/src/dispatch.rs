//! What is done about each exit. One match, in one place.

mod fault;
mod interrupt;
mod mmio;
mod system_register;

use arm_vcpu::{AxArchVCpu, AxVCpuExitReason as Exit, AxVCpuHal, UndecodedAccess};

use crate::cpu::Cpu;
use crate::smccc::{self, Answer, Call, NOT_SUPPORTED};
use crate::telemetry::Reason;
use crate::vcpu::Vcpu;

/// Why a VM cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VmFault {
    /// Hardware reported an error that cannot be assigned to an access.
    #[error("SError interrupt, ESR_EL2 {0:#x}")]
    SError(u64),
    /// An exception leads to where nothing can be executed, which is an exception
    /// again, and so on for ever.
    #[error("exceptions lead to {0:#x}, where nothing can be executed")]
    NoVectors(u64),
}

/// What becomes of a vCPU after an exit. Only the scheduler acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Resume,
    /// It goes on with its turn once the main loop has looked around.
    Attend,
    /// It goes on when its turn comes again.
    Yield,
    /// It goes on when an interrupt is there for it.
    Block,
    /// It is off, or its VM is stopping.
    Off,
    /// Its VM cannot go on.
    Fault(VmFault),
}

/// Answers one exit of the vCPU that is loaded.
// At each kind of exit, of this only what answers it.
#[inline(always)]
pub fn dispatch<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>, exit: Exit) -> Outcome {
    match exit {
        Exit::Hypercall { immediate } => {
            vcpu.exits.reason = Reason::Hypercall;
            call(vcpu, immediate)
        }
        Exit::MmioRead(read) => mmio::read(cpu, vcpu, read),
        Exit::MmioWrite(write) => mmio::write(cpu, vcpu, write),
        Exit::SystemRegisterRead(read) => system_register::read(cpu, vcpu, read),
        Exit::SystemRegisterWrite(write) => system_register::write(cpu, vcpu, write),
        Exit::ExternalInterrupt | Exit::FastInterrupt => interrupt::take(cpu, vcpu),
        Exit::WaitForInterrupt => {
            vcpu.exits.reason = Reason::WaitForInterrupt;
            vcpu.arch.skip_instruction();
            Outcome::Block
        }
        Exit::WaitForEvent => {
            vcpu.exits.reason = Reason::WaitForEvent;
            vcpu.arch.skip_instruction();
            Outcome::Yield
        }
        // HVC has stepped over itself; SMC, trapped before it could, has not.
        Exit::SecureMonitorCall { immediate } => {
            vcpu.exits.reason = Reason::SecureMonitorCall;
            vcpu.arch.skip_instruction();
            call(vcpu, immediate)
        }
        Exit::UndecodedAccess(access) => {
            let outcome = undecoded(cpu, vcpu, access);
            vcpu.exits.reason = Reason::Undecoded;
            outcome
        }
        Exit::Stage2Fault(refusal) => {
            let outcome = fault::refused(cpu, vcpu, refusal);
            vcpu.exits.reason = Reason::Stage2Fault;
            outcome
        }
        Exit::CacheMaintenance(_) => {
            vcpu.exits.reason = Reason::CacheMaintenance;
            vcpu.arch.skip_instruction();
            Outcome::Resume
        }
        Exit::ExternalAbort(abort) => {
            vcpu.exits.reason = Reason::ExternalAbort;
            fault::external(vcpu, &abort)
        }
        Exit::SError { esr } => {
            vcpu.exits.reason = Reason::SError;
            Outcome::Fault(VmFault::SError(esr))
        }
        exit => fault::other(vcpu, &exit),
    }
}

/// Answers an access that only its instruction describes.
#[cold]
fn undecoded<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>, access: UndecodedAccess) -> Outcome {
    match vcpu.arch.decode_undecoded(access, vcpu.vm.ram()) {
        Some(exit @ (Exit::MmioRead(_) | Exit::MmioWrite(_))) => mmio::access(cpu, vcpu, exit),
        // The guest got an abort, or changed the instruction meanwhile.
        _ => Outcome::Resume,
    }
}

/// Puts the result of a call into X0.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "pointers have 64 bits wherever this runs"
)]
fn reply<H: AxVCpuHal>(vcpu: &mut Vcpu<H>, value: u64) {
    vcpu.arch.set_return_value(value as usize);
}

/// Answers an HVC or SMC: the convention is the same for both.
#[inline(always)]
fn call<H: AxVCpuHal>(vcpu: &mut Vcpu<H>, immediate: u16) -> Outcome {
    let function = (vcpu.arch.gpr(0) & 0xffff_ffff) as u32;
    let value = match immediate {
        0 => smccc::constant(function),
        _ => Some(NOT_SUPPORTED),
    };
    match value {
        Some(value) => {
            reply(vcpu, value);
            Outcome::Resume
        }
        None => call_service(vcpu),
    }
}

/// Answers a call to a service that has more than numbers.
#[inline(never)]
fn call_service<H: AxVCpuHal>(vcpu: &mut Vcpu<H>) -> Outcome {
    let call = Call::new([0, 1, 2, 3].map(|n| vcpu.arch.gpr(n)));
    match smccc::answer(vcpu.vm(), vcpu.id(), call) {
        Answer::Return(value) => {
            reply(vcpu, value);
            Outcome::Resume
        }
        Answer::Suspend(value) => {
            reply(vcpu, value);
            Outcome::Block
        }
        Answer::CpuOff | Answer::Stop(_) => Outcome::Off,
    }
}

#[cfg(test)]
mod tests;
