//! Where interrupts come from: device wires, physical interrupts and software.

use vm_contract::{IntId, VcpuId};

use crate::irq::Bank;
use crate::kicks::Kicks;
use crate::vgic::{Vgic, place};

impl Vgic {
    /// Drives the wire of a shared interrupt. Repeating a level has no effect.
    /// An INTID that is no SPI of this vGIC is ignored.
    pub fn set_spi_level(&mut self, intid: IntId, asserted: bool) -> Kicks {
        self.change_spi(intid, |bank, bit| bank.set_line(bit, asserted))
    }

    /// Sends one edge on the wire of a shared interrupt: it rises and falls. A
    /// level-sensitive interrupt that nobody could take in between is not
    /// pending afterwards.
    pub fn pulse_spi(&mut self, intid: IntId) -> Kicks {
        let mut kicks = self.set_spi_level(intid, true);
        kicks.extend(self.set_spi_level(intid, false));
        kicks
    }

    /// Drives the wire of a private peripheral interrupt of `vcpu`. Repeating a
    /// level has no effect. An INTID that is no PPI is ignored.
    pub fn set_ppi_level(&mut self, vcpu: VcpuId, intid: IntId, asserted: bool) -> Kicks {
        if !intid.is_ppi() {
            return Kicks::NONE;
        }
        self.change_private(vcpu, intid, |bank, bit| bank.set_line(bit, asserted))
    }

    /// Makes an interrupt pending without a wire, as a write of ISPENDR does: an
    /// SGI or a PPI of `vcpu`, or an SPI, which goes where it is routed. It stays
    /// so until it is taken or ICPENDR is written. An INTID that this vGIC does
    /// not have is ignored. The list registers of `vcpu` need not have been
    /// folded.
    pub fn set_pending(&mut self, vcpu: VcpuId, intid: IntId) -> Kicks {
        if intid.is_private() {
            self.change_private(vcpu, intid, Bank::latch)
        } else {
            self.change_spi(intid, Bank::latch)
        }
    }

    /// Changes the state of an SPI and settles what follows. `change` takes the
    /// interrupt's bit in its bank, zero for one that does not exist, and returns
    /// it if its list register may be wrong now.
    #[inline]
    fn change_spi(&mut self, intid: IntId, change: impl FnOnce(&mut Bank, u32) -> u32) -> Kicks {
        let mut kicks = Kicks::NONE;
        let (word, bit) = place(intid);
        if let Some(index) = word.checked_sub(1)
            && let Some(spis) = self.spis.get_mut(index)
        {
            let touched = change(&mut spis.bank, bit & spis.valid);
            self.spis_changed(index, touched, &mut kicks);
        }
        kicks
    }

    /// Changes the state of an SGI or PPI and settles what follows.
    #[inline]
    fn change_private(
        &mut self,
        vcpu: VcpuId,
        intid: IntId,
        change: impl FnOnce(&mut Bank, u32) -> u32,
    ) -> Kicks {
        let mut kicks = Kicks::NONE;
        if let Some(one) = self.redistributors.get_mut(vcpu.index()) {
            let touched = change(&mut one.bank, place(intid).1);
            self.private_changed(vcpu.index(), touched, &mut kicks);
        }
        kicks
    }

    /// Makes the PPI `intid` of `vcpu` pending because the interrupt `physical`
    /// behind it was acknowledged: its priority is dropped, it is still active,
    /// and it stays so until the guest deactivates the virtual one, which the
    /// list register passes on, or until [`lower_hw_ppi`](Self::lower_hw_ppi)
    /// or [`Folded::deactivate`](crate::Folded::deactivate) hands it back.
    ///
    /// `intid` must be a PPI and `physical` a PPI or SPI; anything else is
    /// ignored.
    pub fn raise_hw_ppi(&mut self, vcpu: VcpuId, intid: IntId, physical: IntId) -> Kicks {
        if !intid.is_ppi() || !(physical.is_ppi() || physical.is_spi()) {
            return Kicks::NONE;
        }
        if let Some(one) = self.redistributors.get_mut(vcpu.index())
            && let Some(slot) = one.physical.get_mut((intid.raw() % 16) as usize)
            && let Ok(physical) = u16::try_from(physical.raw())
        {
            *slot = physical;
        }
        self.change_private(vcpu, intid, Bank::link)
    }

    /// Takes back the linked PPI `intid` of `vcpu`, whose source was found low,
    /// if it is merely pending: neither in a list register nor active. Returns
    /// the physical interrupt that the caller must now deactivate.
    pub fn lower_hw_ppi(&mut self, vcpu: VcpuId, intid: IntId) -> Option<IntId> {
        let physical = self.hw_ppi_link(vcpu, intid)?;
        let one = self.redistributors.get_mut(vcpu.index())?;
        if one.bank.unlink(place(intid).1) == 0 {
            return None;
        }
        one.settle(self.groups);
        Some(physical)
    }

    /// Tells whether the linked PPI `intid` of `vcpu` is merely pending, so
    /// that [`lower_hw_ppi`](Self::lower_hw_ppi) would take it back: only then
    /// its source is worth a look.
    #[must_use]
    pub fn hw_ppi_pending(&self, vcpu: VcpuId, intid: IntId) -> bool {
        self.redistributors.get(vcpu.index()).is_some_and(|one| {
            let bank = &one.bank;
            let idle = bank.linked & bank.line & !bank.active & !bank.listed;
            intid.is_ppi() && idle & place(intid).1 != 0
        })
    }

    /// Returns the physical interrupt that is active on behalf of the PPI
    /// `intid` of `vcpu`, if one is, as last folded. Whoever moves the vCPU to
    /// another CPU moves that active state along.
    #[must_use]
    pub fn hw_ppi_link(&self, vcpu: VcpuId, intid: IntId) -> Option<IntId> {
        let one = self.redistributors.get(vcpu.index())?;
        if !intid.is_ppi() || one.bank.linked & place(intid).1 == 0 {
            return None;
        }
        let physical = one.physical.get((intid.raw() % 16) as usize)?;
        IntId::new((*physical).into())
    }
}
