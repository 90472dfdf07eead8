//! LPIs: edge-triggered interrupts of Group 1 that have no registers. An ITS
//! says which are pending, where they go, and what their properties are.
//!
//! They are held like SPIs, in banks of 32 with INTIDs from 8192. LPIs are never
//! active. Each goes to one vCPU at a time: the one that it was last made
//! pending at.
//!
//! The architecture lets an acknowledged LPI vanish from its list register. QEMU
//! shows it as active there until its EOI; that is left to run its course, and
//! means nothing here.

use vm_contract::{IntId, VcpuId};

use crate::bank::{Bank, set_bits};
use crate::controller::Controller;
use crate::fold::Folded;
use crate::irq_register::BitRegister;
use crate::kicks::Kicks;
use crate::spi::SpiBank;

/// The largest number of LPIs.
pub const MAX_LPIS: u32 = 8192;

/// The number of the bank of the LPIs from 8192. Lower numbers are those of
/// INTIDs below 1024.
pub(crate) const FIRST_LPI_WORD: usize = 32;

/// Banks that INTIDs 1024–8191 would have.
const MISSING_WORDS: u32 = (IntId::LPI_BASE - 1024) / 32;

/// Returns the number of the bank that an INTID lies in.
#[inline]
pub(crate) const fn word_of(intid: u32) -> u32 {
    if intid < IntId::LPI_BASE {
        intid / 32
    } else {
        intid / 32 - MISSING_WORDS
    }
}

/// Returns the first INTID of a bank of LPIs.
#[expect(clippy::cast_possible_truncation, reason = "at most 288")]
pub(crate) const fn first_intid(word: usize) -> u32 {
    32 * (word as u32 + MISSING_WORDS)
}

/// How the banks of LPIs share the upper 32 bits of a set of 64: evenly.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Grouping {
    shift: u8,
}

impl Grouping {
    /// Returns the grouping of so many banks, at most 256.
    pub(crate) fn of(count: usize) -> Self {
        let shift = match count {
            0..=32 => 0,
            33..=64 => 1,
            65..=128 => 2,
            _ => 3,
        };
        Self { shift }
    }

    /// Returns the bit of bank number `word`.
    pub(crate) fn bit(self, word: usize) -> u32 {
        let group = word.saturating_sub(FIRST_LPI_WORD) >> self.shift;
        u32::try_from(group).map_or(63, |group| 32 + group.min(31))
    }

    /// Returns the numbers of the banks of group `group`, counted from 0.
    pub(crate) fn words(self, group: u32) -> core::ops::Range<usize> {
        let first = FIRST_LPI_WORD + ((group as usize) << self.shift);
        first..first + (1 << self.shift)
    }
}

impl SpiBank {
    /// Returns a bank of LPIs at reset.
    fn of_lpis() -> Self {
        let mut lpis = Self::new(0);
        lpis.bank = Bank::new(u32::MAX);
        lpis.bank.group = u32::MAX;
        lpis
    }

    /// Returns those that go to `vcpu` and are pending, or were when a list
    /// register was filled with them.
    fn pending_at(&self, vcpu: VcpuId) -> u32 {
        self.bank.pending() & self.going_to(vcpu)
    }
}

impl Controller {
    /// Adds LPIs, from INTID 8192: at least so many, up to [`MAX_LPIS`], rounded
    /// up to a power of two from 32. Must be called before anything else: it
    /// allocates.
    pub fn add_lpis(&mut self, count: u32) {
        let count = count.clamp(32, MAX_LPIS).next_power_of_two();
        let banks = count as usize / 32;
        self.shared.lpis = (0..banks).map(|_| SpiBank::of_lpis()).collect();
        self.shared.grouping = Grouping::of(banks);
        for one in &mut self.vcpus {
            one.interface.claims.make_room(banks);
        }
    }

    /// Returns the number of LPIs: zero, or a power of two from 32.
    #[must_use]
    pub fn lpi_count(&self) -> u32 {
        u32::try_from(32 * self.shared.lpis.len()).unwrap_or_default()
    }

    /// Tells whether the LPIs of `vcpu` are enabled.
    #[must_use]
    pub fn lpis_enabled(&self, vcpu: VcpuId) -> bool {
        let one = self.vcpus.get(vcpu.index());
        one.is_some_and(|one| one.lpis_enabled)
    }

    /// Enables the LPIs of `vcpu`, or disables them: then nothing becomes pending
    /// there. What is pending stays so, but is not forwarded.
    pub fn enable_lpis(&mut self, vcpu: VcpuId, enabled: bool) -> Kicks {
        let mut kicks = Kicks::NONE;
        if let Some(one) = self.vcpus.get_mut(vcpu.index())
            && core::mem::replace(&mut one.lpis_enabled, enabled) != enabled
        {
            let forwarded = one.awake && enabled;
            self.forward_lpis(vcpu, forwarded, &mut kicks);
        }
        kicks
    }

    /// Forwards the LPIs of `vcpu`, or holds them back.
    pub(crate) fn forward_lpis(&mut self, vcpu: VcpuId, forwarded: bool, kicks: &mut Kicks) {
        for index in self.shared.lpi_indices() {
            if let Some(lpis) = self.shared.get_mut(index) {
                let touched = lpis.set_awake(vcpu, forwarded);
                self.spis_changed(index, touched, kicks);
            }
        }
    }

