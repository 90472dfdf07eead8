//! System registers whose trapped accesses the vCPU answers from its own
//! state.

use super::Aarch64VCpu;
use crate::{AxVCpuHal, SystemRegister};

impl<H: AxVCpuHal> Aarch64VCpu<H> {
    /// Returns what the guest reads from `register`, or `None` if that is not
    /// the vCPU's to answer: then it is the interrupt controller's, the
    /// physical timer's, or undefined.
    ///
    /// Answered are the ID registers, the debug registers and ACTLR_EL1.
    #[must_use]
    pub fn emulate_system_read(&self, register: SystemRegister) -> Option<u64> {
        match register.op0() {
            2 => self.registers.debug.read(register),
            _ if register == SystemRegister::ACTLR_EL1 => Some(0),
            _ => self.ids.read(register),
        }
    }

    /// Does what the guest's write of `value` to `register` does; `false`
    /// means that it is not the vCPU's to do. Answered are the debug registers
    /// and ACTLR_EL1, which ignores it.
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
        }
    }
}
