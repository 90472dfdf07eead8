//! Shared interrupts: whose they are, now and next.

use vm_contract::{IntId, VcpuId};

use crate::bank::{Bank, Groups, Returned, set_bits};
use crate::cpu_interface::CpuInterface;
use crate::fold::Folded;
use crate::kicks::Kicks;
use crate::list_register::ListRegister;
use crate::private::Private;

/// 32 SPIs and where they go.
#[derive(Clone, Debug)]
pub(crate) struct SpiBank {
    pub(crate) bank: Bank,
    /// The interrupts that exist: all, but for INTIDs 1020–1023.
    pub(crate) valid: u32,
    /// The interrupts that their holder's claims list.
    claimed: u32,
    /// The interrupts whose route names a vCPU.
    routed: u32,
    /// Those of them whose vCPU is awake.
    reachable: u32,
    /// The vCPU that the route names.
    target: [u8; 32],
    /// The vCPU that has the interrupt claimed, listed or active. Differs from
    /// the target when the route changed under an active interrupt.
    holder: [u8; 32],
    /// The physical interrupts behind linked ones.
    pub(crate) physical: [u16; 32],
    /// Interrupts that a guest deactivated by register: linked no more, but the
    /// physical ones are still active.
    released: u32,
}

impl SpiBank {
    /// Returns the bank number `index`, counted from INTID 32, at reset.
    pub(crate) const fn new(index: usize) -> Self {
        Self {
            bank: Bank::new(0),
            valid: if index == 30 { 0x0FFF_FFFF } else { u32::MAX },
            claimed: 0,
            routed: 0,
            reachable: 0,
            target: [0; 32],
            holder: [0; 32],
            physical: [0; 32],
            released: 0,
        }
    }

    /// Resets everything but the wires and the links to physical interrupts.
    pub(crate) fn reset(&mut self) {
        self.bank.reset(0);
        (self.claimed, self.routed, self.reachable) = (0, 0, 0);
        (self.target, self.holder) = ([0; 32], [0; 32]);
    }

    /// Adds the vCPUs that hold one of `touched` in a list register, or would if
    /// they had enough of them.
    pub(crate) fn kick_holders(&mut self, touched: u32, kicks: &mut Kicks) {
        self.bank.mark_stale(touched);
        for number in set_bits(touched & (self.bank.listed | self.claimed)) {
            kicks.insert(lookup(&self.holder, number));
        }
    }

    /// Adds the vCPUs that hold any of the bank in a list register; they are to say
    /// what has become of it.
    pub(crate) fn kick_listed(&mut self, kicks: &mut Kicks) {
        let listed = self.bank.listed;
        self.bank.mark_stale(listed);
        for number in set_bits(listed) {
            kicks.insert(lookup(&self.holder, number));
        }
    }

    /// Brings the claims of the vCPUs in line with the state of the bank, whose
    /// number is `word` counted from INTID 0. Kicks those that get a claim.
    pub(crate) fn settle(
        &mut self,
        word: usize,
        groups: Groups,
        vcpus: &mut [Private],
        kicks: &mut Kicks,
    ) {
        let wanting = self.bank.wanting(groups, self.reachable);
        self.give_up(word, self.claimed & !wanting, vcpus);
        for number in set_bits(wanting & !self.claimed) {
            let bit = 1 << number;
            if self.bank.active & bit == 0
                && let Some(holder) = self.holder.get_mut(number as usize)
            {
                *holder = self
                    .target
                    .get(number as usize)
                    .copied()
                    .unwrap_or_default();
            }
            let holder = lookup(&self.holder, number);
            if let Some(one) = vcpus.get_mut(holder.index()) {
                one.interface.claims.add(word, bit);
                kicks.insert(holder);
            }
        }
        self.claimed = wanting;
    }

    /// Takes `bits` out of the claims of their holders. What is still wanted
    /// is claimed by [`settle`](Self::settle) again, perhaps elsewhere.
    pub(crate) fn give_up(&mut self, word: usize, bits: u32, vcpus: &mut [Private]) {
        let bits = bits & self.claimed;
        for number in set_bits(bits) {
            let holder = lookup(&self.holder, number);
            if let Some(one) = vcpus.get_mut(holder.index()) {
                one.interface.claims.remove(word, 1 << number);
            }
        }
        self.claimed &= !bits;
    }

    /// Fills a list register behind `interface` for the interrupt `number`, whose
    /// INTID is `intid`: it moves from the claims there.
    #[inline]
    pub(crate) fn hand_out(
        &mut self,
        number: u32,
        intid: u32,
        groups: Groups,
        interface: &CpuInterface,
    ) -> ListRegister {
        self.claimed &= !(1 << number);
        let physical = self.physical.get(number as usize).copied();
        let apart =
            self.has_moved(number) || !interface.is_enabled(self.bank.group >> number & 1 != 0);
        self.bank
            .hand_out(number, intid, physical.unwrap_or_default(), apart, groups)
    }

