//! `GICD_ITARGETSR<n>`: where shared interrupts go.

use arm_vgic_core::Kicks;
use vm_contract::{IntId, VcpuId, Width};

use crate::regs::gicd;
use crate::vgic::Vgic;

impl Vgic {
    /// Reads target bytes from `offset` on, as `asker` sees them: for SGIs and PPIs
    /// each vCPU reads itself. With one vCPU all are zero.
    pub(crate) fn read_targets(&self, asker: VcpuId, offset: u64, width: Width) -> u64 {
        let first = offset - gicd::ITARGETSR;
        let mut bytes = [0; 8];
        for (byte, number) in bytes.iter_mut().zip(first..first + width.bytes()) {
            *byte = match usize::try_from(number) {
                _ if self.vcpu_count() == 1 => 0,
                Ok(number @ 32..) => self.targets.get(number - 32).copied().unwrap_or_default(),
                _ => 1 << (asker.raw() % 8),
            };
        }
        u64::from_le_bytes(bytes)
    }

    /// Writes target bytes from `offset` on. Those of SGIs, of PPIs and of a GIC
    /// with one vCPU are read-only.
    pub(crate) fn write_targets(&mut self, offset: u64, width: Width, value: u64) -> Kicks {
        let mut kicks = Kicks::NONE;
        let first = offset - gicd::ITARGETSR;
        let existing = self.existing_targets();
        let bytes = value.to_le_bytes();
        for (byte, number) in bytes.iter().zip(first..first + width.bytes()) {
            let Some(intid) = u32::try_from(number).ok().and_then(IntId::new) else {
                continue;
            };
            if self.vcpu_count() > 1
                && intid.is_spi()
                && let Some(targets) = self.targets.get_mut(intid.raw() as usize - 32)
            {
                *targets = byte & existing;
                kicks.extend(self.resolve(intid));
            }
        }
        kicks
    }

    /// Returns all targets to their reset state: nobody, or the only vCPU.
    pub(crate) fn reset_targets(&mut self) {
        let only = u8::from(self.vcpu_count() == 1);
        self.targets.fill(only);
        for number in 0..self.targets.len() {
            let spi = u32::try_from(number).ok().and_then(IntId::spi);
            if let Some(intid) = spi {
                // Nothing is enabled that somebody could be kicked for.
                let _ = self.resolve(intid);
            }
        }
    }

    /// Routes an SPI by its target byte. Any one of several targets may take it
    /// (IHI 0048, 1-N model): here the lowest does.
    fn resolve(&mut self, intid: IntId) -> Kicks {
        let targets = self.targets.get(intid.raw() as usize - 32).copied();
        let first = targets.filter(|targets| *targets != 0);
        let first = first.and_then(|targets| u16::try_from(targets.trailing_zeros()).ok());
        self.core.route(intid, first.map(VcpuId::new))
    }

    /// Returns the bits of a target byte that stand for a vCPU.
    pub(crate) fn existing_targets(&self) -> u8 {
        u8::MAX >> (8 - self.vcpu_count().clamp(1, 8))
    }
}
