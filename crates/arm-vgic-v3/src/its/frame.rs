//! The registers of an ITS: GITS_*.

use vm_contract::{AccessError, Width};

use super::entry::{ENTRY_BYTES, ID_BITS};
use super::{FRAMES_BYTES, Its, ItsContext, STEPS_PER_ACCESS, TRANSLATER};
use crate::regs;

const CTLR_ENABLED: u64 = 1 << 0;
const CTLR_QUIESCENT: u64 = 1 << 31;

const TYPER_PHYSICAL: u64 = 1 << 0;
const TYPER_ITT_ENTRY_SIZE_SHIFT: u32 = 4;
const TYPER_ID_BITS_SHIFT: u32 = 8;
const TYPER_DEVICE_BITS_SHIFT: u32 = 13;
const TYPER_COLLECTION_BITS_SHIFT: u32 = 32;
/// Collections have as many bits as the field above says.
const TYPER_CIL: u64 = 1 << 36;

/// What GITS_TYPER says: redistributors are named by number (PTA = 0), and all
/// collections are kept in memory (HCC = 0).
const TYPER: u64 = TYPER_PHYSICAL
    | (ENTRY_BYTES - 1) << TYPER_ITT_ENTRY_SIZE_SHIFT
    | (ID_BITS as u64 - 1) << TYPER_ID_BITS_SHIFT
    | (ID_BITS as u64 - 1) << TYPER_DEVICE_BITS_SHIFT
    | (ID_BITS as u64 - 1) << TYPER_COLLECTION_BITS_SHIFT
    | TYPER_CIL;

/// PIDR0 of an ITS; the other identification registers are as in the rest of
/// the GIC.
const PIDR0_OFFSET: u64 = 0xFFE0;
const PIDR0: u32 = 0x94;

/// A register of the first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Ctlr,
    Iidr,
    /// PIDR and CIDR: their value.
    Identification(u32),
    Typer,
    Cbaser,
    Cwriter,
    Creadr,
    /// `GITS_BASER<n>`, of which the first two do something.
    Baser(u64),
    /// Reserved, or absent.
    Reserved,
}

impl Register {
    fn decode(offset: u64) -> Self {
        match (offset & !7, offset & !3) {
            (_, 0x0000) => Self::Ctlr,
            (_, 0x0004) => Self::Iidr,
            (0x0008, _) => Self::Typer,
            (0x0080, _) => Self::Cbaser,
            (0x0088, _) => Self::Cwriter,
            (0x0090, _) => Self::Creadr,
            (0x0100..0x0140, _) => Self::Baser((offset - 0x0100) / 8),
            (_, PIDR0_OFFSET) => Self::Identification(PIDR0),
            (_, aligned) => {
                regs::identification(aligned).map_or(Self::Reserved, Self::Identification)
            }
        }
    }

    fn takes(self, width: Width) -> bool {
        match self {
            Self::Reserved => true,
            Self::Ctlr | Self::Iidr | Self::Identification(_) => width == Width::Word,
            _ => matches!(width, Width::Word | Width::Dword),
        }
    }
}

impl Its {
    /// Reads `width` bytes at `offset` of the ITS's frames. Bits above the width
    /// are zero; reserved places read as zero. Work that is left goes on, so that
    /// a guest that waits for its commands gets there.
    ///
    /// # Errors
    /// [`AccessError::NoDevice`] beyond the frames, [`AccessError::Misaligned`],
    /// and [`AccessError::InvalidWidth`] for widths that the register at the
    /// offset does not take. All are the guest's doing.
    pub fn read(
        &mut self,
        context: &mut ItsContext<'_>,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        let register = decode(offset, width)?;
        self.run(context, STEPS_PER_ACCESS);
        Ok(match register {
            Register::Ctlr => self.control(),
            Register::Iidr => regs::IIDR_VALUE.into(),
            Register::Identification(value) => value.into(),
            wide => regs::part(self.wide(wide), offset, width),
        })
    }

    /// Writes the lowest `width` bytes of `value` at `offset`, then works on
    /// what that and earlier writes ask for. Writes to reserved and to
    /// read-only places are ignored.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn write(
        &mut self,
        context: &mut ItsContext<'_>,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), AccessError> {
        let register = decode(offset, width)?;
        let value = regs::merge(self.wide(register), offset, width, value);
        match register {
            Register::Ctlr => self.enabled = value & CTLR_ENABLED != 0,
            Register::Cwriter => self.queue.set_writer(value),
            Register::Cbaser if self.is_quiescent() => self.queue.set_base(value),
            Register::Baser(0) if self.is_quiescent() => {
                self.devices.write(value);
                self.cache.clear();
            }
            Register::Baser(1) if self.is_quiescent() => {
                self.collections.write(value);
                self.cache.clear();
            }
            // Read-only, reserved, or not to be written now.
            _ => {}
        }
        self.run(context, STEPS_PER_ACCESS);
        Ok(())
    }

    fn control(&self) -> u64 {
        let enabled = if self.enabled { CTLR_ENABLED } else { 0 };
        let quiescent = if self.is_quiescent() {
            CTLR_QUIESCENT
        } else {
            0
        };
        enabled | quiescent
    }

    /// Returns the value of a register of 64 bits; zero for any other.
    fn wide(&self, register: Register) -> u64 {
        match register {
            Register::Typer => TYPER,
            Register::Cbaser => self.queue.base,
            Register::Cwriter => self.queue.writer,
            Register::Creadr => self.queue.reader,
            Register::Baser(0) => self.devices.value(),
            Register::Baser(1) => self.collections.value(),
            _ => 0,
        }
    }
}

/// Finds the register at an offset, if the access to it is sound.
fn decode(offset: u64, width: Width) -> Result<Register, AccessError> {
    if offset & (width.bytes() - 1) != 0 {
        return Err(AccessError::Misaligned);
    }
    if offset >= FRAMES_BYTES {
        return Err(AccessError::NoDevice);
    }
    let (register, fits) = if offset == TRANSLATER {
        // Write-only, and a CPU is no device.
        (
            Register::Reserved,
            matches!(width, Width::Half | Width::Word),
        )
    } else if offset >= FRAMES_BYTES / 2 {
        (Register::Reserved, true)
    } else {
        let register = Register::decode(offset);
        (register, register.takes(width))
    };
    fits.then_some(register).ok_or(AccessError::InvalidWidth)
}
