//! What lies behind a block device.

use thiserror::Error;
use vm_contract::AccessError;

use crate::DataBuffers;

/// The unit in which drivers count, whatever the block size is.
pub const SECTOR_BYTES: u64 = 512;

/// Names a request from its start to its end. One from before a reset names
/// nothing after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    pub(super) slot: u16,
    pub(super) generation: u32,
}

impl RequestId {
    /// Returns the identity as a number, for tables and rings of the host.
    #[must_use]
    pub const fn raw(self) -> u64 {
        (self.generation as u64) << 16 | self.slot as u64
    }

    /// Returns the identity that has the number `raw`.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "both fields are cut out of the number"
        )]
        Self {
            slot: raw as u16,
            generation: (raw >> 16) as u32,
        }
    }
}

/// What a request asks for. The device has checked that the range lies within
/// the capacity, and that nothing is changed on a read-only disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockOperation {
    /// Fill the data from `sector` on. The data is a multiple of a sector.
    Read {
        /// The first sector.
        sector: u64,
    },
    /// Write the data from `sector` on. The data is a multiple of a sector.
    Write {
        /// The first sector.
        sector: u64,
    },
    /// Make everything durable that was written by requests that have ended.
    Flush,
    /// The guest needs the contents no longer.
    Discard {
        /// The first sector.
        sector: u64,
        /// How many sectors.
        sectors: u32,
    },
    /// Fill with zeros.
    WriteZeroes {
        /// The first sector.
        sector: u64,
        /// How many sectors.
        sectors: u32,
        /// Whether the space may be given up, as by a discard.
        may_unmap: bool,
    },
}

/// Why a request failed. The driver is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BlockError {
    /// The disk failed, or the guest named memory that it does not have.
    #[error("input or output failed")]
    Io,
    /// The disk does not do this.
    #[error("the disk does not do this")]
    Unsupported,
}

impl From<AccessError> for BlockError {
    fn from(_: AccessError) -> Self {
        Self::Io
    }
}

/// How a start went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The request has ended.
    Done(Result<(), BlockError>),
    /// It goes on; [`VirtioMmio::complete`](crate::VirtioMmio::complete) ends it.
    Started,
    /// There is no room now. The device keeps the request and starts it again
    /// after the next completion of its own, or when
    /// [`VirtioMmio::poll`](crate::VirtioMmio::poll) is called: so that is to be
    /// called once there is room.
    Busy,
}

/// A disk.
///
/// `data` is the guest's memory: it is valid during the call only, and its
/// contents are to be copied once. What a backend holds for a request that was
/// started, it holds outside of the guest's memory.
pub trait BlockBackend: Send {
    /// Returns the size in sectors. It does not change.
    fn capacity_sectors(&self) -> u64;

    /// Tells whether the disk refuses writes.
    fn is_read_only(&self) -> bool {
        false
    }

    /// Returns the block size for which the disk works best: a power of two from
    /// 512 on. Requests may be multiples of 512 bytes all the same.
    fn block_bytes(&self) -> u32 {
        512
    }

    /// Returns the serial number: ASCII, filled up with zeros.
    fn identity(&self) -> [u8; 20];

    /// Returns how much one read or write can move. Larger ones of the driver
    /// are cut into parts, one after the other, with the same [`RequestId`]. A
    /// multiple of 512 counts, and no more than 1 MiB. It does not change.
    fn max_bytes(&self) -> u32 {
        u32::MAX
    }

    /// Tells whether the disk discards.
    fn discards(&self) -> bool {
        false
    }

    /// Tells whether the disk writes zeros by itself.
    fn writes_zeroes(&self) -> bool {
        false
    }

    /// Starts a request. The bytes of a write are copied out of `data` here.
    fn start(
        &mut self,
        id: RequestId,
        operation: BlockOperation,
        data: &DataBuffers<'_>,
    ) -> Progress;

    /// Ends a request that was started and is done: the bytes of a read are
    /// copied into `data` here.
    ///
    /// # Errors
    /// Why the request failed.
    fn finish(&mut self, id: RequestId, data: &DataBuffers<'_>) -> Result<(), BlockError>;

    /// Forgets a request that was started: the driver has reset the device or
    /// the queue, or was at fault. The request may already be done; nobody will
    /// ask for its end.
    fn abandon(&mut self, id: RequestId);
}
