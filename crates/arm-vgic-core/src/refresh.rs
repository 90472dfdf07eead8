//! What a kick asks for: the list registers, mended in place.
//!
//! Most kicks are about one interrupt: a new one, or the same one as last time,
//! which the guest has finished with in the meantime. So list registers that are
//! still right stay, and SGIs and PPIs go back into the one that they had.

use vm_contract::VcpuId;

use crate::controller::Controller;
use crate::cpu_interface::CpuInterface;
use crate::flush::hand_out_all;
use crate::fold::Folded;
use crate::ich::IchRegs;
use crate::lpi::word_of;

impl Controller {
    /// Brings the list registers of `vcpu`, which is loaded in this CPU, up to
    /// date after a kick or a maintenance interrupt. A vCPU that is not loaded
    /// is left alone.
    ///
    /// The guest sees the same as after [`fold`](Self::fold) and
    /// [`flush`](Self::flush), but what it did to interrupts that are still
    /// right in their list registers stays unknown here.
    #[inline]
    pub fn refresh(&mut self, vcpu: VcpuId, ich: &mut impl IchRegs) -> Folded {
        let mut folded = Folded::default();
        self.refresh_into(vcpu, ich, &mut folded);
        folded
    }

    /// Refreshes, and adds to `folded` what comes of it.
    #[inline(never)]
    fn refresh_into(&mut self, vcpu: VcpuId, ich: &mut impl IchRegs, folded: &mut Folded) {
        let Some(one) = self.vcpus.get(vcpu.index()) else {
            return;
        };
        if !one.interface.loaded {
            return;
        }
        if self.released == 0 && !one.interface.is_overflowed() {
            self.mend(vcpu, ich, folded);
            if self.released != 0 {
                self.hand_back_released(vcpu, folded);
            }
            if let Some(one) = self.vcpus.get_mut(vcpu.index())
                && one.interface.claims.fit(one.interface.free())
            {
                hand_out_all(one, &mut self.shared, self.groups, ich);
                return;
            }
        }
        self.fold_into(vcpu, ich, folded);
        self.flush(vcpu, ich);
    }

    /// Takes back what list registers hold that is done with or has changed. Puts
    /// SGIs and PPIs that are wanted again where they were.
    #[inline]
    fn mend(&mut self, vcpu: VcpuId, ich: &mut impl IchRegs, folded: &mut Folded) {
        let Some(one) = self.vcpus.get_mut(vcpu.index()) else {
            return;
        };
        let mut listed = one.interface.listed;
        let mut touched = 0u64;
        while listed != 0 {
            let n = listed.trailing_zeros();
            listed &= listed - 1;
            let Some(written) = one.interface.lrs.get(n as usize).copied() else {
                continue;
            };
            let now = ich.read_lr(n as usize);
            let (word, number) = (word_of(written.intid()), written.intid() % 32);
            let bit = 1 << number;
            let entry = match word.checked_sub(1) {
                None => {
                    if !now.is_inactive() && one.bank.stale & bit == 0 {
                        continue;
                    }
                    if let Some(entry) = one.put_again(number, written, now, self.groups) {
                        entry
                    } else {
                        one.take_back(bit, written, now, folded);
                        if one.wanting(self.groups) & bit != 0 {
                            one.hand_out(number, self.groups)
                        } else {
                            one.interface.listed &= !(1 << n);
                            now
                        }
                    }
                }
                Some(index) => {
                    let Some(spis) = self.shared.get_mut(index as usize) else {
                        continue;
                    };
                    if !now.is_inactive() && spis.bank.stale & bit == 0 {
                        continue;
                    }
                    spis.take_back(bit, written, now, folded);
                    touched |= 1 << self.shared.summary_bit(word);
                    one.interface.listed &= !(1 << n);
                    now
                }
            };
            if let Some(shadow) = one.interface.lrs.get_mut(n as usize) {
                *shadow = entry;
            }
            if entry != now {
                ich.write_lr(n as usize, entry);
            }
        }
        if touched != 0 {
            self.settle_shared(touched, vcpu, folded);
        }
    }
}

impl CpuInterface {
    /// Tells whether interrupts wait for list registers.
    fn is_overflowed(&self) -> bool {
        self.hcr != self.idle
    }
}
