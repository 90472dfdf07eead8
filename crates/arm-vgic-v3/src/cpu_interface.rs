//! The virtual CPU interface: flush into the list registers, fold out of them,
//! and the state that travels with a vCPU.
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

use vm_contract::{IntId, VcpuId};

use crate::claims::Claims;
use crate::ich::IchRegs;
use crate::irq::{Bank, Returned};
use crate::kicks::Kicks;
use crate::list_register::ListRegister;
use crate::overflow::{self, MAX_LRS, Selection};
use crate::regs::{hcr, vmcr};
use crate::vgic::{Vgic, place};

/// Active-priority registers per group: at most four.
const MAX_APRS: usize = 4;

/// The CPU interface of one vCPU.
#[derive(Clone, Debug)]
pub(crate) struct CpuInterface {
    /// The interrupts that want a list register and have none.
    pub(crate) claims: Claims,
    /// The registers are in a CPU.
    loaded: bool,
    lr_count: u8,
    pub(crate) preemption_bits: u8,
    can_trap_dir: bool,
    /// The list registers that hold something of ours, by number.
    listed: u16,
    /// The list registers that may not be empty.
    occupied: u16,
    /// What is in the list registers as last written or read.
    lrs: [ListRegister; MAX_LRS],
    hcr: u64,
    pub(crate) vmcr: u64,
    pub(crate) ap0r: [u64; MAX_APRS],
    pub(crate) ap1r: [u64; MAX_APRS],
}

impl CpuInterface {
    /// Returns the interface at reset: priority mask zero, both groups
    /// disabled, binary points at their minimum, nothing active.
    pub(crate) const fn new() -> Self {
        Self {
            claims: Claims::NONE,
            loaded: false,
            lr_count: 1,
            preemption_bits: 5,
            can_trap_dir: false,
            listed: 0,
            occupied: 0,
            lrs: [ListRegister::EMPTY; MAX_LRS],
            hcr: 0,
            // A binary point below the minimum becomes the minimum.
            vmcr: vmcr::VFIQEN,
            ap0r: [0; MAX_APRS],
            ap1r: [0; MAX_APRS],
        }
    }

    /// Tells whether the registers are in a CPU.
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// Returns what the list registers hold, as last flushed; nothing after a
    /// fold.
    pub(crate) fn entries(&self) -> impl Iterator<Item = ListRegister> + use<'_> {
        self.lrs
            .iter()
            .enumerate()
            .filter(|(n, _)| self.listed >> n & 1 != 0)
            .map(|(_, lr)| *lr)
    }

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
    fn hcr_for(&self, selection: &Selection) -> u64 {
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

/// The outcome of a fold.
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "vCPUs wait for kicks and physical interrupts for deactivation"]
pub struct Folded {
    /// Other vCPUs that got something to deliver. The folded one is not among
    /// them: it must be flushed anyhow before it runs again.
    pub kicks: Kicks,
    deactivate: [u16; 16],
    deactivate_count: u8,
}

impl Folded {
    /// Returns the physical interrupts that the caller must deactivate
    /// (ICC_DIR_EL1) on this CPU: the guest has ended the virtual ones, but not
    /// through a list register that would have done it.
    pub fn deactivate(&self) -> impl Iterator<Item = IntId> + use<'_> {
        let listed = self.deactivate.iter().take(self.deactivate_count.into());
        listed.filter_map(|&physical| IntId::new(physical.into()))
    }

    fn add_deactivation(&mut self, physical: u16) {
        if let Some(slot) = self.deactivate.get_mut(usize::from(self.deactivate_count)) {
            *slot = physical;
            self.deactivate_count += 1;
        }
    }
}

impl Vgic {
    /// Puts the state of `vcpu` into the CPU that it is to run on, list
    /// registers included, and enables the virtual CPU interface.
    pub fn load(&mut self, vcpu: VcpuId, ich: &mut impl IchRegs) {
        let Some(one) = self.redistributors.get_mut(vcpu.index()) else {
            return;
        };
        let interface = &mut one.interface;
        debug_assert!(!interface.loaded, "vCPU {vcpu} runs already");
        interface.loaded = true;
        let lr_count = ich.lr_count().clamp(1, MAX_LRS);
        #[expect(clippy::cast_possible_truncation, reason = "at most 16")]
        let count = lr_count as u8;
        interface.lr_count = count;
        let preemption_bits = ich.preemption_bits().clamp(5, 7) as u8;
        interface.preemption_bits = preemption_bits;
        interface.can_trap_dir = ich.can_trap_dir();
        ich.write_vmcr(interface.vmcr);
        let aprs = interface
            .ap0r
            .iter()
            .zip(&interface.ap1r)
            .take(apr_count(preemption_bits));
        for (n, (ap0r, ap1r)) in aprs.enumerate() {
            ich.write_ap0r(n, *ap0r);
            ich.write_ap1r(n, *ap1r);
        }
        // Somebody else's entries may still lie in the list registers.
        interface.lrs = [ListRegister::EMPTY; MAX_LRS];
        interface.listed = 0;
        interface.occupied = u16::MAX >> (MAX_LRS - lr_count);
        interface.hcr = 0;
        self.flush(vcpu, ich);
    }

