//! Exceptions that the guest is owed.

use super::Aarch64VCpu;
use crate::controls;
use crate::exception::{AbortStatus, Exception, ExceptionRegisters, inject};
use crate::{AxVCpuHal, LiveRegister};

impl<H: AxVCpuHal> Aarch64VCpu<H> {
    /// Delivers `exception` to the guest's EL1, with the instruction at the PC
    /// to blame, and drops a half-done access: the instruction starts anew
    /// should the guest return to it.
    #[cold]
    pub fn inject(&mut self, exception: Exception) {
        self.drop_plan();
        let mut registers = ExceptionRegisters {
            esr: 0,
            far: self.read(LiveRegister::FarEl1),
            elr: 0,
            spsr: 0,
            vbar: self.read(LiveRegister::VbarEl1),
            sctlr: self.read(LiveRegister::SctlrEl1),
        };
        inject(
            exception,
            &mut self.frame,
            &mut registers,
            self.registers.features,
        );
        self.write(LiveRegister::EsrEl1, registers.esr);
        self.write(LiveRegister::FarEl1, registers.far);
        self.write(LiveRegister::ElrEl1, registers.elr);
        self.write(LiveRegister::SpsrEl1, registers.spsr);
    }

    /// Tells whether the guest is where an exception leads that it takes here: if
    /// this instruction cannot be fetched, it never gets any further.
    #[must_use]
    pub fn is_at_own_vector(&self) -> bool {
        // SPSR_EL2.M: EL1 with a stack pointer of its own, whose synchronous
        // exceptions lead to VBAR_EL1 + 0x200.
        const MODE: u64 = 0xf;
        const EL1H: u64 = 0b0101;
        const CURRENT_EL_WITH_SPX: u64 = 0x200;
        const VBAR_RES0: u64 = 0x7ff;
        let vector = (self.read(LiveRegister::VbarEl1) & !VBAR_RES0) + CURRENT_EL_WITH_SPX;
        self.frame.spsr & MODE == EL1H && self.frame.elr == vector
    }

    /// Tells the guest that the instruction at its PC does not exist.
    pub fn inject_undefined(&mut self) {
        self.inject(Exception::Undefined);
    }

    /// Tells the guest that nothing answers the data access at its PC: an
    /// external abort on virtual address `far`, or on an unknown one.
    pub fn inject_data_abort(&mut self, far: Option<u64>, is_write: bool) {
        self.inject(Exception::DataAbort {
            address: far,
            status: AbortStatus::External,
            is_write,
            is_cache_maintenance: false,
        });
    }

    /// Tells the guest that nothing answers the fetch of the instruction at
    /// its PC: an external abort on virtual address `far`, or on an unknown
    /// one.
    pub fn inject_instruction_abort(&mut self, far: Option<u64>) {
        self.inject(Exception::InstructionAbort {
            address: far,
            status: AbortStatus::External,
        });
    }

    /// Makes a virtual SError pending, which the guest takes once it does not
    /// mask SErrors.
    pub fn inject_serror(&mut self) {
        self.drop_plan();
        let hcr = self.read(LiveRegister::Hcr);
        self.write(LiveRegister::Hcr, hcr | controls::HCR_VSE);
    }
}
