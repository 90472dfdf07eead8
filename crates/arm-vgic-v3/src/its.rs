//! A virtual Interrupt Translation Service: from what a device writes to an
//! interrupt of a vCPU.
//!
//! A device that signals by messages says which event of its own has happened.
//! The [`Its`] finds out by tables, which the guest sets up by commands, which
//! LPI that is and which vCPU gets it. Tables and commands lie in the guest's
//! memory; the guest is not trusted with them: everything is copied once and
//! checked whenever it is used, so that the worst it can do is to lose or to
//! invent interrupts of its own.
//!
//! The ITS keeps no pending interrupts and no priorities. Those are the
//! redistributors', which it reaches through the trait [`Redistributors`]: an
//! [`LpiPort`] is those of a [`Vgic`](crate::Vgic). A hypervisor can so lock the
//! vGIC for each operation rather than for a whole queue of commands. Guest memory
//! is read here alone; the vGIC asks for what it needs of it by [`TableRequest`]s,
//! and whoever lets a guest access the redistributors runs the ITS afterwards if
//! there are any ([`Vgic::has_table_request`](crate::Vgic::has_table_request)).
//!
//! # Bounded work
//!
//! No call does more than a fixed number of steps: a command is one; one that
//! concerns all LPIs is one for each 32 of them, and so are the tables of a
//! redistributor. What is left is reported by
//! [`Its::has_work`], and done by [`Its::run`] or the guest's next access; in
//! the meantime GITS_CREADR shows how far the ITS has come. A hypervisor that
//! wants the guest to find the commands done lets it execute its store again as
//! long as there is work.
//!
//! # Choices
//!
//! Where Arm IHI 0069 leaves a choice, this ITS makes the following.
//!
//! | what the guest does | what happens |
//! |---|---|
//! | a command with a wrong field, an unknown one, one outside its memory | it is passed over and counted ([`Its::rejected`]); no stall, no SError |
//! | a write of GITS_CBASER or GITS_BASER while the ITS is enabled or not yet quiescent | it is ignored |
//! | other memory attributes than shareable write-back ones | the fields are fixed: that is how this memory is accessed |
//! | a reserved page size | 64 KiB |
//! | GITS_CWRITER beyond the queue | no commands are processed until it is right again |
//! | an INTID, collection or event beyond what there is in a table | the event is dropped |
//! | a property table that lies outside its memory | the LPIs are disabled |
//! | a CPU's write of GITS_TRANSLATER | it is ignored: it comes from no device |

mod cache;
mod command;
mod entry;
mod execute;
mod frame;
mod lpi_tables;
mod port;
mod redistributors;
mod table;
mod work;

use vm_contract::{GuestMemory, IntId, VcpuId};

pub use command::CommandError;
pub use lpi_tables::{PendingTable, PropertyTable};
pub use port::LpiPort;
pub use redistributors::{Redistributors, TableRequest};

use cache::Cache;
use table::{TableBase, TableKind};
use work::{Job, Queue};

/// The size of the ITS's part of the guest's address space: the frame of its
/// registers and the frame of GITS_TRANSLATER.
pub const FRAMES_BYTES: u64 = 0x2_0000;

/// Where devices write their events, from the start of the frames.
pub const TRANSLATER: u64 = 0x1_0040;

/// How many steps a guest's access to the registers does at most.
pub const STEPS_PER_ACCESS: u32 = 64;

/// What an [`Its`] acts on; it comes with each call.
pub struct ItsContext<'a> {
    /// The memory of the VM.
    pub memory: &'a dyn GuestMemory,
    /// The redistributors of its vGIC.
    pub redistributors: &'a mut dyn Redistributors,
}

/// What an event of a device means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The interrupt: an LPI.
    pub lpi: IntId,
    /// The vCPU that its collection is mapped to.
    pub vcpu: VcpuId,
}

/// An Interrupt Translation Service with 16 bits each for devices, events and
/// collections.
#[derive(Clone, Debug)]
pub struct Its {
    enabled: bool,
    queue: Queue,
    devices: TableBase,
    collections: TableBase,
    cache: Cache,
    job: Option<Job>,
    rejected: u64,
    last_error: Option<CommandError>,
}

impl Its {
    /// Returns an ITS at reset: disabled, without tables.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            enabled: false,
            queue: Queue::NONE,
            devices: TableBase::new(TableKind::Devices),
            collections: TableBase::new(TableKind::Collections),
            cache: Cache::EMPTY,
            job: None,
            rejected: 0,
            last_error: None,
        }
    }

    /// Returns everything to its reset state, together with the vGIC. Work that
    /// is left is forgotten.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// Signals an event of a device, as its write of GITS_TRANSLATER does.
    /// Returns what it means, or `None` if it was dropped: the ITS is disabled,
    /// or the guest has not mapped the event.
    pub fn signal(
        &mut self,
        context: &mut ItsContext<'_>,
        device: u32,
        event: u32,
    ) -> Option<Translation> {
        if !self.enabled {
            return None;
        }
        let found = self.translate(context, device, event).ok()?;
        context.redistributors.set_pending(found.vcpu, found.lpi);
        Some(found)
    }

    /// Tells how many commands have been passed over since reset.
    #[must_use]
    pub const fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Returns why the last command that was passed over was.
    #[must_use]
    pub const fn last_error(&self) -> Option<CommandError> {
        self.last_error
    }
}

impl Default for Its {
    fn default() -> Self {
        Self::new()
    }
}
