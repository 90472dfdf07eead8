//! The machine's disks as all VMs share them.
//!
//! A disk works on many requests at a time, in [slots](SLOT_COUNT): each has a
//! buffer that the hardware reads and writes, so that it never reaches the memory
//! of a guest. Who wants something of the disk is a [`DiskClient`]: one for each
//! virtual disk of a VM. It takes a [`Bounce`] buffer, fills it, and submits it with
//! a command and a tag; when the disk's interrupt says that the request is done,
//! its [`DiskUser`] hears of the tag, and the client collects the buffer.
//!
//! No lock is held while bytes are copied or while a user is told. A client that goes
//! leaves its buffers to the hardware until that is done with them.

mod partitions;
mod ram;
mod slots;

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use spin::Once;
use vm_contract::{VcpuId, VmId};

pub use partitions::{Partition, partitions};
pub use ram::RamDisk;

use crate::lock::{RankedGuard, RankedLock, rank};
use slots::{ClientId, Slots};

/// Bytes of a sector, the unit in which disks are addressed whatever their blocks are.
pub const SECTOR_BYTES: usize = 512;

/// How many requests a disk works on at a time: twice the depth that a guest's driver
/// usually asks for, so that two busy VMs do not wait for each other.
pub const SLOT_COUNT: usize = 64;

/// The most bytes that one request moves. Sixteen pages are what a guest reads ahead
/// at least; more only makes the copies larger than the caches. All buffers of a disk
/// together are 4 MiB.
pub const SLOT_BYTES: usize = 64 << 10;

/// How many slots each client can have whatever the others do.
const GUARANTEED_SLOTS: usize = 4;

/// How many clients a disk has at most: each finds its guaranteed slots.
pub const MAX_CLIENTS: usize = SLOT_COUNT / GUARANTEED_SLOTS;

/// How many users are told of their requests before the lock is taken again.
const EVENT_BATCH: usize = 16;

/// Memory that the hardware may be given.
pub type Buffer = &'static mut [u8];

/// What a request is to do. Sectors are counted from the start of whatever the command
/// is given to: of the view of a client, or of the whole disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Reads the first `bytes` of the buffer from the disk, whole sectors.
    Read {
        /// The first sector.
        sector: u64,
        /// How much: at most [`DiskFacts::max_request_bytes`].
        bytes: usize,
    },
    /// Writes the first `bytes` of the buffer to the disk, whole sectors.
    Write {
        /// The first sector.
        sector: u64,
        /// How much: at most [`DiskFacts::max_request_bytes`].
        bytes: usize,
    },
    /// Makes durable all that was written by requests that are done.
    Flush,
    /// Says that nobody needs what these sectors hold.
    Discard {
        /// The first sector.
        sector: u64,
        /// How many: at most [`DiskFacts::max_discard_sectors`].
        sectors: u32,
    },
    /// Writes zeroes without a buffer.
    WriteZeroes {
        /// The first sector.
        sector: u64,
        /// How many: at most [`DiskFacts::max_zeroes_sectors`].
        sectors: u32,
        /// Whether the disk may forget the sectors instead.
        may_unmap: bool,
    },
}

impl Command {
    /// Returns the sectors that the command concerns: the first, and how many.
    const fn sectors(self) -> Option<(u64, u64)> {
        match self {
            Self::Read { sector, bytes } | Self::Write { sector, bytes } => {
                Some((sector, (bytes / SECTOR_BYTES) as u64))
            }
            Self::Discard { sector, sectors }
            | Self::WriteZeroes {
                sector, sectors, ..
            } => Some((sector, sectors as u64)),
            Self::Flush => None,
        }
    }

    const fn changes_the_disk(self) -> bool {
        !matches!(self, Self::Read { .. } | Self::Flush)
    }

    /// Returns the same for sectors that are `offset` further on.
    const fn moved(mut self, offset: u64) -> Self {
        match &mut self {
            Self::Read { sector, .. }
            | Self::Write { sector, .. }
            | Self::Discard { sector, .. }
            | Self::WriteZeroes { sector, .. } => *sector += offset,
            Self::Flush => {}
        }
        self
    }
}

/// Why a disk did not do what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// The disk says that it could not.
    #[error("the disk reports an error")]
    Io,
    /// The disk does not know such requests.
    #[error("the disk does not do that")]
    Unsupported,
    /// The command leaves the client's view of the disk, writes where the client may
    /// only read, or does not fit into a request.
    #[error("the request is outside of what the client has of the disk")]
    Refused,
    /// The disk has broken the rules and is not used any more.
    #[error("the disk does not work any more")]
    Broken,
}

/// What a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFacts {
    /// Its size.
    pub capacity_sectors: u64,
    /// Whether it can only be read.
    pub is_read_only: bool,
    /// Bytes of the blocks in which it is best addressed.
    pub block_bytes: u32,
    /// The most bytes of one read or write: at most [`SLOT_BYTES`], whole sectors.
    pub max_request_bytes: usize,
    /// The most sectors that one request discards; 0 if it does not do that.
    pub max_discard_sectors: u32,
    /// The most sectors that one request zeroes; 0 if it does not do that.
    pub max_zeroes_sectors: u32,
}

