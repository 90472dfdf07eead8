//! One VM's interrupt controller as a whole.

use alloc::boxed::Box;
use core::ops::{Deref, DerefMut};

use arm_vgic_core::{Controller, IrqRegister, Kicks, ShapeError};
use thiserror::Error;
use vm_contract::{AccessError, VcpuId, Width};

use crate::affinity::{Affinity, AffinityTable};
use crate::redistributor::{Redistributor, register_of};
use crate::regs::gicr;

/// The shape of a [`Vgic`].
#[derive(Clone, Copy, Debug)]
pub struct VgicConfig<'a> {
    /// The affinity of each vCPU as its MPIDR_EL1 shows it, by [`VcpuId`]: 1 to
    /// 256, all different. Bits that are no affinity are ignored.
    pub affinities: &'a [u64],
    /// How many SPIs there are at least, up to
    /// [`MAX_SPIS`](arm_vgic_core::MAX_SPIS): rounded up to a multiple of 32 where
    /// that many exist.
    pub spi_count: u16,
}

/// A [`VgicConfig`] that no GICv3 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VgicError {
    /// There are too many vCPUs or SPIs, or none.
    #[error(transparent)]
    Shape(#[from] ShapeError),
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
/// What is behind the registers is a [`Controller`], and all that one can do a
/// `Vgic` can. Like it, it has no locks and sends nothing: every change returns
/// the [`Kicks`] that are due.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Vgic {
    pub(crate) core: Controller,
    pub(crate) affinities: AffinityTable,
    /// `GICD_IROUTER<n>`, from SPI 32.
    pub(crate) routes: Box<[u64]>,
    pub(crate) redistributors: Box<[Redistributor]>,
    /// How many redistributors wait for the ITS.
    pub(crate) table_requests: u16,
}

impl Deref for Vgic {
    type Target = Controller;

    #[inline]
    fn deref(&self) -> &Controller {
        &self.core
    }
}

impl DerefMut for Vgic {
    #[inline]
    fn deref_mut(&mut self) -> &mut Controller {
        &mut self.core
    }
}

impl Vgic {
    /// Builds a vGIC in its reset state, in which all redistributors sleep.
    /// The `with_` methods complete it; nothing is allocated after them.
    ///
    /// # Errors
    /// If no GICv3 has this shape.
    pub fn new(config: &VgicConfig<'_>) -> Result<Self, VgicError> {
        let core = Controller::new(config.affinities.len(), config.spi_count)?;
        let spi_count = (32 * core.spi_bank_count()).min(arm_vgic_core::MAX_SPIS.into());
        let mut vgic = Self {
            core,
            affinities: AffinityTable::new(config.affinities)?,
            routes: alloc::vec![0; spi_count].into_boxed_slice(),
            redistributors: config
                .affinities
                .iter()
                .map(|&mpidr| Redistributor::new(Affinity::from_mpidr(mpidr)))
                .collect(),
            table_requests: 0,
        };
        vgic.reset();
        Ok(vgic)
    }

    /// Sets how many priority bits are implemented: 4 to 8, the number that
    /// [`IchRegs::priority_bits`](crate::IchRegs::priority_bits) gives or less.
    /// Without this there are 5, which every GICv3 has.
    #[must_use]
    pub fn with_priority_bits(mut self, bits: u32) -> Self {
        self.core.set_priority_bits(bits);
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
    /// linked and count as asserted, until
    /// [`lower_linked`](Controller::lower_linked) finds them low and hands the
    /// physical interrupt back.
    pub fn reset(&mut self) {
        self.core.reset();
        for vcpu in self.vcpus() {
            // Nothing is enabled that somebody could be kicked for.
            let _ = self.core.set_awake(vcpu, false);
        }
        self.reset_routes();
        self.reset_lpi_registers();
    }

    /// Wakes the redistributor of `vcpu`, or lets it sleep, as firmware does by
    /// GICR_WAKER before software of the guest runs on that CPU, and when that
    /// turns the CPU off. Nothing reaches a vCPU whose redistributor sleeps.
    pub fn set_awake(&mut self, vcpu: VcpuId, awake: bool) -> Kicks {
        let mut kicks = Kicks::NONE;
        if self.core.is_awake(vcpu) != awake {
            let before = self.any_vcpu();
            kicks = self.core.set_awake(vcpu, awake);
            let any = self.any_vcpu();
            if any != before {
                self.route_any_vcpu_spis(any, &mut kicks);
            }
        }
        kicks
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
            Frame::Distributor => self.read_distributor(asker, offset, width),
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
        match frame {
            Frame::Distributor => self.write_distributor(asker, offset, width, value),
            Frame::Redistributors => self.write_redistributor(offset, width, value),
        }
    }

    /// Tells whether the register at `offset` shows or changes what the guest
    /// itself changes in its list registers, so that the asking vCPU must
    /// [`fold`](Controller::fold) before the access and
    /// [`flush`](Controller::flush) after it. All other registers are right
    /// without.
    #[must_use]
    #[inline]
    pub fn needs_fold(frame: Frame, offset: u64) -> bool {
        let register = match frame {
            Frame::Distributor => IrqRegister::decode(offset),
            Frame::Redistributors => register_of(offset).map(|(_, register)| register),
        };
        register.is_some_and(IrqRegister::is_live_state)
    }

    /// Tells whether after an access to the register at `offset` redistributors may
    /// want something of the ITS, or still wait for it: a run of the
    /// [ITS](crate::its::Its::run) is due, where there is one. That is so for GICR_CTLR,
    /// which turns LPIs on and off and says when that is done.
    ///
    /// ```
    /// use arm_vgic_v3::{Frame, Vgic};
    ///
    /// let second = 0x2_0000;
    /// assert!(Vgic::may_request_tables(Frame::Redistributors, second));
    /// assert!(!Vgic::may_request_tables(Frame::Redistributors, second + 0x1_0000));
    /// assert!(!Vgic::may_request_tables(Frame::Distributor, 0));
    /// ```
    #[must_use]
    pub const fn may_request_tables(frame: Frame, offset: u64) -> bool {
        matches!(frame, Frame::Redistributors) && offset.is_multiple_of(gicr::STRIDE)
    }

    /// Asks the other vCPUs for what the register at `offset` shows of their list
    /// registers: see [`Controller::look_again`]. To be called with each access for
    /// which [`needs_fold`](Self::needs_fold) says so.
    pub fn look_again(&mut self, asker: VcpuId, frame: Frame, offset: u64) -> Kicks {
        let found = match frame {
            // Bank 0 belongs to the redistributors.
            Frame::Distributor => IrqRegister::decode(offset)
                .filter(|register| register.bank() != 0)
                .map(|register| (asker, register)),
            Frame::Redistributors => register_of(offset),
        };
        found.map_or(Kicks::NONE, |(vcpu, register)| {
            self.core.look_again(asker, vcpu, register)
        })
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

    /// Returns all vCPUs.
    pub(crate) fn vcpus(&self) -> impl Iterator<Item = VcpuId> + use<> {
        (0..u16::try_from(self.redistributors.len()).unwrap_or(u16::MAX)).map(VcpuId::new)
    }
}
