//! A virtual CPU interface in software, as the GIC architecture describes it.

use alloc::vec::Vec;

use crate::ich::IchRegs;
use crate::list_register::ListRegister;
use crate::regs::{hcr, vmcr};

/// An interrupt group: which registers and which exception it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Group 0: FIQ, ICC_IAR0_EL1, ICC_EOIR0_EL1.
    Zero,
    /// Group 1: IRQ, ICC_IAR1_EL1, ICC_EOIR1_EL1.
    One,
}

/// What EL2 keeps of a virtual CPU interface, and the guest's side of it.
///
/// Implements [`IchRegs`] for the vGIC; the other methods are what a guest does
/// by its ICC_* registers and what it sees: signals, acknowledgement, priority
/// drop, deactivation, EOIs that find no list register, maintenance interrupts.
#[derive(Clone, Debug)]
pub struct FakeIch {
    lrs: Vec<ListRegister>,
    hcr: u64,
    vmcr: u64,
    /// Active priorities of Group 0 and Group 1.
    aprs: [[u64; 4]; 2],
    preemption_bits: u32,
    can_trap_dir: bool,
    /// An acknowledged LPI is active until its EOI, as in QEMU.
    activates_lpis: bool,
    deactivated: Vec<u16>,
    lr_writes: usize,
}

impl FakeIch {
    /// Returns an interface with this many list registers (1 to 16), 5 bits of
    /// priority and a trap for ICC_DIR_EL1, [`prepare`](crate::prepare)d for use.
    #[must_use]
    pub fn new(lr_count: usize) -> Self {
        Self {
            lrs: alloc::vec![ListRegister::EMPTY; lr_count.clamp(1, 16)],
            hcr: 0,
            vmcr: 0,
            aprs: [[0; 4]; 2],
            preemption_bits: 5,
            can_trap_dir: true,
            activates_lpis: false,
            deactivated: Vec::new(),
            lr_writes: 0,
        }
    }

    /// Fills the list registers as they may be after a CPU's reset: with anything.
    #[must_use]
    pub fn after_reset(mut self) -> Self {
        self.lrs.fill(ListRegister::new(5, 0, true).pending());
        self
    }

    /// Sets the number of priority and preemption bits, 5 to 7.
    #[must_use]
    pub fn with_preemption_bits(mut self, bits: u32) -> Self {
        self.preemption_bits = bits.clamp(5, 7);
        self
    }

    /// Takes the trap for ICC_DIR_EL1 away.
    #[must_use]
    pub fn without_dir_trap(mut self) -> Self {
        self.can_trap_dir = false;
        self
    }

    /// Shows an acknowledged LPI as active in its list register until its EOI,
    /// as QEMU does. The architecture lets it vanish.
    #[must_use]
    pub fn with_active_lpis(mut self) -> Self {
        self.activates_lpis = true;
        self
    }

    /// Enables or disables a group: ICC_IGRPEN0_EL1, ICC_IGRPEN1_EL1.
    pub fn set_group_enabled(&mut self, group: Group, enabled: bool) {
        let bit = group.enable_bit();
        self.vmcr = if enabled {
            self.vmcr | bit
        } else {
            self.vmcr & !bit
        };
    }

    /// Sets the priority mask: ICC_PMR_EL1.
    pub fn set_priority_mask(&mut self, mask: u8) {
        self.vmcr &= !(0xFF << vmcr::VPMR_SHIFT);
        self.vmcr |= u64::from(mask) << vmcr::VPMR_SHIFT;
    }

    /// Sets ICC_CTLR_EL1.EOImode: with it, EOI no longer deactivates.
    pub fn set_eoi_mode(&mut self, split: bool) {
        self.vmcr = if split {
            self.vmcr | vmcr::VEOIM
        } else {
            self.vmcr & !vmcr::VEOIM
        };
    }

    /// Does what firmware and operating systems do first: all priorities pass,
    /// both groups are enabled.
    pub fn open(&mut self) {
        self.set_priority_mask(0xFF);
        self.set_group_enabled(Group::Zero, true);
        self.set_group_enabled(Group::One, true);
    }

    /// Returns the values of the list registers.
    #[must_use]
    pub fn list_registers(&self) -> &[ListRegister] {
        &self.lrs
    }

    /// Returns how often list registers have been written.
    #[must_use]
    pub fn lr_writes(&self) -> usize {
        self.lr_writes
    }

    /// Returns the physical interrupts that linked list registers deactivated
    /// since the last call.
    pub fn take_deactivated(&mut self) -> Vec<u16> {
        core::mem::take(&mut self.deactivated)
    }

