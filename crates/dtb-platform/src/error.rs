//! What can be wrong with a tree, a platform or a VM's description.

use alloc::string::String;
use core::fmt;

use thiserror::Error;
use vm_contract::{HostPhysAddrRange, IntId};

/// The bytes are not a device-tree blob that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BlobError {
    /// There are fewer bytes than the header needs, or than it announces.
    #[error("the device tree is truncated")]
    Truncated,
    /// The first four bytes are not the magic number of the format.
    #[error("this is not a device-tree blob: its magic number is wrong")]
    BadMagic,
    /// Written in a version that a reader of version 17 cannot read.
    #[error("the device tree's version is {0}: it must be readable as version 17")]
    Version(u32),
    /// A block of the blob lies outside it, or does not end.
    #[error("the device tree's {0} block lies outside the blob")]
    Block(&'static str),
    /// The structure block breaks the format at this byte of it.
    #[error("the device tree's structure is malformed at byte {0:#x}")]
    Structure(usize),
    /// Nodes are nested deeper than this reader follows.
    #[error("the device tree's nodes are nested deeper than {max}", max = crate::blob::MAX_DEPTH)]
    TooDeep,
}

/// How a property fails its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not there, and it has to be.
    Missing,
    /// It is there, but says something that is not allowed.
    Invalid,
}

/// A property that is missing or says what is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{node}: `{property}` {}: it must be {allowed}", match fault {
    Fault::Missing => "is missing",
    Fault::Invalid => "is invalid",
})]
pub struct PropertyError {
    /// The full path of the node.
    pub node: String,
    /// The name of the property.
    pub property: &'static str,
    /// What is wrong with it.
    pub fault: Fault,
    /// What the property may be, worded to follow "it must be".
    pub allowed: &'static str,
}

/// A host tree that does not describe a machine to run on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// The tree cannot be read at all.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A property of a node that is needed is missing or wrong.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// A node that is needed is missing or disabled; the text says which.
    #[error("the device tree has no enabled {0}")]
    Missing(&'static str),
}

/// A VM's description that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A property is missing or wrong.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// A domain node has no module to start, or more than one.
    #[error(
        "{node}: it must have exactly one module to start, \
         compatible with `multiboot,kernel` or `armature,firmware`"
    )]
    BootModules {
        /// The full path of the domain node.
        node: String,
    },
    /// A domain node has more than one ramdisk.
    #[error("{node}: it must have at most one module compatible with `multiboot,ramdisk`")]
    Ramdisks {
        /// The full path of the domain node.
        node: String,
    },
    /// A property that begins with `armature,` is not known.
    #[error(
        "{node}: `{property}` is not known: it must be {}",
        OneOf { names: known, prefix: "armature," }
    )]
    UnknownProperty {
        /// The full path of the node.
        node: String,
        /// The name of the property.
        property: String,
        /// Those that are known there.
        known: &'static [&'static str],
    },
    /// What is under a domain node is of a kind that is not known, or of more than
    /// one.
    #[error(
        "{node}: `compatible` is {compatible}: it must contain exactly one of \
         `multiboot,kernel`, `multiboot,ramdisk`, `armature,firmware`, `armature,disk` and \
         `armature,net`"
    )]
    PartKind {
        /// The full path of the node under the domain node.
        node: String,
        /// What it is compatible with.
        compatible: String,
    },
    /// Two modules share memory without being the same one, or one of them is a
    /// disk that is written, or one VM uses the same memory for two purposes.
    #[error(
        "{node}: its modules must not overlap {}{}",
        if node == other { "each other" } else { "a part of those of " },
        if node == other { "" } else { other }
    )]
    Overlap {
        /// The full path of a domain node.
        node: String,
        /// The full path of the other one; the same if it collides with itself.
        other: String,
    },
    /// A VM writes what another disk, its own or another VM's, has as well.
    #[error(
        "{node}: its part of the machine's disk {disk} must not overlap that of {}, \
         unless both are read-only",
        if node == other { "another disk of it" } else { other }
    )]
    DiskClash {
        /// The full path of a domain node.
        node: String,
        /// The full path of the other one; the same if it clashes with itself.
        other: String,
        /// The number of the machine's disk.
        disk: u32,
    },
    /// A VM has too many disks or network cards.
    #[error("{node}: it must have at most {most} nodes compatible with `{what}`")]
    TooManyDevices {
        /// The full path of the domain node.
        node: String,
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// All VMs up to this one have more network cards than the switch has ports.
    #[error(
        "{node}: with those of the VMs before it there must be at most {max} network cards",
        max = crate::VmConfig::MAX_PORTS
    )]
    TooManyPorts {
        /// The full path of the domain node.
        node: String,
    },
    /// Two network cards have the same address.
    #[error(
        "{node}: `local-mac-address` is {}: no other network card must have it",
        Mac(mac)
    )]
    DuplicateMac {
        /// The full path of the domain node of the later one.
        node: String,
        /// The address that both have.
        mac: [u8; 6],
    },
    /// There is a second uplink.
    #[error("{node}: at most one node must be compatible with `armature,uplink`")]
    Uplinks {
        /// The full path of the second node.
        node: String,
    },
    /// Two VMs have the same name or the same node.
    #[error("{node}: the name `{name}` must not be that of another VM")]
    DuplicateName {
        /// The full path of the later domain node.
        node: String,
        /// The name that both have.
        name: String,
    },
    /// A VM is to run on a CPU that the machine does not have.
    #[error(
        "{node}: `{property}` names CPU {cpu}: \
         it must name CPUs below {cpu_count}, which is how many there are"
    )]
    NoSuchCpu {
        /// The full path of the domain node.
        node: String,
        /// The name of the property.
        property: &'static str,
        /// The number of the CPU.
        cpu: u32,
        /// How many CPUs the machine has.
        cpu_count: usize,
    },
    /// A VM is to have more memory than the machine.
    #[error(
        "{node}: `memory` is {} KiB: it must be at most {} KiB, which is all that the machine has",
        memory_bytes / 1024,
        machine_bytes / 1024
    )]
    MoreThanAll {
        /// The full path of the domain node.
        node: String,
        /// How much it is to have.
        memory_bytes: u64,
        /// How much the machine has.
        machine_bytes: u64,
    },
    /// A module does not lie in memory.
    #[error(
        "{node}: its module {} must lie within one range of the machine's memory",
        Span(module)
    )]
    ModuleOutside {
        /// The full path of the domain node.
        node: String,
        /// Where it is.
        module: HostPhysAddrRange,
    },
    /// A module lies where something else is.
    #[error(
        "{node}: its module {} must not overlap {what} {}",
        Span(module),
        Span(place)
    )]
    ModuleInTheWay {
        /// The full path of the domain node.
        node: String,
        /// Where it is.
        module: HostPhysAddrRange,
        /// What else is there.
        what: &'static str,
        /// Where that is.
        place: HostPhysAddrRange,
    },
}

