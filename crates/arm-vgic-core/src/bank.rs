//! The state of 32 neighbouring interrupts, one bit each.
//!
//! Registers come in words of 32 interrupts, so state is held the same way:
//! SGIs and PPIs of one vCPU are one bank, SPIs 32–63 another, and every
//! register access and every question ("which of these want to be delivered?")
//! is a handful of word operations.
//!
//! While an interrupt is held in a list register, the guest can acknowledge and
//! deactivate it without our noticing. Its pending latch is then *lent* to the
//! list register, and the truth comes back with [`Bank::take_back`].

mod lending;

pub(crate) use lending::Returned;

use crate::irq_register::BitRegister;

/// Iterates over the numbers of the set bits of `word`, lowest first.
///
/// ```
/// assert!(arm_vgic_core::set_bits(0b1010).eq([1, 3]));
/// ```
pub fn set_bits(mut word: u32) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let bit = word.trailing_zeros();
        word &= word - 1;
        Some(bit)
    })
}

/// Which interrupt groups the distributor forwards: GICD_CTLR.EnableGrp0/1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    /// All ones if Group 0 is enabled, else zero.
    pub(crate) group0: u32,
    /// All ones if Group 1 is enabled, else zero.
    pub(crate) group1: u32,
}

impl Groups {
    /// Returns those of 32 interrupts whose group, given as one bit each, is
    /// enabled.
    #[inline]
    fn enabled(self, group: u32) -> u32 {
        (group & self.group1) | (!group & self.group0)
    }
}

/// What became of an SGI that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Its list register must be looked at.
    Listed,
    /// It wants a list register.
    Deliverable,
    /// It is disabled, or active and tracked as such.
    Waiting,
}

/// 32 interrupts; bit `n` of each word belongs to the interrupt `n` of the bank.
#[derive(Clone, Debug)]
pub(crate) struct Bank {
    /// Group 1 rather than Group 0.
    pub(crate) group: u32,
    /// Enabled.
    pub(crate) enabled: u32,
    /// Edge-triggered rather than level-sensitive.
    pub(crate) edge: u32,
    /// The input wire is high. For linked interrupts: a physical
    /// interrupt was acknowledged and not yet handed to the guest.
    pub(crate) line: u32,
    /// A level-sensitive message (GICD_SETSPI) was sent and not withdrawn.
    message: u32,
    /// Pending whatever the wire says: an edge, an SGI, or a write of ISPENDR.
    latch: u32,
    /// The latch went to the list register.
    lent_latch: u32,
    /// A linked interrupt's `line` went to the list register.
    lent_line: u32,
    /// Active.
    pub(crate) active: u32,
    /// Active because the guest has acknowledged it, rather than by register.
    acknowledged: u32,
    /// Made active by register while a list register held it, which may say by now
    /// that the guest has ended it: that was before.
    kept_active: u32,
    /// Ended by register while a list register held it, which may say by now that the
    /// guest has acknowledged it: that was before.
    ended: u32,
    /// Held in a list register of the vCPU that it belongs to.
    pub(crate) listed: u32,
    /// Listed, but no longer as the list register says.
    pub(crate) stale: u32,
    /// Linked to a physical interrupt that is active.
    pub(crate) linked: u32,
    /// Linked, and the source was high when somebody last looked. While the interrupt
    /// is active this is only shown: the physical interrupt comes again after it.
    pub(crate) source: u32,
    /// Priorities; only implemented bits are ever set.
    pub(crate) priority: [u8; 32],
    /// The groups and priorities that active interrupts were acknowledged with.
    /// The guest's EOI is checked against these, whatever it wrote since.
    taken_group: u32,
    taken_priority: [u8; 32],
}

impl Bank {
    /// Returns a bank in its reset state: everything off, level-sensitive but
    /// for `always_edge`.
    pub(crate) const fn new(always_edge: u32) -> Self {
        Self {
            group: 0,
            enabled: 0,
            edge: always_edge,
            line: 0,
            message: 0,
            latch: 0,
            lent_latch: 0,
            lent_line: 0,
            active: 0,
            acknowledged: 0,
            kept_active: 0,
            ended: 0,
            listed: 0,
            stale: 0,
            linked: 0,
            source: 0,
            priority: [0; 32],
            taken_group: 0,
            taken_priority: [0; 32],
        }
    }

    /// Resets the bank. Wires keep their level: they are inputs. A linked
    /// interrupt counts as asserted until somebody looks at its source.
    pub(crate) fn reset(&mut self, always_edge: u32) {
        let (line, linked) = (self.line, self.linked);
        *self = Self {
            line: line | linked,
            linked,
            ..Self::new(always_edge)
        };
    }

    /// Returns the pending interrupts as ISPENDR shows them.
    pub(crate) fn pending(&self) -> u32 {
        let level = self.line | self.message;
        let shown = self.source & self.linked & self.active;
        self.latch | self.lent_latch | self.lent_line | (level & (!self.edge | self.linked)) | shown
    }

    /// Returns the interrupts that are pending, enabled and not active.
    pub(crate) fn deliverable(&self, groups: Groups) -> u32 {
        self.pending() & self.enabled & groups.enabled(self.group) & !self.active
    }

    /// Returns the interrupts that want a list register and have none. Only
    /// those in `reachable` can be delivered; active ones are tracked anyhow.
    pub(crate) fn wanting(&self, groups: Groups, reachable: u32) -> u32 {
        ((self.deliverable(groups) & reachable) | self.active) & !self.listed
    }

    /// Drives wires: `mask` go to `asserted`. Returns those whose list register
    /// may be wrong now.
    pub(crate) fn set_line(&mut self, mask: u32, asserted: bool) -> u32 {
        if asserted {
            let rising = mask & !self.line;
            self.line |= mask;
            self.latch |= rising & self.edge;
            rising & self.edge
        } else {
            let falling = mask & self.line;
            self.line &= !mask;
            // A list register that was filled as merely active says nothing
            // about the wire.
            falling & !self.edge & !self.active
        }
    }

