//! A VM's interrupt controller, of the version that its machine has.

use core::ops::{Deref, DerefMut};

use arm_vgic_core::{Controller, Folded, IchRegs, Kicks, SpiSetup};
use arm_vgic_v3::SgiRegister;
use thiserror::Error;
use vm_contract::{AccessError, HostPhysAddr, VcpuId, Width};

/// Which interrupt controller a machine gives its guests, and what they use of it
/// without the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostGic {
    /// A GICv2.
    V2 {
        /// The page of GICV, the virtual CPU interface, that guests reach: its
        /// first 4 KiB.
        cpu_interface: HostPhysAddr,
    },
    /// A GICv3: system registers.
    V3,
}

/// The shape of an interrupt controller that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VgicError {
    /// There is no such GICv2.
    #[error(transparent)]
    V2(#[from] arm_vgic_v2::VgicError),
    /// There is no such GICv3.
    #[error(transparent)]
    V3(#[from] arm_vgic_v3::VgicError),
}

/// A part of the guest's address space that belongs to its interrupt controller.
/// A controller of the other version has nothing there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The distributor of a GICv2.
    DistributorV2,
    /// The distributor of a GICv3.
    Distributor,
    /// The redistributors of a GICv3, one after the other without gaps.
    Redistributors,
}

/// An interrupt controller. What is the same in both versions, it has from its
/// [`Controller`], which lies at the same place in both: to reach it, nobody has to
/// ask which it is.
#[derive(Clone, Debug)]
#[repr(C)]
pub enum Vgic {
    /// A GICv2.
    V2(arm_vgic_v2::Vgic),
    /// A GICv3.
    V3(arm_vgic_v3::Vgic),
}

impl Deref for Vgic {
    type Target = Controller;

    #[inline]
    fn deref(&self) -> &Controller {
        match self {
            Self::V2(vgic) => vgic,
            Self::V3(vgic) => vgic,
        }
    }
}

impl DerefMut for Vgic {
    #[inline]
    fn deref_mut(&mut self) -> &mut Controller {
        match self {
            Self::V2(vgic) => vgic,
            Self::V3(vgic) => vgic,
        }
    }
}

impl Vgic {
    /// Reads from `frame`.
    ///
    /// # Errors
    /// Those of the version: the guest is to blame.
    #[inline(always)]
    pub fn read(
        &mut self,
        asker: VcpuId,
        frame: Frame,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        match (self, frame.of_v3()) {
            (Self::V3(vgic), Some(frame)) => vgic.read(asker, frame, offset, width),
            (Self::V2(vgic), None) => vgic.read(asker, offset, width),
            _ => Err(AccessError::NoDevice),
        }
    }

    /// Writes to `frame`.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    #[inline(always)]
    pub fn write(
        &mut self,
        asker: VcpuId,
        frame: Frame,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Kicks, AccessError> {
        match (self, frame.of_v3()) {
            (Self::V3(vgic), Some(frame)) => vgic.write(asker, frame, offset, width, value),
            (Self::V2(vgic), None) => vgic.write(asker, offset, width, value),
            _ => Err(AccessError::NoDevice),
        }
    }

    /// Returns which of the registers that set SPIs up an access reaches, if any: they
    /// are the same in both versions.
    #[inline(always)]
    #[must_use]
    pub fn spi_setup(frame: Frame, offset: u64, width: Width) -> Option<SpiSetup> {
        match frame {
            Frame::Distributor | Frame::DistributorV2 => SpiSetup::decode(offset, width),
            Frame::Redistributors => None,
        }
    }

    /// Tells whether the asking vCPU must be folded before it reaches the register
    /// at `offset`.
    #[inline(always)]
    #[must_use]
    pub fn needs_fold(frame: Frame, offset: u64) -> bool {
        match frame.of_v3() {
            Some(frame) => arm_vgic_v3::Vgic::needs_fold(frame, offset),
            None => arm_vgic_v2::Vgic::needs_fold(offset),
        }
    }

    /// Asks the other vCPUs for what the register at `offset` shows of their list
    /// registers, so that a later read is right.
    pub fn look_again(&mut self, asker: VcpuId, frame: Frame, offset: u64) -> Kicks {
        match (self, frame.of_v3()) {
            (Self::V3(vgic), Some(frame)) => vgic.look_again(asker, frame, offset),
            (Self::V2(vgic), None) => vgic.look_again(asker, offset),
            _ => Kicks::NONE,
        }
    }

    /// Tells whether after an access to the register at `offset` redistributors may
    /// want something of the ITS.
    #[inline]
    #[must_use]
    pub const fn may_request_tables(frame: Frame, offset: u64) -> bool {
        match frame.of_v3() {
            Some(frame) => arm_vgic_v3::Vgic::may_request_tables(frame, offset),
            None => false,
        }
    }

    /// Sends an SGI by system register, which a GICv2 does not have.
    #[inline]
    pub fn send_sgi(&mut self, sender: VcpuId, register: SgiRegister, value: u64) -> Kicks {
        match self {
            Self::V2(_) => Kicks::NONE,
            Self::V3(vgic) => vgic.send_sgi(sender, register, value),
        }
    }

    /// Sends an SGI from `sender` to itself, by system register, if its list register
    /// needs no more than to be filled again.
    #[inline]
    #[must_use]
    pub fn send_sgi_again(
        &self,
        sender: VcpuId,
        register: SgiRegister,
        value: u64,
        ich: &mut impl IchRegs,
    ) -> bool {
        match self {
            Self::V2(_) => false,
            Self::V3(vgic) => vgic.send_sgi_again(sender, register, value, ich),
        }
    }

    /// Writes to what of the CPU interface traps, after `vcpu` was folded. A flush
    /// must follow.
    pub fn write_cpu_interface(
        &mut self,
        vcpu: VcpuId,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Folded {
        match self {
            Self::V2(vgic) => vgic.write_cpu_interface(vcpu, offset, width, value),
            Self::V3(_) => Folded::default(),
        }
    }

    /// Records that software runs on a vCPU, or no longer does, as firmware tells a
    /// GICv3. A GICv2 does not want to know.
    pub fn set_awake(&mut self, vcpu: VcpuId, awake: bool) -> Kicks {
        match self {
            Self::V2(_) => Kicks::NONE,
            Self::V3(vgic) => vgic.set_awake(vcpu, awake),
        }
    }

    /// Returns everything to its reset state. No vCPU may be loaded.
    pub fn reset(&mut self) {
        match self {
            Self::V2(vgic) => vgic.reset(),
            Self::V3(vgic) => vgic.reset(),
        }
    }
}

impl Frame {
    /// Returns the frame of a GICv3.
    #[inline(always)]
    const fn of_v3(self) -> Option<arm_vgic_v3::Frame> {
        match self {
            Self::DistributorV2 => None,
            Self::Distributor => Some(arm_vgic_v3::Frame::Distributor),
            Self::Redistributors => Some(arm_vgic_v3::Frame::Redistributors),
        }
    }
}