/// Writes where something is, the last byte included.
struct Span<'a>(&'a HostPhysAddrRange);

impl fmt::Display for Span<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.0.end.as_usize().saturating_sub(1);
        write!(f, "at {:#x} to {last:#x}", self.0.start.as_usize())
    }
}

/// Writes the address of a network card.
struct Mac<'a>(&'a [u8; 6]);

impl fmt::Display for Mac<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Writes names to choose from, or that there are none with this prefix.
struct OneOf<'a> {
    names: &'a [&'static str],
    prefix: &'a str,
}

impl fmt::Display for OneOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((last, rest)) = self.names.split_last() else {
            return write!(f, "one that does not begin with `{}`", self.prefix);
        };
        for name in rest {
            write!(f, "`{name}`, ")?;
        }
        write!(f, "or `{last}`")
    }
}

/// A device tree that cannot be written.
#[derive(Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The tree to extend cannot be read.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A VM to be described is not described correctly.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tree to extend already has this node.
    #[error("the device tree already has a node {0}")]
    NodeExists(String),
    /// A machine needs at least one vCPU.
    #[error("a guest must have at least one vCPU")]
    NoVcpu,
    /// Two vCPUs have this affinity, or it has bits where MPIDR_EL1 has none.
    #[error("the vCPU affinity {0:#x} is not a valid one of its own")]
    Affinity(u64),
    /// No memory, an empty range of it, or ranges that overlap.
    #[error("a guest's memory must be one or more ranges, none empty and none overlapping")]
    Memory,
    /// The initial ramdisk is not within one range of the memory.
    #[error("the initial ramdisk must lie within the guest's memory")]
    Initrd,
    /// The distributor needs registers for at least one CPU.
    #[error("a guest's GICv3 must have at least one redistributor region")]
    NoRedistributor,
    /// The interrupt cannot be that of a device (SPI) or of a timer (PPI).
    #[error("interrupt {0} is neither a device's SPI nor a timer's PPI")]
    Interrupt(IntId),
    /// A name or a string breaks the rules of the format.
    #[error("the device tree cannot be written: {0}")]
    Format(vm_fdt::Error),
}

impl From<vm_fdt::Error> for TreeError {
    fn from(error: vm_fdt::Error) -> Self {
        Self::Format(error)
    }
}
