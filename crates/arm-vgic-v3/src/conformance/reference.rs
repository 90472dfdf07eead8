//! A GICv3 written to be read: one struct for each interrupt, one for each vCPU, and
//! the rules in the order in which the specification tells them. It knows nothing of
//! list registers, of banks or of bits that stand for many interrupts.
//!
//! Where the specification leaves a choice, the lowest INTID and the lowest vCPU
//! come first; [`ReferenceGic::choices`] gives all that may be acknowledged.

mod frames;
mod interface;
mod interrupt;

use alloc::vec::Vec;

use vm_contract::{AccessError, Width};

use super::{GicUnderTest, IccRegister, SPURIOUS, Shape, Signals};
use crate::Frame;
use interface::Interface;
use interrupt::{Interrupt, Route};

/// One vCPU: its redistributor and its CPU interface.
#[derive(Clone, Debug)]
struct Core {
    /// Aff3, Aff2, Aff1, Aff0.
    affinity: [u8; 4],
    /// GICR_WAKER.ProcessorSleep.
    asleep: bool,
    /// INTIDs 0–31.
    private: Vec<Interrupt>,
    interface: Interface,
}

/// The plainest GIC.
#[derive(Clone, Debug)]
pub struct ReferenceGic {
    cores: Vec<Core>,
    /// INTIDs from 32.
    shared: Vec<Interrupt>,
    /// GICD_CTLR.EnableGrp0 and EnableGrp1.
    forwards: [bool; 2],
    /// How many bits of a priority are implemented.
    priority_bits: u32,
}

/// An interrupt that could be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    priority: u8,
    intid: u32,
    group1: bool,
}

impl ReferenceGic {
    /// Returns a GIC out of reset, with 5 bits of priority.
    #[must_use]
    pub fn new(shape: &Shape<'_>) -> Self {
        let core = |mpidr: &u64| Core {
            affinity: levels(*mpidr),
            asleep: true,
            private: (0..32).map(Interrupt::new).collect(),
            interface: Interface::new(),
        };
        // Registers come for 32 interrupts at a time; there is no INTID 1020.
        let spi_count = u32::from(shape.spi_count).next_multiple_of(32).min(988);
        Self {
            cores: shape.affinities.iter().map(core).collect(),
            shared: (32..32 + spi_count).map(Interrupt::new).collect(),
            forwards: [false; 2],
            priority_bits: 5,
        }
    }

    /// Sets how many bits of a priority are implemented: 5 to 7.
    #[must_use]
    pub fn with_priority_bits(mut self, bits: u32) -> Self {
        self.priority_bits = bits.clamp(5, 7);
        for core in &mut self.cores {
            core.interface.set_priority_bits(self.priority_bits);
        }
        self
    }

    /// Returns the INTIDs of which a read of ICC_IAR0_EL1, or ICC_IAR1_EL1 if
    /// `group1`, by `vcpu` may give any. [`SPURIOUS`] is among them if nothing may
    /// have been taken.
    #[must_use]
    pub fn choices(&self, vcpu: usize, group1: bool) -> Vec<u32> {
        let best = self.best(vcpu);
        let taken = |one: &Candidate| one.group1 == group1 && self.is_signalled(vcpu, *one);
        let mut choices: Vec<u32> = best
            .iter()
            .filter(|one| taken(one))
            .map(|one| one.intid)
            .collect();
        if choices.len() < best.len() || best.is_empty() {
            choices.push(SPURIOUS);
        }
        choices
    }

    /// Returns what ICC_HPPIR0_EL1, or ICC_HPPIR1_EL1 if `group1`, of `vcpu` may read.
    #[must_use]
    pub fn highest_choices(&self, vcpu: usize, group1: bool) -> Vec<u32> {
        let best = self.best(vcpu);
        let of_group = best.iter().filter(|one| one.group1 == group1);
        let mut choices: Vec<u32> = of_group.map(|one| one.intid).collect();
        if choices.len() < best.len() || best.is_empty() {
            choices.push(SPURIOUS);
        }
        choices
    }

    /// Tells whether an interrupt is active, as `vcpu` sees it.
    #[must_use]
    pub fn is_active(&self, vcpu: usize, intid: u32) -> bool {
        self.interrupt(vcpu, intid).is_some_and(|one| one.active)
    }

    /// Returns what `vcpu` may be signalled.
    #[must_use]
    pub fn possible_signals(&self, vcpu: usize) -> Vec<Signals> {
        let best = self.best(vcpu);
        if best.is_empty() {
            return alloc::vec![Signals::default()];
        }
        best.iter()
            .map(|one| {
                let signalled = self.is_signalled(vcpu, *one);
                Signals {
                    irq: signalled && one.group1,
                    fiq: signalled && !one.group1,
                }
            })
            .collect()
    }

