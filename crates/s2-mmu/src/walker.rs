//! The hardware's walk, in software: the second opinion of the tests.
//!
//! Written from the pseudocode of the architecture (Arm DDI 0487,
//! AArch64.S2Walk and what it calls), from the register values alone. It shares
//! no code with the tree that it judges.

use vm_contract::HostPhysAddr;

use crate::table_mem::TableMem;

/// Why a walk ends in a stage-2 fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkFault {
    /// The register values contradict each other: level 0 translation fault.
    Configuration,
    /// An entry is invalid, or the address is too large.
    Translation {
        /// The level of the entry.
        level: u32,
    },
    /// An entry names an address beyond the output size.
    AddressSize {
        /// The level of the entry.
        level: u32,
    },
    /// The access flag of the leaf is clear.
    AccessFlag {
        /// The level of the leaf.
        level: u32,
    },
}

/// What a walk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The physical address.
    pub pa: u64,
    /// The leaf as it stands in memory.
    pub descriptor: u64,
    /// The level of the leaf.
    pub level: u32,
    /// Whether data may be read.
    pub readable: bool,
    /// Whether data may be written.
    pub writable: bool,
    /// Whether instructions may be fetched.
    pub executable: bool,
    /// Where each entry on the way was read, leaf last: (table, index).
    pub trail: [Option<(HostPhysAddr, usize)>; 4],
}

/// Walks the tables for `ipa` as a CPU with these register values does.
///
/// # Errors
/// The fault that the CPU would take.
pub fn walk(memory: &impl TableMem, vtcr: u64, vttbr: u64, ipa: u64) -> Result<Walk, WalkFault> {
    let t0sz = vtcr & 0x3F;
    let sl0 = (vtcr >> 6) & 0b11;
    let input_bits = 64 - t0sz;
    let output_bits = match (vtcr >> 16) & 0b111 {
        0b000 => 32,
        0b001 => 36,
        0b010 => 40,
        0b011 => 42,
        0b100 => 44,
        _ => 48,
    };
    let start_level = match sl0 {
        0b00 => 2u32,
        0b01 => 1,
        0b10 => 0,
        _ => return Err(WalkFault::Configuration),
    };
    // AArch64.S2InvalidSL and AArch64.S2InconsistentSL for the 4 KiB granule.
    let least = u64::from(9 * (3 - start_level)) + 12 + 1;
    let most = least + 8 + 4;
    let granule_4k = (vtcr >> 14) & 0b11 == 0;
    if !granule_4k
        || (start_level == 0 && output_bits < 44)
        || input_bits < least
        || input_bits > most
        || input_bits > output_bits
    {
        return Err(WalkFault::Configuration);
    }
    if ipa >> input_bits != 0 {
        return Err(WalkFault::Translation { level: 0 });
    }

    // The root is as large as the start level needs; its low bits are ignored.
    let root_index_bits = input_bits - u64::from(12 + 9 * (3 - start_level));
    let root_bytes = 8u64 << root_index_bits;
    let mut table = vttbr & 0x0000_FFFF_FFFF_FFFE & !(root_bytes - 1);
    let mut index_bits = root_index_bits;
    let mut trail = [None; 4];
    let mut level = start_level;
    loop {
        let low = 12 + 9 * (3 - level);
        let index = index_of(ipa, low, index_bits);
        let at = address(table);
        if let Some(step) = usize::try_from(level).ok().and_then(|n| trail.get_mut(n)) {
            *step = Some((at, index));
        }
        let descriptor = memory.read(at, index);
        if descriptor & 1 == 0 {
            return Err(WalkFault::Translation { level });
        }
        let field = descriptor & 0x0000_FFFF_FFFF_F000;
        if field >> output_bits != 0 {
            return Err(WalkFault::AddressSize { level });
        }
        match (descriptor >> 1 & 1, level) {
            (1, 0..=2) => {
                table = field;
                index_bits = 9;
                level += 1;
            }
            (0, 0 | 3) => return Err(WalkFault::Translation { level }),
            _ => {
                if descriptor >> 10 & 1 == 0 {
                    return Err(WalkFault::AccessFlag { level });
                }
                let offset = (1u64 << low) - 1;
                return Ok(Walk {
                    pa: field & !offset | ipa & offset,
                    descriptor,
                    level,
                    readable: descriptor >> 6 & 1 == 1,
                    writable: descriptor >> 7 & 1 == 1,
                    executable: descriptor >> 53 & 0b11 == 0,
                    trail,
                });
            }
        }
    }
}

fn index_of(ipa: u64, low: u32, bits: u64) -> usize {
    usize::try_from(ipa >> low & ((1 << bits) - 1)).unwrap_or(usize::MAX)
}

fn address(raw: u64) -> HostPhysAddr {
    usize::try_from(raw).unwrap_or(usize::MAX).into()
}