    /// Takes the interrupt `bit` back from the list register that was filled with
    /// `written` and now reads `now`.
    #[inline]
    pub(crate) fn take_back(
        &mut self,
        bit: u32,
        written: ListRegister,
        now: ListRegister,
        folded: &mut Folded,
    ) {
        // An LPI is never active, whatever its list register says.
        let now = if written.intid() < IntId::LPI_BASE {
            now
        } else {
            now.without_active()
        };
        match self.bank.take_back(bit, written, now) {
            Returned::Settled => {}
            Returned::PhysicalActive => self.give_physical_back(bit, folded),
            Returned::Revoked => {
                self.bank.unlink(bit);
                self.give_physical_back(bit, folded);
            }
        }
    }

    /// Asks for the deactivation of the physical interrupt behind `bit`.
    #[cold]
    pub(crate) fn give_physical_back(&mut self, bit: u32, folded: &mut Folded) {
        let physical = self.physical.get((bit.trailing_zeros() % 32) as usize);
        if !folded.add_deactivation(physical.copied().unwrap_or_default()) {
            // More at once than a fold reports: with the next one.
            self.bank.keep_linked(bit);
            self.release(bit);
        }
    }

    /// Unlinks those of `bits` that have been deactivated by register. Tells
    /// whether their physical interrupts wait to be deactivated.
    pub(crate) fn release(&mut self, bits: u32) -> bool {
        self.released |= self.bank.unlink(bits);
        self.has_released()
    }

    /// Returns the interrupts that are on their way to somebody or might be: a change
    /// of any other one changes nothing for anybody.
    #[inline]
    pub(crate) fn alive(&self) -> u32 {
        self.bank.pending() | self.bank.active | self.bank.listed | self.claimed
    }

    /// Tells whether physical interrupts wait to be deactivated.
    pub(crate) fn has_released(&self) -> bool {
        self.released != 0
    }

    /// Adds to `folded` the physical interrupts that wait to be deactivated.
    /// Tells whether those were all.
    pub(crate) fn hand_back_released(&mut self, folded: &mut Folded) -> bool {
        for number in set_bits(self.released) {
            let physical = self.physical.get(number as usize).copied();
            if !folded.add_deactivation(physical.unwrap_or_default()) {
                return false;
            }
            self.released &= !(1 << number);
        }
        true
    }

    /// Tells whether the route of interrupt `number` no longer names its holder.
    fn has_moved(&self, number: u32) -> bool {
        lookup(&self.holder, number) != lookup(&self.target, number)
            || self.reachable >> number & 1 == 0
    }

    /// Routes the interrupt `number`. The caller has taken its claim back.
    pub(crate) fn set_target(&mut self, number: u32, target: Option<VcpuId>, vcpus: &[Private]) {
        let bit = 1 << number;
        self.routed &= !bit;
        self.reachable &= !bit;
        if let Some(vcpu) = target
            && let Some(one) = vcpus.get(vcpu.index())
            && let Some(slot) = self.target.get_mut(number as usize)
            && let Ok(vcpu) = u8::try_from(vcpu.raw())
        {
            *slot = vcpu;
            self.routed |= bit;
            self.reachable |= if one.awake { bit } else { 0 };
        }
    }

    /// Returns the interrupts that are routed to `vcpu`.
    pub(crate) fn going_to(&self, vcpu: VcpuId) -> u32 {
        let there = (0..32u32).zip(&self.target);
        let there = there.filter(|(_, target)| u16::from(**target) == vcpu.raw());
        self.routed & there.fold(0, |bits, (number, _)| bits | 1 << number)
    }

    /// Notes that `vcpu` woke up or went to sleep. Returns the interrupts that go
    /// there.
    pub(crate) fn set_awake(&mut self, vcpu: VcpuId, awake: bool) -> u32 {
        let there = self.going_to(vcpu);
        if awake {
            self.reachable |= there;
        } else {
            self.reachable &= !there;
        }
        there
    }

    /// Makes the targets the holders of those of `bits`, newly active, that
    /// nobody holds.
    pub(crate) fn hold_at_target(&mut self, bits: u32) {
        for number in set_bits(bits & !self.bank.listed & !self.claimed) {
            let target = self.target.get(number as usize).copied();
            if let Some(holder) = self.holder.get_mut(number as usize) {
                *holder = target.unwrap_or_default();
            }
        }
    }
}

/// Returns the vCPU that a table of a bank names for interrupt `number`.
fn lookup(table: &[u8; 32], number: u32) -> VcpuId {
    VcpuId::new(
        table
            .get(number as usize)
            .copied()
            .unwrap_or_default()
            .into(),
    )
}
