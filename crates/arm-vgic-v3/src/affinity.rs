//! Which vCPU has which affinity.

use alloc::boxed::Box;
use alloc::vec::Vec;

use arm_vgic_core::{MAX_VCPUS, ShapeError};

use crate::VgicError;

/// The four affinity levels as one number, Aff3 highest, Aff0 lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Affinity(u32);

impl Affinity {
    /// Takes the affinity fields of MPIDR_EL1, which are also those of
    /// `IROUTER<n>`. Other bits are ignored.
    pub(crate) const fn from_mpidr(mpidr: u64) -> Self {
        Self((mpidr >> 8 & 0xFF00_0000) as u32 | (mpidr & 0x00FF_FFFF) as u32)
    }

    /// Returns the target fields of ICC_SGI1R_EL1 that name this vCPU alone.
    pub(crate) const fn sgi_request(self) -> u64 {
        let [aff0, aff1, aff2, aff3] = self.0.to_le_bytes();
        let (block, target) = (aff0 as u64 >> 4, 1 << (aff0 & 15));
        (aff3 as u64) << 48 | block << 44 | (aff2 as u64) << 32 | (aff1 as u64) << 16 | target
    }

    /// Returns the affinity as GICR_TYPER has it.
    pub(crate) const fn raw(self) -> u32 {
        self.0
    }
}

/// 16 neighbouring Aff0 values: what one SGI register write can name.
#[derive(Clone, Debug)]
struct Block {
    /// The affinity without the lowest four bits.
    key: u32,
    /// Bit `n` says that `members[n]` is a vCPU.
    present: u16,
    members: [u16; 16],
}

/// Finds vCPUs by affinity.
#[derive(Clone, Debug)]
pub(crate) struct AffinityTable {
    /// Sorted by key.
    blocks: Box<[Block]>,
    vcpu_count: usize,
}

impl AffinityTable {
    /// Builds the table of vCPUs 0, 1, … with these affinities.
    pub(crate) fn new(affinities: &[u64]) -> Result<Self, VgicError> {
        if affinities.is_empty() || affinities.len() > MAX_VCPUS {
            return Err(ShapeError::VcpuCount(affinities.len()).into());
        }
        let mut blocks: Vec<Block> = Vec::new();
        for (vcpu, &mpidr) in (0u16..).zip(affinities) {
            let affinity = Affinity::from_mpidr(mpidr).raw();
            let key = affinity >> 4;
            let index = match blocks.binary_search_by_key(&key, |block| block.key) {
                Ok(index) => index,
                Err(index) => {
                    blocks.insert(
                        index,
                        Block {
                            key,
                            present: 0,
                            members: [0; 16],
                        },
                    );
                    index
                }
            };
            let bit = 1 << (affinity & 15);
            let member = blocks
                .get_mut(index)
                .filter(|block| block.present & bit == 0);
            let Some(block) = member else {
                return Err(VgicError::DuplicateAffinity(mpidr));
            };
            block.present |= bit;
            if let Some(member) = block.members.get_mut(affinity as usize & 15) {
                *member = vcpu;
            }
        }
        Ok(Self {
            blocks: blocks.into_boxed_slice(),
            vcpu_count: affinities.len(),
        })
    }

    /// Returns how many vCPUs there are.
    pub(crate) fn vcpu_count(&self) -> usize {
        self.vcpu_count
    }

    /// Returns the vCPU with this affinity.
    pub(crate) fn find(&self, affinity: Affinity) -> Option<u16> {
        self.targets(affinity.raw() >> 4, 1 << (affinity.raw() & 15))
            .next()
    }

    /// Returns the vCPUs named by a list of 16 bits within the block `key`.
    pub(crate) fn targets(&self, key: u32, list: u16) -> impl Iterator<Item = u16> + use<'_> {
        let block = match &*self.blocks {
            // The usual machine has one block: no search.
            [only] => Some(only).filter(|only| only.key == key),
            blocks => {
                let found = blocks.binary_search_by_key(&key, |block| block.key);
                found.ok().and_then(|index| blocks.get(index))
            }
        };
        let named = block.map_or(0, |block| block.present & list);
        arm_vgic_core::set_bits(named.into())
            .filter_map(move |bit| block?.members.get(bit as usize).copied())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn the_affinity_fields_of_mpidr_are_put_together() {
        let mpidr = 0x12_0034_5678;
        assert_eq!(Affinity::from_mpidr(mpidr | 1 << 31).raw(), 0x1234_5678);
    }

    #[test]
    fn vcpus_are_found_by_affinity_and_by_target_list() {
        let table = AffinityTable::new(&[0x100, 0x101, 0x11F, 0x1_0000_0000, 0])
            .expect("the affinities differ");
        assert_eq!(table.find(Affinity::from_mpidr(0x11F)), Some(2));
        assert_eq!(table.find(Affinity::from_mpidr(0x1_0000_0000)), Some(3));
        assert_eq!(table.find(Affinity::from_mpidr(0)), Some(4));
        assert_eq!(table.find(Affinity::from_mpidr(0x10F)), None);
        assert_eq!(table.targets(0x10, 0xFFFF).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(table.targets(0x11, 0x7FFF).count(), 0);
        assert_eq!(table.targets(0x99, 0xFFFF).count(), 0);
    }

    #[test]
    fn impossible_sets_of_vcpus_are_refused() {
        assert_eq!(
            AffinityTable::new(&[]).err(),
            Some(ShapeError::VcpuCount(0).into())
        );
        let many: Vec<u64> = (0..257).collect();
        assert_eq!(
            AffinityTable::new(&many).err(),
            Some(ShapeError::VcpuCount(257).into())
        );
        assert_eq!(
            AffinityTable::new(&[1, 0x8000_0001]).err(),
            Some(VgicError::DuplicateAffinity(0x8000_0001)),
            "bit 31 of MPIDR is no affinity"
        );
    }
}
