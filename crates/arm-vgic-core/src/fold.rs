//! Out of the list registers.

use vm_contract::{IntId, VcpuId};

use crate::bank::{Returned, set_bits};
use crate::controller::{Controller, place};
use crate::ich::IchRegs;
use crate::kicks::Kicks;
use crate::list_register::ListRegister;
use crate::lpi::word_of;
use crate::private::Private;
use crate::regs::{hcr, vmcr};

/// The outcome of a fold.
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "vCPUs wait for kicks and physical interrupts for deactivation"]
pub struct Folded {
    /// Other vCPUs that got something to deliver. The folded one must be flushed
    /// anyhow before it runs again: it is among them only if it has to be folded once
    /// more, because more physical interrupts are to be deactivated than one fold
    /// reports.
    pub kicks: Kicks,
    /// Up to four physical INTIDs of 16 bits; zero is none.
    deactivate: u64,
}

impl Folded {
    /// Tells whether nobody has to do anything.
    #[inline]
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        self.deactivate == 0 && self.kicks.is_empty()
    }

    /// Returns the physical interrupts that the caller must deactivate
    /// (ICC_DIR_EL1) on this CPU: the guest has ended the virtual ones, but not
    /// through a list register that would have done it.
    pub fn deactivate(&self) -> impl Iterator<Item = IntId> + use<> {
        let mut rest = self.deactivate;
        core::iter::from_fn(move || {
            #[expect(clippy::cast_possible_truncation, reason = "sixteen bits are meant")]
            let first = rest as u16;
            rest >>= 16;
            if first == 0 {
                None
            } else {
                IntId::new(first.into())
            }
        })
    }

    /// Adds a physical interrupt. Tells whether there was room.
    pub(crate) fn add_deactivation(&mut self, physical: u16) -> bool {
        let room = self.deactivate >> 48 == 0;
        if room {
            self.deactivate = self.deactivate << 16 | u64::from(physical);
        }
        room
    }
}

impl Private {
    /// Folds a vCPU that is loaded and whose list registers are empty, or hold but one
    /// SGI or PPI, in the first, with which the guest is done, if none of its PPIs is
    /// linked then. Otherwise does nothing and returns `false`.
    #[inline(always)]
    pub(crate) fn take_last_back(&mut self, ich: &impl IchRegs) -> bool {
        let interface = &mut self.interface;
        let is_plain = interface.loaded && interface.hcr == interface.idle;
        if !is_plain || interface.listed > 1 {
            return false;
        }
        if interface.listed == 0 && self.bank.linked != 0 {
            return false;
        }
        if interface.listed == 1 {
            let written = interface.lrs[0];
            if self.bank.linked & !(1 << (written.intid() % 32)) != 0 {
                return false;
            }
            let is_private = word_of(written.intid()) == 0 && self.sources.is_none();
            let is_done = written.is_merely_pending() && ich.read_lr(0).is_inactive();
            if !(is_private && is_done && self.bank.end_lent(written)) {
                return false;
            }
            interface.listed = 0;
        }
        interface.vmcr = ich.read_vmcr();
        true
    }
}

impl Controller {
    /// Takes everything back from the list registers of `vcpu`, which is loaded
    /// in this CPU. [`flush`](Self::flush) must follow before it runs. A vCPU
    /// that is not loaded is left alone.
    #[inline]
    pub fn fold(&mut self, vcpu: VcpuId, ich: &impl IchRegs) -> Folded {
        let mut folded = Folded::default();
        self.fold_into(vcpu, ich, &mut folded);
        folded
    }

    /// Folds, and adds to `folded` what comes of it.
    #[inline(never)]
    pub(crate) fn fold_into(&mut self, vcpu: VcpuId, ich: &impl IchRegs, folded: &mut Folded) {
        if let Some(one) = self.vcpus.get_mut(vcpu.index())
            && one.interface.loaded
        {
            one.interface.vmcr = ich.read_vmcr();
            // With EOImode, where ICC_DIR_EL1 traps, only that ends an interrupt: EOIs
            // drop priorities, and do not count (ICH_HCR_EL2.EOIcount). In QEMU (7.2)
            // they do.
            let only_dir =
                one.interface.hcr & hcr::TDIR != 0 && one.interface.vmcr & vmcr::VEOIM != 0;
            if one.interface.hcr & hcr::LRENPIE != 0 && !only_dir {
                // Before the list registers give back theirs: those are not meant.
                self.end_counted(vcpu, ich, folded);
            }
            self.take_all_back(vcpu, ich, folded);
            if self.released != 0 {
                self.hand_back_released(vcpu, folded);
            }
        }
    }

    /// Takes back what the list registers hold.
    #[inline]
    fn take_all_back(&mut self, vcpu: VcpuId, ich: &impl IchRegs, folded: &mut Folded) {
        let Some(one) = self.vcpus.get_mut(vcpu.index()) else {
            return;
        };
        let mut listed = u32::from(core::mem::take(&mut one.interface.listed));
        let mut touched = 0u64;
        while listed != 0 {
            let n = listed.trailing_zeros() as usize;
            listed &= listed - 1;
            let Some(shadow) = one.interface.lrs.get_mut(n) else {
                continue;
            };
            let now = ich.read_lr(n);
            let written = core::mem::replace(shadow, now);
            let (word, bit) = (word_of(written.intid()), 1 << (written.intid() % 32));
            touched |= 1 << self.shared.summary_bit(word);
            match word.checked_sub(1) {
                None => one.take_back(bit, written, now, folded),
                Some(index) => {
                    if let Some(spis) = self.shared.get_mut(index as usize) {
                        spis.take_back(bit, written, now, folded);
                    }
                }
            }
        }
        if touched & 1 != 0 {
            one.settle(self.groups);
        }
        if touched > 1 {
            self.settle_shared(touched, vcpu, folded);
        }
    }

