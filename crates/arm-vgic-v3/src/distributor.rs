//! The distributor's registers: the GICD frame.
//!
//! Security is disabled and affinity routing is always on, so nothing in the
//! frame depends on who asks, and the registers of SGIs and PPIs read as zero.

use vm_contract::{AccessError, Width};

use crate::irq::{Groups, set_bits};
use crate::kicks::Kicks;
use crate::regs::{self, BitRegister, IrqRegister, gicd};
use crate::vgic::Vgic;

impl Vgic {
    /// Reads from the GICD frame.
    pub(crate) fn read_distributor(&self, offset: u64, width: Width) -> Result<u64, AccessError> {
        if let Some(register) = IrqRegister::decode(offset) {
            register.check_width(width)?;
            // Bank 0 belongs to the redistributors.
            let spis = register
                .bank()
                .checked_sub(1)
                .and_then(|index| self.spis.get(index));
            return Ok(spis.map_or(0, |spis| register.read(&spis.bank, width)));
        }
        if let Some((index, number)) = router_at(offset) {
            let value = self.spis.get(index).map_or(0, |spis| spis.router(number));
            return match width {
                Width::Dword => Ok(value),
                Width::Word => Ok(value >> (8 * (offset & 4)) & 0xFFFF_FFFF),
                _ => Err(AccessError::InvalidWidth),
            };
        }
        check_width(offset, width)?;
        let value = match offset & !3 {
            regs::CTLR => self.groups_as_ctlr() | gicd::CTLR_ARE | gicd::CTLR_DS,
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
        offset: u64,
        width: Width,
        value: u64,
        kicks: &mut Kicks,
    ) -> Result<(), AccessError> {
        if let Some(register) = IrqRegister::decode(offset) {
            register.check_width(width)?;
            self.write_spi_register(register, width, value, kicks);
            return Ok(());
        }
        if let Some((index, number)) = router_at(offset) {
            return self.write_router(index, number, offset, width, value, kicks);
        }
        check_width(offset, width)?;
        match offset {
            regs::CTLR => self.set_groups(value, kicks),
            gicd::SETSPI_NSR => self.send_message(value, true, kicks),
            gicd::CLRSPI_NSR => self.send_message(value, false, kicks),
            // Read-only or reserved.
            _ => {}
        }
        Ok(())
    }

    fn groups_as_ctlr(&self) -> u32 {
        self.groups.group0 & gicd::CTLR_ENABLE_GRP0 | self.groups.group1 & gicd::CTLR_ENABLE_GRP1
    }

    fn distributor_type(&self) -> u32 {
        // Banks of SPIs: at most 31.
        let lines = u32::try_from(self.spis.len()).unwrap_or_default();
        lines | gicd::TYPER_MBIS | gicd::TYPER_IDBITS_10 | gicd::TYPER_A3V | gicd::TYPER_RSS
    }

    /// Writes the enable bits of GICD_CTLR. Everything else there is fixed.
    fn set_groups(&mut self, value: u64, kicks: &mut Kicks) {
        let all_if = |bit: u32| {
            if value & u64::from(bit) != 0 {
                u32::MAX
            } else {
                0
            }
        };
        let groups = Groups {
            group0: all_if(gicd::CTLR_ENABLE_GRP0),
            group1: all_if(gicd::CTLR_ENABLE_GRP1),
        };
        if groups == self.groups {
            return;
        }
        self.groups = groups;
        for vcpu in 0..self.redistributors.len() {
            self.private_changed(vcpu, u32::MAX, kicks);
        }
        for index in 0..self.spis.len() {
            self.spis_changed(index, u32::MAX, kicks);
        }
    }

    /// Writes GICD_SETSPI_NSR (`asserted`) or GICD_CLRSPI_NSR. Numbers that
    /// are no SPI of this distributor are ignored.
    fn send_message(&mut self, value: u64, asserted: bool, kicks: &mut Kicks) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the INTID field has ten bits"
        )]
        let intid = value as u32 & 0x3FF;
        let bit = 1 << (intid % 32);
        let Some(index) = (intid as usize / 32).checked_sub(1) else {
            return;
        };
        let Some(spis) = self.spis.get_mut(index) else {
            return;
        };
        let touched = spis.bank.set_message(bit & spis.valid, asserted);
        self.spis_changed(index, touched, kicks);
    }

    fn write_spi_register(
        &mut self,
        register: IrqRegister,
        width: Width,
        value: u64,
        kicks: &mut Kicks,
    ) {
        let word = register.bank();
        // Bank 0 belongs to the redistributors.
        let Some(index) = word.checked_sub(1) else {
            return;
        };
        let Some(spis) = self.spis.get_mut(index) else {
            return;
        };
        let active_before = spis.bank.active;
        if let IrqRegister::Bits {
            register: BitRegister::ClearActive,
            ..
        } = register
            && active_before != 0
        {
            // What is still pending then may belong to another vCPU.
            #[expect(clippy::cast_possible_truncation, reason = "the register has 32 bits")]
            let ended = active_before & value as u32;
            spis.give_up(word, ended, &mut self.redistributors);
        }
        let touched = register.write(&mut spis.bank, width, value, spis.valid, self.priority_mask);
        if touched != 0 {
            spis.hold_at_target(spis.bank.active & !active_before);
            self.spis_changed(index, touched, kicks);
        }
    }

    fn write_router(
        &mut self,
        index: usize,
        number: u32,
        offset: u64,
        width: Width,
        value: u64,
        kicks: &mut Kicks,
    ) -> Result<(), AccessError> {
        if !matches!(width, Width::Word | Width::Dword) {
            return Err(AccessError::InvalidWidth);
        }
        let Some(spis) = self.spis.get_mut(index) else {
            return Ok(());
        };
        let bit = 1 << number & spis.valid;
        if bit == 0 {
            return Ok(());
        }
        let old = spis.router(number);
        let value = match (width, offset & 4) {
            (Width::Dword, _) => value,
            (_, 0) => old & !0xFFFF_FFFF | value & 0xFFFF_FFFF,
            _ => old & 0xFFFF_FFFF | value << 32,
        };
        spis.give_up(index + 1, bit & !spis.bank.active, &mut self.redistributors);
        spis.set_router(number, value);
        spis.resolve(number, &self.affinities, &self.redistributors);
        self.spis_changed(index, bit, kicks);
        Ok(())
    }

    /// Finds new targets for the SPIs that go to any vCPU, after one of the
    /// vCPUs woke up or went to sleep.
    pub(crate) fn resolve_any_vcpu_routes(&mut self, kicks: &mut Kicks) {
        for index in 0..self.spis.len() {
            let Some(spis) = self.spis.get_mut(index) else {
                continue;
            };
            let any = spis.any_vcpu;
            if any == 0 {
                continue;
            }
            spis.give_up(index + 1, any & !spis.bank.active, &mut self.redistributors);
            for number in set_bits(any) {
                spis.resolve(number, &self.affinities, &self.redistributors);
            }
            self.spis_changed(index, any, kicks);
        }
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

/// Returns the bank of SPIs and the number in it whose `IROUTER<n>` lies at
/// `offset`, or `None` if no router does.
fn router_at(offset: u64) -> Option<(usize, u32)> {
    if !(gicd::IROUTER..gicd::IROUTER_END).contains(&offset) {
        return None;
    }
    let intid = u32::try_from((offset - gicd::IROUTER) / 8).ok()?;
    Some(((intid as usize / 32).checked_sub(1)?, intid % 32))
}
