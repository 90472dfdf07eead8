//! A virtual CPU interface in software, as the GICv2 architecture describes it:
//! GICH for the hypervisor, GICV for the guest.

use alloc::vec::Vec;

use crate::gich::GichRegs;
use crate::regs::lr;

/// GICH_HCR.
mod hcr {
    pub(super) const EN: u32 = 1 << 0;
    pub(super) const LRENPIE: u32 = 1 << 2;
    pub(super) const NPIE: u32 = 1 << 3;
    pub(super) const VGRP0EIE: u32 = 1 << 4;
    pub(super) const VGRP0DIE: u32 = 1 << 5;
    pub(super) const VGRP1EIE: u32 = 1 << 6;
    pub(super) const VGRP1DIE: u32 = 1 << 7;
    pub(super) const EOI_COUNT_SHIFT: u32 = 27;
    pub(super) const RESERVED: u32 = 0x07FF_FF00;
}

/// GICH_VMCR, and GICV_CTLR as far as it lies in there.
mod vmcr {
    pub(super) const ENABLE_GRP0: u32 = 1 << 0;
    pub(super) const ENABLE_GRP1: u32 = 1 << 1;
    pub(super) const ACK_CTL: u32 = 1 << 2;
    pub(super) const CBPR: u32 = 1 << 4;
    pub(super) const EOI_MODE: u32 = 1 << 9;
    pub(super) const ABP_SHIFT: u32 = 18;
    pub(super) const BP_SHIFT: u32 = 21;
    pub(super) const PRIORITY_MASK_SHIFT: u32 = 27;
}

/// Nothing is pending.
const SPURIOUS: u32 = 1023;
/// What is pending is in Group 1, and GICV_CTLR.AckCtl is not set.
const OTHER_GROUP: u32 = 1022;
/// The running priority of a CPU that handles nothing.
const IDLE: u32 = 0x100;

/// The GICH frame of one CPU, and the guest's side of it.
///
/// Implements [`GichRegs`] for the vGIC; the other methods are what a guest does
/// with its GICC registers, which are GICV's, and what it sees.
#[derive(Clone, Debug)]
pub struct FakeGich {
    lrs: Vec<u32>,
    hcr: u32,
    vmcr: u32,
    /// One bit for each of the 32 preemption levels that is active.
    apr: u32,
    deactivated: Vec<u32>,
}

impl FakeGich {
    /// Returns an interface with this many list registers: 1 to 64.
    #[must_use]
    pub fn new(lr_count: usize) -> Self {
        Self {
            lrs: alloc::vec![0; lr_count.clamp(1, 64)],
            hcr: 0,
            vmcr: 0,
            apr: 0,
            deactivated: Vec::new(),
        }
    }

    /// Writes GICC_CTLR: EnableGrp0 and EnableGrp1, AckCtl, EOImode. FIQEn and CBPR
    /// as well.
    pub fn write_ctlr(&mut self, value: u32) {
        const FIELDS: u32 = 0x21F;
        self.vmcr = self.vmcr & !FIELDS | value & FIELDS;
    }

    /// Writes GICC_PMR.
    pub fn write_pmr(&mut self, value: u8) {
        let bits = u32::from(value >> 3) << vmcr::PRIORITY_MASK_SHIFT;
        self.vmcr = self.vmcr & !(0x1F << vmcr::PRIORITY_MASK_SHIFT) | bits;
    }

    /// Does what operating systems do first: all priorities pass, both groups are
    /// enabled and acknowledged by GICC_IAR.
    pub fn open(&mut self) {
        self.write_pmr(0xFF);
        self.write_ctlr(vmcr::ENABLE_GRP0 | vmcr::ENABLE_GRP1 | vmcr::ACK_CTL);
    }

    /// Returns the values of the list registers.
    #[must_use]
    pub fn list_registers(&self) -> &[u32] {
        &self.lrs
    }

    /// Returns the physical interrupts that linked list registers deactivated
    /// since the last call.
    pub fn take_deactivated(&mut self) -> Vec<u32> {
        core::mem::take(&mut self.deactivated)
    }

    /// Tells whether an interrupt is signalled to the guest.
    #[must_use]
    pub fn is_signalled(&self) -> bool {
        self.signalled().is_some()
    }

    /// Reads GICC_IAR: the INTID in bits 9:0, the sender of an SGI in bits 12:10;
    /// 1023 if nothing is signalled.
    pub fn acknowledge(&mut self) -> u32 {
        let Some(index) = self.signalled() else {
            return SPURIOUS;
        };
        let Some(entry) = self.lrs.get_mut(index) else {
            return SPURIOUS;
        };
        if *entry & lr::GROUP1 != 0 && self.vmcr & vmcr::ACK_CTL == 0 {
            return OTHER_GROUP;
        }
        *entry = *entry & !lr::PENDING | lr::ACTIVE;
        let entry = *entry;
        let level = self.preemption(entry) >> 3;
        self.apr |= 1 << level;
        named(entry)
    }

    /// Writes what GICC_IAR returned to GICC_EOIR.
    pub fn end(&mut self, iar: u32) {
        if self.apr == 0 {
            return;
        }
        self.apr &= self.apr - 1;
        if self.vmcr & vmcr::EOI_MODE == 0 {
            self.deactivate_or_count(iar);
        }
    }

