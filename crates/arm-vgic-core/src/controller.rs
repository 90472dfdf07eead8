//! One VM's interrupts and virtual CPU interfaces as a whole.

use alloc::boxed::Box;

use thiserror::Error;
use vm_contract::{IntId, VcpuId, Width};

use crate::bank::Groups;
use crate::irq_register::{BitRegister, IrqRegister};
use crate::kicks::{Kicks, MAX_VCPUS};
use crate::lpi::{Grouping, word_of};
use crate::private::Private;
use crate::shared::Shared;
use crate::spi::SpiBank;

/// The largest number of SPIs: INTIDs 32–1019.
pub const MAX_SPIS: u16 = 988;

/// A shape that no interrupt controller has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// There are no vCPUs, or more than 256.
    #[error("{0} vCPUs: a vGIC takes 1 to 256")]
    VcpuCount(usize),
    /// There are more SPIs than INTIDs for them.
    #[error("{0} SPIs: there are at most 988")]
    SpiCount(u16),
}

/// The interrupts of a VM and the virtual CPU interfaces of its vCPUs, whichever
/// registers show them to the guest.
///
/// It has no locks and no interior mutability: whoever shares it wraps it. It
/// sends nothing either: every change returns the [`Kicks`] that are due.
///
/// SPIs reach nobody until they are [`route`](Self::route)d.
#[derive(Clone, Debug)]
pub struct Controller {
    pub(crate) groups: Groups,
    pub(crate) priority_mask: u8,
    pub(crate) shared: Shared,
    pub(crate) vcpus: Box<[Private]>,
    /// Banks of SPIs whose physical interrupts wait to be deactivated.
    pub(crate) released: u32,
}

impl Controller {
    const ENABLE_GRP0: u32 = 1 << 0;
    const ENABLE_GRP1: u32 = 1 << 1;

    /// Builds a controller in its reset state: for so many vCPUs, 1 to 256, all
    /// awake, and at least so many SPIs, up to [`MAX_SPIS`], rounded up to a
    /// multiple of 32 where that many exist. Once it is
    /// built, by [`follow_gicv2`](Self::follow_gicv2) or [`add_lpis`](Self::add_lpis)
    /// where that is wanted, nothing is allocated.
    ///
    /// # Errors
    /// If there is no controller of this shape.
    pub fn new(vcpu_count: usize, spi_count: u16) -> Result<Self, ShapeError> {
        if spi_count > MAX_SPIS {
            return Err(ShapeError::SpiCount(spi_count));
        }
        if vcpu_count == 0 || vcpu_count > MAX_VCPUS {
            return Err(ShapeError::VcpuCount(vcpu_count));
        }
        Ok(Self {
            groups: Groups::default(),
            priority_mask: priority_mask(5),
            shared: Shared {
                spis: (0..usize::from(spi_count.div_ceil(32)))
                    .map(SpiBank::new)
                    .collect(),
                lpis: Box::default(),
                grouping: Grouping::default(),
            },
            vcpus: (0..vcpu_count).map(|_| Private::new()).collect(),
            released: 0,
        })
    }

    /// Sets how many priority bits are implemented: 4 to 8, the number that
    /// [`IchRegs::priority_bits`](crate::IchRegs::priority_bits) gives or less.
    /// Without this there are 5, which every GIC with virtualization has.
    pub fn set_priority_bits(&mut self, bits: u32) {
        self.priority_mask = priority_mask(bits.clamp(4, 8));
    }

    /// Does as GICv2 does where it differs: SGIs remember who sent them, and one
    /// that several vCPUs have sent is pending once for each of them; Group 0 is
    /// signalled as IRQ until the guest asks for FIQ. For a controller that has just
    /// been built.
    pub fn follow_gicv2(&mut self) {
        self.vcpus.iter_mut().for_each(Private::follow_gicv2);
    }

    /// Returns everything to its reset state, as a reset of the VM does: all
    /// vCPUs are awake and no SPI is routed. No vCPU may be loaded.
    ///
    /// Wires keep their level: their devices lower them. Linked interrupts stay
    /// linked and count as asserted, until [`lower_linked`](Self::lower_linked)
    /// finds them low and hands the physical interrupt back.
    pub fn reset(&mut self) {
        debug_assert!(!self.vcpus.iter().any(|one| one.interface.is_loaded()));
        self.groups = Groups::default();
        self.shared.spis.iter_mut().for_each(SpiBank::reset);
        self.reset_lpis();
        self.vcpus.iter_mut().for_each(Private::reset);
    }

    /// Returns the number of vCPUs.
    #[must_use]
    pub fn vcpu_count(&self) -> usize {
        self.vcpus.len()
    }

    /// Returns the number of banks of 32 SPIs: 0 to 31, ITLinesNumber of
    /// GICD_TYPER.
    #[must_use]
    pub fn spi_bank_count(&self) -> usize {
        self.shared.spis.len()
    }

