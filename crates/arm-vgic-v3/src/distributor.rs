//! The distributor's registers: the GICD frame.
//!
//! Security is disabled and affinity routing is always on, so nothing in the
//! frame depends on who asks, and the registers of SGIs and PPIs read as zero.

use arm_vgic_core::{IrqRegister, Kicks};
use vm_contract::{AccessError, IntId, VcpuId, Width};

use crate::regs::{self, gicd};
use crate::vgic::Vgic;

impl Vgic {
    /// Reads from the GICD frame.
    pub(crate) fn read_distributor(
        &self,
        asker: VcpuId,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        if let Some(register) = IrqRegister::decode(offset) {
            register.check_width(width)?;
            // Bank 0 belongs to the redistributors.
            return Ok(match register.bank() {
                0 => 0,
                _ => self.core.read_register(asker, register, width),
            });
        }
        if let Some(intid) = router_at(offset) {
            return self.read_router(intid, offset, width);
        }
        check_width(offset, width)?;
        let value = match offset & !3 {
            regs::CTLR => self.core.read_enables() | gicd::CTLR_ARE | gicd::CTLR_DS,
            gicd::TYPER => self.distributor_type(),
            gicd::IIDR => regs::IIDR_VALUE,
            // Reserved, or write-only.
            aligned => regs::identification(aligned).unwrap_or_default(),
        };
        Ok(value.into())
    }

    /// Writes to the GICD frame.
    pub(crate) fn write_distributor(
        &mut self,
        asker: VcpuId,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Kicks, AccessError> {
        if let Some(register) = IrqRegister::decode(offset) {
            register.check_width(width)?;
            // Bank 0 belongs to the redistributors.
            return Ok(match register.bank() {
                0 => Kicks::NONE,
                _ => self.core.write_register(asker, register, width, value),
            });
        }
        if let Some(intid) = router_at(offset) {
            return self.write_router(intid, offset, width, value);
        }
        check_width(offset, width)?;
        Ok(match offset {
            // All other bits are fixed.
            regs::CTLR => self.core.write_enables(value),
            gicd::SETSPI_NSR => self.send_message_to(value, true),
            gicd::CLRSPI_NSR => self.send_message_to(value, false),
            // Read-only or reserved.
            _ => Kicks::NONE,
        })
    }

    fn distributor_type(&self) -> u32 {
        let lines = u32::try_from(self.core.spi_bank_count()).unwrap_or_default();
        let lpis = match self.core.lpi_count().checked_ilog2() {
            None => gicd::TYPER_IDBITS_10,
            Some(bits) => {
                gicd::TYPER_LPIS
                    | gicd::TYPER_IDBITS_14
                    | bits.saturating_sub(1) << gicd::TYPER_NUM_LPIS_SHIFT
            }
        };
        lines | lpis | gicd::TYPER_MBIS | gicd::TYPER_A3V | gicd::TYPER_RSS
    }

    /// Writes GICD_SETSPI_NSR (`asserted`) or GICD_CLRSPI_NSR. Numbers that
    /// are no SPI of this distributor are ignored.
    fn send_message_to(&mut self, value: u64, asserted: bool) -> Kicks {
        // The INTID field has ten bits.
        #[expect(clippy::cast_possible_truncation, reason = "ten bits are meant")]
        let intid = IntId::new(value as u32 & 0x3FF);
        intid.map_or(Kicks::NONE, |intid| self.core.send_message(intid, asserted))
    }
}

/// Checks the width of an access to the registers of the distributor that
/// describe no single interrupt. Reserved places take any.
fn check_width(offset: u64, width: Width) -> Result<(), AccessError> {
    let fits = match offset & !3 {
        gicd::SETSPI_NSR | gicd::CLRSPI_NSR => matches!(width, Width::Half | Width::Word),
        regs::CTLR | gicd::TYPER | gicd::IIDR => width == Width::Word,
        aligned => width == Width::Word || regs::identification(aligned).is_none(),
    };
    fits.then_some(()).ok_or(AccessError::InvalidWidth)
}

/// Returns the SPI whose `GICD_IROUTER<n>` lies at `offset`, or `None` if no
/// router does.
fn router_at(offset: u64) -> Option<IntId> {
    let number = u32::try_from(offset.checked_sub(gicd::IROUTER)? / 8).ok()?;
    IntId::new(number).filter(|intid| intid.is_spi())
}