    /// Takes the state of `vcpu` out of the CPU that it ran on and disables the
    /// virtual CPU interface there.
    pub fn save(&mut self, vcpu: VcpuId, ich: &mut impl IchRegs) -> Folded {
        let folded = self.fold(vcpu, ich);
        let Some(one) = self.redistributors.get_mut(vcpu.index()) else {
            return folded;
        };
        let interface = &mut one.interface;
        if interface.loaded {
            interface.loaded = false;
            let count = apr_count(interface.preemption_bits);
            let aprs = interface
                .ap0r
                .iter_mut()
                .zip(&mut interface.ap1r)
                .take(count);
            for (n, (ap0r, ap1r)) in aprs.enumerate() {
                *ap0r = ich.read_ap0r(n);
                *ap1r = ich.read_ap1r(n);
            }
            ich.write_hcr(0);
        }
        folded
    }

    /// Hands what is due to `vcpu`, which is loaded in this CPU, to its list
    /// registers. A vCPU that is not loaded is left alone.
    pub fn flush(&mut self, vcpu: VcpuId, ich: &mut impl IchRegs) {
        let Some(one) = self.redistributors.get_mut(vcpu.index()) else {
            return;
        };
        let interface = &mut one.interface;
        if !interface.loaded {
            return;
        }
        if interface.listed != 0 {
            // Without a fold in between nothing can be handed out anew.
            debug_assert!(false, "vCPU {vcpu} was not folded");
            return;
        }
        let selection = overflow::select(
            &interface.claims,
            interface.lr_count.into(),
            interface.vmcr,
            |intid| {
                let bank = match (intid / 32) as usize {
                    0 => Some(&one.bank),
                    word => self.spis.get(word - 1).map(|spis| &spis.bank),
                };
                bank.map_or((0xFF, false, false), |bank| bank.rank(intid % 32))
            },
        );
        for (n, intid) in selection.chosen().enumerate() {
            let (word, number) = ((intid / 32) as usize, intid % 32);
            let bit = 1 << number;
            interface.claims.remove(word, bit);
            let entry = match word.checked_sub(1) {
                None => {
                    let physical = one.physical.get((number % 16) as usize);
                    let physical = physical.copied().unwrap_or_default();
                    one.bank
                        .hand_out(number, intid, physical, false, self.groups)
                }
                Some(index) => {
                    let Some(spis) = self.spis.get_mut(index) else {
                        continue;
                    };
                    spis.unclaim(bit);
                    let moved = spis.has_moved(number);
                    spis.bank.hand_out(number, intid, 0, moved, self.groups)
                }
            };
            interface.put(n, entry, ich);
        }
        interface.empty_from(selection.count(), ich);
        let hcr = interface.hcr_for(&selection);
        // With EOIs counted the register no longer holds what was written.
        if hcr != interface.hcr || hcr & hcr::LRENPIE != 0 {
            interface.hcr = hcr;
            ich.write_hcr(hcr);
        }
    }

