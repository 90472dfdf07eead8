//! The distributor: SPIs, their routes, and the GICD frame.
//!
//! Security is disabled and affinity routing is always on, so nothing in the
//! frame depends on who asks, and the registers of SGIs and PPIs read as zero.

use vm_contract::{AccessError, Width};

use crate::affinity::{Affinity, AffinityTable};
use crate::irq::{Bank, Groups, set_bits};
use crate::kicks::Kicks;
use crate::redistributor::Redistributor;
use crate::regs::{self, BitRegister, IrqRegister, gicd};
use crate::vgic::{Vgic, lookup};

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
    /// IROUTER<n>.Interrupt_Routing_Mode.
    any_vcpu: u32,
    /// The affinity in IROUTER<n>.
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
    pub(crate) fn kick_holders(&self, touched: u32, kicks: &mut Kicks) {
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

    /// Returns IROUTER<n> for interrupt `number` of the bank.
    fn router(&self, number: u32) -> u64 {
        let affinity = self.route.get(number as usize).copied().unwrap_or_default();
        let any = self.any_vcpu >> number & 1 != 0;
        affinity.to_mpidr() | if any { gicd::IROUTER_IRM } else { 0 }
    }

    /// Writes IROUTER<n> for interrupt `number` of the bank. The caller has
    /// taken its claim back.
    fn set_router(&mut self, number: u32, value: u64) {
        if let Some(route) = self.route.get_mut(number as usize) {
            *route = Affinity::from_mpidr(value);
        }
        let any = u32::from(value & gicd::IROUTER_IRM != 0);
        self.any_vcpu = self.any_vcpu & !(1 << number) | any << number;
    }

    /// Looks up the target of interrupt `number` of the bank.
    fn resolve(
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

    /// Makes the targets the holders of `bits`.
    fn hold_at_target(&mut self, bits: u32) {
        for number in set_bits(bits) {
            let target = lookup(&self.target, number);
            if let Some(holder) = self.holder.get_mut(number as usize) {
                *holder = target.raw();
            }
        }
    }
}

impl Vgic {
    /// Reads from the GICD frame.
    pub(crate) fn read_distributor(&self, offset: u64, width: Width) -> Result<u64, AccessError> {
        if let Some(register) = IrqRegister::decode(offset) {
            register.check_width(width)?;
            // Bank 0 belongs to the redistributors.
            let spis = register
                .bank()
                .checked_sub(1)
                .and_then(|index| self.spis.get(index));
            return Ok(spis.map_or(0, |spis| register.read(&spis.bank, width)));
        }
        if let Some((index, number)) = router_at(offset) {
            let value = self.spis.get(index).map_or(0, |spis| spis.router(number));
            return match width {
                Width::Dword => Ok(value),
                Width::Word => Ok(value >> (8 * (offset & 4)) & 0xFFFF_FFFF),
                _ => Err(AccessError::InvalidWidth),
            };
        }
        check_width(offset, width)?;
        let value = match offset & !3 {
            regs::CTLR => self.groups_as_ctlr() | gicd::CTLR_ARE | gicd::CTLR_DS,
            gicd::TYPER => self.distributor_type(),
            gicd::IIDR => regs::IIDR_VALUE,
            // Reserved, or write-only.
            aligned => regs::identification(aligned).unwrap_or_default(),
        };
        Ok(value.into())
    }

    /// Writes to the GICD frame.
    pub(crate) fn write_distributor(
        &mut self,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Kicks, AccessError> {
        if let Some(register) = IrqRegister::decode(offset) {
            register.check_width(width)?;
            return Ok(self.write_spi_register(register, width, value));
        }
        if let Some((index, number)) = router_at(offset) {
            return self.write_router(index, number, offset, width, value);
        }
        check_width(offset, width)?;
        Ok(match offset {
            regs::CTLR => self.set_groups(value),
            gicd::SETSPI_NSR => self.send_message(value, true),
            gicd::CLRSPI_NSR => self.send_message(value, false),
            // Read-only or reserved.
            _ => Kicks::NONE,
        })
    }

    fn groups_as_ctlr(&self) -> u32 {
        self.groups.group0 & gicd::CTLR_ENABLE_GRP0 | self.groups.group1 & gicd::CTLR_ENABLE_GRP1
    }

    fn distributor_type(&self) -> u32 {
        // Banks of SPIs: at most 31.
        let lines = u32::try_from(self.spis.len()).unwrap_or_default();
        lines | gicd::TYPER_MBIS | gicd::TYPER_IDBITS_10 | gicd::TYPER_A3V | gicd::TYPER_RSS
    }

    /// Writes the enable bits of GICD_CTLR. Everything else there is fixed.
    fn set_groups(&mut self, value: u64) -> Kicks {
        let all_if = |bit: u32| {
            if value & u64::from(bit) != 0 {
                u32::MAX
            } else {
                0
            }
        };
        let groups = Groups {
            group0: all_if(gicd::CTLR_ENABLE_GRP0),
            group1: all_if(gicd::CTLR_ENABLE_GRP1),
        };
        let mut kicks = Kicks::NONE;
        if groups == self.groups {
            return kicks;
        }
        self.groups = groups;
        for vcpu in self.vcpus() {
            kicks.extend(self.private_changed(vcpu, u32::MAX));
        }
        for index in 0..self.spis.len() {
            kicks.extend(self.spis_changed(index, u32::MAX));
        }
        kicks
    }

    /// Writes GICD_SETSPI_NSR (`asserted`) or GICD_CLRSPI_NSR. Numbers that
    /// are no SPI of this distributor are ignored.
    fn send_message(&mut self, value: u64, asserted: bool) -> Kicks {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the INTID field has ten bits"
        )]
        let intid = value as u32 & 0x3FF;
        let bit = 1 << (intid % 32);
        let Some(index) = (intid as usize / 32).checked_sub(1) else {
            return Kicks::NONE;
        };
        let Some(spis) = self.spis.get_mut(index) else {
            return Kicks::NONE;
        };
        let touched = spis.bank.set_message(bit & spis.valid, asserted);
        self.spis_changed(index, touched)
    }

    fn write_spi_register(&mut self, register: IrqRegister, width: Width, value: u64) -> Kicks {
        let word = register.bank();
        // Bank 0 belongs to the redistributors.
        let Some(index) = word.checked_sub(1) else {
            return Kicks::NONE;
        };
        let Some(spis) = self.spis.get_mut(index) else {
            return Kicks::NONE;
        };
        let active_before = spis.bank.active;
        if let IrqRegister::Bits {
            register: BitRegister::ClearActive,
            ..
        } = register
        {
            // What is still pending then may belong to another vCPU.
            spis.give_up(word, active_before, &mut self.redistributors);
        }
        let touched = register.write(&mut spis.bank, width, value, spis.valid, self.priority_mask);
        let started = spis.bank.active & !active_before & !spis.bank.listed & !spis.claimed;
        spis.hold_at_target(started);
        self.spis_changed(index, touched)
    }

    fn write_router(
        &mut self,
        index: usize,
        number: u32,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Kicks, AccessError> {
        if !matches!(width, Width::Word | Width::Dword) {
            return Err(AccessError::InvalidWidth);
        }
        let Some(spis) = self.spis.get_mut(index) else {
            return Ok(Kicks::NONE);
        };
        let bit = 1 << number & spis.valid;
        if bit == 0 {
            return Ok(Kicks::NONE);
        }
        let old = spis.router(number);
        let value = match (width, offset & 4) {
            (Width::Dword, _) => value,
            (_, 0) => old & !0xFFFF_FFFF | value & 0xFFFF_FFFF,
            _ => old & 0xFFFF_FFFF | value << 32,
        };
        spis.give_up(index + 1, bit & !spis.bank.active, &mut self.redistributors);
        spis.set_router(number, value);
        spis.resolve(number, &self.affinities, &self.redistributors);
        Ok(self.spis_changed(index, bit))
    }

    /// Finds new targets for the SPIs that go to any vCPU, after one of the
    /// vCPUs woke up or went to sleep.
    pub(crate) fn resolve_any_vcpu_routes(&mut self) -> Kicks {
        let mut kicks = Kicks::NONE;
        for index in 0..self.spis.len() {
            let Some(spis) = self.spis.get_mut(index) else {
                continue;
            };
            let any = spis.any_vcpu;
            if any == 0 {
                continue;
            }
            spis.give_up(index + 1, any & !spis.bank.active, &mut self.redistributors);
            for number in set_bits(any) {
                spis.resolve(number, &self.affinities, &self.redistributors);
            }
            kicks.extend(self.spis_changed(index, any));
        }
        kicks
    }
}

/// Checks the width of an access to the registers of the distributor that
/// describe no single interrupt. Reserved places take any.
fn check_width(offset: u64, width: Width) -> Result<(), AccessError> {
    let fits = match offset & !3 {
        gicd::SETSPI_NSR | gicd::CLRSPI_NSR => matches!(width, Width::Half | Width::Word),
        regs::CTLR | gicd::TYPER | gicd::IIDR => width == Width::Word,
        aligned => width == Width::Word || regs::identification(aligned).is_none(),
    };
    if fits {
        Ok(())
    } else {
        Err(AccessError::InvalidWidth)
    }
}

/// Returns the bank of SPIs and the number in it whose IROUTER<n> lies at
/// `offset`, or `None` if no router does.
fn router_at(offset: u64) -> Option<(usize, u32)> {
    if !(gicd::IROUTER..gicd::IROUTER_END).contains(&offset) {
        return None;
    }
    let intid = u32::try_from((offset - gicd::IROUTER) / 8).ok()?;
    Some(((intid as usize / 32).checked_sub(1)?, intid % 32))
}
