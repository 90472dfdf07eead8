//! Looking at a whole tree.

use vm_contract::GuestPhysAddr;

use crate::level::LeafSize;
use crate::table::{Stage2, Translation};
use crate::table_mem::TableMem;

/// One leaf of the tree and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The first guest physical address of the leaf.
    pub ipa: GuestPhysAddr,
    /// What it leads to.
    pub translation: Translation,
}

/// The leaves of a tree in ascending order; see [`Stage2::leaves`].
#[derive(Debug)]
pub struct Leaves<'a, M: TableMem> {
    stage2: &'a Stage2<M>,
    at: usize,
}

impl<M: TableMem> Iterator for Leaves<'_, M> {
    type Item = Leaf;

    fn next(&mut self) -> Option<Leaf> {
        while self.at < self.stage2.config().ipa_end() {
            let ipa = GuestPhysAddr::from_usize(self.at);
            self.at = self.stage2.locate(self.at).end();
            if let Some(translation) = self.stage2.translate(ipa) {
                return Some(Leaf { ipa, translation });
            }
        }
        None
    }
}

/// How a tree is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Leaves of 4 KiB.
    pub pages: usize,
    /// Leaves of 2 MiB.
    pub blocks_2mib: usize,
    /// Leaves of 1 GiB.
    pub blocks_1gib: usize,
    /// Frames that hold tables, the root's among them.
    pub table_frames: usize,
}

impl<M: TableMem> Stage2<M> {
    /// Returns the leaves in ascending order of guest physical addresses.
    #[must_use]
    pub const fn leaves(&self) -> Leaves<'_, M> {
        Leaves {
            stage2: self,
            at: 0,
        }
    }

    /// Counts leaves and tables.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage {
            table_frames: self.config().root_frames() + self.tables,
            ..Usage::default()
        };
        for leaf in self.leaves() {
            *match leaf.translation.leaf {
                LeafSize::Page => &mut usage.pages,
                LeafSize::Block2MiB => &mut usage.blocks_2mib,
                LeafSize::Block1GiB => &mut usage.blocks_1gib,
            } += 1;
        }
        usage
    }
}
