//! One request of a driver (VirtIO 1.2, 5.2.6): what it asks, and how far it is.

use vm_contract::GuestMemory;

use super::backend::{BlockBackend, BlockError, BlockOperation, SECTOR_BYTES};
use super::layout::{MOST_RANGE_SECTORS, request_type};
use crate::{Chain, DataBuffers, DriverFault};

/// The type, a reserved word and the sector.
const HEADER_BYTES: usize = 16;
/// The sector, the number of sectors and the flags of a discard.
const RANGE_BYTES: usize = 16;
/// Where the data of a write starts.
const PAYLOAD: u64 = HEADER_BYTES as u64;
/// The flag of a range that asks to give the space up.
const UNMAP: u32 = 1;
/// The most that is moved at once, so that a call does not go on for too long.
const MOST_PART_BYTES: u64 = 1 << 20;

/// How a request ends, in its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    Ok = 0,
    Io = 1,
    Unsupported = 2,
}

impl From<Result<(), BlockError>> for Status {
    fn from(result: Result<(), BlockError>) -> Self {
        match result {
            Ok(()) => Self::Ok,
            Err(BlockError::Io) => Self::Io,
            Err(BlockError::Unsupported) => Self::Unsupported,
        }
    }
}

/// What is to be done about a request.
pub(super) enum Plan {
    /// It has its answer: this, after so many bytes of data.
    Answer(Status, u64),
    /// The backend has to do it.
    Run(Job),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes { may_unmap: bool },
}

/// A request on its way through the backend, part by part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    kind: Kind,
    sector: u64,
    bytes: u64,
    done: u64,
    /// Whether a flush follows, as the driver believes that what it has written
    /// is durable.
    then_flush: bool,
}

impl Job {
    /// A job of no slot.
    pub(super) const NONE: Self = Self::new(Kind::Flush, 0, 0);

    const fn new(kind: Kind, sector: u64, bytes: u64) -> Self {
        Self {
            kind,
            sector,
            bytes,
            done: 0,
            then_flush: false,
        }
    }

    /// Reads the header of `chain`, once, and checks the request.
    pub(super) fn plan(
        chain: &Chain,
        memory: &dyn GuestMemory,
        disk: &impl BlockBackend,
        write_through: bool,
    ) -> Result<Plan, DriverFault> {
        let readable = chain.readable(memory);
        let Some(room) = chain.writable(memory).len().checked_sub(1) else {
            return Err(DriverFault::Request);
        };
        let Some(payload) = readable.len().checked_sub(PAYLOAD) else {
            return Err(DriverFault::Request);
        };
        let mut header = [0; HEADER_BYTES];
        readable.read_at(0, &mut header)?;
        let (request, sector) = split(header);
        Ok(match request {
            request_type::IN => moved(Self::new(Kind::Read, sector, room), disk),
            request_type::OUT => {
                let mut job = Self::new(Kind::Write, sector, payload);
                job.then_flush = write_through;
                moved(job, disk)
            }
            request_type::FLUSH => Plan::Run(Self::new(Kind::Flush, 0, 0)),
            request_type::GET_ID => {
                let identity = disk.identity();
                let len = room.min(identity.len() as u64);
                let bytes = usize::try_from(len)
                    .ok()
                    .and_then(|len| identity.get(..len));
                let target = chain.writable(memory);
                match target.write_at(0, bytes.unwrap_or_default()) {
                    Ok(()) => Plan::Answer(Status::Ok, len),
                    Err(_) => Plan::Answer(Status::Io, 0),
                }
            }
            request_type::DISCARD if disk.discards() => {
                Self::range(false, &readable, payload, disk)
            }
            request_type::WRITE_ZEROES if disk.writes_zeroes() => {
                Self::range(true, &readable, payload, disk)
            }
            _ => Plan::Answer(Status::Unsupported, 0),
        })
    }

