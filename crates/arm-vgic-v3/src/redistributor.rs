//! The redistributors: the GICR frames, with the SGIs and PPIs of each vCPU.

mod lpi;

use arm_vgic_core::{IrqRegister, Kicks};
use vm_contract::{AccessError, VcpuId, Width};

use crate::affinity::Affinity;
use crate::regs::{self, gicr};
use crate::vgic::Vgic;

use lpi::LpiRegisters;

/// What the frames of one vCPU show beside its interrupts.
#[derive(Clone, Debug)]
pub(crate) struct Redistributor {
    affinity: Affinity,
    /// What ICC_SGI1R_EL1 takes to reach this vCPU alone, without the INTID.
    pub(crate) own_request: u64,
    /// The redistributor behind this one, if any, lies in another region.
    pub(crate) ends_region: bool,
    lpi: LpiRegisters,
}

impl Redistributor {
    /// Returns the redistributor of the vCPU with this affinity.
    pub(crate) const fn new(affinity: Affinity) -> Self {
        Self {
            affinity,
            own_request: affinity.sgi_request(),
            ends_region: false,
            lpi: LpiRegisters::new(),
        }
    }
}

impl Vgic {
    /// Reads from the redistributor region.
    pub(crate) fn read_redistributor(&self, offset: u64, width: Width) -> Result<u64, AccessError> {
        let (vcpu, offset) = split(offset)?;
        if let Some(offset) = offset.checked_sub(gicr::FRAME_BYTES) {
            let Some(register) = private_register(offset) else {
                return Ok(0);
            };
            register.check_width(width)?;
            return Ok(self.core.read_register(vcpu, register, width));
        }
        self.check_control_width(offset, width)?;
        Ok(match offset & !3 {
            regs::CTLR => self.lpi_control(vcpu).into(),
            gicr::IIDR => regs::IIDR_VALUE.into(),
            gicr::TYPER | gicr::TYPER_UPPER => {
                regs::part(self.redistributor_type(vcpu), offset, width)
            }
            gicr::WAKER if self.core.is_awake(vcpu) => 0,
            gicr::WAKER => (gicr::WAKER_PROCESSOR_SLEEP | gicr::WAKER_CHILDREN_ASLEEP).into(),
            gicr::PROPBASER..gicr::LPI_TABLES_END if self.core.lpi_count() != 0 => {
                self.read_lpi_table(vcpu, offset, width)
            }
            // Reserved, or write-only.
            aligned => regs::identification(aligned).unwrap_or_default().into(),
        })
    }

    /// Writes to the redistributor region.
    pub(crate) fn write_redistributor(
        &mut self,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Kicks, AccessError> {
        let (vcpu, offset) = split(offset)?;
        if let Some(offset) = offset.checked_sub(gicr::FRAME_BYTES) {
            let Some(register) = private_register(offset) else {
                return Ok(Kicks::NONE);
            };
            register.check_width(width)?;
            return Ok(self.core.write_register(vcpu, register, width, value));
        }
        self.check_control_width(offset, width)?;
        Ok(match offset {
            regs::CTLR => self.set_lpi_control(vcpu, value),
            gicr::WAKER => {
                let asleep = value & u64::from(gicr::WAKER_PROCESSOR_SLEEP) != 0;
                self.set_awake(vcpu, !asleep)
            }
            gicr::PROPBASER..gicr::LPI_TABLES_END if self.core.lpi_count() != 0 => {
                self.write_lpi_table(vcpu, offset, width, value);
                Kicks::NONE
            }
            // Read-only or reserved.
            _ => Kicks::NONE,
        })
    }

    fn redistributor_type(&self, vcpu: VcpuId) -> u64 {
        let Some(one) = self.redistributors.get(vcpu.index()) else {
            return 0;
        };
        let last = one.ends_region || vcpu.index() + 1 == self.redistributors.len();
        let number = u64::from(vcpu.raw());
        u64::from(one.affinity.raw()) << gicr::TYPER_AFFINITY_SHIFT
            | number << gicr::TYPER_PROCESSOR_NUMBER_SHIFT
            | if last { gicr::TYPER_LAST } else { 0 }
            | if self.core.lpi_count() != 0 {
                gicr::TYPER_PLPIS
            } else {
                0
            }
    }

    /// Checks the width of an access to the RD_base frame. Reserved places take
    /// any.
    fn check_control_width(&self, offset: u64, width: Width) -> Result<(), AccessError> {
        let has_lpis = self.core.lpi_count() != 0;
        let fits = match offset & !3 {
            gicr::PROPBASER..gicr::LPI_TABLES_END if has_lpis => {
                matches!(width, Width::Word | Width::Dword)
            }
            gicr::TYPER | gicr::TYPER_UPPER => matches!(width, Width::Word | Width::Dword),
            regs::CTLR | gicr::IIDR | gicr::WAKER => width == Width::Word,
            aligned => width == Width::Word || regs::identification(aligned).is_none(),
        };
        fits.then_some(()).ok_or(AccessError::InvalidWidth)
    }
}

/// Splits an offset in the region into a vCPU and an offset in its frames.
fn split(offset: u64) -> Result<(VcpuId, u64), AccessError> {
    let index = u16::try_from(offset / gicr::STRIDE).map_err(|_| AccessError::NoDevice)?;
    Ok((VcpuId::new(index), offset % gicr::STRIDE))
}

/// Decodes an offset in the SGI_base frame. Only the first bank has registers
/// there.
fn private_register(offset: u64) -> Option<IrqRegister> {
    IrqRegister::decode(offset).filter(|register| register.bank() == 0)
}

/// Returns the register at `offset` of the region that describes interrupts, and
/// whose they are, or `None` if no such register lies there.
pub(crate) fn register_of(offset: u64) -> Option<(VcpuId, IrqRegister)> {
    let (vcpu, offset) = split(offset).ok()?;
    let register = private_register(offset.checked_sub(gicr::FRAME_BYTES)?)?;
    Some((vcpu, register))
}