/// A request that the hardware is done with.
pub struct Finished {
    /// The slot in which it was started.
    pub slot: usize,
    /// The buffer that came with it.
    pub buffer: Buffer,
    /// What became of it.
    pub result: Result<(), DiskError>,
}

/// What drives a disk.
pub trait DiskHardware: Send {
    /// Returns what the disk is.
    fn facts(&self) -> DiskFacts;

    /// Starts a request in a slot, below [`SLOT_COUNT`], that has none. The buffer
    /// belongs to the hardware until [`take_finished`](Self::take_finished) returns it.
    ///
    /// # Errors
    /// The buffer, if the disk does not work any more.
    fn start(&mut self, slot: usize, command: Command, buffer: Buffer) -> Result<(), Buffer>;

    /// Takes back the disk's interrupt. Requests that end from now on raise it again.
    fn acknowledge(&mut self);

    /// Returns a request that is done, each once, in any order.
    fn take_finished(&mut self) -> Option<Finished>;
}

/// By which a client knows its request again.
pub type Tag = u64;

/// What a disk tells its users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskEvent {
    /// The request with this tag is done: [`DiskClient::collect`] has its outcome,
    /// unless the client has abandoned it meanwhile.
    Done(Tag),
    /// [`DiskClient::begin`] had nothing to give, and now it may have.
    Room,
}

/// Somebody with virtual disks, who hears of what becomes of their requests. It is told
/// without any lock held.
pub trait DiskUser: Send + Sync {
    /// Takes note of an event for its disk number `disk`. `current` is the vCPU on whose
    /// behalf this CPU acts.
    fn disk_event(&self, disk: usize, event: DiskEvent, current: Option<(VmId, VcpuId)>);
}

/// The part of a disk that a client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskView {
    /// Its first sector.
    pub first_sector: u64,
    /// How many there are.
    pub sectors: u64,
    /// Whether they can only be read.
    pub is_read_only: bool,
}

impl DiskView {
    /// Returns the command for the whole disk that does what `command` wants of the view.
    fn translate(&self, command: Command, facts: &DiskFacts) -> Result<Command, DiskError> {
        if command.changes_the_disk() && self.is_read_only {
            return Err(DiskError::Refused);
        }
        let fits = match command {
            Command::Read { bytes, .. } | Command::Write { bytes, .. } => {
                bytes > 0 && bytes <= facts.max_request_bytes && bytes.is_multiple_of(SECTOR_BYTES)
            }
            Command::Flush => true,
            Command::Discard { sectors, .. } => sectors > 0 && sectors <= facts.max_discard_sectors,
            Command::WriteZeroes { sectors, .. } => {
                sectors > 0 && sectors <= facts.max_zeroes_sectors
            }
        };
        let ends = command
            .sectors()
            .map_or(Some(0), |(first, count)| first.checked_add(count));
        match ends {
            Some(end) if fits && end <= self.sectors => Ok(command.moved(self.first_sector)),
            _ => Err(DiskError::Refused),
        }
    }
}

/// Why nobody can have a part of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The part is not on the disk, or is empty.
    #[error("the disk ends at sector {0}")]
    OutsideDisk(u64),
    /// There are [`MAX_CLIENTS`] already.
    #[error("{MAX_CLIENTS} virtual disks are on it already")]
    TooManyClients,
}

/// A disk of the machine.
pub struct HostDisk {
    facts: DiskFacts,
    slots: RankedLock<Slots, { rank::HOST_DISK }>,
    partitions: Once<Vec<Partition>>,
}

impl HostDisk {
    /// Takes over a disk with buffers for its slots, each of [`SLOT_BYTES`]. Those beyond
    /// [`SLOT_COUNT`] are not used.
    #[must_use]
    pub fn new(hardware: Box<dyn DiskHardware>, buffers: Vec<Buffer>) -> Self {
        Self {
            facts: hardware.facts(),
            slots: RankedLock::new(Slots::new(hardware, buffers)),
            partitions: Once::new(),
        }
    }

    /// Returns what the disk is.
    #[must_use]
    pub const fn facts(&self) -> &DiskFacts {
        &self.facts
    }

    /// Returns a view of the whole disk.
    #[must_use]
    pub const fn whole(&self) -> DiskView {
        DiskView {
            first_sector: 0,
            sectors: self.facts.capacity_sectors,
            is_read_only: self.facts.is_read_only,
        }
    }

    /// Gives somebody a part of the disk.
    ///
    /// # Errors
    /// [`AttachError`]
    pub fn attach(self: &Arc<Self>, view: DiskView) -> Result<DiskClient, AttachError> {
        let capacity = self.facts.capacity_sectors;
        let end = view.first_sector.checked_add(view.sectors);
        if view.sectors == 0 || end.is_none_or(|end| end > capacity) {
            return Err(AttachError::OutsideDisk(capacity));
        }
        let id = self.lock().attach().ok_or(AttachError::TooManyClients)?;
        Ok(DiskClient {
            disk: Arc::clone(self),
            id,
            view: DiskView {
                is_read_only: view.is_read_only || self.facts.is_read_only,
                ..view
            },
        })
    }