    /// Latches `mask` pending: an SGI or an edge. Returns those whose list
    /// register may be wrong now: all.
    pub(crate) fn latch(&mut self, mask: u32) -> u32 {
        self.latch |= mask;
        mask
    }

    /// Sends a message (`asserted`) or withdraws it. Returns those whose list
    /// register may be wrong now.
    pub(crate) fn set_message(&mut self, mask: u32, asserted: bool) -> u32 {
        if asserted {
            self.message |= mask & !self.edge;
            self.latch |= mask & self.edge;
        } else {
            self.message &= !mask;
            self.latch &= !mask;
            self.lent_latch &= !mask;
        }
        mask
    }

    /// Links the interrupts in `mask` to active physical interrupts, which
    /// makes them pending. Returns those whose list register may be wrong now.
    pub(crate) fn link(&mut self, mask: u32) -> u32 {
        // While the guest handles the last one, a new one is the same
        // assertion: it comes again after the deactivation if it is still true.
        let again = self.linked & self.active & !self.listed;
        self.linked |= mask;
        self.line |= mask & !again;
        mask
    }

    /// Unlinks the interrupts in `mask` that are merely pending and returns
    /// which those were.
    pub(crate) fn unlink(&mut self, mask: u32) -> u32 {
        let idle = mask & self.linked & self.line & !self.active & !self.listed;
        self.linked &= !idle;
        self.line &= !idle;
        idle
    }

    /// Notes that what the list registers say of `touched` may be wrong. Tells
    /// whether any of them is in one.
    pub(crate) fn mark_stale(&mut self, touched: u32) -> bool {
        let stale = touched & self.listed;
        self.stale |= stale;
        stale != 0
    }

    /// Latches the SGI `bit`. Tells whether it can now be delivered; if it is
    /// listed, its list register is stale.
    #[inline]
    pub(crate) fn send(&mut self, bit: u32, groups: Groups) -> Sent {
        self.latch |= bit;
        if self.mark_stale(bit) {
            Sent::Listed
        } else if self.enabled & groups.enabled(self.group) & !self.active & bit != 0 {
            Sent::Deliverable
        } else {
            Sent::Waiting
        }
    }

    /// Returns the value of one of the registers that have a bit per interrupt.
    pub(crate) fn read(&self, register: BitRegister) -> u32 {
        match register {
            BitRegister::Group => self.group,
            BitRegister::SetEnable | BitRegister::ClearEnable => self.enabled,
            BitRegister::SetPending | BitRegister::ClearPending => self.pending(),
            BitRegister::SetActive | BitRegister::ClearActive => self.active,
        }
    }

    /// Writes one of the registers that have a bit per interrupt. Returns the
    /// interrupts whose list register may be wrong now.
    pub(crate) fn write(&mut self, register: BitRegister, value: u32) -> u32 {
        match register {
            BitRegister::Group => {
                let changed = self.group ^ value;
                self.group = value;
                changed
            }
            BitRegister::SetEnable => {
                let changed = value & !self.enabled;
                self.enabled |= value;
                changed
            }
            BitRegister::ClearEnable => {
                let changed = value & self.enabled;
                self.enabled &= !value;
                changed
            }
            BitRegister::SetPending => self.latch(value),
            BitRegister::ClearPending => {
                let changed = value & self.pending();
                self.latch &= !value;
                self.lent_latch &= !value;
                changed
            }
            BitRegister::SetActive => {
                let changed = value & !self.active;
                set_bits(changed).for_each(|number| {
                    let (priority, _, group1) = self.rank(number);
                    self.take(number, priority, group1);
                });
                self.active |= value;
                self.kept_active |= value & self.listed;
                self.ended &= !value;
                changed | value & self.listed
            }
            BitRegister::ClearActive => {
                self.end_listed(value);
                let changed = value & self.active;
                self.deactivate_by_register(changed);
                changed | value & self.listed
            }
        }
    }

    /// Notes that those of `mask` that list registers hold are not active, whatever
    /// those say. Returns which those are: their list registers are wrong.
    pub(crate) fn end_listed(&mut self, mask: u32) -> u32 {
        self.ended |= mask & self.listed;
        mask & self.listed
    }

    /// Ends the active state of `mask` from outside. The physical interrupts
    /// behind linked ones stay active, so those count as asserted until
    /// somebody looks at their source.
    fn deactivate_by_register(&mut self, mask: u32) {
        self.active &= !mask;
        self.acknowledged &= !mask;
        self.kept_active &= !mask;
        self.line |= mask & self.linked & !self.listed;
    }

    /// Returns what ICFGR shows for 16 interrupts: the lower half of the bank,
    /// or the upper one.
    pub(crate) fn config(&self, upper: bool) -> u32 {
        let half = if upper {
            self.edge >> 16
        } else {
            self.edge & 0xFFFF
        };
        set_bits(half).fold(0, |value, bit| value | 0b10 << (2 * bit))
    }

    /// Writes ICFGR for 16 interrupts, of which only those in `valid` can be
    /// configured. Returns the interrupts whose list register may be wrong now.
    pub(crate) fn set_config(&mut self, upper: bool, value: u32, valid: u32) -> u32 {
        let half = (0..16).fold(0, |half, bit| half | (value >> (2 * bit + 1) & 1) << bit);
        let (half, mask) = if upper {
            (half << 16, 0xFFFF_0000)
        } else {
            (half, 0xFFFF)
        };
        let changed = (self.edge ^ half) & mask & valid;
        self.edge ^= changed;
        changed
    }
}