    /// Makes `intid`, one of the [`choices`](Self::choices), active on `vcpu`.
    pub fn take(&mut self, vcpu: usize, intid: u32) {
        let Some(interrupt) = self.interrupt_mut(vcpu, intid) else {
            return;
        };
        interrupt.acknowledge();
        let (group1, priority) = (interrupt.group1, interrupt.priority);
        if let Some(core) = self.cores.get_mut(vcpu) {
            core.interface.begin(group1, priority);
        }
    }

    /// Returns the interrupt `intid` as `vcpu` sees it.
    fn interrupt(&self, vcpu: usize, intid: u32) -> Option<&Interrupt> {
        match intid.checked_sub(32) {
            None => self.cores.get(vcpu)?.private.get(intid as usize),
            Some(index) => self.shared.get(index as usize),
        }
    }

    fn interrupt_mut(&mut self, vcpu: usize, intid: u32) -> Option<&mut Interrupt> {
        match intid.checked_sub(32) {
            None => self.cores.get_mut(vcpu)?.private.get_mut(intid as usize),
            Some(index) => self.shared.get_mut(index as usize),
        }
    }

    /// Returns the vCPU that a shared interrupt goes to.
    fn target(&self, interrupt: &Interrupt) -> Option<usize> {
        match interrupt.route {
            Route::One(affinity) => self.cores.iter().position(|core| core.affinity == affinity),
            Route::Any(_) => self.cores.iter().position(|core| !core.asleep),
        }
    }

    /// Returns what is pending for `vcpu` and comes as far as its CPU interface.
    fn forwarded(&self, vcpu: usize) -> Vec<Candidate> {
        let Some(core) = self.cores.get(vcpu).filter(|core| !core.asleep) else {
            return Vec::new();
        };
        let private = (0..).zip(&core.private);
        let shared = (32..).zip(&self.shared);
        private
            .chain(shared)
            .filter(|(_, one)| one.is_pending() && one.enabled && !one.active)
            .filter(|(_, one)| {
                let [group0, group1] = self.forwards;
                if one.group1 { group1 } else { group0 }
            })
            .filter(|(intid, one)| *intid < 32 || self.target(one) == Some(vcpu))
            .map(|(intid, one)| Candidate {
                priority: one.priority,
                intid,
                group1: one.group1,
            })
            .collect()
    }

    /// Returns the pending interrupts of the highest priority in the groups that
    /// `vcpu` has enabled.
    fn best(&self, vcpu: usize) -> Vec<Candidate> {
        let Some(core) = self.cores.get(vcpu) else {
            return Vec::new();
        };
        let mut candidates = self.forwarded(vcpu);
        candidates.retain(|one| core.interface.is_enabled(one.group1));
        let highest = candidates.iter().map(|one| one.priority).min();
        candidates.retain(|one| Some(one.priority) == highest);
        candidates
    }

    /// Tells whether the best pending interrupt of `vcpu` passes its priority mask
    /// and preempts what it is handling.
    fn is_signalled(&self, vcpu: usize, best: Candidate) -> bool {
        self.cores
            .get(vcpu)
            .is_some_and(|core| core.interface.lets_through(best.group1, best.priority))
    }

    fn acknowledge(&mut self, vcpu: usize, group1: bool) -> u32 {
        let intid = self.choices(vcpu, group1).into_iter().min();
        let intid = intid.unwrap_or(SPURIOUS);
        self.take(vcpu, intid);
        intid
    }

    fn highest_pending(&self, vcpu: usize, group1: bool) -> u32 {
        let best = self.best(vcpu).into_iter().find(|one| one.group1 == group1);
        best.map_or(SPURIOUS, |one| one.intid)
    }

    fn end(&mut self, vcpu: usize, group1: bool, intid: u32) {
        let Some(core) = self.cores.get_mut(vcpu) else {
            return;
        };
        let special = (1020..1024).contains(&intid);
        if !special && core.interface.drop_priority(group1) && !core.interface.eoi_mode {
            self.deactivate(vcpu, intid);
        }
    }

    fn deactivate(&mut self, vcpu: usize, intid: u32) {
        if let Some(interrupt) = self.interrupt_mut(vcpu, intid) {
            interrupt.active = false;
        }
    }

