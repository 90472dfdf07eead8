//! The tree of one guest: its root, the walk down it, and its end.

use core::ops::Range;

use vm_contract::{GuestPhysAddr, HostPhysAddr};

use crate::attributes::Attributes;
use crate::config::Stage2Config;
use crate::debt::Account;
use crate::descriptor::Descriptor;
use crate::error::MapError;
use crate::level::{ENTRIES, LeafSize, PAGE_BYTES, shift, span};
use crate::table_mem::{TableChain, TableMem};
use crate::tlb::Stage2Tlb;
use crate::vmid::HwVmid;

/// The stage-2 translation of one guest.
///
/// Every operation is all or nothing: one that fails has changed nothing. Each
/// table below the root holds at least one valid entry.
///
/// Dropping a `Stage2` leaks its tables, since the hardware may still walk
/// them; [`destroy`](Self::destroy) ends it properly.
#[derive(Debug)]
pub struct Stage2<M: TableMem> {
    pub(crate) memory: M,
    pub(crate) account: Account,
    config: Stage2Config,
    vmid: HwVmid,
    root: HostPhysAddr,
    /// How many tables hang below the root.
    pub(crate) tables: usize,
}

/// What a guest physical address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The physical address.
    pub pa: HostPhysAddr,
    /// What the leaf says besides its address.
    pub attributes: Attributes,
    /// The size of the leaf.
    pub leaf: LeafSize,
    /// How many bytes from the address on this leaf covers, at least 1.
    pub remaining_bytes: usize,
}

/// The entry that decides about an address: a leaf, or an invalid one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) table: HostPhysAddr,
    pub(crate) index: usize,
    pub(crate) level: u8,
    /// The first address that the entry spans.
    pub(crate) base: usize,
    pub(crate) entry: Descriptor,
}

impl Slot {
    /// Returns one past the last address that the entry spans.
    pub(crate) const fn end(&self) -> usize {
        self.base + span(self.level)
    }

    /// Returns the addresses that the entry spans.
    pub(crate) const fn range(&self) -> Range<usize> {
        self.base..self.end()
    }

    /// Tells whether the entry is a block or a page.
    pub(crate) fn is_leaf(&self) -> bool {
        self.entry.is_leaf(self.level)
    }

    /// Returns the size that leaves have at this level.
    pub(crate) const fn leaf_size(&self) -> LeafSize {
        LeafSize::at_level(self.level)
    }
}

impl<M: TableMem> Stage2<M> {
    /// Makes the stage 2 of a guest to which nothing is mapped yet.
    ///
    /// # Errors
    /// [`MapError::OutOfTables`] without frames for the root, and
    /// [`MapError::VmidTooWide`] if `vmid` does not fit the configuration.
    pub fn new(mut memory: M, config: Stage2Config, vmid: HwVmid) -> Result<Self, MapError> {
        if usize::from(vmid.raw()) >= config.vmid_size().count() {
            return Err(MapError::VmidTooWide);
        }
        let root = memory
            .allocate(config.root_frames())
            .ok_or(MapError::OutOfTables)?;
        Ok(Self {
            memory,
            account: Account::default(),
            config,
            vmid,
            root,
            tables: 0,
        })
    }

    /// Returns where `ipa` leads, or `None` if nothing is mapped there.
    #[must_use]
    pub fn translate(&self, ipa: GuestPhysAddr) -> Option<Translation> {
        let ipa = usize::from(ipa);
        if ipa >= self.config.ipa_end() {
            return None;
        }
        let slot = self.locate(ipa);
        slot.is_leaf().then(|| Translation {
            pa: slot.entry.address() + (ipa - slot.base),
            attributes: slot.entry.attributes(),
            leaf: slot.leaf_size(),
            remaining_bytes: slot.end() - ipa,
        })
    }

    /// Returns the value for VTTBR_EL2: the VMID and the root, not common
    /// between CPUs (CnP = 0).
    #[must_use]
    pub fn vttbr(&self) -> u64 {
        self.vmid.vttbr_bits() | usize::from(self.root) as u64
    }

    /// Returns where the root lies.
    #[must_use]
    pub const fn root(&self) -> HostPhysAddr {
        self.root
    }

    /// Returns the VMID.
    #[must_use]
    pub const fn vmid(&self) -> HwVmid {
        self.vmid
    }

    /// Returns the geometry.
    #[must_use]
    pub const fn config(&self) -> &Stage2Config {
        &self.config
    }

    /// Returns the memory that holds the tables.
    #[must_use]
    pub const fn memory(&self) -> &M {
        &self.memory
    }

