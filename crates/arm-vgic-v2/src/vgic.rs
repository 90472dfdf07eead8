//! One VM's interrupt controller as a whole.

use alloc::boxed::Box;
use core::ops::{Deref, DerefMut};

use arm_vgic_core::{BitRegister, Controller, Folded, IrqRegister, Kicks, ShapeError};
use thiserror::Error;
use vm_contract::{AccessError, VcpuId, Width};

use crate::distributor;
use crate::regs::gicc;

/// The size of the distributor's frame in the guest's address space.
pub const FRAME_BYTES: u64 = 0x1000;

/// The largest number of vCPUs.
pub const MAX_VCPUS: usize = 8;

/// The shape of a [`Vgic`].
#[derive(Clone, Copy, Debug)]
pub struct VgicConfig {
    /// How many vCPUs there are: 1 to 8. Each has the CPU interface of its number.
    pub vcpu_count: usize,
    /// How many SPIs there are at least, up to
    /// [`MAX_SPIS`](arm_vgic_core::MAX_SPIS): rounded up to a multiple of 32 where
    /// that many exist.
    pub spi_count: u16,
}

/// A [`VgicConfig`] that no GICv2 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VgicError {
    /// There are too many SPIs, or no vCPUs.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// There are more vCPUs than a GICv2 has CPU interfaces.
    #[error("{0} vCPUs: a GICv2 takes at most 8")]
    TooManyVcpus(usize),
}

/// A virtual GICv2: the distributor and what the virtual CPU interfaces keep while
/// their vCPUs do not run.
///
/// What is behind the registers is a [`Controller`], and all that one can do a
/// `Vgic` can. Like it, it has no locks and sends nothing: every change returns
/// the [`Kicks`] that are due.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Vgic {
    pub(crate) core: Controller,
    /// The bytes of `GICD_ITARGETSR<n>`, from SPI 32.
    pub(crate) targets: Box<[u8]>,
}

impl Deref for Vgic {
    type Target = Controller;

    fn deref(&self) -> &Controller {
        &self.core
    }
}

impl DerefMut for Vgic {
    fn deref_mut(&mut self) -> &mut Controller {
        &mut self.core
    }
}

impl Vgic {
    /// Builds a vGIC in its reset state. Nothing is allocated later.
    ///
    /// # Errors
    /// If no GICv2 has this shape.
    pub fn new(config: &VgicConfig) -> Result<Self, VgicError> {
        if config.vcpu_count > MAX_VCPUS {
            return Err(VgicError::TooManyVcpus(config.vcpu_count));
        }
        let mut core = Controller::new(config.vcpu_count, config.spi_count)?;
        core.follow_gicv2();
        let spi_count = (32 * core.spi_bank_count()).min(arm_vgic_core::MAX_SPIS.into());
        let mut vgic = Self {
            core,
            targets: alloc::vec![0; spi_count].into_boxed_slice(),
        };
        vgic.reset();
        Ok(vgic)
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
        let enable = IrqRegister::Bits {
            register: BitRegister::SetEnable,
            bank: 0,
        };
        for vcpu in 0..self.vcpu_count() {
            if let Ok(vcpu) = u16::try_from(vcpu) {
                let vcpu = VcpuId::new(vcpu);
                // Nothing is pending that somebody could be kicked for.
                let _ = self.core.write_register(vcpu, enable, Width::Word, 0xFFFF);
            }
        }
        self.reset_targets();
    }

    /// Reads `width` bytes at `offset` of the distributor's frame. Bits above the
    /// width are zero; reserved places read as zero.
    ///
    /// `asker` makes the access. If [`needs_fold`](Self::needs_fold) says so
    /// for this offset, its list registers must have been folded.
    ///
    /// # Errors
    /// [`AccessError::NoDevice`] beyond the frame, [`AccessError::Misaligned`],
    /// and [`AccessError::InvalidWidth`] for widths that the register at the
    /// offset does not take. All are the guest's doing.
    pub fn read(&mut self, asker: VcpuId, offset: u64, width: Width) -> Result<u64, AccessError> {
        check_access(offset, width)?;
        self.read_distributor(asker, offset, width)
    }

    /// Writes the lowest `width` bytes of `value` at `offset` of the distributor's
    /// frame. Writes to reserved and to read-only places are ignored.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn write(
        &mut self,
        asker: VcpuId,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Kicks, AccessError> {
        check_access(offset, width)?;
        self.write_distributor(asker, offset, width, value)
    }

    /// Tells whether the register at `offset` shows or changes what the guest
    /// itself changes in its list registers, so that the asking vCPU must
    /// [`fold`](Controller::fold) before the access and
    /// [`flush`](Controller::flush) after it. All other registers are right
    /// without.
    #[must_use]
    pub fn needs_fold(offset: u64) -> bool {
        distributor::is_live_state(offset)
    }

    /// Writes the lowest `width` bytes of `value` at `offset` of the CPU interface
    /// (GICC), where stage 2 does not lead to GICV. GICC_DIR is there, at 0x1000 and a
    /// word wide: all else is reserved, and writes there are ignored. Without
    /// GICC_CTLR.EOImode those of GICC_DIR are ignored as well.
    ///
    /// `vcpu` must have been [folded](Controller::fold), and a
    /// [flush](Controller::flush) must follow.
    pub fn write_cpu_interface(
        &mut self,
        vcpu: VcpuId,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Folded {
        match (offset, width) {
            // Bits 12:10 name the sender of an SGI. One of each number is active at a
            // time, so that says nothing new.
            (gicc::DIR, Width::Word) => self.core.deactivate(vcpu, value & 0x3FF),
            _ => Folded::default(),
        }
    }

    /// Asks the other vCPUs for what the register at `offset` shows of their list
    /// registers: see [`Controller::look_again`]. To be called with each access for
    /// which [`needs_fold`](Self::needs_fold) says so.
    pub fn look_again(&mut self, asker: VcpuId, offset: u64) -> Kicks {
        match IrqRegister::decode(offset) {
            Some(register) => self.core.look_again(asker, asker, register),
            None => Kicks::NONE,
        }
    }
}

/// Checks that an access lies in the frame and is aligned.
fn check_access(offset: u64, width: Width) -> Result<(), AccessError> {
    if offset & (width.bytes() - 1) != 0 {
        Err(AccessError::Misaligned)
    } else if offset >= FRAME_BYTES {
        Err(AccessError::NoDevice)
    } else {
        Ok(())
    }
}
