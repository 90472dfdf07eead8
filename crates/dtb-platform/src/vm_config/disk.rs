//! The disks of a VM: what is behind each, read, checked and written.

use vm_contract::HostPhysAddrRange;

use super::read::{check_properties, range};
use super::{DISK, allowed, module_node, property};
use crate::tree::Node;
use crate::{ConfigError, RawNode};

/// A disk of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// Where its contents are.
    pub source: DiskSource,
    /// Whether the VM can only read it.
    pub read_only: bool,
}

/// Where the contents of a VM's disk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskSource {
    /// On a disk of the machine.
    Host {
        /// Which of the machine's block devices that is: they are counted from 0
        /// by ascending address.
        disk: u32,
        /// How much of it the VM has.
        part: DiskPart,
    },
    /// In memory, in a module that the boot loader has put there: whole sectors.
    /// What the VM writes there lasts until the machine is off.
    Module(HostPhysAddrRange),
}

/// How much of a disk of the machine a VM has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskPart {
    /// All of it.
    Whole,
    /// Some sectors in a row.
    Sectors {
        /// The number of the first.
        first: u64,
        /// How many there are: at least one.
        count: u64,
    },
    /// The partition with this number, which is at least 1.
    Partition(u32),
}

impl DiskPart {
    /// Tells whether two parts of one disk may have a sector in common. Of a
    /// partition only the disk knows where it is.
    #[must_use]
    pub const fn may_overlap(self, other: Self) -> bool {
        match (self, other) {
            (
                Self::Sectors { first, count },
                Self::Sectors {
                    first: other_first,
                    count: other_count,
                },
            ) => {
                first < other_first.saturating_add(other_count)
                    && other_first < first.saturating_add(count)
            }
            (Self::Partition(number), Self::Partition(other)) => number == other,
            _ => true,
        }
    }
}

impl DiskConfig {
    /// The bytes of a sector, in which disks are measured (VirtIO 1.2, 5.2.4).
    pub const SECTOR_BYTES: usize = 512;

    /// Returns the module that the disk is in, if it is in one.
    pub(super) fn module(&self) -> Option<HostPhysAddrRange> {
        match self.source {
            DiskSource::Module(range) => Some(range),
            DiskSource::Host { .. } => None,
        }
    }

    /// Returns the number of the machine's disk of which it and `other` both have
    /// a part that one of them writes.
    pub(super) fn clash(&self, other: &Self) -> Option<u32> {
        let (
            DiskSource::Host { disk, part },
            DiskSource::Host {
                disk: same,
                part: theirs,
            },
        ) = (self.source, other.source)
        else {
            return None;
        };
        let written = !(self.read_only && other.read_only);
        (disk == same && written && part.may_overlap(theirs)).then_some(disk)
    }

    /// Checks it by itself. What is wrong is a property, and comes with what that
    /// may be.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        match self.source {
            DiskSource::Host {
                part: DiskPart::Sectors { first, count },
                ..
            } if count == 0 || first.checked_add(count).is_none() => {
                Err((property::SECTORS, allowed::SECTORS))
            }
            DiskSource::Host {
                part: DiskPart::Partition(0),
                ..
            } => Err((property::PARTITION, allowed::PARTITION)),
            DiskSource::Module(range)
                if range.is_empty() || !range.size().is_multiple_of(Self::SECTOR_BYTES) =>
            {
                Err((property::REG, allowed::DISK_MODULE))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn read(node: Node<'_, '_>) -> Result<Self, ConfigError> {
        use property::{HOST_DISK, PARTITION, READ_ONLY, SECTORS};
        check_properties(node, &[HOST_DISK, SECTORS, PARTITION, READ_ONLY])?;
        let disk = node.word(HOST_DISK, allowed::HOST_DISK)?;
        let sectors = node.words(SECTORS, allowed::SECTORS)?;
        let partition = node.word(PARTITION, allowed::PARTITION)?;
        let part = match (sectors.as_deref(), partition) {
            (None, None) => DiskPart::Whole,
            (None, Some(number)) => DiskPart::Partition(number),
            (Some(&[first_high, first, count_high, count]), None) => DiskPart::Sectors {
                first: double(first_high, first),
                count: double(count_high, count),
            },
            (Some(_), None) => return Err(node.invalid(SECTORS, allowed::SECTORS).into()),
            (Some(_), Some(_)) => return Err(node.invalid(PARTITION, allowed::NO_PART).into()),
        };
        let source = match (disk, node.property(property::REG)) {
            (Some(disk), None) => DiskSource::Host { disk, part },
            (None, Some(_)) if part == DiskPart::Whole => DiskSource::Module(range(node)?),
            (None, Some(_)) => return Err(node.invalid(property::REG, allowed::NO_REG).into()),
            (Some(_), Some(_)) => {
                return Err(node.invalid(HOST_DISK, allowed::NO_HOST_DISK).into());
            }
            (None, None) => return Err(node.missing(HOST_DISK, allowed::SOURCE).into()),
        };
        Ok(Self {
            source,
            read_only: node.flag(READ_ONLY)?,
        })
    }

    /// Makes the node that describes it, the one with this number.
    pub(crate) fn node(&self, number: usize) -> RawNode {
        let name = alloc::format!("disk{number}");
        let mut node = match self.source {
            DiskSource::Module(range) => module_node(&name, DISK, range),
            DiskSource::Host { disk, part } => {
                let mut node = RawNode::new(name);
                node.set_text("compatible", DISK);
                node.set_words(property::HOST_DISK, &[disk]);
                match part {
                    DiskPart::Whole => {}
                    DiskPart::Sectors { first, count } => {
                        let words = [first, count].map(u64::to_be_bytes);
                        node.set(property::SECTORS, words.as_flattened());
                    }
                    DiskPart::Partition(number) => node.set_words(property::PARTITION, &[number]),
                }
                node
            }
        };
        if self.read_only {
            node.set(property::READ_ONLY, &[]);
        }
        node
    }
}

fn double(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}
