//! The distributor's registers: the GICD frame.
//!
//! There are no security extensions, so all registers are the same to whoever
//! asks, but for those of SGIs and PPIs, which each vCPU has to itself.

use arm_vgic_core::{BitRegister, IrqRegister, Kicks};
use vm_contract::{AccessError, VcpuId, Width};

use crate::regs::{self, gicd};
use crate::vgic::Vgic;

/// SGIs, which are always enabled, and pending by sender only.
const SGIS: u64 = 0xFFFF;

/// What lies at an offset of the frame.
enum Register {
    /// A register that describes interrupts.
    Irq(IrqRegister),
    /// Bytes of `ITARGETSR<n>`.
    Targets,
    /// Bytes of `CPENDSGIR<n>` or `SPENDSGIR<n>`.
    SgiSources,
    /// A word of its own, or nothing.
    Other,
}

impl Register {
    fn at(offset: u64) -> Self {
        match offset {
            gicd::ITARGETSR..gicd::ITARGETSR_END => Self::Targets,
            gicd::CPENDSGIR..gicd::SPENDSGIR_END => Self::SgiSources,
            _ => IrqRegister::decode(offset).map_or(Self::Other, Self::Irq),
        }
    }

    /// Checks the width of an access: words, and single and double bytes for
    /// registers with a byte for each interrupt. Reserved places take any.
    fn check_width(&self, offset: u64, width: Width) -> Result<(), AccessError> {
        let fits = match self {
            Self::Irq(IrqRegister::Priority { .. }) | Self::Targets | Self::SgiSources => {
                width != Width::Dword
            }
            Self::Irq(_) => width == Width::Word,
            Self::Other => width == Width::Word || is_reserved(offset & !3),
        };
        fits.then_some(()).ok_or(AccessError::InvalidWidth)
    }
}

impl Vgic {
    /// Reads from the GICD frame.
    pub(crate) fn read_distributor(
        &self,
        asker: VcpuId,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        let register = Register::at(offset);
        register.check_width(offset, width)?;
        Ok(match register {
            Register::Irq(register) => self.core.read_register(asker, register, width),
            Register::Targets => self.read_targets(asker, offset, width),
            Register::SgiSources => self.read_sgi_sources(asker, offset, width),
            Register::Other => match offset & !3 {
                gicd::CTLR => self.core.read_enables().into(),
                gicd::TYPER => self.distributor_type().into(),
                gicd::IIDR => gicd::IIDR_VALUE.into(),
                // Reserved, or write-only.
                aligned => regs::identification(aligned).unwrap_or_default().into(),
            },
        })
    }

    /// Writes to the GICD frame.
    pub(crate) fn write_distributor(
        &mut self,
        asker: VcpuId,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Kicks, AccessError> {
        let register = Register::at(offset);
        register.check_width(offset, width)?;
        Ok(match register {
            Register::Irq(register) => {
                let value = value & !fixed_bits(register);
                self.core.write_register(asker, register, width, value)
            }
            Register::Targets => self.write_targets(offset, width, value),
            Register::SgiSources => self.write_sgi_sources(asker, offset, width, value),
            Register::Other => match offset {
                gicd::CTLR => self.core.write_enables(value),
                #[expect(clippy::cast_possible_truncation, reason = "the register has 32 bits")]
                gicd::SGIR => self.send_sgi(asker, value as u32),
                // Read-only or reserved.
                _ => Kicks::NONE,
            },
        })
    }

    fn distributor_type(&self) -> u32 {
        let lines = u32::try_from(self.core.spi_bank_count()).unwrap_or_default();
        let cpus = u32::try_from(self.vcpu_count().saturating_sub(1)).unwrap_or_default();
        lines | cpus << gicd::TYPER_CPU_NUMBER_SHIFT
    }
}

/// Tells whether nothing lies in this word of the frame.
fn is_reserved(aligned: u64) -> bool {
    let taken = matches!(aligned, gicd::CTLR | gicd::TYPER | gicd::IIDR | gicd::SGIR);
    !taken && regs::identification(aligned).is_none()
}

/// Returns the bits of a register that a guest cannot write: SGIs are always
/// enabled, and made pending by GICD_SGIR and `SPENDSGIR<n>` only.
fn fixed_bits(register: IrqRegister) -> u64 {
    match register {
        IrqRegister::Bits {
            register:
                BitRegister::SetEnable
                | BitRegister::ClearEnable
                | BitRegister::SetPending
                | BitRegister::ClearPending,
            bank: 0,
        } => SGIS,
        _ => 0,
    }
}

/// Tells whether the register at `offset` shows or changes what list registers
/// hold.
pub(crate) fn is_live_state(offset: u64) -> bool {
    match Register::at(offset) {
        Register::Irq(register) => register.is_live_state(),
        Register::SgiSources => true,
        Register::Targets | Register::Other => false,
    }
}
