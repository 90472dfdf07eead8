//! Software-generated interrupts: GICD_SGIR and the registers that show and change
//! who has sent which.

use arm_vgic_core::Kicks;
use vm_contract::{VcpuId, Width};

use crate::regs::gicd;
use crate::vgic::Vgic;

impl Vgic {
    /// Sends an SGI as the write of `value` to GICD_SGIR by `sender` asks. Targets
    /// that do not exist are passed over, and so is a reserved filter. The list
    /// registers of the sender need not have been folded.
    pub(crate) fn send_sgi(&mut self, sender: VcpuId, value: u32) -> Kicks {
        let own = 1 << (sender.raw() % 8);
        let list = match value >> 24 & 0b11 {
            0b00 => value >> 16 & 0xFF,
            0b01 => !own & 0xFF,
            0b10 => own,
            _ => 0,
        };
        let mut kicks = Kicks::NONE;
        for target in arm_vgic_core::set_bits(list) {
            #[expect(clippy::cast_possible_truncation, reason = "below eight")]
            let (target, source) = (VcpuId::new(target as u16), own as u8);
            self.core
                .send_sgi_from(source, target, value & 0xF, &mut kicks);
        }
        kicks
    }

    /// Reads `CPENDSGIR<n>` or `SPENDSGIR<n>`, a byte for each SGI of `asker`, whose
    /// list registers have been folded.
    pub(crate) fn read_sgi_sources(&self, asker: VcpuId, offset: u64, width: Width) -> u64 {
        let mut bytes = [0; 8];
        for (byte, sgi) in bytes.iter_mut().zip(sgis(offset, width)) {
            *byte = self.core.sgi_sources(asker, sgi);
        }
        u64::from_le_bytes(bytes)
    }

    /// Writes `CPENDSGIR<n>` or `SPENDSGIR<n>` of `asker`, whose list registers have
    /// been folded.
    pub(crate) fn write_sgi_sources(
        &mut self,
        asker: VcpuId,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Kicks {
        let mut kicks = Kicks::NONE;
        let existing = self.existing_targets();
        for (byte, sgi) in value.to_le_bytes().iter().zip(sgis(offset, width)) {
            if offset < gicd::SPENDSGIR {
                kicks.extend(self.core.withdraw_sgi(*byte, asker, sgi));
            } else {
                self.core
                    .send_sgi_from(byte & existing, asker, sgi, &mut kicks);
            }
        }
        kicks
    }
}

/// Returns the SGIs whose bytes an access reaches.
fn sgis(offset: u64, width: Width) -> impl Iterator<Item = u32> {
    let first = u32::try_from(offset % 16).unwrap_or_default();
    (first..16).take(usize::try_from(width.bytes()).unwrap_or_default())
}
