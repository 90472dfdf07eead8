//! Where interrupts come from: device wires, physical interrupts and software.

use vm_contract::{IntId, VcpuId};

use crate::bank::Bank;
use crate::controller::{Controller, place};
use crate::kicks::Kicks;

impl Controller {
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
    /// folded. On a GICv2 an SGI counts as sent by the first vCPU.
    pub fn set_pending(&mut self, vcpu: VcpuId, intid: IntId) -> Kicks {
        if intid.is_sgi() && self.tells_senders_apart(vcpu) {
            let mut kicks = Kicks::NONE;
            self.send_sgi_from(1, vcpu, intid.raw(), &mut kicks);
            kicks
        } else if intid.is_private() {
            self.change_private(vcpu, intid, Bank::latch)
        } else {
            self.change_spi(intid, Bank::latch)
        }
    }

    /// Changes the state of an SPI and settles what follows. `change` takes the
    /// interrupt's bit in its bank, zero for one that does not exist, and returns
    /// it if its list register may be wrong now.
    #[inline]
    pub(crate) fn change_spi(
        &mut self,
        intid: IntId,
        change: impl FnOnce(&mut Bank, u32) -> u32,
    ) -> Kicks {
        let mut kicks = Kicks::NONE;
        let (word, bit) = place(intid);
        if let Some(index) = word.checked_sub(1)
            && let Some(spis) = self.shared.spis.get_mut(index)
        {
            let touched = change(&mut spis.bank, bit & spis.valid);
            self.spis_changed(index, touched, &mut kicks);
        }
        kicks
    }

    /// Changes the state of an SGI or PPI and settles what follows.
    #[inline]
    pub(crate) fn change_private(
        &mut self,
        vcpu: VcpuId,
        intid: IntId,
        change: impl FnOnce(&mut Bank, u32) -> u32,
    ) -> Kicks {
        let mut kicks = Kicks::NONE;
        if let Some(one) = self.vcpus.get_mut(vcpu.index()) {
            let touched = change(&mut one.bank, place(intid).1);
            self.private_changed(vcpu.index(), touched, &mut kicks);
        }
        kicks
    }
}
