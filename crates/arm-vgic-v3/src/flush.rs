//! Into the list registers.
//!
//! [`Vgic::flush`] alone writes list registers and [`Vgic::fold`] alone reads
//! them. Between the two the list registers are the truth about the interrupts
//! in them. A fold takes everything back, a flush hands out anew in the order of
//! priority; list registers that come out the same are not written.
//!
//! When there are more interrupts than list registers, those of the highest
//! priority get one, and always at least one that is pending if any is. So "no
//! list register is pending" (ICH_HCR_EL2.NPIE) says exactly when to refill. It
//! covers what the underflow interrupt would say, and also the case that all
//! list registers hold active interrupts. Active interrupts without a list
//! register are found by their number, ICH_HCR_EL2.EOIcount: priorities nest, so
//! the guest ends the one of the highest priority first. With ICC_CTLR_EL1.EOImode
//! set they need not nest: then ICC_DIR_EL1 is trapped as long as there are such,
//! where the CPU can do that, and [`Vgic::deactivate`] does what it asks.

use vm_contract::VcpuId;

use crate::cpu_interface::CpuInterface;
use crate::ich::IchRegs;
use crate::irq::Groups;
use crate::list_register::ListRegister;
use crate::overflow::{self, Selection};
use crate::redistributor::Redistributor;
use crate::regs::{hcr, vmcr};
use crate::spi::SpiBank;
use crate::vgic::Vgic;

impl Vgic {
    /// Hands what is due to `vcpu`, which is loaded in this CPU, to its list
    /// registers. A vCPU that is not loaded is left alone.
    #[inline]
    pub fn flush(&mut self, vcpu: VcpuId, ich: &mut impl IchRegs) {
        let Some(one) = self.redistributors.get_mut(vcpu.index()) else {
            return;
        };
        let interface = &one.interface;
        // Without a fold in between nothing can be handed out anew.
        debug_assert!(interface.listed == 0, "vCPU {vcpu} was not folded");
        let settled =
            interface.claims.is_empty() && interface.occupied == 0 && interface.hcr == hcr::EN;
        if !settled && interface.loaded && interface.listed == 0 {
            hand_out(one, &mut self.spis, self.groups, ich);
        }
    }
}

/// Fills the list registers from the claims of `one`.
fn hand_out(one: &mut Redistributor, spis: &mut [SpiBank], groups: Groups, ich: &mut impl IchRegs) {
    let room = usize::from(one.interface.lr_count);
    let (mut count, mut control) = (0, hcr::EN);
    if one.interface.claims.fit(room) {
        while let Some(intid) = one.interface.claims.take_first() {
            fill(count, intid, one, spis, groups, ich);
            count += 1;
        }
    } else {
        let selection = overflow::select(one, spis, room);
        control = one.interface.control_for(&selection);
        for intid in selection.chosen() {
            one.interface
                .claims
                .remove(intid as usize / 32, 1 << (intid % 32));
            fill(count, intid, one, spis, groups, ich);
            count += 1;
        }
    }
    let interface = &mut one.interface;
    interface.empty_from(count, ich);
    // With EOIs counted the register no longer holds what was written.
    if control != interface.hcr || control & hcr::LRENPIE != 0 {
        interface.hcr = control;
        ich.write_hcr(control);
    }
}

/// Fills list register `n` with the interrupt `intid`, which is claimed no more.
fn fill(
    n: usize,
    intid: u32,
    one: &mut Redistributor,
    spis: &mut [SpiBank],
    groups: Groups,
    ich: &mut impl IchRegs,
) {
    let number = intid % 32;
    let entry = match (intid as usize / 32).checked_sub(1) {
        None => {
            let physical = one.physical.get((number % 16) as usize).copied();
            let physical = physical.unwrap_or_default();
            one.bank.hand_out(number, intid, physical, false, groups)
        }
        Some(index) => {
            let Some(spis) = spis.get_mut(index) else {
                return;
            };
            spis.unclaim(1 << number);
            let moved = spis.has_moved(number);
            spis.bank.hand_out(number, intid, 0, moved, groups)
        }
    };
    one.interface.put(n, entry, ich);
}

impl CpuInterface {
    /// Brings one list register to `value`.
    fn put(&mut self, n: usize, value: ListRegister, ich: &mut impl IchRegs) {
        let Some(shadow) = self.lrs.get_mut(n) else {
            return;
        };
        if *shadow != value || self.occupied >> n & 1 == 0 {
            *shadow = value;
            ich.write_lr(n, value);
        }
        self.listed |= 1 << n;
        self.occupied |= 1 << n;
    }

    /// Empties the list registers from number `first` on.
    fn empty_from(&mut self, first: usize, ich: &mut impl IchRegs) {
        let mut rest = u32::from(self.occupied) >> first << first;
        while rest != 0 {
            let n = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            self.occupied &= !(1 << n);
            if let Some(shadow) = self.lrs.get_mut(n) {
                *shadow = ListRegister::EMPTY;
                ich.write_lr(n, ListRegister::EMPTY);
            }
        }
    }

    /// Returns the maintenance requests for what found no list register.
    fn control_for(&self, selection: &Selection) -> u64 {
        let mut value = hcr::EN;
        if selection.pending_left {
            let when_changed = |enabled: u64, die: u64, eie: u64| {
                if self.vmcr & enabled != 0 { die } else { eie }
            };
            value |= hcr::NPIE
                | when_changed(vmcr::VENG0, hcr::VGRP0DIE, hcr::VGRP0EIE)
                | when_changed(vmcr::VENG1, hcr::VGRP1DIE, hcr::VGRP1EIE);
        }
        if selection.active_left {
            value |= hcr::LRENPIE;
            if self.vmcr & vmcr::VEOIM != 0 && self.can_trap_dir {
                value |= hcr::TDIR;
            }
        }
        value
    }
}
