//! The report about a VM that cannot go on.

use core::fmt;

use arm_vcpu::{AxVCpuHal, TrapFrame, stage1};
use vm_contract::GuestMemory;

use super::Hypervisor;
use crate::dispatch::VmFault;
use crate::vcpu::Vcpu;

/// How many callers a report names.
const MOST_CALLERS: usize = 16;

impl<H: AxVCpuHal> Hypervisor<H> {
    /// Reports why a VM is stopped, once per VM: the first of its vCPUs to fail.
    #[cold]
    pub fn report_fault(&self, vcpu: &Vcpu<H>, fault: VmFault) {
        let vm = vcpu.vm();
        if vm.is_stopping() {
            return;
        }
        log::error!(
            "VM {} ({}) stopped on vCPU {}: {fault}\n{}\n{}\n{}",
            vm.id(),
            vm.name(),
            vcpu.id(),
            Registers(vcpu.arch.frame()),
            vcpu.exits.history(),
            Callers(vcpu),
        );
    }
}

/// Prints the general registers of a guest.
pub struct Registers<'a>(pub &'a TrapFrame);

impl fmt::Display for Registers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in 0..8 {
            for n in (row * 4..row * 4 + 4).filter(|n| *n < 31) {
                write!(f, "x{n:<2} {:016x}  ", self.0.gpr(n))?;
            }
            if row < 7 {
                writeln!(f)?;
            }
        }
        write!(f, "pc  {:016x}  pstate {:08x}", self.0.elr, self.0.spsr)
    }
}

/// Prints the callers of the function in which a guest is, as its frame records
/// (AAPCS64) have them. Nothing there is trusted: records must ascend, and there
/// is an end.
struct Callers<'a, H: AxVCpuHal>(&'a Vcpu<H>);

impl<H: AxVCpuHal> fmt::Display for Callers<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (arch, ram) = (&self.0.arch, self.0.vm().ram());
        let registers = arch.stage1_registers();
        let doubleword = |address: u64| {
            let address = stage1::translate(&registers, ram, address).ok()?;
            let mut bytes = [0; 8];
            ram.read(address, &mut bytes).ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        write!(f, "called from: {:016x}", arch.gpr(30))?;
        let mut record = arch.gpr(29);
        for _ in 0..MOST_CALLERS {
            let end = record
                .checked_add(8)
                .filter(|_| record != 0 && record % 8 == 0);
            let Some((next, caller)) = end.and_then(|at| doubleword(record).zip(doubleword(at)))
            else {
                break;
            };
            write!(f, " {caller:016x}")?;
            if next <= record {
                break;
            }
            record = next;
        }
        Ok(())
    }
}
