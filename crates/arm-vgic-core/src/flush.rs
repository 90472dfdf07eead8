//! Into the list registers.
//!
//! Between a flush and the next fold the list registers are the truth about the
//! interrupts in them. A fold takes everything back, a flush hands out anew;
//! list registers that come out the same are not written.
//!
//! When there are more interrupts than list registers, those of the highest
//! priority get one, and always at least one that is pending if any is. So "no
//! list register is pending" (ICH_HCR_EL2.NPIE) says exactly when to refill. It
//! covers what the underflow interrupt would say, and also the case that all
//! list registers hold active interrupts. Active interrupts without a list
//! register are found by their number, ICH_HCR_EL2.EOIcount: priorities nest, so
//! the guest ends the one of the highest priority first. With ICC_CTLR_EL1.EOImode
//! set they need not nest, and another vCPU may end them: so ICC_DIR_EL1 is trapped
//! where the CPU can do that, and [`Controller::deactivate`] does what it asks.

use vm_contract::VcpuId;

use crate::bank::Groups;
use crate::controller::Controller;
use crate::cpu_interface::CpuInterface;
use crate::ich::IchRegs;
use crate::list_register::ListRegister;
use crate::lpi::word_of;
use crate::overflow;
use crate::private::Private;
use crate::regs::{hcr, vmcr};
use crate::shared::Shared;

impl Controller {
    /// Hands what is due to `vcpu`, which is loaded in this CPU, to its list
    /// registers. A vCPU that is not loaded is left alone.
    #[inline]
    pub fn flush(&mut self, vcpu: VcpuId, ich: &mut impl IchRegs) {
        let Some(one) = self.vcpus.get_mut(vcpu.index()) else {
            return;
        };
        let interface = &one.interface;
        let settled = interface.claims.is_empty()
            && interface.occupied == interface.listed
            && interface.hcr == interface.idle;
        if !settled && interface.loaded {
            hand_out(one, &mut self.shared, self.groups, ich);
        }
    }
}

/// Fills the list registers from the claims of `one`.
#[inline(never)]
pub(crate) fn hand_out(
    one: &mut Private,
    shared: &mut Shared,
    groups: Groups,
    ich: &mut impl IchRegs,
) {
    if one.interface.claims.fit(one.interface.free()) {
        hand_out_all(one, shared, groups, ich);
        return;
    }
    let control = if one.interface.listed == 0 {
        let selection = overflow::select(one, shared, one.interface.lr_count.into());
        for intid in selection.chosen() {
            one.interface
                .claims
                .remove(word_of(intid) as usize, 1 << (intid % 32));
            fill(intid, one, shared, groups, ich);
        }
        one.interface
            .control_for(selection.pending_left, selection.active_left)
    } else {
        // Not folded: what does not fit waits until the list registers drain.
        one.interface.control_for(true, true)
    };
    one.interface.finish(control, ich);
}

/// Fills free list registers, which suffice, with all claims of `one`.
#[inline(always)]
pub(crate) fn hand_out_all(
    one: &mut Private,
    shared: &mut Shared,
    groups: Groups,
    ich: &mut impl IchRegs,
) {
    while let Some(intid) = one.interface.claims.take_first() {
        fill(intid, one, shared, groups, ich);
    }
    one.interface.finish(one.interface.idle, ich);
}

/// Fills a list register with the interrupt `intid`, which is claimed no more.
#[inline(always)]
fn fill(
    intid: u32,
    one: &mut Private,
    shared: &mut Shared,
    groups: Groups,
    ich: &mut impl IchRegs,
) {
    let number = intid % 32;
    let entry = match (word_of(intid) as usize).checked_sub(1) {
        None => one.hand_out(number, groups),
        Some(index) => {
            let Some(bank) = shared.get_mut(index) else {
                return;
            };
            bank.hand_out(number, intid, groups, &one.interface)
        }
    };
    let slot = one.interface.put(entry, ich);
    if word_of(intid) == 0
        && let Some(place) = one.interface.slots.get_mut(number as usize)
    {
        *place = slot;
    }
}

impl CpuInterface {
    /// Returns the list registers that hold nothing of ours, as a bit set.
    pub(crate) fn free(&self) -> u16 {
        (u16::MAX >> (16 - self.lr_count)) & !self.listed
    }

    /// Brings the first free list register to `value`. Returns which that is.
    fn put(&mut self, value: ListRegister, ich: &mut impl IchRegs) -> u8 {
        #[expect(clippy::cast_possible_truncation, reason = "at most 16")]
        let n = self.free().trailing_zeros() as u8;
        let Some(shadow) = self.lrs.get_mut(usize::from(n)) else {
            return n;
        };
        if *shadow != value || self.occupied >> n & 1 == 0 {
            *shadow = value;
            ich.write_lr(n.into(), value);
        }
        self.listed |= 1 << n;
        self.occupied |= 1 << n;
        n
    }

    /// Empties the list registers that hold nothing of ours and brings
    /// ICH_HCR_EL2 to `control`.
    #[inline]
    fn finish(&mut self, control: u64, ich: &mut impl IchRegs) {
        let mut rest = self.occupied & !self.listed;
        self.occupied = self.listed;
        while rest != 0 {
            let n = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            if let Some(shadow) = self.lrs.get_mut(n) {
                *shadow = ListRegister::EMPTY;
                ich.write_lr(n, ListRegister::EMPTY);
            }
        }
        // With EOIs counted the register no longer holds what was written.
        if control != self.hcr || control & hcr::LRENPIE != 0 {
            self.hcr = control;
            ich.write_hcr(control);
        }
    }

    /// Returns the maintenance requests for what found no list register.
    fn control_for(&self, pending_left: bool, active_left: bool) -> u64 {
        let mut value = self.idle;
        if pending_left {
            // A group that is enabled later competes for list registers, so that
            // has to be known. One that is disabled makes room for the other,
            // which matters only if that is enabled; this also keeps clear of
            // QEMU (7.2), which takes VGRP0DIE to mean Group 1.
            let (group0, group1) = (self.vmcr & vmcr::VENG0 != 0, self.vmcr & vmcr::VENG1 != 0);
            value |= hcr::NPIE
                | match (group0, group1) {
                    (true, true) => hcr::VGRP0DIE | hcr::VGRP1DIE,
                    (true, false) => hcr::VGRP1EIE,
                    (false, true) => hcr::VGRP0EIE,
                    (false, false) => hcr::VGRP0EIE | hcr::VGRP1EIE,
                };
        }
        if active_left {
            value |= hcr::LRENPIE;
        }
        value
    }
}
