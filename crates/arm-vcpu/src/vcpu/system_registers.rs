//! System registers whose trapped accesses the vCPU answers from its own
//! state.

use super::Aarch64VCpu;
use crate::controls;
use crate::{AxVCpuHal, SystemRegister};

impl<H: AxVCpuHal> Aarch64VCpu<H> {
    /// Returns what the guest reads from `register`, or `None` if that is not
    /// the vCPU's to answer: then it is the interrupt controller's, the
    /// physical timer's, or undefined.
    ///
    /// Answered are the ID registers, the debug registers, ACTLR_EL1, and
    /// ICC_SRE_EL1 for a guest that is shown the GIC's system registers: it has
    /// nothing else to turn to.
    #[must_use]
    pub fn emulate_system_read(&self, register: SystemRegister) -> Option<u64> {
        match register.op0() {
            2 => self.registers.debug.read(register),
            _ if register == SystemRegister::ACTLR_EL1 => Some(0),
            _ if register == SystemRegister::ICC_SRE_EL1 => {
                self.has_gic_registers().then_some(controls::ICC_SRE_EL1)
            }
            _ => self.ids.read(register),
        }
    }

    /// Does what the guest's write of `value` to `register` does; `false`
    /// means that it is not the vCPU's to do. Answered are the debug registers,
    /// and ACTLR_EL1 and ICC_SRE_EL1, which ignore it.
    #[must_use]
    pub fn emulate_system_write(&mut self, register: SystemRegister, value: u64) -> bool {
        if register.op0() == 2 {
            let known = self.registers.debug.write(register, value);
            if known && self.is_bound() {
                self.hal.load_debug(&self.registers.debug);
            }
            known
        } else {
            register == SystemRegister::ACTLR_EL1
                || register == SystemRegister::ICC_SRE_EL1 && self.has_gic_registers()
        }
    }

    /// Tells whether the guest is shown the GIC's system registers.
    #[must_use]
    #[inline]
    pub const fn has_gic_registers(&self) -> bool {
        self.has_gic_registers
    }
}
