//! A disk whose requests end when a test says so.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::DataBuffers;
use crate::block::{
    BlockBackend, BlockError, BlockOperation, MemoryDisk, Progress, RequestId, SECTOR_BYTES,
};

/// A request that was started.
#[derive(Debug)]
struct Pending {
    operation: BlockOperation,
    /// The bytes of a write, and the place for those of a read.
    bounce: Vec<u8>,
}

/// A disk in memory that ends requests late, in the order of the test.
///
/// A write or a discard changes the contents when it ends.
#[derive(Debug)]
pub struct SlowDisk {
    bytes: Vec<u8>,
    pending: BTreeMap<u64, Pending>,
    room: usize,
    max_bytes: u32,
    /// What the next request to end says, instead of what it did.
    pub failure: Option<BlockError>,
    /// How many flushes have ended.
    pub flushes: usize,
    /// How many requests were abandoned.
    pub abandoned: usize,
}

impl SlowDisk {
    /// Makes a disk of `sectors` sectors that holds `room` requests at once, and
    /// moves up to `max_bytes` bytes with each.
    #[must_use]
    pub fn new(sectors: usize, room: usize, max_bytes: u32) -> Self {
        Self {
            bytes: vec![0; sectors * 512],
            pending: BTreeMap::new(),
            room,
            max_bytes,
            failure: None,
            flushes: 0,
            abandoned: 0,
        }
    }

    /// Returns the contents.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns how many requests the disk holds at once.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.room
    }

    /// Returns the requests that were started, in no order of interest.
    #[must_use]
    pub fn pending(&self) -> Vec<RequestId> {
        self.pending
            .keys()
            .map(|raw| RequestId::from_raw(*raw))
            .collect()
    }

    fn range(&mut self, sector: u64, len: usize) -> Option<&mut [u8]> {
        let start = usize::try_from(sector * SECTOR_BYTES).ok()?;
        self.bytes.get_mut(start..start.checked_add(len)?)
    }

    fn apply(&mut self, pending: &mut Pending) -> Option<()> {
        match pending.operation {
            BlockOperation::Read { sector } => {
                let source = self.range(sector, pending.bounce.len())?;
                pending.bounce.copy_from_slice(source);
            }
            BlockOperation::Write { sector } => {
                self.range(sector, pending.bounce.len())?
                    .copy_from_slice(&pending.bounce);
            }
            BlockOperation::Flush => self.flushes += 1,
            BlockOperation::Discard { sector, sectors }
            | BlockOperation::WriteZeroes {
                sector, sectors, ..
            } => {
                let len = usize::try_from(u64::from(sectors) * SECTOR_BYTES).ok()?;
                self.range(sector, len)?.fill(0);
            }
        }
        Some(())
    }
}

impl BlockBackend for SlowDisk {
    fn capacity_sectors(&self) -> u64 {
        self.bytes.len() as u64 / SECTOR_BYTES
    }

    fn identity(&self) -> [u8; 20] {
        MemoryDisk::new([0; 0], "slow").identity()
    }

    fn max_bytes(&self) -> u32 {
        self.max_bytes
    }

    fn discards(&self) -> bool {
        true
    }

    fn writes_zeroes(&self) -> bool {
        true
    }

    fn start(
        &mut self,
        id: RequestId,
        operation: BlockOperation,
        data: &DataBuffers<'_>,
    ) -> Progress {
        if self.pending.len() >= self.room {
            return Progress::Busy;
        }
        // A device that cuts requests wrongly is found here.
        assert!(data.len() <= self.max_bytes.into(), "too much at once");
        let mut bounce = vec![0; usize::try_from(data.len()).unwrap_or(0)];
        if matches!(operation, BlockOperation::Write { .. })
            && let Err(error) = data.read_at(0, &mut bounce)
        {
            return Progress::Done(Err(error.into()));
        }
        let pending = Pending { operation, bounce };
        let before = self.pending.insert(id.raw(), pending);
        assert!(before.is_none(), "two requests with one name");
        Progress::Started
    }

    fn finish(&mut self, id: RequestId, data: &DataBuffers<'_>) -> Result<(), BlockError> {
        let mut pending = self.pending.remove(&id.raw()).expect("it was started");
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.apply(&mut pending).ok_or(BlockError::Io)?;
        if matches!(pending.operation, BlockOperation::Read { .. }) {
            data.write_at(0, &pending.bounce)?;
        }
        Ok(())
    }

    fn abandon(&mut self, id: RequestId) {
        let was = self.pending.remove(&id.raw());
        assert!(was.is_some(), "it was started");
        self.abandoned += 1;
    }
}