    /// Does what a write to an SGI register asks. `group0_only` says that SGIs of
    /// Group 1 are not meant.
    fn send_sgi(&mut self, sender: usize, group0_only: bool, value: u64) {
        let request = SgiRequest::new(value);
        for (vcpu, core) in self.cores.iter_mut().enumerate() {
            let named = if request.to_all_others {
                vcpu != sender
            } else {
                request.names(core.affinity)
            };
            if let Some(sgi) = core.private.get_mut(request.intid)
                && named
                && !(group0_only && sgi.group1)
            {
                sgi.make_pending();
            }
        }
    }
}

/// A write to ICC_SGI0R_EL1, ICC_SGI1R_EL1 or ICC_ASGI1R_EL1.
struct SgiRequest {
    intid: usize,
    /// IRM.
    to_all_others: bool,
    /// Aff3, Aff2, Aff1.
    cluster: [u8; 3],
    /// RS: which 16 values of Aff0 the target list stands for.
    range: u64,
    target_list: u64,
}

impl SgiRequest {
    fn new(value: u64) -> Self {
        let bits = |lowest: u32, count: u32| value >> lowest & ((1 << count) - 1);
        let byte = |lowest: u32| {
            value
                .checked_shr(lowest)
                .map_or(0, |byte| byte.to_le_bytes()[0])
        };
        Self {
            intid: usize::from(byte(24) % 16),
            to_all_others: bits(40, 1) == 1,
            cluster: [byte(48), byte(32), byte(16)],
            range: bits(44, 4),
            target_list: bits(0, 16),
        }
    }

    /// Tells whether a vCPU of this affinity is in the target list.
    fn names(&self, [aff3, aff2, aff1, aff0]: [u8; 4]) -> bool {
        self.cluster == [aff3, aff2, aff1]
            && self.range == u64::from(aff0 / 16)
            && self.target_list >> (aff0 % 16) & 1 == 1
    }
}

/// Returns Aff3, Aff2, Aff1 and Aff0 of a value of MPIDR_EL1, or of a route.
fn levels(mpidr: u64) -> [u8; 4] {
    let [aff0, aff1, aff2, _, aff3, ..] = mpidr.to_le_bytes();
    [aff3, aff2, aff1, aff0]
}

impl GicUnderTest for ReferenceGic {
    fn read(
        &mut self,
        _vcpu: usize,
        frame: Frame,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        self.read_frame(frame, offset, width)
    }

    fn write(
        &mut self,
        _vcpu: usize,
        frame: Frame,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), AccessError> {
        self.write_frame(frame, offset, width, value)
    }

    fn read_icc(&mut self, vcpu: usize, register: IccRegister) -> u64 {
        match register {
            IccRegister::Iar0 => self.acknowledge(vcpu, false).into(),
            IccRegister::Iar1 => self.acknowledge(vcpu, true).into(),
            IccRegister::Hppir0 => self.highest_pending(vcpu, false).into(),
            IccRegister::Hppir1 => self.highest_pending(vcpu, true).into(),
            _ => self
                .cores
                .get(vcpu)
                .map_or(0, |core| core.interface.read(register)),
        }
    }

    fn write_icc(&mut self, vcpu: usize, register: IccRegister, value: u64) {
        let intid = u32::try_from(value & 0xFF_FFFF).unwrap_or(SPURIOUS);
        match register {
            IccRegister::Eoir0 => self.end(vcpu, false, intid),
            IccRegister::Eoir1 => self.end(vcpu, true, intid),
            IccRegister::Dir => {
                let allowed = self
                    .cores
                    .get(vcpu)
                    .is_some_and(|core| core.interface.eoi_mode);
                if allowed {
                    self.deactivate(vcpu, intid);
                }
            }
            IccRegister::Sgi1r => self.send_sgi(vcpu, false, value),
            IccRegister::Sgi0r | IccRegister::Asgi1r => self.send_sgi(vcpu, true, value),
            _ => {
                if let Some(core) = self.cores.get_mut(vcpu) {
                    core.interface.write(register, value);
                }
            }
        }
    }

    fn set_spi(&mut self, intid: u32, asserted: bool) {
        if intid >= 32
            && let Some(interrupt) = self.interrupt_mut(0, intid)
        {
            interrupt.set_wire(asserted);
        }
    }

    fn set_ppi(&mut self, vcpu: usize, intid: u32, asserted: bool) {
        if (16..32).contains(&intid)
            && let Some(interrupt) = self.interrupt_mut(vcpu, intid)
        {
            interrupt.set_wire(asserted);
        }
    }

    fn signals(&mut self, vcpu: usize) -> Signals {
        self.possible_signals(vcpu)
            .first()
            .copied()
            .unwrap_or_default()
    }
}
