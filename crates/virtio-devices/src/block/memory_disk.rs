//! A disk in memory.

use super::backend::{BlockBackend, BlockError, BlockOperation, Progress, RequestId, SECTOR_BYTES};
use crate::DataBuffers;

/// A disk whose sectors are bytes of the host's memory: a `Vec<u8>`, or a
/// `&'static mut [u8]` that covers an image loaded at boot. Each request ends at
/// once. A last sector that is not whole is left out.
#[derive(Debug)]
pub struct MemoryDisk<S> {
    bytes: S,
    read_only: bool,
    identity: [u8; 20],
}

impl<S: AsRef<[u8]> + AsMut<[u8]> + Send> MemoryDisk<S> {
    /// Makes a disk of `bytes`. `name` is its serial number: of its ASCII at
    /// most 20 characters count.
    #[must_use]
    pub fn new(bytes: S, name: &str) -> Self {
        let mut identity = [0; 20];
        for (target, byte) in identity.iter_mut().zip(name.bytes()) {
            *target = byte;
        }
        Self {
            bytes,
            read_only: false,
            identity,
        }
    }

    /// Refuses writes from now on; to be called before the disk is given to a
    /// device.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self {
            read_only: true,
            ..self
        }
    }

    /// Returns the contents.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    fn range(&mut self, sector: u64, bytes: u64) -> Result<&mut [u8], BlockError> {
        let start = sector.checked_mul(SECTOR_BYTES);
        let end = start.and_then(|start| start.checked_add(bytes));
        let (Some(start), Some(end)) = (start, end) else {
            return Err(BlockError::Io);
        };
        let range = usize::try_from(start)
            .ok()
            .zip(usize::try_from(end).ok())
            .and_then(|(start, end)| self.bytes.as_mut().get_mut(start..end));
        range.ok_or(BlockError::Io)
    }

    fn run(&mut self, operation: BlockOperation, data: &DataBuffers<'_>) -> Result<(), BlockError> {
        match operation {
            BlockOperation::Read { sector } => {
                data.write_at(0, self.range(sector, data.len())?)?;
            }
            BlockOperation::Write { sector } => {
                data.read_at(0, self.range(sector, data.len())?)?;
            }
            BlockOperation::Discard { sector, sectors }
            | BlockOperation::WriteZeroes {
                sector, sectors, ..
            } => {
                self.range(sector, u64::from(sectors) * SECTOR_BYTES)?
                    .fill(0);
            }
            BlockOperation::Flush => {}
        }
        Ok(())
    }
}

impl<S: AsRef<[u8]> + AsMut<[u8]> + Send> BlockBackend for MemoryDisk<S> {
    fn capacity_sectors(&self) -> u64 {
        self.bytes.as_ref().len() as u64 / SECTOR_BYTES
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn identity(&self) -> [u8; 20] {
        self.identity
    }

    fn discards(&self) -> bool {
        true
    }

    fn writes_zeroes(&self) -> bool {
        true
    }

    fn start(
        &mut self,
        _id: RequestId,
        operation: BlockOperation,
        data: &DataBuffers<'_>,
    ) -> Progress {
        Progress::Done(self.run(operation, data))
    }

    fn finish(&mut self, _id: RequestId, _data: &DataBuffers<'_>) -> Result<(), BlockError> {
        // Nothing is ever left to be finished.
        Err(BlockError::Io)
    }

    fn abandon(&mut self, _id: RequestId) {}
}