    /// Answers the disk's interrupt: tells the users whose requests are done, and those
    /// who waited for a slot. `current` is the vCPU on whose behalf this CPU acts.
    pub fn service(&self, current: Option<(VmId, VcpuId)>) {
        self.lock().acknowledge();
        // What was done before that is seen now; more than there are slots it cannot be.
        let mut left = SLOT_COUNT;
        while left > 0 {
            let mut calls = [const { None }; EVENT_BATCH];
            let most = left.min(EVENT_BATCH);
            let mut taken = 0;
            {
                let mut slots = self.lock();
                while taken < most
                    && let Some(call) = slots.take_finished()
                {
                    if let Some(place) = calls.get_mut(taken) {
                        *place = call;
                    }
                    taken += 1;
                }
            }
            for call in calls.into_iter().flatten() {
                call.make(current);
            }
            if taken < most {
                break;
            }
            left -= taken;
        }
        for _ in 0..MAX_CLIENTS {
            let Some(call) = self.lock().take_waiting() else {
                break;
            };
            call.make(current);
        }
    }

    fn lock(&self) -> RankedGuard<'_, Slots, { rank::HOST_DISK }> {
        self.slots.lock()
    }
}

/// A user who is to hear of something.
struct Call {
    user: Arc<dyn DiskUser>,
    disk: usize,
    event: DiskEvent,
}

impl Call {
    fn make(self, current: Option<(VmId, VcpuId)>) {
        self.user.disk_event(self.disk, self.event, current);
    }
}

/// Somebody's part of a disk. Dropped, it leaves the disk; what the hardware is still
/// at remains the hardware's until it is done.
pub struct DiskClient {
    disk: Arc<HostDisk>,
    id: ClientId,
    view: DiskView,
}

impl DiskClient {
    /// Returns the disk.
    #[must_use]
    pub const fn disk(&self) -> &Arc<HostDisk> {
        &self.disk
    }

    /// Returns which part of it this is.
    #[must_use]
    pub const fn view(&self) -> &DiskView {
        &self.view
    }

    /// Says who is to hear of events, as its disk number `number`.
    pub fn listen(&self, user: Weak<dyn DiskUser>, number: usize) {
        self.disk.lock().listen(self.id, user, number);
    }

    /// Takes a buffer for a request. `None` if there is none for now: an event follows,
    /// for a request of this client that is done or for the room that it left.
    #[must_use]
    pub fn begin(&self) -> Option<Bounce<'_>> {
        let (slot, buffer) = self.disk.lock().begin(self.id)?;
        Some(Bounce {
            client: self,
            slot,
            buffer: Some(buffer),
        })
    }

    /// Takes the outcome of the request with this tag, if it is done.
    #[must_use]
    pub fn collect(&self, tag: Tag) -> Option<Outcome<'_>> {
        let (slot, buffer, command, result) = self.disk.lock().collect(self.id, tag)?;
        let bounce = Bounce {
            client: self,
            slot,
            buffer: Some(buffer),
        };
        Some(Outcome {
            bounce,
            command,
            result,
        })
    }

    /// Forgets the request with this tag. If the hardware is at it, its slot counts as
    /// the client's until that is done.
    pub fn abandon(&self, tag: Tag) {
        self.disk.lock().abandon(self.id, tag);
    }
}

impl Drop for DiskClient {
    fn drop(&mut self) {
        self.disk.lock().detach(self.id);
    }
}

/// What became of a request.
pub struct Outcome<'a> {
    /// Its buffer: what it has read, unless it failed.
    pub bounce: Bounce<'a>,
    /// What it was to do, as the disk was told.
    pub command: Command,
    /// Whether it did.
    pub result: Result<(), DiskError>,
}

/// A buffer of the disk in the hands of a client: its bytes are those of a request that
/// is to be submitted, or that is done. Dropped, it goes back.
pub struct Bounce<'a> {
    client: &'a DiskClient,
    slot: usize,
    /// Until it is submitted.
    buffer: Option<Buffer>,
}

impl Bounce<'_> {
    /// Starts a request with this buffer. `command` counts sectors from the start of the
    /// client's view.
    ///
    /// # Errors
    /// [`DiskError::Refused`] if the client may not, [`DiskError::Broken`]; nobody hears
    /// of the tag then.
    pub fn submit(mut self, command: Command, tag: Tag) -> Result<(), DiskError> {
        let DiskClient { disk, view, id } = self.client;
        let command = view.translate(command, &disk.facts)?;
        let Some(buffer) = self.buffer.take() else {
            return Ok(());
        };
        disk.lock().start(*id, self.slot, command, tag, buffer)
    }
}

impl Deref for Bounce<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Bounce<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.buffer.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for Bounce<'_> {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            let client = self.client;
            client.disk.lock().give_back(client.id, self.slot, buffer);
        }
    }
}

#[cfg(test)]
mod tests;