    /// Writes what GICC_IAR returned to GICC_DIR, where the hypervisor does not trap
    /// that.
    pub fn deactivate(&mut self, iar: u32) {
        if self.vmcr & vmcr::EOI_MODE != 0 {
            self.deactivate_or_count(iar);
        }
    }

    /// Tells whether the maintenance interrupt is asserted (GICH_MISR).
    #[must_use]
    pub fn maintenance(&self) -> bool {
        let asks = |bit: u32| self.hcr & bit != 0;
        let is = |entry: u32, bits: u32| entry & (lr::PENDING | lr::ACTIVE) == bits;
        let pending = self.lrs.iter().any(|&entry| is(entry, lr::PENDING));
        let ended = self
            .lrs
            .iter()
            .any(|&entry| is(entry, 0) && entry & lr::HW == 0 && entry & lr::EOI != 0);
        let group0 = self.vmcr & vmcr::ENABLE_GRP0 != 0;
        let group1 = self.vmcr & vmcr::ENABLE_GRP1 != 0;
        asks(hcr::EN)
            && (ended
                || (asks(hcr::NPIE) && !pending)
                || (asks(hcr::LRENPIE) && self.hcr >> hcr::EOI_COUNT_SHIFT != 0)
                || (asks(hcr::VGRP0EIE) && group0)
                || (asks(hcr::VGRP0DIE) && !group0)
                || (asks(hcr::VGRP1EIE) && group1)
                || (asks(hcr::VGRP1DIE) && !group1))
    }

    /// Returns the number of the list register that is signalled.
    fn signalled(&self) -> Option<usize> {
        if self.hcr & hcr::EN == 0 {
            return None;
        }
        let candidates = self.lrs.iter().enumerate().filter(|(_, entry)| {
            let group = if **entry & lr::GROUP1 != 0 {
                vmcr::ENABLE_GRP1
            } else {
                vmcr::ENABLE_GRP0
            };
            **entry & (lr::PENDING | lr::ACTIVE) == lr::PENDING && self.vmcr & group != 0
        });
        let (index, entry) = candidates.min_by_key(|(_, entry)| priority(**entry))?;
        let mask = self.vmcr >> vmcr::PRIORITY_MASK_SHIFT << 3;
        let running = match self.apr.trailing_zeros() {
            32 => IDLE,
            level => level << 3,
        };
        (priority(*entry) < mask && self.preemption(*entry) < running).then_some(index)
    }

    /// Returns the part of an entry's priority that decides about preemption.
    fn preemption(&self, entry: u32) -> u32 {
        let field = |shift: u32| self.vmcr >> shift & 7;
        let ignored = if entry & lr::GROUP1 != 0 && self.vmcr & vmcr::CBPR == 0 {
            field(vmcr::ABP_SHIFT).max(3)
        } else {
            field(vmcr::BP_SHIFT).max(2) + 1
        };
        priority(entry) >> ignored << ignored
    }

    fn deactivate_or_count(&mut self, iar: u32) {
        let entry = self
            .lrs
            .iter_mut()
            .find(|entry| **entry & lr::ACTIVE != 0 && named(**entry) == iar & 0x1FFF);
        match entry {
            Some(entry) => {
                *entry &= !lr::ACTIVE;
                if *entry & lr::HW != 0 {
                    self.deactivated
                        .push(*entry >> lr::PINTID_SHIFT & lr::INTID_MASK);
                }
            }
            None => self.hcr = self.hcr.wrapping_add(1 << hcr::EOI_COUNT_SHIFT),
        }
    }
}

/// Returns the priority of a list register, in eight bits.
const fn priority(entry: u32) -> u32 {
    (entry >> lr::PRIORITY_SHIFT & 0x1F) << 3
}

/// Returns what GICC_IAR says of a list register.
const fn named(entry: u32) -> u32 {
    let intid = entry & lr::INTID_MASK;
    if intid < 16 {
        intid | (entry >> lr::PINTID_SHIFT & lr::SOURCE_MASK) << 10
    } else {
        intid
    }
}

impl GichRegs for FakeGich {
    fn read_vtr(&self) -> u32 {
        let count = u32::try_from(self.lrs.len()).unwrap_or(1);
        4 << 29 | 4 << 26 | (count - 1)
    }

    fn read_hcr(&self) -> u32 {
        self.hcr
    }

    fn write_hcr(&mut self, value: u32) {
        debug_assert!(value & hcr::RESERVED == 0, "{value:#x} to GICH_HCR");
        self.hcr = value;
    }

    fn read_vmcr(&self) -> u32 {
        self.vmcr
    }

    fn write_vmcr(&mut self, value: u32) {
        self.vmcr = value;
    }

    fn read_apr(&self) -> u32 {
        self.apr
    }

    fn write_apr(&mut self, value: u32) {
        self.apr = value;
    }

    fn read_lr(&self, n: usize) -> u32 {
        self.lrs.get(n).copied().unwrap_or_default()
    }

    fn write_lr(&mut self, n: usize, value: u32) {
        let count = self.lrs.len();
        match self.lrs.get_mut(n) {
            Some(entry) => *entry = value,
            None => debug_assert!(false, "there are {count} list registers, not {n}"),
        }
    }
}
