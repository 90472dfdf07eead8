//! What lies behind a VM's virtual disk: a part of a disk of the machine, or memory.

use alloc::format;
use alloc::sync::Weak;

use dtb_platform::{DiskConfig, DiskPart, DiskSource};
use thiserror::Error;
use virtio_devices::block::{BlockError, BlockOperation, Progress, RequestId};
use virtio_devices::{Block, BlockBackend, BlockOptions, DataBuffers, Surroundings, VirtioMmio};
use vm_contract::VmId;

use super::super::build::VmBuilder;
use crate::storage::{
    AttachError, Command, DiskClient, DiskError, DiskEvent, DiskUser, DiskView, RamDisk,
};

/// How much of a memory disk is copied at a time.
const PIECE_BYTES: usize = 4096;

/// The most sectors of one discard or write of zeroes that a driver may ask for: what the
/// device tells it.
const MOST_RANGE_SECTORS: u32 = (64 << 20) / 512;

/// Why a VM cannot have a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DiskProblem {
    /// The machine has no disk with this number.
    #[error("the machine has no disk {0}")]
    NoDisk(u32),
    /// The disk has no partition with this number.
    #[error("the machine's disk has no partition {0}")]
    NoPartition(u32),
    /// The part cannot be had.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

/// The disk behind a virtio device.
pub(super) struct Disk {
    source: Source,
    identity: [u8; 20],
}

enum Source {
    Host(DiskClient),
    Ram(RamDisk),
}

impl Disk {
    /// Finds what disk number `number` of a VM is.
    pub(super) fn new(
        builder: &VmBuilder,
        vm: VmId,
        number: usize,
        config: &DiskConfig,
    ) -> Result<Self, DiskProblem> {
        let source = match config.source {
            DiskSource::Module(contents) => {
                Source::Ram((builder.ram_disk)(contents, !config.read_only))
            }
            DiskSource::Host { disk: index, part } => {
                let disk = usize::try_from(index).ok();
                let disk = disk.and_then(|index| builder.devices.disk(index));
                let disk = disk.ok_or(DiskProblem::NoDisk(index))?;
                let view = match part {
                    DiskPart::Whole => disk.whole(),
                    DiskPart::Sectors { first, count } => DiskView {
                        first_sector: first,
                        sectors: count,
                        is_read_only: false,
                    },
                    DiskPart::Partition(number) => disk
                        .partition(number)
                        .ok_or(DiskProblem::NoPartition(number))?,
                };
                Source::Host(disk.attach(DiskView {
                    is_read_only: view.is_read_only || config.read_only,
                    ..view
                })?)
            }
        };
        let mut identity = [0; 20];
        let name = format!("armature-{vm}-{number}");
        for (place, byte) in identity.iter_mut().zip(name.bytes()) {
            *place = byte;
        }
        Ok(Self { source, identity })
    }

    /// Puts a virtio device before it.
    pub(super) fn into_device(self) -> Block<Self> {
        Block::new(self, BlockOptions::default())
    }

    /// Says who hears of what happens to it, as its disk number `number`.
    pub(super) fn listen(&self, user: Weak<dyn DiskUser>, number: usize) {
        if let Source::Host(client) = &self.source {
            client.listen(user, number);
        }
    }
}

/// Brings an event of the machine's disk to the device.
pub(super) fn take_event(
    device: &mut VirtioMmio<Block<Disk>>,
    around: &Surroundings<'_>,
    event: DiskEvent,
) {
    match event {
        DiskEvent::Done(tag) => device.complete(around, RequestId::from_raw(tag)),
        DiskEvent::Room => device.poll(around),
    }
}

impl From<DiskError> for BlockError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Unsupported => Self::Unsupported,
            DiskError::Io | DiskError::Refused | DiskError::Broken => Self::Io,
        }
    }
}

impl BlockBackend for Disk {
    fn capacity_sectors(&self) -> u64 {
        match &self.source {
            Source::Host(client) => client.view().sectors,
            Source::Ram(disk) => disk.sectors(),
        }
    }

    fn is_read_only(&self) -> bool {
        match &self.source {
            Source::Host(client) => client.view().is_read_only,
            Source::Ram(disk) => disk.is_read_only(),
        }
    }

    fn block_bytes(&self) -> u32 {
        match &self.source {
            Source::Host(client) => client.disk().facts().block_bytes,
            Source::Ram(_) => 512,
        }
    }

