//! Between a bank and the list registers.

use super::{Bank, Groups};
use crate::list_register::ListRegister;

/// What became of an interrupt that came back from a list register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returned {
    /// Nobody else has anything to do.
    Settled,
    /// The guest is done with it, but the physical interrupt behind it is
    /// still active: the list register was not linked to it.
    PhysicalActive,
    /// Another vCPU has ended it by register while this one handled it: it is
    /// linked and counts as asserted, and the physical interrupt is still active.
    Revoked,
}

impl Bank {
    /// Fills a list register for the interrupt `number` of this bank, whose
    /// INTID is `intid` and whose physical interrupt, if linked, is `physical`.
    /// `apart` says that if it is active, its pending half waits elsewhere: another
    /// vCPU gets it, or nobody yet. The interrupt is listed from now on.
    #[inline]
    pub(crate) fn hand_out(
        &mut self,
        number: u32,
        intid: u32,
        physical: u16,
        apart: bool,
        groups: Groups,
    ) -> ListRegister {
        let bit = 1 << number;
        self.listed |= bit;
        if self.active & bit != 0 {
            return self.hand_out_active(number, intid, physical, apart, groups);
        }
        self.lend(bit);
        let priority = byte(&self.priority, number);
        let entry = ListRegister::new(intid, priority, self.group & bit != 0).pending();
        // A linked list register says nothing when the guest is done with it, but a
        // message that was not withdrawn asserts the interrupt again then.
        if self.linked & !self.message & bit != 0 {
            entry.linked(physical)
        } else {
            self.resampled(bit, entry)
        }
    }

    /// Fills a list register for the interrupt `number` once more, of which the guest has
    /// taken and ended what the list register held before, and which came again since.
    /// Returns `None` if there is more to it.
    #[inline(always)]
    pub(crate) fn lend_again(&mut self, number: u32, groups: Groups) -> Option<ListRegister> {
        let bit = 1 << number;
        let other = self.active | self.linked | self.ended | self.kept_active;
        let wanted = self.latch & self.edge & self.enabled & groups.enabled(self.group);
        if wanted & !other & bit == 0 {
            return None;
        }
        self.stale &= !bit;
        self.latch &= !bit;
        self.lent_latch |= bit;
        let priority = byte(&self.priority, number);
        Some(ListRegister::new(number, priority, self.group & bit != 0).pending())
    }

    /// Takes the interrupt in `written`, a list register that was merely pending, back
    /// after the guest has taken and ended it. Does nothing and returns `false` if
    /// more is known of the interrupt by now.
    #[inline(always)]
    pub(crate) fn end_lent(&mut self, written: ListRegister) -> bool {
        let bit = 1 << (written.intid() % 32);
        let more = self.latch | self.line | self.message | self.active;
        let is_linked = self.linked & bit != 0;
        if (more | self.ended | self.kept_active) & bit != 0 || is_linked != written.is_linked() {
            return false;
        }
        self.listed &= !bit;
        self.stale &= !bit;
        self.lent_latch &= !bit;
        self.lent_line &= !bit;
        self.linked &= !bit;
        true
    }

    /// Fills a list register for an active interrupt.
    #[inline(never)]
    fn hand_out_active(
        &mut self,
        number: u32,
        intid: u32,
        physical: u16,
        apart: bool,
        groups: Groups,
    ) -> ListRegister {
        let bit = 1 << number;
        let (priority, _, group1) = self.rank(number);
        let entry = ListRegister::new(intid, priority, group1).active();
        if self.linked & bit != 0 {
            // A linked list register must not be active and pending: the
            // pending half waits here, and deactivation asks for maintenance.
            return if (self.latch | self.line | self.message) & bit == 0 {
                entry.linked(physical)
            } else {
                entry.with_eoi_maintenance()
            };
        }
        if self.latch & self.enabled & groups.enabled(self.group) & bit == 0 {
            return self.resampled(bit, entry);
        }
        let as_taken =
            byte(&self.priority, number) == priority && (self.group & bit != 0) == group1;
        if as_taken && !apart {
            self.lend(bit);
            self.resampled(bit, entry.pending())
        } else {
            // The pending half is of another shape than the active one.
            entry.with_eoi_maintenance()
        }
    }

    /// Asks for maintenance after the guest's EOI if the wire has to be looked
    /// at again then.
    fn resampled(&self, bit: u32, entry: ListRegister) -> ListRegister {
        if self.edge & bit == 0 {
            entry.with_eoi_maintenance()
        } else {
            entry
        }
    }