    /// Returns EnableGrp0 and EnableGrp1 as they lie in GICD_CTLR: bits 0 and 1.
    #[must_use]
    pub fn read_enables(&self) -> u32 {
        self.groups.group0 & Self::ENABLE_GRP0 | self.groups.group1 & Self::ENABLE_GRP1
    }

    /// Writes EnableGrp0 and EnableGrp1 as they lie in GICD_CTLR. Other bits of
    /// `value` are ignored.
    pub fn write_enables(&mut self, value: u64) -> Kicks {
        let enabled = |bit: u32| value & u64::from(bit) != 0;
        self.enable_groups(enabled(Self::ENABLE_GRP0), enabled(Self::ENABLE_GRP1))
    }

    /// Lets the distributor forward Group 0 and Group 1, or not.
    pub fn enable_groups(&mut self, group0: bool, group1: bool) -> Kicks {
        let all_if = |enabled| if enabled { u32::MAX } else { 0 };
        let groups = Groups {
            group0: all_if(group0),
            group1: all_if(group1),
        };
        let mut kicks = Kicks::NONE;
        if groups != self.groups {
            self.groups = groups;
            for vcpu in 0..self.vcpus.len() {
                self.private_changed(vcpu, u32::MAX, &mut kicks);
            }
            for index in self.shared.indices() {
                self.spis_changed(index, u32::MAX, &mut kicks);
            }
        }
        kicks
    }

    /// Reads a register that describes interrupts: of bank 0 for `vcpu`, of other
    /// banks the shared one. Those that do not exist read as zero. The register takes
    /// accesses of this width: words, and less for priorities.
    ///
    /// If the register [shows live state](IrqRegister::is_live_state), the list
    /// registers of the asking vCPU must have been folded. What others hold reads as
    /// it was last known: see [`look_again`](Self::look_again).
    #[must_use]
    #[inline]
    pub fn read_register(&self, vcpu: VcpuId, register: IrqRegister, width: Width) -> u64 {
        let bank = match register.bank().checked_sub(1) {
            None => self.vcpus.get(vcpu.index()).map(|one| &one.bank),
            Some(index) => self.shared.spis.get(index).map(|spis| &spis.bank),
        };
        bank.map_or(0, |bank| register.read(bank, width))
    }

    /// Asks the other vCPUs for what `register`, of bank 0 of `vcpu`, shows of their
    /// list registers, if it [shows live state](IrqRegister::is_live_state): once those
    /// that are kicked have [refreshed](Self::refresh), it reads as things were then.
    /// So whoever reads until something changes sees it in finite time. `asker` has
    /// been folded.
    pub fn look_again(&mut self, asker: VcpuId, vcpu: VcpuId, register: IrqRegister) -> Kicks {
        let mut kicks = Kicks::NONE;
        if !register.is_live_state() {
            return kicks;
        }
        match register.bank().checked_sub(1) {
            None => {
                if let Some(one) = self.vcpus.get_mut(vcpu.index())
                    && one.bank.mark_stale(u32::MAX)
                {
                    kicks.insert(vcpu);
                }
            }
            Some(index) => {
                if let Some(spis) = self.shared.get_mut(index) {
                    spis.kick_listed(&mut kicks);
                }
            }
        }
        kicks.remove(asker);
        kicks
    }

    /// Writes a register that describes interrupts: of bank 0 for `vcpu`, of
    /// other banks the shared one. Of those that do not exist, and of the
    /// configuration of SGIs, nothing changes. The rest as for
    /// [`read_register`](Self::read_register).
    #[inline]
    pub fn write_register(
        &mut self,
        vcpu: VcpuId,
        register: IrqRegister,
        width: Width,
        value: u64,
    ) -> Kicks {
        let mut kicks = Kicks::NONE;
        match register.bank().checked_sub(1) {
            None => self.write_private(vcpu, register, width, value, &mut kicks),
            Some(index) => {
                if self.write_shared(index, register, width, value, &mut kicks) {
                    // It hands back the physical interrupts.
                    kicks.insert(vcpu);
                }
            }
        }
        kicks
    }

    fn write_private(
        &mut self,
        vcpu: VcpuId,
        register: IrqRegister,
        width: Width,
        value: u64,
        kicks: &mut Kicks,
    ) {
        let Some(one) = self.vcpus.get_mut(vcpu.index()) else {
            return;
        };
        let valid = match register {
            // SGIs cannot be configured.
            IrqRegister::Config { .. } => !Private::SGIS,
            _ => u32::MAX,
        };
        let touched = register.write(&mut one.bank, width, value, valid, self.priority_mask);
        if touched != 0 {
            self.private_changed(vcpu.index(), touched, kicks);
        }
    }