    /// Checks a discard or a write of zeros: one range, as the configuration
    /// space says.
    fn range(
        zeroes: bool,
        readable: &DataBuffers<'_>,
        payload: u64,
        disk: &impl BlockBackend,
    ) -> Plan {
        let mut range = [0; RANGE_BYTES];
        if payload != RANGE_BYTES as u64 || readable.read_at(PAYLOAD, &mut range).is_err() {
            return Plan::Answer(Status::Io, 0);
        }
        let whole = u128::from_le_bytes(range);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "each field is cut out of the whole"
        )]
        let (sector, sectors, flags) = (whole as u64, (whole >> 64) as u32, (whole >> 96) as u32);
        let may_unmap = flags & UNMAP != 0;
        // Clause 5.2.6.2: flags that are not known, and a discard that unmaps.
        if flags & !UNMAP != 0 || (may_unmap && !zeroes) {
            return Plan::Answer(Status::Unsupported, 0);
        }
        if sectors > MOST_RANGE_SECTORS {
            return Plan::Answer(Status::Io, 0);
        }
        let kind = if zeroes {
            Kind::WriteZeroes { may_unmap }
        } else {
            Kind::Discard
        };
        moved(
            Self::new(kind, sector, u64::from(sectors) * SECTOR_BYTES),
            disk,
        )
    }

    /// Returns what the backend is to do next, and with which part of the data.
    pub(super) fn part<'a>(
        &self,
        chain: &'a Chain,
        memory: &'a dyn GuestMemory,
        max_bytes: u32,
    ) -> (BlockOperation, DataBuffers<'a>) {
        let sector = self.sector + self.done / SECTOR_BYTES;
        let sectors = u32::try_from(self.bytes / SECTOR_BYTES).unwrap_or(u32::MAX);
        let none = DataBuffers::new(memory, &[]);
        match self.kind {
            Kind::Read => {
                let data = chain
                    .writable(memory)
                    .slice(self.done, self.part_bytes(max_bytes));
                (BlockOperation::Read { sector }, data.unwrap_or(none))
            }
            Kind::Write => {
                let start = PAYLOAD + self.done;
                let data = chain
                    .readable(memory)
                    .slice(start, self.part_bytes(max_bytes));
                (BlockOperation::Write { sector }, data.unwrap_or(none))
            }
            Kind::Flush => (BlockOperation::Flush, none),
            Kind::Discard => (BlockOperation::Discard { sector, sectors }, none),
            Kind::WriteZeroes { may_unmap } => (
                BlockOperation::WriteZeroes {
                    sector,
                    sectors,
                    may_unmap,
                },
                none,
            ),
        }
    }

    /// Returns how many bytes the next part moves or covers.
    pub(super) fn part_bytes(&self, max_bytes: u32) -> u64 {
        let rest = self.bytes - self.done;
        match self.kind {
            Kind::Read | Kind::Write => {
                let most = u64::from(max_bytes).min(MOST_PART_BYTES) / SECTOR_BYTES * SECTOR_BYTES;
                rest.min(most.max(SECTOR_BYTES))
            }
            Kind::Flush | Kind::Discard | Kind::WriteZeroes { .. } => rest,
        }
    }

    /// Notes that a part is done. Returns whether that was the last one.
    pub(super) fn advance(&mut self, max_bytes: u32) -> bool {
        self.done += self.part_bytes(max_bytes);
        if self.done < self.bytes {
            return false;
        }
        if self.then_flush {
            *self = Self::new(Kind::Flush, 0, 0);
            return false;
        }
        true
    }

    /// Returns how many bytes of data the driver has got.
    pub(super) fn bytes_read(&self) -> u64 {
        match self.kind {
            Kind::Read => self.done,
            _ => 0,
        }
    }
}

/// Checks the range of a job, and that it may change the disk if it does.
fn moved(job: Job, disk: &impl BlockBackend) -> Plan {
    let end = job.sector.checked_add(job.bytes / SECTOR_BYTES);
    let fits = end.is_some_and(|end| end <= disk.capacity_sectors());
    let allowed = job.kind == Kind::Read || !disk.is_read_only();
    if !fits || !allowed || !job.bytes.is_multiple_of(SECTOR_BYTES) {
        Plan::Answer(Status::Io, 0)
    } else if job.bytes == 0 {
        Plan::Answer(Status::Ok, 0)
    } else {
        Plan::Run(job)
    }
}

fn split(header: [u8; 16]) -> (u32, u64) {
    let whole = u128::from_le_bytes(header);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each field is cut out of the whole"
    )]
    let fields = (whole as u32, (whole >> 64) as u64);
    fields
}