    /// Moves what makes an interrupt pending into its list register.
    fn lend(&mut self, bit: u32) {
        self.lent_latch |= self.latch & bit;
        self.latch &= !bit;
        self.lent_line |= self.line & self.linked & bit;
        self.line &= !(self.linked & bit);
    }

    /// Takes the interrupt `bit` back from the list register that was filled
    /// with `written` and now reads `now`.
    #[inline]
    pub(crate) fn take_back(
        &mut self,
        bit: u32,
        written: ListRegister,
        now: ListRegister,
    ) -> Returned {
        self.listed &= !bit;
        self.stale &= !bit;
        if now.is_pending() {
            self.latch |= self.lent_latch & bit;
            self.line |= self.lent_line & bit;
        }
        self.lent_latch &= !bit;
        self.lent_line &= !bit;
        // Only what the guest changed counts: another vCPU may have written
        // ISACTIVER or ICACTIVER in the meantime.
        match (written.is_active(), now.is_active()) {
            (false, true) if self.ended & bit == 0 => {
                self.active |= bit;
                self.acknowledged |= bit;
                self.take(bit.trailing_zeros(), now.priority(), now.is_group1());
            }
            (true, false) => {
                self.active &= !bit | self.kept_active;
                self.acknowledged &= !bit;
            }
            // Deactivated, and the pending half acknowledged.
            (true, true) if written.is_pending() && !now.is_pending() => {
                self.acknowledged |= bit & self.active;
            }
            _ => {}
        }
        self.kept_active &= !bit;
        self.ended &= !bit;
        if self.linked & bit == 0 {
            return Returned::Settled;
        }
        if now.is_active() {
            if self.active & bit == 0 {
                self.line |= bit;
                return Returned::Revoked;
            }
            if written.is_linked() {
                // Deactivation samples the source anew.
                self.line &= !bit;
            }
        } else if !now.is_pending() && self.line & bit == 0 {
            self.linked &= !bit;
            if !written.is_linked() {
                return Returned::PhysicalActive;
            }
        }
        Returned::Settled
    }

    /// Ends the active state of the interrupt `bit` after the guest's own EOI
    /// or DIR for which no list register was found.
    pub(crate) fn deactivate_unlisted(&mut self, bit: u32) -> Returned {
        self.active &= !bit;
        self.acknowledged &= !bit;
        if self.linked & !self.line & bit == 0 {
            return Returned::Settled;
        }
        self.linked &= !bit;
        Returned::PhysicalActive
    }

    /// Links the interrupt `bit`, whose physical interrupt is active, again. It
    /// counts as asserted until somebody looks at its source.
    pub(crate) fn keep_linked(&mut self, bit: u32) {
        self.linked |= bit;
        self.line |= bit;
    }

    /// Returns the priority of interrupt `number`, whether it is active, and
    /// whether it is in Group 1: as it was acknowledged if it is active.
    pub(crate) fn rank(&self, number: u32) -> (u8, bool, bool) {
        let active = self.active >> number & 1 != 0;
        let (priorities, group) = if active {
            (&self.taken_priority, self.taken_group)
        } else {
            (&self.priority, self.group)
        };
        (byte(priorities, number), active, group >> number & 1 != 0)
    }

    /// Tells whether interrupt `number` is active because the guest acknowledged it:
    /// it has a running priority, and the guest's EOI may mean it.
    pub(crate) fn is_acknowledged(&self, number: u32) -> bool {
        self.acknowledged >> number & 1 != 0
    }

    /// Notes what an interrupt was acknowledged with.
    pub(super) fn take(&mut self, number: u32, priority: u8, group1: bool) {
        if let Some(slot) = self.taken_priority.get_mut(number as usize) {
            *slot = priority;
        }
        self.taken_group = self.taken_group & !(1 << number) | u32::from(group1) << number;
    }
}

/// Returns the entry of a table of 32.
fn byte(table: &[u8; 32], number: u32) -> u8 {
    table.get(number as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_half_that_is_acknowledged_after_a_deactivation_counts_as_acknowledged() {
        let groups = Groups {
            group0: u32::MAX,
            group1: u32::MAX,
        };
        let mut bank = Bank::new(u32::MAX);
        bank.enabled = 1;
        // Both by register.
        let _ = bank.write(crate::BitRegister::SetActive, 1);
        let _ = bank.latch(1);
        let written = bank.hand_out(0, 0, 0, false, groups);
        assert!(written.is_active() && written.is_pending());
        let _ = bank.take_back(1, written, written);
        assert!(!bank.is_acknowledged(0));
        let written = bank.hand_out(0, 0, 0, false, groups);
        let _ = bank.take_back(1, written, written.without_pending());
        assert!(bank.is_acknowledged(0));
    }
}