    /// Settles the banks in `touched`, a set of [summary
    /// bits](crate::shared::Shared::summary_bit), after `vcpu` gave some of their
    /// interrupts back.
    pub(crate) fn settle_shared(&mut self, touched: u64, vcpu: VcpuId, folded: &mut Folded) {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
        let spis = touched as u32 >> 1;
        for number in set_bits(spis) {
            self.note_released(number as usize);
            self.spis_changed(number as usize, 0, &mut folded.kicks);
        }
        if touched >> 32 != 0 {
            self.settle_lpis((touched >> 32) as u32, folded);
        }
        folded.kicks.remove(vcpu);
    }

    /// Ends as many interrupts as the guest has ended without a list register.
    #[cold]
    fn end_counted(&mut self, vcpu: VcpuId, ich: &impl IchRegs, folded: &mut Folded) {
        let count = ich.read_hcr() >> hcr::EOI_COUNT_SHIFT & 0x1F;
        if let Some(one) = self.vcpus.get_mut(vcpu.index()) {
            // Counted once: a second fold before the next flush finds none.
            one.interface.hcr = 0;
        }
        for _ in 0..count {
            self.end_unlisted(vcpu, folded);
        }
        folded.kicks.remove(vcpu);
    }

    /// Ends the interrupt that `vcpu` names by writing `value` to ICC_DIR_EL1 or
    /// GICC_DIR, after that write was trapped and the vCPU folded. Must be followed
    /// by a [`flush`](Self::flush). Unless the guest has set EOImode, the write is
    /// ignored. Where the CPU can, ICC_DIR_EL1 always traps: what it ends may be in no
    /// list register, or in another vCPU's.
    pub fn deactivate(&mut self, vcpu: VcpuId, value: u64) -> Folded {
        let mut folded = Folded::default();
        let splits = |one: &Private| one.interface.vmcr & vmcr::VEOIM != 0;
        #[expect(clippy::cast_possible_truncation, reason = "INTIDs have 24 bits")]
        if self.vcpus.get(vcpu.index()).is_some_and(splits)
            && let Some(intid) = IntId::new(value as u32 & 0x00FF_FFFF)
        {
            self.end(vcpu, intid, &mut folded);
        }
        folded.kicks.remove(vcpu);
        folded
    }

    /// Ends the active interrupt of the highest priority among those of `vcpu`
    /// that no list register holds, one that the guest has acknowledged if there is
    /// one: priorities nest. Does nothing if there is none.
    fn end_unlisted(&mut self, vcpu: VcpuId, folded: &mut Folded) {
        let Some(one) = self.vcpus.get(vcpu.index()) else {
            return;
        };
        let active = one.interface.claims.iter().filter_map(|intid| {
            let bank = one.bank_of(intid, &self.shared)?;
            let (priority, active, group1) = bank.rank(intid % 32);
            // They nest by group priority.
            let running = priority & one.interface.preemption_mask(group1);
            active.then_some((!bank.is_acknowledged(intid % 32), running, intid))
        });
        if let Some(intid) = active.min().and_then(|(_, _, intid)| IntId::new(intid)) {
            self.end(vcpu, intid, folded);
        }
    }

    /// Ends the active interrupt `intid`, seen from `vcpu`, in the model.
    fn end(&mut self, vcpu: VcpuId, intid: IntId, folded: &mut Folded) {
        let (word, bit) = place(intid);
        let Some(index) = word.checked_sub(1) else {
            let Some(one) = self.vcpus.get_mut(vcpu.index()) else {
                return;
            };
            if one.bank.active & bit != 0
                && one.bank.deactivate_unlisted(bit) == Returned::PhysicalActive
            {
                one.give_physical_back(bit, folded);
            }
            one.settle(self.groups);
            return;
        };
        let Some(spis) = self.shared.get_mut(index) else {
            return;
        };
        if spis.bank.active & bit != 0 {
            spis.give_up(word, bit, &mut self.vcpus);
            if spis.bank.deactivate_unlisted(bit) == Returned::PhysicalActive {
                spis.give_physical_back(bit, folded);
            }
            self.note_released(index);
            self.spis_changed(index, bit, &mut folded.kicks);
        } else if spis.bank.end_listed(bit) != 0 {
            // Another vCPU has it in hand.
            self.spis_changed(index, bit, &mut folded.kicks);
        }
    }
}

impl Private {
    /// Takes the SGI or PPI `bit` back from the list register that was filled
    /// with `written` and now reads `now`.
    #[inline]
    pub(crate) fn take_back(
        &mut self,
        bit: u32,
        written: ListRegister,
        now: ListRegister,
        folded: &mut Folded,
    ) {
        if self.bank.take_back(bit, written, now) == Returned::PhysicalActive {
            self.give_physical_back(bit, folded);
        }
        if let Some(sources) = &mut self.sources
            && now.intid() < 16
        {
            sources.take_back(now);
        }
    }

    /// Asks for the deactivation of the physical interrupt behind `bit`.
    #[cold]
    fn give_physical_back(&mut self, bit: u32, folded: &mut Folded) {
        let physical = self.physical.get((bit.trailing_zeros() % 16) as usize);
        if !folded.add_deactivation(physical.copied().unwrap_or_default()) {
            // More at once than a fold reports: found when its source is
            // looked at.
            self.bank.keep_linked(bit);
        }
    }
}
