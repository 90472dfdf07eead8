//! Software-generated interrupts: what a write of ICC_SGI*R_EL1 means.

use arm_vgic_core::{IchRegs, Kicks, SgiFilter};
use vm_contract::VcpuId;

use crate::vgic::Vgic;

/// The system register with which a vCPU sends an SGI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiRegister {
    /// ICC_SGI1R_EL1: reaches SGIs of either group.
    Sgi1,
    /// ICC_ASGI1R_EL1: reaches Group 0 only, for want of another security state.
    Asgi1,
    /// ICC_SGI0R_EL1: reaches Group 0 only.
    Sgi0,
}

/// The fields of ICC_SGI0R_EL1, ICC_SGI1R_EL1 and ICC_ASGI1R_EL1.
#[derive(Clone, Copy)]
struct Request(u64);

impl Request {
    /// Returns the number of the SGI.
    fn sgi(self) -> u32 {
        (self.0 >> 24 & 0xF) as u32
    }

    /// Tells whether everybody but the sender is meant (IRM).
    fn is_broadcast(self) -> bool {
        self.0 >> 40 & 1 != 0
    }

    #[expect(clippy::cast_possible_truncation, reason = "the field has 16 bits")]
    fn target_list(self) -> u16 {
        self.0 as u16
    }

    /// Returns the affinity of the targets without the four bits that the
    /// target list stands for: Aff3, Aff2, Aff1 and RS.
    #[expect(clippy::cast_possible_truncation, reason = "28 bits")]
    fn target_block(self) -> u32 {
        let aff3 = self.0 >> 48 & 0xFF;
        let rs = self.0 >> 44 & 0xF;
        let aff2 = self.0 >> 32 & 0xFF;
        let aff1 = self.0 >> 16 & 0xFF;
        (aff3 << 20 | aff2 << 12 | aff1 << 4 | rs) as u32
    }
}

/// ICC_SGI*R_EL1.INTID.
const INTID: u64 = 0xF << 24;

impl Vgic {
    /// Does what [`send_sgi`](Self::send_sgi) would, if the vCPU sends the interrupt to
    /// itself, is loaded in this CPU, and its list register needs no more than to be
    /// filled again. Otherwise does nothing and returns `false`.
    #[inline]
    #[must_use]
    pub fn send_sgi_again(
        &self,
        sender: VcpuId,
        register: SgiRegister,
        value: u64,
        ich: &mut impl IchRegs,
    ) -> bool {
        let one = self.redistributors.get(sender.index());
        register == SgiRegister::Sgi1
            && one.is_some_and(|one| one.own_request == value & !INTID)
            && self.core.send_sgi_again(sender, Request(value).sgi(), ich)
    }

    /// Sends an SGI as the write of `value` to `register` by `sender` asks.
    ///
    /// Several senders of one SGI to one target merge into one pending
    /// interrupt. Targets that do not exist are passed over. The list registers
    /// of the sender need not have been folded.
    pub fn send_sgi(&mut self, sender: VcpuId, register: SgiRegister, value: u64) -> Kicks {
        let request = Request(value);
        let sgi = request.sgi();
        let filter = match register {
            SgiRegister::Sgi1 => SgiFilter::AnyGroup,
            SgiRegister::Asgi1 | SgiRegister::Sgi0 => SgiFilter::Group0,
        };
        let mut kicks = Kicks::NONE;
        let core = &mut self.core;
        let mut send = |target| core.send_sgi(VcpuId::new(target), sgi, filter, &mut kicks);
        if request.is_broadcast() {
            let count = u16::try_from(self.affinities.vcpu_count()).unwrap_or(u16::MAX);
            (0..count)
                .filter(|&target| target != sender.raw())
                .for_each(&mut send);
        } else {
            let list = request.target_list();
            self.affinities
                .targets(request.target_block(), list)
                .for_each(&mut send);
        }
        kicks
    }
}