    /// Takes everything back from the list registers of `vcpu`, which is loaded
    /// in this CPU. [`flush`](Self::flush) must follow before it runs. A vCPU
    /// that is not loaded is left alone.
    pub fn fold(&mut self, vcpu: VcpuId, ich: &mut impl IchRegs) -> Folded {
        let mut folded = Folded::default();
        let Some(one) = self.redistributors.get_mut(vcpu.index()) else {
            return folded;
        };
        if !one.interface.loaded {
            return folded;
        }
        one.interface.vmcr = ich.read_vmcr();
        let mut eois = 0;
        if one.interface.hcr & hcr::LRENPIE != 0 {
            eois = ich.read_hcr() >> hcr::EOI_COUNT_SHIFT & 0x1F;
            // Counted once: a second fold before the next flush finds none.
            one.interface.hcr = 0;
        }
        for _ in 0..eois {
            // Before the list registers give back theirs: those are not meant.
            self.end_unlisted(vcpu, &mut folded);
        }

        let Some(one) = self.redistributors.get_mut(vcpu.index()) else {
            return folded;
        };
        let mut listed = u32::from(core::mem::take(&mut one.interface.listed));
        let mut touched = 0u32;
        while listed != 0 {
            let n = listed.trailing_zeros() as usize;
            listed &= listed - 1;
            let now = ich.read_lr(n);
            let Some(shadow) = one.interface.lrs.get_mut(n) else {
                continue;
            };
            let written = core::mem::replace(shadow, now);
            let word = written.intid() / 32;
            let bit = 1 << (written.intid() % 32);
            touched |= 1 << word;
            let bank = match word.checked_sub(1) {
                None => &mut one.bank,
                Some(index) => match self.spis.get_mut(index as usize) {
                    Some(spis) => &mut spis.bank,
                    None => continue,
                },
            };
            if bank.take_back(bit, written, now) == Returned::PhysicalActive {
                let physical = one.physical.get((written.intid() % 16) as usize);
                folded.add_deactivation(physical.copied().unwrap_or_default());
            }
        }
        if touched & 1 != 0 {
            one.settle(self.groups);
        }
        for number in crate::irq::set_bits(touched >> 1) {
            let kicks = self.spis_changed(number as usize, 0);
            folded.kicks.extend(kicks);
        }
        folded.kicks.remove(vcpu);
        folded
    }

    /// Ends the interrupt that `vcpu` names by writing `value` to ICC_DIR_EL1,
    /// after that write was trapped and the vCPU folded. Must be followed by a
    /// [`flush`](Self::flush). This happens only to guests that set
    /// ICC_CTLR_EL1.EOImode and have more interrupts active than there are list
    /// registers.
    pub fn deactivate(&mut self, vcpu: VcpuId, value: u64) -> Folded {
        let mut folded = Folded::default();
        #[expect(clippy::cast_possible_truncation, reason = "INTIDs have 24 bits")]
        if let Some(intid) = IntId::new(value as u32 & 0x00FF_FFFF) {
            self.end(vcpu, intid, &mut folded);
        }
        folded.kicks.remove(vcpu);
        folded
    }

    /// Ends the active interrupt of the highest priority among those of `vcpu`
    /// that no list register holds. Does nothing if there is none.
    fn end_unlisted(&mut self, vcpu: VcpuId, folded: &mut Folded) {
        let Some(one) = self.redistributors.get(vcpu.index()) else {
            return;
        };
        let active = one.interface.claims.iter().filter_map(|intid| {
            let bank: &Bank = match (intid / 32) as usize {
                0 => &one.bank,
                word => &self.spis.get(word - 1)?.bank,
            };
            let (priority, active, _) = bank.rank(intid % 32);
            active.then_some((priority, intid))
        });
        if let Some(intid) = active.min().and_then(|(_, intid)| IntId::new(intid)) {
            self.end(vcpu, intid, folded);
        }
    }

    /// Ends the active interrupt `intid`, seen from `vcpu`, in the model.
    fn end(&mut self, vcpu: VcpuId, intid: IntId, folded: &mut Folded) {
        let (word, bit) = place(intid);
        let Some(index) = word.checked_sub(1) else {
            let Some(one) = self.redistributors.get_mut(vcpu.index()) else {
                return;
            };
            if one.bank.active & bit != 0
                && one.bank.deactivate_unlisted(bit) == Returned::PhysicalActive
            {
                let physical = one.physical.get((intid.raw() % 16) as usize);
                folded.add_deactivation(physical.copied().unwrap_or_default());
            }
            one.settle(self.groups);
            return;
        };
        let Some(spis) = self.spis.get_mut(index) else {
            return;
        };
        if spis.bank.active & bit != 0 {
            spis.give_up(word, bit, &mut self.redistributors);
            spis.bank.deactivate_unlisted(bit);
            folded.kicks.extend(self.spis_changed(index, bit));
        }
    }

    /// Returns the CPU interface of `vcpu` to its reset state, as turning the
    /// CPU off and on does. What is pending or active in the redistributor and
    /// the distributor stays so. The vCPU must not be loaded.
    pub fn reset_cpu_interface(&mut self, vcpu: VcpuId) {
        if let Some(one) = self.redistributors.get_mut(vcpu.index()) {
            debug_assert!(!one.interface.loaded, "vCPU {vcpu} runs");
            let claims = one.interface.claims.clone();
            one.interface = CpuInterface {
                claims,
                ..CpuInterface::new()
            };
        }
    }
}

/// Returns how many active-priority registers there are per group.
fn apr_count(preemption_bits: u8) -> usize {
    1 << preemption_bits.clamp(5, 7).saturating_sub(5)
}