    /// Returns the group that is signalled to the guest, if one is.
    #[must_use]
    pub fn signalled(&self) -> Option<Group> {
        let entry = self.lrs.get(self.best_pending()?)?;
        let group = Group::of(*entry);
        let masked = u64::from(entry.priority()) >= self.vmcr >> vmcr::VPMR_SHIFT & 0xFF;
        let preempts = u32::from(entry.priority() & self.group_mask(group)) < self.running();
        (!masked && preempts).then_some(group)
    }

    /// Acknowledges as a read of ICC_IAR0_EL1 or ICC_IAR1_EL1 does. Returns the
    /// INTID, or `None` for a special one.
    pub fn acknowledge(&mut self, group: Group) -> Option<u32> {
        if self.signalled()? != group {
            return None;
        }
        let mask = self.group_mask(group);
        let index = self.best_pending()?;
        let activates_lpis = self.activates_lpis;
        let entry = self.lrs.get_mut(index)?;
        let intid = entry.intid();
        *entry = entry.without_pending();
        if activates_lpis || !is_lpi(intid) {
            *entry = entry.active();
        }
        let level = u32::from(entry.priority() & mask) >> (8 - self.preemption_bits);
        let apr = self
            .aprs
            .get_mut(group as usize)?
            .get_mut((level / 32) as usize)?;
        *apr |= 1 << (level % 32);
        Some(intid)
    }

    /// Ends an interrupt as a write of ICC_EOIR0_EL1 or ICC_EOIR1_EL1 does.
    pub fn end(&mut self, group: Group, intid: u32) {
        let Some(dropped) = self.drop_priority(group) else {
            return;
        };
        if self.vmcr & vmcr::VEOIM != 0 && !is_lpi(intid) {
            return;
        }
        match self.active_entry(intid) {
            // LPIs are not deactivated, so nothing is missed.
            None if is_lpi(intid) => {}
            None => self.count_eoi(),
            Some(index) => {
                let mask = self.group_mask(group);
                let fits = self.lrs.get(index).is_some_and(|entry| {
                    Group::of(*entry) == group && entry.priority() & mask == dropped
                });
                if fits {
                    self.deactivate_entry(index);
                }
            }
        }
    }

    /// Deactivates an interrupt as a write of ICC_DIR_EL1 does. Returns whether
    /// the write went through; otherwise it traps to EL2.
    #[must_use]
    pub fn deactivate(&mut self, intid: u32) -> bool {
        if self.hcr & hcr::TDIR != 0 {
            return false;
        }
        if self.vmcr & vmcr::VEOIM != 0 && !is_lpi(intid) {
            match self.active_entry(intid) {
                Some(index) => self.deactivate_entry(index),
                None => self.count_eoi(),
            }
        }
        true
    }

    /// Tells whether the maintenance interrupt is asserted (ICH_MISR_EL2).
    #[must_use]
    pub fn maintenance(&self) -> bool {
        let asks = |bit: u64| self.hcr & bit != 0;
        let pending = self.lrs.iter().any(|lr| lr.is_pending() && !lr.is_active());
        let ended = self
            .lrs
            .iter()
            .any(|lr| lr.is_inactive() && lr.has_eoi_maintenance());
        let counted = self.hcr >> hcr::EOI_COUNT_SHIFT != 0;
        let group0 = self.vmcr & vmcr::VENG0 != 0;
        let group1 = self.vmcr & vmcr::VENG1 != 0;
        asks(hcr::EN)
            && (ended
                || (asks(hcr::NPIE) && !pending)
                || (asks(hcr::LRENPIE) && counted)
                || (asks(hcr::VGRP0EIE) && group0)
                || (asks(hcr::VGRP0DIE) && !group0)
                || (asks(hcr::VGRP1EIE) && group1)
                || (asks(hcr::VGRP1DIE) && !group1))
    }

    /// Returns the pending entry of the highest priority in an enabled group.
    fn best_pending(&self) -> Option<usize> {
        if self.hcr & hcr::EN == 0 {
            return None;
        }
        let candidates = self.lrs.iter().enumerate().filter(|(_, lr)| {
            let enabled = self.vmcr & Group::of(**lr).enable_bit() != 0;
            lr.is_pending() && !lr.is_active() && enabled
        });
        candidates
            .min_by_key(|(_, lr)| lr.priority())
            .map(|(index, _)| index)
    }

    fn active_entry(&self, intid: u32) -> Option<usize> {
        self.lrs
            .iter()
            .position(|lr| lr.is_active() && lr.intid() == intid)
    }

    fn deactivate_entry(&mut self, index: usize) {
        if let Some(entry) = self.lrs.get_mut(index) {
            *entry = entry.without_active();
            self.deactivated.extend(entry.pintid());
        }
    }