    /// Takes the guest apart: forgets every mapping, removes all that the TLBs
    /// hold of it, frees all tables and returns the memory that held them. The
    /// VMID may serve another guest then.
    ///
    /// No CPU may run the guest any more.
    pub fn destroy(mut self, tlb: &mut impl Stage2Tlb) -> M {
        let mut retired = TableChain::default();
        for index in 0..self.config.root_entries() {
            let entry = self.entry(self.root, index);
            self.memory
                .write(self.root, index, Descriptor::INVALID.raw());
            self.retire_tree(&mut retired, entry, self.config.start_level());
        }
        tlb.invalidate_all(self.vttbr());
        retired.release(&mut self.memory);
        self.account.release(&mut self.memory);
        self.memory.free(self.root, self.config.root_frames());
        self.memory
    }

    /// Chains the table that `entry` at `level` points to, and all below it.
    /// Goes down at most three levels.
    fn retire_tree(&mut self, retired: &mut TableChain, entry: Descriptor, level: u8) {
        if let Some(table) = entry.next_table(level) {
            for index in 0..ENTRIES {
                let below = self.entry(table, index);
                self.retire_tree(retired, below, level + 1);
            }
            retired.push(&mut self.memory, table);
        }
    }

    /// Finds the entry that decides about `ipa`, which lies in the address
    /// space.
    pub(crate) fn locate(&self, ipa: usize) -> Slot {
        self.locate_with_parent(ipa).0
    }

    /// As [`locate`](Self::locate), together with the entry that points to its
    /// table unless that is the root.
    pub(crate) fn locate_with_parent(&self, ipa: usize) -> (Slot, Option<Slot>) {
        let level = self.config.start_level();
        let mut slot = self.slot(self.root, self.config.root_entries(), level, ipa);
        let mut parent = None;
        while let Some(table) = slot.entry.next_table(slot.level) {
            parent = Some(slot);
            slot = self.slot(table, ENTRIES, slot.level + 1, ipa);
        }
        (slot, parent)
    }

    fn slot(&self, table: HostPhysAddr, entries: usize, level: u8, ipa: usize) -> Slot {
        let index = ipa >> shift(level) & (entries - 1);
        Slot {
            table,
            index,
            level,
            base: ipa & !(span(level) - 1),
            entry: self.entry(table, index),
        }
    }

    pub(crate) fn entry(&self, table: HostPhysAddr, index: usize) -> Descriptor {
        Descriptor::from_raw(self.memory.read(table, index))
    }

    /// Replaces the entry in `slot`.
    pub(crate) fn store(&mut self, slot: &Slot, entry: Descriptor) {
        self.memory.write(slot.table, slot.index, entry.raw());
    }

    /// Allocates `count` tables, or none.
    pub(crate) fn reserve(&mut self, count: usize) -> Result<TableChain, MapError> {
        let mut reserve = TableChain::default();
        for _ in 0..count {
            let Some(table) = self.memory.allocate(1) else {
                reserve.release(&mut self.memory);
                return Err(MapError::OutOfTables);
            };
            reserve.push(&mut self.memory, table);
        }
        Ok(reserve)
    }

    /// Checks a range of guest physical addresses.
    pub(crate) fn checked_range(
        &self,
        ipa: GuestPhysAddr,
        size_bytes: u64,
    ) -> Result<Range<usize>, MapError> {
        checked_range(
            ipa.into(),
            size_bytes,
            self.config.ipa_end(),
            MapError::OutsideIpaSpace,
        )
    }

    /// Checks a range of physical addresses and returns its start.
    pub(crate) fn checked_output(
        &self,
        pa: HostPhysAddr,
        size_bytes: u64,
    ) -> Result<usize, MapError> {
        checked_range(
            pa.into(),
            size_bytes,
            self.config.pa_end(),
            MapError::OutsidePaSpace,
        )
        .map(|range| range.start)
    }

    /// Checks that every address of `range` is mapped.
    pub(crate) fn check_mapped(&self, range: &Range<usize>) -> Result<(), MapError> {
        let mut at = range.start;
        while at < range.end {
            let slot = self.locate(at);
            if !slot.is_leaf() {
                return Err(MapError::NotMapped(at.into()));
            }
            at = slot.end();
        }
        Ok(())
    }
}

fn checked_range(
    start: usize,
    size_bytes: u64,
    space_end: usize,
    outside: MapError,
) -> Result<Range<usize>, MapError> {
    let size = usize::try_from(size_bytes).map_err(|_| outside)?;
    if size == 0 {
        return Err(MapError::Empty);
    }
    if !(start | size).is_multiple_of(PAGE_BYTES) {
        return Err(MapError::Misaligned);
    }
    match start.checked_add(size) {
        Some(end) if end <= space_end => Ok(start..end),
        _ => Err(outside),
    }
}
