//! One VM's interrupt controller as a whole.

use alloc::boxed::Box;

use thiserror::Error;
use vm_contract::{AccessError, IntId, VcpuId, Width};

use crate::affinity::{Affinity, AffinityTable};
use crate::irq::Groups;
use crate::kicks::Kicks;
use crate::redistributor::{Redistributor, private_register};
use crate::regs::{IrqRegister, gicr};
use crate::spi::SpiBank;

/// The largest number of SPIs: INTIDs 32–1019.
pub const MAX_SPIS: u16 = 988;

/// The shape of a [`Vgic`].
#[derive(Clone, Copy, Debug)]
pub struct VgicConfig<'a> {
    /// The affinity of each vCPU as its MPIDR_EL1 shows it, by [`VcpuId`]: 1 to
    /// 256, all different. Bits that are no affinity are ignored.
    pub affinities: &'a [u64],
    /// How many SPIs there are at least, up to [`MAX_SPIS`]: rounded up to a
    /// multiple of 32 where that many exist.
    pub spi_count: u16,
}

/// A [`VgicConfig`] that no GICv3 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VgicError {
    /// There are no vCPUs, or more than 256.
    #[error("{0} vCPUs: a vGIC takes 1 to 256")]
    VcpuCount(usize),
    /// There are more SPIs than INTIDs for them.
    #[error("{0} SPIs: there are at most 988")]
    SpiCount(u16),
    /// Two vCPUs have the same affinity.
    #[error("two vCPUs have the affinity {0:#x}")]
    DuplicateAffinity(u64),
}

/// The part of the guest's address space that an access falls in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// GICD: 64 KiB.
    Distributor,
    /// GICR: 128 KiB for each vCPU, in the order of their indices, without the
    /// gaps between regions
    /// ([`with_redistributor_regions`](Vgic::with_redistributor_regions)).
    Redistributors,
}

impl Frame {
    /// Returns the size of this part for so many vCPUs.
    #[must_use]
    pub const fn size_bytes(self, vcpu_count: usize) -> u64 {
        match self {
            Self::Distributor => gicr::FRAME_BYTES,
            Self::Redistributors => gicr::STRIDE * vcpu_count as u64,
        }
    }
}

/// A virtual GICv3: distributor, redistributors and what the virtual CPU
/// interfaces keep while their vCPUs do not run.
///
/// It has no locks and no interior mutability: whoever shares it wraps it. It
/// sends nothing either: every change returns the [`Kicks`] that are due.
#[derive(Clone, Debug)]
pub struct Vgic {
    pub(crate) affinities: AffinityTable,
    pub(crate) groups: Groups,
    pub(crate) priority_mask: u8,
    /// SPIs 32–63, 64–95, …
    pub(crate) spis: Box<[SpiBank]>,
    pub(crate) redistributors: Box<[Redistributor]>,
}

impl Vgic {
    /// Builds a vGIC in its reset state. Nothing is allocated later.
    ///
    /// # Errors
    /// If no GICv3 has this shape.
    pub fn new(config: &VgicConfig<'_>) -> Result<Self, VgicError> {
        if config.spi_count > MAX_SPIS {
            return Err(VgicError::SpiCount(config.spi_count));
        }
        let affinities = AffinityTable::new(config.affinities)?;
        let banks = usize::from(config.spi_count.div_ceil(32));
        Ok(Self {
            spis: (0..banks)
                .map(|index| SpiBank::new(index, &affinities))
                .collect(),
            affinities,
            groups: Groups::default(),
            priority_mask: priority_mask(5),
            redistributors: config
                .affinities
                .iter()
                .map(|&mpidr| Redistributor::new(Affinity::from_mpidr(mpidr)))
                .collect(),
        })
    }

    /// Sets how many priority bits are implemented: 4 to 8, the number that
    /// [`IchRegs::priority_bits`](crate::IchRegs::priority_bits) gives or less.
    /// Without this there are 5, which every GICv3 has.
    #[must_use]
    pub fn with_priority_bits(mut self, bits: u32) -> Self {
        self.priority_mask = priority_mask(bits.clamp(4, 8));
        self
    }

    /// Says that the redistributors lie in several regions of the guest's
    /// address space, and how many in each, in the order of the vCPUs.
    /// GICR_TYPER.Last then ends each region. Without this there is one.
    ///
    /// Accesses are addressed as before, by an offset in the sequence of all
    /// frames. The last vCPU ends its region in any case; regions beyond it are
    /// ignored.
    #[must_use]
    pub fn with_redistributor_regions(mut self, counts: impl IntoIterator<Item = usize>) -> Self {
        let mut rest = &mut *self.redistributors;
        for count in counts {
            let Some((region, behind)) = rest.split_at_mut_checked(count) else {
                break;
            };
            if let Some(last) = region.last_mut() {
                last.ends_region = true;
            }
            rest = behind;
        }
        self
    }

