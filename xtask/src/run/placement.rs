//! Decides how much memory the machine has and where in it the files lie that
//! the hypervisor gives to its guests.

use anyhow::{Context, Result};

const MIB: u64 = 1 << 20;

/// Where the RAM of QEMU's `virt` machine starts.
const RAM_BASE: u64 = 0x4000_0000;

/// Where QEMU puts the hypervisor: an `Image` that asks for no offset from a
/// multiple of 2 MiB, behind QEMU's own first instructions.
pub(super) const IMAGE_START: u64 = RAM_BASE + 2 * MIB;

/// What the machine has beyond its guests' memory. QEMU puts the hypervisor
/// at the start of RAM and the device tree 128 MiB above it; guests then
/// still find their memory in one piece beyond.
const OVERHEAD: u64 = 256 * MIB;

/// Files start at multiples of this, so that they can be mapped by blocks.
const MODULE_ALIGN: u64 = 2 * MIB;

/// RAM is a multiple of this.
const RAM_GRAIN: u64 = 64 * MIB;

/// The machine's memory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) ram_mib: u64,
    /// The address of each file, in the order given.
    pub(crate) addresses: Vec<u64>,
}

impl Placement {
    /// Makes room for guests of `guest_mib` altogether and for files of these
    /// sizes in bytes, which end up at the top of RAM.
    pub(crate) fn new(guest_mib: u64, file_sizes: &[u64]) -> Result<Self> {
        let mut offset = 0_u64;
        let mut offsets = Vec::new();
        for size in file_sizes {
            offsets.push(offset);
            offset = size
                .checked_next_multiple_of(MODULE_ALIGN)
                .and_then(|size| offset.checked_add(size))
                .context("a guest's files are too large")?;
        }
        let ram = guest_mib
            .checked_mul(MIB)
            .and_then(|bytes| bytes.checked_add(OVERHEAD)?.checked_add(offset))
            .and_then(|bytes| bytes.checked_next_multiple_of(RAM_GRAIN))
            .context("the guests' memory is too large")?;
        let first = RAM_BASE + (ram - offset);
        let addresses = offsets.into_iter().map(|offset| first + offset).collect();
        Ok(Self {
            ram_mib: ram / MIB,
            addresses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lie_at_the_top_of_ram_without_overlap() {
        let sizes = [28 * MIB + 1, 3, 2 * MIB];
        let placement = Placement::new(512, &sizes).unwrap();
        let end = RAM_BASE + placement.ram_mib * MIB;
        let mut above = RAM_BASE + OVERHEAD + 512 * MIB;
        for (address, size) in placement.addresses.iter().zip(sizes) {
            assert!(*address >= above, "{address:#x} overlaps what lies below");
            assert_eq!(address % MODULE_ALIGN, 0);
            above = address + size;
        }
        assert!(above <= end);
        assert_eq!(placement.ram_mib % 64, 0);
    }

    #[test]
    fn a_machine_without_files_has_its_overhead() {
        let placement = Placement::new(100, &[]).unwrap();
        assert_eq!(
            placement,
            Placement {
                ram_mib: 384,
                addresses: vec![]
            }
        );
    }

    #[test]
    fn sizes_beyond_all_bounds_are_refused() {
        assert!(Placement::new(u64::MAX, &[]).is_err());
        assert!(Placement::new(1, &[u64::MAX, u64::MAX]).is_err());
    }
}
