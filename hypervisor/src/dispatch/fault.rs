//! What stage 2 refused, and what only the hypervisor's own mistakes can cause.

use arm_vcpu::exception::{AbortStatus, Exception};
use arm_vcpu::exit::{ExternalAbort, FaultKind, Stage2Fault};
use arm_vcpu::stage1;
use arm_vcpu::{AxVCpuExitReason as Exit, AxVCpuHal};
use vm_contract::Access;

use super::{Outcome, VmFault, mmio, undecoded};
use crate::cpu::Cpu;
use crate::telemetry::Reason;
use crate::vcpu::Vcpu;

/// Answers an access that stage 2 refused.
#[cold]
pub(super) fn refused<C: Cpu>(cpu: &mut C, vcpu: &mut Vcpu<C::Hal>, fault: Stage2Fault) -> Outcome {
    if fault.access() == Access::Execute && vcpu.arch.is_at_own_vector() {
        return Outcome::Fault(VmFault::NoVectors(fault.virtual_address()));
    }
    if fault.is_table_walk() || fault.access() == Access::Execute {
        return abort(vcpu, fault.access(), fault.virtual_address());
    }
    if fault.is_cache_maintenance() {
        vcpu.arch.skip_instruction();
        return Outcome::Resume;
    }
    // A data access to memory: only firmware's, which is read-only, refuses any.
    let (access, far) = (fault.access(), fault.virtual_address());
    let is_permission = matches!(fault.kind(), FaultKind::Permission(_));
    let address = stage1::translate(&vcpu.arch.stage1_registers(), vcpu.vm.ram(), far);
    let Some(address) = address.ok().filter(|_| is_permission) else {
        return abort(vcpu, access, far);
    };
    match fault.into_access(address, vcpu.arch.frame()) {
        Ok(exit @ (Exit::MmioRead(_) | Exit::MmioWrite(_))) => mmio::access(cpu, vcpu, exit),
        Ok(Exit::UndecodedAccess(access)) => undecoded(cpu, vcpu, access),
        _ => abort(vcpu, access, far),
    }
}

/// Passes an abort that hardware reported on to the guest whose access it was.
#[cold]
pub(super) fn external<H: AxVCpuHal>(vcpu: &mut Vcpu<H>, fault: &ExternalAbort) -> Outcome {
    match fault.access() {
        Access::Execute => vcpu.arch.inject_instruction_abort(fault.virtual_address()),
        access => {
            vcpu.arch
                .inject_data_abort(fault.virtual_address(), access == Access::Write);
        }
    }
    Outcome::Resume
}

/// Answers as a bus does where nothing is: with an external abort.
fn abort<H: AxVCpuHal>(vcpu: &mut Vcpu<H>, access: Access, far: u64) -> Outcome {
    vcpu.arch.inject(match access {
        Access::Execute => Exception::external_instruction_abort(far),
        access => Exception::DataAbort {
            address: Some(far),
            status: AbortStatus::External,
            is_write: access == Access::Write,
            is_cache_maintenance: false,
        },
    });
    Outcome::Resume
}

/// Handles what is left: exits that arm-vcpu has answered already.
///
/// # Panics
/// If EL2 itself faulted: no guest can cause that.
#[cold]
#[expect(clippy::panic, reason = "the hypervisor itself is broken")]
pub(super) fn other<H: AxVCpuHal>(vcpu: &mut Vcpu<H>, exit: &Exit) -> Outcome {
    vcpu.exits.reason = match exit {
        Exit::Injected(_) => Reason::Injected,
        _ => Reason::Other,
    };
    if let Exit::HypervisorFault(syndrome) = exit {
        panic!("EL2 faulted on a guest's exit path: {syndrome:x?}");
    }
    Outcome::Resume
}
