//! The guest's own stage 1 of translation, walked in software (Arm DDI 0487,
//! "The AArch64 Virtual Memory System Architecture", VMSAv8-64).
//!
//! It answers *where*, for an access that the hardware has already allowed or
//! whose instruction it has already fetched: permissions are not looked at.
//! 48 bits of virtual and physical address are covered, which is all that
//! [`IdRegisters`](crate::IdRegisters) show a guest.

use thiserror::Error;
use vm_contract::{GuestMemory, GuestPhysAddr};

use crate::exit::guest_address;

mod regime;

use regime::Region;

/// Holds the EL1 registers that shape the guest's stage 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stage1Registers {
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// TCR_EL1.
    pub tcr: u64,
    /// TTBR0_EL1.
    pub ttbr0: u64,
    /// TTBR1_EL1.
    pub ttbr1: u64,
}

/// SCTLR_EL1.M: stage 1 is on.
const SCTLR_M: u64 = 1;
/// SCTLR_EL1.EE: tables are big-endian.
const SCTLR_EE: u64 = 1 << 25;

const DESCRIPTOR_VALID: u64 = 1;
/// A table, or at the last level a page; otherwise a block.
const DESCRIPTOR_TABLE: u64 = 1 << 1;
const DESCRIPTOR_ACCESS_FLAG: u64 = 1 << 10;
/// Bits 47:0, of which a descriptor's address takes the upper part.
const ADDRESS: u64 = (1 << 48) - 1;
const LAST_LEVEL: u8 = 3;

/// Says why a virtual address leads nowhere. All of these are the guest's
/// doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[must_use = "the guest is owed an answer"]
pub enum WalkError {
    /// Nothing is mapped there.
    #[error("nothing is mapped, at level {0}")]
    Translation(u8),
    /// An address in a register or a table has more bits than TCR_EL1.IPS says.
    #[error("an address is too large, at level {0}")]
    AddressSize(u8),
    /// The mapping has never been used: its access flag is clear, and the
    /// guest does not let the hardware set it.
    #[error("the access flag is clear, at level {0}")]
    AccessFlag(u8),
    /// A table, or the instruction, lies outside the guest's memory.
    #[error("an address of the walk lies outside the guest's memory")]
    OutsideMemory,
    /// An instruction's address is not a multiple of four.
    #[error("the address of an instruction is misaligned")]
    Misaligned,
    /// The guest has chosen a form of tables that it was not offered: a
    /// reserved granule, or addresses of 52 bits.
    #[error("the tables have a form that is not walked")]
    Unsupported,
}

/// Translates virtual address `va` to a guest physical address.
///
/// At most four descriptors are read, whatever they hold.
///
/// # Errors
/// The guest's tables do not map the address, or are not in its memory.
pub fn translate(
    registers: &Stage1Registers,
    memory: &dyn GuestMemory,
    va: u64,
) -> Result<GuestPhysAddr, WalkError> {
    if registers.sctlr & SCTLR_M == 0 {
        return flat(registers, va).map(guest_address);
    }
    let region = Region::of(registers, va)?;
    walk(registers, memory, &region, va).map(guest_address)
}

/// Returns the instruction at virtual address `pc`.
///
/// # Errors
/// As for [`translate`]; besides, `pc` is misaligned or does not lead to the
/// guest's memory.
pub fn fetch_instruction(
    registers: &Stage1Registers,
    memory: &dyn GuestMemory,
    pc: u64,
) -> Result<u32, WalkError> {
    if pc & 0b11 != 0 {
        return Err(WalkError::Misaligned);
    }
    let address = translate(registers, memory, pc)?;
    let mut bytes = [0; 4];
    memory
        .read(address, &mut bytes)
        .map_err(|_| WalkError::OutsideMemory)?;
    Ok(u32::from_le_bytes(bytes))
}

/// Translates with stage 1 off: the address itself, less a tag.
fn flat(registers: &Stage1Registers, va: u64) -> Result<u64, WalkError> {
    let untagged = regime::without_tag(registers, va);
    if untagged & !ADDRESS == 0 {
        Ok(untagged)
    } else {
        Err(WalkError::AddressSize(0))
    }
}

fn walk(
    registers: &Stage1Registers,
    memory: &dyn GuestMemory,
    region: &Region,
    va: u64,
) -> Result<u64, WalkError> {
    let granule = region.granule;
    let mut table = region.root;
    let mut level = region.start_level;
    let mut index = region.root_index(va);
    loop {
        let descriptor = read_descriptor(registers, memory, table + index * 8)?;
        if descriptor & DESCRIPTOR_VALID == 0 {
            return Err(WalkError::Translation(level));
        }
        let shift = granule.level_shift(level);
        let points_on = descriptor & DESCRIPTOR_TABLE != 0;
        if level == LAST_LEVEL || !points_on {
            // Only a page at the last level, only a block above it.
            if (level == LAST_LEVEL) != points_on || !granule.has_leaf(level) {
                return Err(WalkError::Translation(level));
            }
            return leaf(region, descriptor, level, shift, va);
        }
        table = descriptor & ADDRESS & !granule.page_mask();
        region.check_size(table, level)?;
        level += 1;
        index = va >> granule.level_shift(level) & granule.index_mask();
    }
}

fn leaf(
    region: &Region,
    descriptor: u64,
    level: u8,
    shift: u32,
    va: u64,
) -> Result<u64, WalkError> {
    let offset = (1 << shift) - 1;
    let output = descriptor & ADDRESS & !offset;
    region.check_size(output, level)?;
    if descriptor & DESCRIPTOR_ACCESS_FLAG == 0 && !region.hardware_access_flag {
        return Err(WalkError::AccessFlag(level));
    }
    Ok(output | va & offset)
}

fn read_descriptor(
    registers: &Stage1Registers,
    memory: &dyn GuestMemory,
    address: u64,
) -> Result<u64, WalkError> {
    let mut bytes = [0; 8];
    memory
        .read(guest_address(address), &mut bytes)
        .map_err(|_| WalkError::OutsideMemory)?;
    Ok(if registers.sctlr & SCTLR_EE == 0 {
        u64::from_le_bytes(bytes)
    } else {
        u64::from_be_bytes(bytes)
    })
}