    fn count_eoi(&mut self) {
        self.hcr = self.hcr.wrapping_add(1 << hcr::EOI_COUNT_SHIFT) & 0xFFFF_FFFF;
    }

    /// Returns the bits of a priority that decide about preemption.
    fn group_mask(&self, group: Group) -> u8 {
        let bpr0 = self.vmcr >> vmcr::VBPR0_SHIFT & 7;
        let ignored = if group == Group::Zero || self.vmcr & vmcr::VCBPR != 0 {
            bpr0 + 1
        } else {
            self.vmcr >> vmcr::VBPR1_SHIFT & 7
        };
        (0xFF_u16 << ignored).to_le_bytes()[0]
    }

    /// Returns the running priority; 0x100 is idle.
    fn running(&self) -> u32 {
        let [group0, group1] = self.aprs.map(|aprs| self.first_level(aprs));
        group0.min(group1) << (8 - self.preemption_bits)
    }

    /// Returns the highest active level, or one past the lowest.
    fn first_level(&self, aprs: [u64; 4]) -> u32 {
        let set = (0..).zip(aprs).find(|(_, apr)| *apr != 0);
        set.map_or(1 << self.preemption_bits, |(n, apr): (u32, u64)| {
            32 * n + apr.trailing_zeros()
        })
    }

    /// Drops the running priority if it is of `group`, and returns it.
    fn drop_priority(&mut self, group: Group) -> Option<u8> {
        let [group0, group1] = self.aprs.map(|aprs| self.first_level(aprs));
        let (level, other) = match group {
            Group::Zero => (group0, group1),
            Group::One => (group1, group0),
        };
        if level >= 1 << self.preemption_bits || other < level {
            return None;
        }
        let apr = self
            .aprs
            .get_mut(group as usize)?
            .get_mut((level / 32) as usize)?;
        *apr &= *apr - 1;
        u8::try_from(level << (8 - self.preemption_bits)).ok()
    }
}

/// Tells whether an INTID is that of an LPI.
fn is_lpi(intid: u32) -> bool {
    intid >= vm_contract::IntId::LPI_BASE
}

impl Group {
    fn of(entry: ListRegister) -> Self {
        if entry.is_group1() {
            Self::One
        } else {
            Self::Zero
        }
    }

    const fn enable_bit(self) -> u64 {
        match self {
            Self::Zero => vmcr::VENG0,
            Self::One => vmcr::VENG1,
        }
    }
}

impl IchRegs for FakeIch {
    fn lr_count(&self) -> usize {
        self.lrs.len()
    }

    fn priority_bits(&self) -> u32 {
        self.preemption_bits
    }

    fn preemption_bits(&self) -> u32 {
        self.preemption_bits
    }

    fn can_trap_dir(&self) -> bool {
        self.can_trap_dir
    }

    fn read_lr(&self, n: usize) -> ListRegister {
        self.lrs.get(n).copied().unwrap_or_default()
    }

    fn write_lr(&mut self, n: usize, value: ListRegister) {
        self.lr_writes += 1;
        let count = self.lrs.len();
        match self.lrs.get_mut(n) {
            Some(lr) => *lr = value,
            None => debug_assert!(false, "there are {count} list registers, not {n}"),
        }
    }

    fn read_vmcr(&self) -> u64 {
        self.vmcr
    }

    fn write_vmcr(&mut self, value: u64) {
        // Binary points below the minimum become the minimum.
        let minimum = u64::from(7 - self.preemption_bits);
        let field = |shift: u32, least: u64| (value >> shift & 7).max(least) << shift;
        let others = value & !(7 << vmcr::VBPR0_SHIFT | 7 << vmcr::VBPR1_SHIFT);
        self.vmcr =
            others | field(vmcr::VBPR0_SHIFT, minimum) | field(vmcr::VBPR1_SHIFT, minimum + 1);
    }

    fn read_hcr(&self) -> u64 {
        self.hcr
    }

    fn write_hcr(&mut self, value: u64) {
        self.hcr = value;
    }

    fn read_ap0r(&self, n: usize) -> u64 {
        self.aprs[0].get(n).copied().unwrap_or_default()
    }

    fn write_ap0r(&mut self, n: usize, value: u64) {
        if let Some(apr) = self.aprs[0].get_mut(n) {
            *apr = value;
        }
    }

    fn read_ap1r(&self, n: usize) -> u64 {
        self.aprs[1].get(n).copied().unwrap_or_default()
    }

    fn write_ap1r(&mut self, n: usize, value: u64) {
        if let Some(apr) = self.aprs[1].get_mut(n) {
            *apr = value;
        }
    }
}