    fn identity(&self) -> [u8; 20] {
        self.identity
    }

    fn max_bytes(&self) -> u32 {
        match &self.source {
            Source::Host(client) => {
                u32::try_from(client.disk().facts().max_request_bytes).unwrap_or(u32::MAX)
            }
            Source::Ram(_) => u32::MAX,
        }
    }

    fn discards(&self) -> bool {
        match &self.source {
            Source::Host(client) => client.disk().facts().max_discard_sectors >= MOST_RANGE_SECTORS,
            Source::Ram(_) => false,
        }
    }

    fn writes_zeroes(&self) -> bool {
        match &self.source {
            Source::Host(client) => client.disk().facts().max_zeroes_sectors >= MOST_RANGE_SECTORS,
            Source::Ram(_) => false,
        }
    }

    fn start(
        &mut self,
        id: RequestId,
        operation: BlockOperation,
        data: &DataBuffers<'_>,
    ) -> Progress {
        match &mut self.source {
            Source::Host(client) => start(client, id, operation, data),
            Source::Ram(disk) => Progress::Done(move_ram(disk, operation, data)),
        }
    }

    fn finish(&mut self, id: RequestId, data: &DataBuffers<'_>) -> Result<(), BlockError> {
        let Source::Host(client) = &self.source else {
            return Err(BlockError::Io);
        };
        let done = client.collect(id.raw()).ok_or(BlockError::Io)?;
        done.result?;
        if let Command::Read { bytes, .. } = done.command {
            data.write_at(0, done.bounce.get(..bytes).ok_or(BlockError::Io)?)?;
        }
        Ok(())
    }

    fn abandon(&mut self, id: RequestId) {
        if let Source::Host(client) = &self.source {
            client.abandon(id.raw());
        }
    }
}

/// Starts a request on a disk of the machine.
fn start(
    client: &DiskClient,
    id: RequestId,
    operation: BlockOperation,
    data: &DataBuffers<'_>,
) -> Progress {
    let Ok(bytes) = usize::try_from(data.len()) else {
        return Progress::Done(Err(BlockError::Io));
    };
    let Some(mut bounce) = client.begin() else {
        return Progress::Busy;
    };
    let command = match operation {
        BlockOperation::Read { sector } => Command::Read { sector, bytes },
        BlockOperation::Write { sector } => {
            let copied = bounce.get_mut(..bytes).ok_or(BlockError::Io);
            let copied = copied.and_then(|bounce| Ok(data.read_at(0, bounce)?));
            if let Err(error) = copied {
                return Progress::Done(Err(error));
            }
            Command::Write { sector, bytes }
        }
        BlockOperation::Flush => Command::Flush,
        BlockOperation::Discard { sector, sectors } => Command::Discard { sector, sectors },
        BlockOperation::WriteZeroes {
            sector,
            sectors,
            may_unmap,
        } => Command::WriteZeroes {
            sector,
            sectors,
            may_unmap,
        },
    };
    match bounce.submit(command, id.raw()) {
        Ok(()) => Progress::Started,
        Err(error) => Progress::Done(Err(error.into())),
    }
}

/// Does a request on a disk in memory.
fn move_ram(
    disk: &mut RamDisk,
    operation: BlockOperation,
    data: &DataBuffers<'_>,
) -> Result<(), BlockError> {
    let mut piece = [0; PIECE_BYTES];
    let mut done = 0;
    let (sector, is_write) = match operation {
        BlockOperation::Read { sector } => (sector, false),
        BlockOperation::Write { sector } => (sector, true),
        BlockOperation::Flush => return Ok(()),
        BlockOperation::Discard { .. } | BlockOperation::WriteZeroes { .. } => {
            return Err(BlockError::Unsupported);
        }
    };
    let bytes = usize::try_from(data.len()).map_err(|_| BlockError::Io)?;
    while done < bytes {
        let piece = piece.get_mut(..PIECE_BYTES.min(bytes - done));
        let piece = piece.unwrap_or_default();
        let is_done = if is_write {
            data.read_at(done as u64, piece)?;
            disk.write(sector, done, piece)
        } else {
            let read = disk.read(sector, done, piece);
            data.write_at(done as u64, piece)?;
            read
        };
        if !is_done {
            return Err(BlockError::Io);
        }
        done += piece.len();
    }
    Ok(())
}