    /// Returns everything to its reset state, as a reset of the VM does. No
    /// vCPU may be loaded.
    ///
    /// Wires keep their level: their devices lower them. Linked interrupts stay
    /// linked and count as asserted, until [`lower_hw_ppi`](Self::lower_hw_ppi)
    /// finds them low and hands the physical interrupt back.
    pub fn reset(&mut self) {
        debug_assert!(
            !self
                .redistributors
                .iter()
                .any(|one| one.interface.is_loaded())
        );
        self.groups = Groups::default();
        for (index, spis) in self.spis.iter_mut().enumerate() {
            let old = core::mem::replace(spis, SpiBank::new(index, &self.affinities));
            spis.bank = old.bank;
            spis.bank.reset(0);
        }
        self.redistributors
            .iter_mut()
            .for_each(Redistributor::reset);
    }

    /// Reads `width` bytes at `offset` of `frame`. Bits above the width are
    /// zero; reserved places read as zero.
    ///
    /// `asker` makes the access. If [`needs_fold`](Self::needs_fold) says so
    /// for this offset, its list registers must have been folded.
    ///
    /// # Errors
    /// [`AccessError::NoDevice`] beyond the frame, [`AccessError::Misaligned`],
    /// and [`AccessError::InvalidWidth`] for widths that the register at the
    /// offset does not take. All are the guest's doing.
    pub fn read(
        &mut self,
        asker: VcpuId,
        frame: Frame,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        self.check_access(asker, frame, offset, width)?;
        match frame {
            Frame::Distributor => self.read_distributor(offset, width),
            Frame::Redistributors => self.read_redistributor(offset, width),
        }
    }

    /// Writes the lowest `width` bytes of `value` at `offset` of `frame`.
    /// Writes to reserved and to read-only places are ignored.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn write(
        &mut self,
        asker: VcpuId,
        frame: Frame,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Kicks, AccessError> {
        self.check_access(asker, frame, offset, width)?;
        let mut kicks = Kicks::NONE;
        match frame {
            Frame::Distributor => self.write_distributor(offset, width, value, &mut kicks),
            Frame::Redistributors => self.write_redistributor(offset, width, value, &mut kicks),
        }?;
        Ok(kicks)
    }

    /// Tells whether the register at `offset` shows or changes what the guest
    /// itself changes in its list registers, so that the asking vCPU must
    /// [`fold`](Self::fold) before the access and [`flush`](Self::flush) after
    /// it. All other registers are right without.
    #[must_use]
    pub fn needs_fold(frame: Frame, offset: u64) -> bool {
        let register = match frame {
            Frame::Distributor => IrqRegister::decode(offset),
            Frame::Redistributors => (offset % gicr::STRIDE)
                .checked_sub(gicr::FRAME_BYTES)
                .and_then(private_register),
        };
        register.is_some_and(IrqRegister::is_live_state)
    }

    fn check_access(
        &self,
        asker: VcpuId,
        frame: Frame,
        offset: u64,
        width: Width,
    ) -> Result<(), AccessError> {
        debug_assert!(
            asker.index() < self.redistributors.len(),
            "vCPU {asker} is of no vGIC"
        );
        if offset & (width.bytes() - 1) != 0 {
            Err(AccessError::Misaligned)
        } else if offset >= frame.size_bytes(self.redistributors.len()) {
            Err(AccessError::NoDevice)
        } else {
            Ok(())
        }
    }

    /// Settles a change in the bank of SPIs number `index`; the list registers
    /// that have to do with those in `touched` may be wrong.
    pub(crate) fn spis_changed(&mut self, index: usize, touched: u32, kicks: &mut Kicks) {
        if let Some(spis) = self.spis.get_mut(index) {
            spis.kick_holders(touched, kicks);
            spis.settle(index + 1, self.groups, &mut self.redistributors, kicks);
        }
    }
}

/// Returns the implemented bits of a priority: the highest `bits`.
fn priority_mask(bits: u32) -> u8 {
    u8::MAX
        .checked_shr(bits)
        .map_or(u8::MAX, |unimplemented| !unimplemented)
}

/// Returns the vCPU that a table of a bank names for interrupt `number`.
pub(crate) fn lookup(table: &[u16; 32], number: u32) -> VcpuId {
    VcpuId::new(table.get(number as usize).copied().unwrap_or_default())
}

/// Splits an INTID below 1020 into the number of its bank and its bit there.
pub(crate) fn place(intid: IntId) -> (usize, u32) {
    (intid.raw() as usize / 32, 1 << (intid.raw() % 32))
}
