//! Shared interrupts: whose they are, now and next.

use crate::affinity::{Affinity, AffinityTable};
use crate::irq::{Bank, Groups, set_bits};
use crate::kicks::Kicks;
use crate::redistributor::Redistributor;
use crate::regs::gicd;
use crate::vgic::lookup;

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
    /// `IROUTER<n>.Interrupt_Routing_Mode`.
    pub(crate) any_vcpu: u32,
    /// The affinity in `IROUTER<n>`.
    route: [Affinity; 32],
    /// The vCPU that the route names.
    target: [u16; 32],
    /// The vCPU that has the interrupt claimed, listed or active. Differs from
    /// the target when the route changed under an active interrupt.
    holder: [u16; 32],
}

impl SpiBank {
    /// Returns the bank number `index`, counted from INTID 32, at reset.
    pub(crate) fn new(index: usize, affinities: &AffinityTable) -> Self {
        let valid = if index == 30 { 0x0FFF_FFFF } else { u32::MAX };
        let target = affinities.find(Affinity::default());
        Self {
            bank: Bank::new(0),
            valid,
            claimed: 0,
            routed: if target.is_some() { u32::MAX } else { 0 },
            any_vcpu: 0,
            route: [Affinity::default(); 32],
            target: [target.unwrap_or(0); 32],
            holder: [0; 32],
        }
    }

    /// Adds the vCPUs that hold one of `touched` in a list register, or would if
    /// they had enough of them.
    pub(crate) fn kick_holders(&mut self, touched: u32, kicks: &mut Kicks) {
        self.bank.mark_stale(touched);
        for number in set_bits(touched & (self.bank.listed | self.claimed)) {
            kicks.insert(lookup(&self.holder, number));
        }
    }

    /// Brings the claims of the vCPUs in line with the state of the bank, whose
    /// number is `word` counted from INTID 0. Kicks those that get a claim.
    pub(crate) fn settle(
        &mut self,
        word: usize,
        groups: Groups,
        redistributors: &mut [Redistributor],
        kicks: &mut Kicks,
    ) {
        let wanting = self.bank.wanting(groups, self.routed);
        self.give_up(word, self.claimed & !wanting, redistributors);
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
            if let Some(redistributor) = redistributors.get_mut(holder.index()) {
                redistributor.interface.claims.add(word, bit);
                kicks.insert(holder);
            }
        }
        self.claimed = wanting;
    }

    /// Takes `bits` out of the claims of their holders. What is still wanted
    /// is claimed by [`settle`](Self::settle) again, perhaps elsewhere.
    pub(crate) fn give_up(&mut self, word: usize, bits: u32, redistributors: &mut [Redistributor]) {
        let bits = bits & self.claimed;
        for number in set_bits(bits) {
            let holder = lookup(&self.holder, number);
            if let Some(redistributor) = redistributors.get_mut(holder.index()) {
                redistributor.interface.claims.remove(word, 1 << number);
            }
        }
        self.claimed &= !bits;
    }

    /// Notes that `bit` moves from the claims to a list register.
    pub(crate) fn unclaim(&mut self, bit: u32) {
        self.claimed &= !bit;
    }

    /// Tells whether the route of interrupt `number` no longer names its holder.
    pub(crate) fn has_moved(&self, number: u32) -> bool {
        lookup(&self.holder, number) != lookup(&self.target, number)
            || self.routed >> number & 1 == 0
    }

    /// Returns `IROUTER<n>` for interrupt `number` of the bank.
    pub(crate) fn router(&self, number: u32) -> u64 {
        let affinity = self.route.get(number as usize).copied().unwrap_or_default();
        let any = self.any_vcpu >> number & 1 != 0;
        affinity.to_mpidr() | if any { gicd::IROUTER_IRM } else { 0 }
    }

    /// Writes `IROUTER<n>` for interrupt `number` of the bank. The caller has
    /// taken its claim back.
    pub(crate) fn set_router(&mut self, number: u32, value: u64) {
        if let Some(route) = self.route.get_mut(number as usize) {
            *route = Affinity::from_mpidr(value);
        }
        let any = u32::from(value & gicd::IROUTER_IRM != 0);
        self.any_vcpu = self.any_vcpu & !(1 << number) | any << number;
    }

    /// Looks up the target of interrupt `number` of the bank.
    pub(crate) fn resolve(
        &mut self,
        number: u32,
        affinities: &AffinityTable,
        redistributors: &[Redistributor],
    ) {
        let found = if self.any_vcpu >> number & 1 != 0 {
            // Any one will do: the first that is awake, else the first of all.
            let awake = redistributors
                .iter()
                .position(|one| !one.asleep)
                .unwrap_or(0);
            u16::try_from(awake).ok()
        } else {
            self.route
                .get(number as usize)
                .and_then(|route| affinities.find(*route))
        };
        let routed = u32::from(found.is_some());
        self.routed = self.routed & !(1 << number) | routed << number;
        if let (Some(target), Some(found)) = (self.target.get_mut(number as usize), found) {
            *target = found;
        }
    }

    /// Makes the targets the holders of those of `bits`, newly active, that
    /// nobody holds.
    pub(crate) fn hold_at_target(&mut self, bits: u32) {
        for number in set_bits(bits & !self.bank.listed & !self.claimed) {
            let target = lookup(&self.target, number);
            if let Some(holder) = self.holder.get_mut(number as usize) {
                *holder = target.raw();
            }
        }
    }
}