    /// Writes a register of SPIs. Tells whether physical interrupts wait to be
    /// deactivated now.
    #[inline]
    fn write_shared(
        &mut self,
        index: usize,
        register: IrqRegister,
        width: Width,
        value: u64,
        kicks: &mut Kicks,
    ) -> bool {
        let Some(spis) = self.shared.spis.get_mut(index) else {
            return false;
        };
        let active_before = spis.bank.active;
        let ends = matches!(
            register,
            IrqRegister::Bits {
                register: BitRegister::ClearActive,
                ..
            }
        );
        if ends && active_before != 0 {
            // What is still pending then may belong to another vCPU.
            #[expect(clippy::cast_possible_truncation, reason = "the register has 32 bits")]
            let ended = active_before & value as u32;
            spis.give_up(index + 1, ended, &mut self.vcpus);
        }
        let touched = register.write(&mut spis.bank, width, value, spis.valid, self.priority_mask);
        if touched == 0 {
            return false;
        }
        spis.hold_at_target(spis.bank.active & !active_before);
        if !ends && touched & spis.alive() == 0 {
            return false;
        }
        let released = ends && spis.release(touched);
        if released {
            self.released |= 1 << index;
        }
        self.spis_changed(index, touched, kicks);
        released
    }

    /// Sends a message that asserts an SPI (GICD_SETSPI) or withdraws it
    /// (GICD_CLRSPI). An INTID that is no SPI of this controller is ignored.
    pub fn send_message(&mut self, intid: IntId, asserted: bool) -> Kicks {
        self.change_spi(intid, |bank, bit| bank.set_message(bit, asserted))
    }

    /// Routes an SPI to `target`, or to nobody: there is no such vCPU. What is
    /// active stays where it is until it is deactivated.
    pub fn route(&mut self, intid: IntId, target: Option<VcpuId>) -> Kicks {
        let mut kicks = Kicks::NONE;
        let (word, bit) = place(intid);
        if let Some(index) = word.checked_sub(1)
            && let Some(spis) = self.shared.spis.get_mut(index)
            && spis.valid & bit != 0
        {
            let number = intid.raw() % 32;
            spis.give_up(word, bit & !spis.bank.active, &mut self.vcpus);
            spis.set_target(number, target, &self.vcpus);
            self.spis_changed(index, bit, &mut kicks);
        }
        kicks
    }

    /// Wakes a vCPU, or lets it sleep: nothing is forwarded to one that sleeps,
    /// but what becomes pending stays so.
    pub fn set_awake(&mut self, vcpu: VcpuId, awake: bool) -> Kicks {
        let mut kicks = Kicks::NONE;
        let Some(one) = self.vcpus.get_mut(vcpu.index()) else {
            return kicks;
        };
        if core::mem::replace(&mut one.awake, awake) == awake {
            return kicks;
        }
        let lpis_enabled = one.lpis_enabled;
        self.private_changed(vcpu.index(), u32::MAX, &mut kicks);
        for index in 0..self.shared.spis.len() {
            if let Some(spis) = self.shared.spis.get_mut(index) {
                let touched = spis.set_awake(vcpu, awake);
                self.spis_changed(index, touched, &mut kicks);
            }
        }
        if lpis_enabled {
            self.forward_lpis(vcpu, awake, &mut kicks);
        }
        kicks
    }

    /// Tells whether something can be forwarded to `vcpu`.
    #[must_use]
    pub fn is_awake(&self, vcpu: VcpuId) -> bool {
        self.vcpus.get(vcpu.index()).is_some_and(|one| one.awake)
    }

    /// Settles a change in the bank of SPIs number `index`; the list registers
    /// that have to do with those in `touched` may be wrong.
    pub(crate) fn spis_changed(&mut self, index: usize, touched: u32, kicks: &mut Kicks) {
        if let Some(spis) = self.shared.get_mut(index) {
            spis.kick_holders(touched, kicks);
            spis.settle(index + 1, self.groups, &mut self.vcpus, kicks);
        }
    }

    /// Settles a change of SGIs or PPIs of the vCPU `index`; the list registers
    /// that have to do with those in `touched` may be wrong.
    pub(crate) fn private_changed(&mut self, index: usize, touched: u32, kicks: &mut Kicks) {
        if let Some(one) = self.vcpus.get_mut(index)
            && one.changed(touched, self.groups)
            && let Ok(vcpu) = u16::try_from(index)
        {
            kicks.insert(VcpuId::new(vcpu));
        }
    }
}

/// Returns the implemented bits of a priority: the highest `bits`.
fn priority_mask(bits: u32) -> u8 {
    u8::MAX
        .checked_shr(bits)
        .map_or(u8::MAX, |unimplemented| !unimplemented)
}

/// Splits an INTID into the number of its bank and its bit there.
pub(crate) fn place(intid: IntId) -> (usize, u32) {
    (word_of(intid.raw()) as usize, 1 << (intid.raw() % 32))
}
