//! A look at interrupts from outside, for whoever debugs a guest.

use vm_contract::{IntId, VcpuId};

use crate::controller::Controller;

/// An interrupt as the vGIC knows it. What a loaded vCPU's list registers hold
/// shows as it was last folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptView {
    /// Enabled.
    pub enabled: bool,
    /// Pending, for whatever reason.
    pub pending: bool,
    /// Active.
    pub active: bool,
    /// Its priority; lower values are more urgent.
    pub priority: u8,
}

impl Controller {
    /// Returns the numbers of all shared interrupts that exist.
    pub fn spi_intids(&self) -> impl Iterator<Item = IntId> + use<> {
        let banks = u32::try_from(self.shared.spis.len()).unwrap_or_default();
        (32..32 * (banks + 1)).map_while(IntId::new)
    }

    /// Returns the state of an interrupt: of a private one that of `vcpu`. `None`
    /// if there is no such vCPU or interrupt.
    #[must_use]
    pub fn inspect(&self, vcpu: VcpuId, intid: IntId) -> Option<InterruptView> {
        let one = self.vcpus.get(vcpu.index())?;
        let bank = one.bank_of(intid.raw(), &self.shared)?;
        let number = intid.raw() % 32;
        let is_set = |word: u32| word >> number & 1 != 0;
        Some(InterruptView {
            enabled: is_set(bank.enabled),
            pending: is_set(bank.pending()),
            active: is_set(bank.active),
            priority: *bank.priority.get(number as usize)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IrqRegister;
    use vm_contract::Width;

    #[test]
    fn what_registers_show_is_seen_from_outside() {
        const GICD_ISENABLER1: u64 = 0x104;
        const GICD_IPRIORITYR37: u64 = 0x425;
        let mut vgic = Controller::new(2, 64).expect("a good shape");
        let asker = VcpuId::new(0);
        for (offset, width, value) in [
            (GICD_ISENABLER1, Width::Word, 1 << 5),
            (GICD_IPRIORITYR37, Width::Byte, 0xa0),
        ] {
            let register = IrqRegister::decode(offset).expect("a register");
            let _ = vgic.write_register(asker, register, width, value);
        }
        let (spi, sgi) = (
            IntId::new(37).expect("an SPI"),
            IntId::new(3).expect("an SGI"),
        );
        let _ = vgic.pulse_spi(spi);
        let _ = vgic.set_pending(VcpuId::new(1), sgi);
        let view = vgic.inspect(asker, spi).expect("it exists");
        assert!(view.enabled && !view.active);
        assert_eq!(view.priority, 0xa0);
        let pending = |vcpu| {
            vgic.inspect(VcpuId::new(vcpu), sgi)
                .map(|view| view.pending)
        };
        assert_eq!(
            [pending(0), pending(1), pending(2)],
            [Some(false), Some(true), None]
        );
        assert_eq!(vgic.spi_intids().count(), 64);
        assert_eq!(vgic.inspect(asker, IntId::new(96).expect("an SPI")), None);
    }
}