    /// Makes those LPIs in `mask` pending that lie in the bank of 32 of `lpi`, and
    /// lets them go to `vcpu`. Nothing happens if its LPIs are disabled, or if
    /// there is no such LPI. List registers need not have been folded, here and
    /// below.
    pub fn pend_lpis(&mut self, vcpu: VcpuId, lpi: IntId, mask: u32) -> Kicks {
        let mut kicks = Kicks::NONE;
        if !self.lpis_enabled(vcpu) {
            return kicks;
        }
        let Some((index, lpis)) = self.lpi_bank(lpi) else {
            return kicks;
        };
        let _ = lpis.bank.latch(mask);
        let listed = lpis.bank.listed & mask;
        let elsewhere = mask & !lpis.going_to(vcpu);
        self.redirect_lpis(index, elsewhere, vcpu);
        self.spis_changed(index, listed, &mut kicks);
        kicks
    }

    /// Makes those LPIs in `mask` not pending that lie in the bank of 32 of `lpi`
    /// and go to `vcpu`.
    pub fn clear_lpis(&mut self, vcpu: VcpuId, lpi: IntId, mask: u32) -> Kicks {
        let mut kicks = Kicks::NONE;
        if let Some((index, lpis)) = self.lpi_bank(lpi) {
            let here = mask & lpis.going_to(vcpu);
            let touched = lpis.bank.write(BitRegister::ClearPending, here);
            self.spis_changed(index, touched, &mut kicks);
        }
        kicks
    }

    /// Returns which LPIs in the bank of 32 of `lpi` are pending at `vcpu`, bit
    /// `n` for the `n`th, as last folded.
    #[must_use]
    pub fn pending_lpis(&self, vcpu: VcpuId, lpi: IntId) -> u32 {
        let index = lpi_index(lpi);
        let lpis = index.and_then(|index| self.shared.get(index));
        lpis.map_or(0, |lpis| lpis.pending_at(vcpu))
    }

    /// Tells whether LPIs that go to `vcpu` are in list registers, so that a fold
    /// may find that they are no longer pending.
    #[must_use]
    pub fn has_listed_lpis(&self, vcpu: VcpuId) -> bool {
        let mut lpis = self.shared.lpis.iter();
        lpis.any(|lpis| lpis.bank.listed & lpis.going_to(vcpu) != 0)
    }

    /// Moves those LPIs in `mask` to vCPU `to` that lie in the bank of 32 of
    /// `lpi` and are pending at `from`. If the LPIs of `to` are disabled, they are
    /// pending no longer.
    pub fn move_lpis(&mut self, lpi: IntId, mask: u32, from: VcpuId, to: VcpuId) -> Kicks {
        let mut kicks = Kicks::NONE;
        if !self.lpis_enabled(to) {
            return self.clear_lpis(from, lpi, mask);
        }
        if let Some((index, lpis)) = self.lpi_bank(lpi) {
            let moved = mask & lpis.pending_at(from);
            self.redirect_lpis(index, moved, to);
            self.spis_changed(index, moved, &mut kicks);
        }
        kicks
    }

    /// Sets the properties of LPIs that follow each other in one bank of 32, from
    /// `first`, one byte each as in the table of properties: the priority in the
    /// highest six bits, whether it is enabled in the lowest.
    pub fn configure_lpis(&mut self, first: IntId, properties: &[u8]) -> Kicks {
        const PRIORITY: u8 = 0xFC;
        const ENABLED: u8 = 1;
        let mut kicks = Kicks::NONE;
        let mask = self.priority_mask & PRIORITY;
        let Some((index, lpis)) = self.lpi_bank(first) else {
            return kicks;
        };
        let start = first.raw() % 32;
        let mut touched = 0;
        let priorities = lpis.bank.priority.iter_mut().skip(start as usize);
        for ((priority, byte), number) in priorities.zip(properties).zip(start..) {
            let bit = 1 << number;
            let enabled = if byte & ENABLED != 0 { bit } else { 0 };
            if *priority != byte & mask || lpis.bank.enabled & bit != enabled {
                *priority = byte & mask;
                lpis.bank.enabled = lpis.bank.enabled & !bit | enabled;
                touched |= bit;
            }
        }
        if touched != 0 {
            self.spis_changed(index, touched, &mut kicks);
        }
        kicks
    }

    /// Settles the banks in `groups` of LPIs after some were given back.
    #[cold]
    pub(crate) fn settle_lpis(&mut self, groups: u32, folded: &mut Folded) {
        let grouping = self.shared.grouping;
        for word in set_bits(groups).flat_map(|group| grouping.words(group)) {
            self.spis_changed(word - 1, 0, &mut folded.kicks);
        }
    }

    /// Returns all LPIs to their reset state.
    pub(crate) fn reset_lpis(&mut self) {
        for lpis in &mut self.shared.lpis {
            *lpis = SpiBank::of_lpis();
        }
    }

    /// Lets the LPIs `bits` of a bank go to `vcpu`.
    fn redirect_lpis(&mut self, index: usize, bits: u32, vcpu: VcpuId) {
        if let Some(lpis) = self.shared.get_mut(index) {
            lpis.give_up(index + 1, bits, &mut self.vcpus);
            for number in set_bits(bits) {
                lpis.set_target(number, Some(vcpu), &self.vcpus);
            }
        }
    }

    fn lpi_bank(&mut self, lpi: IntId) -> Option<(usize, &mut SpiBank)> {
        let index = lpi_index(lpi)?;
        Some((index, self.shared.get_mut(index)?))
    }
}

/// Returns the number of an LPI's bank, counted from INTID 32.
fn lpi_index(lpi: IntId) -> Option<usize> {
    (lpi.raw() >= IntId::LPI_BASE).then(|| word_of(lpi.raw()) as usize - 1)
}

#[cfg(test)]
mod tests;
