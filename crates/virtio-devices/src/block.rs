//! The block device (VirtIO 1.2, 5.2).
//!
//! A request is taken from a queue into a slot of a fixed table, checked, and
//! given to the backend, whole or in parts. A backend may end it at once, or
//! later and in any order. The status byte is written after everything else of
//! the request. Requests that find the table full, or the backend busy, stay in
//! their queue, and the driver is not asked for notifications meanwhile; each
//! completion goes on with them.

mod backend;
mod job;
mod layout;
mod memory_disk;
mod table;

use alloc::boxed::Box;
pub use backend::{BlockBackend, BlockError, BlockOperation, Progress, RequestId, SECTOR_BYTES};
use job::{Job, Plan, Status};
use layout::{CONFIG_BYTES, feature};
pub use memory_disk::MemoryDisk;
use table::Table;

use crate::{
    DeviceId, DriverFault, LARGEST_QUEUE, Queues, Surroundings, VirtioDevice, VirtioMmio, Work,
};

/// How many bytes one call may start, so that it does not go on for too long.
const CALL_BYTES: u64 = 4 << 20;
/// What a request costs of that, beside its data.
const REQUEST_COST_BYTES: u64 = 1024;
/// What it costs to read a descriptor.
const DESCRIPTOR_COST_BYTES: u64 = 256;

/// The shape of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockOptions {
    /// How many queues it has, at least one, at most 64.
    pub queues: u16,
    /// The largest size of each queue: a power of two up to 1024.
    pub queue_size: u16,
    /// How many requests are under way at once. Each takes memory for its
    /// segments (16 bytes each).
    pub in_flight: u16,
    /// How many segments the data of a request can have (SEG_MAX), at most 1022.
    pub segments: u16,
}

impl Default for BlockOptions {
    /// One queue of 256, 32 requests of up to 126 segments: 64 KiB of memory.
    fn default() -> Self {
        Self {
            queues: 1,
            queue_size: 256,
            in_flight: 32,
            segments: 126,
        }
    }
}

/// A block device in front of a disk.
#[derive(Debug)]
pub struct Block<B> {
    disk: B,
    queue_sizes: Box<[u16]>,
    config: [u8; CONFIG_BYTES],
    table: Table,
    /// Whether the driver does not flush: then each write is made durable.
    write_through: bool,
    /// Queues from which requests were not taken for lack of room, as bits.
    stalled: u64,
    /// The queue whose turn it is.
    turn: u32,
}

/// How a run of the backend ended.
enum Run {
    /// The request is answered.
    Ended,
    /// The backend has it.
    Started,
    /// It waits for room in the backend.
    Busy,
    /// It waits, as the call went on for long.
    Tired,
}

impl<B: BlockBackend> Block<B> {
    /// Makes a device in front of `disk`. Allocates.
    #[must_use]
    pub fn new(disk: B, options: BlockOptions) -> Self {
        let queues = options.queues.clamp(1, 64);
        let segments = options.segments.clamp(1, LARGEST_QUEUE - 2);
        Self {
            queue_sizes: (0..queues).map(|_| options.queue_size).collect(),
            config: layout::config(&disk, segments, queues),
            // A header and a status byte are there as well.
            table: Table::new(options.in_flight.max(1), segments + 2),
            disk,
            write_through: true,
            stalled: 0,
            turn: 0,
        }
    }

    /// Returns the disk.
    #[must_use]
    pub const fn disk(&self) -> &B {
        &self.disk
    }

    /// Returns the disk, for changes that the driver does not see.
    pub const fn disk_mut(&mut self) -> &mut B {
        &mut self.disk
    }

    /// Ends a request that was started, and goes on with those that wait.
    fn complete(&mut self, id: RequestId, queues: &mut Queues<'_>) -> Result<Work, DriverFault> {
        let mut budget = CALL_BYTES;
        if let Some(slot) = self.table.take_started(id) {
            let max_bytes = self.disk.max_bytes();
            let (_, data) = slot.job.part(&slot.chain, queues.memory(), max_bytes);
            let result = self.disk.finish(id, &data);
            if self.ended(id.slot, result, queues)? {
                self.run(id.slot, &mut budget, queues)?;
            }
        }
        self.go_on(self.stalled, &mut budget, queues)
    }

    /// Starts what waits in the table, then takes requests from the queues given
    /// as bits.
    fn go_on(
        &mut self,
        from: u64,
        budget: &mut u64,
        queues: &mut Queues<'_>,
    ) -> Result<Work, DriverFault> {
        while let Some(index) = self.table.take_waiting() {
            match self.run(index, budget, queues)? {
                Run::Ended | Run::Started => {}
                Run::Busy => break,
                Run::Tired => {
                    self.stalled |= from;
                    return Ok(Work::Left);
                }
            }
        }
        // None of several queues comes first each time.
        let turn = self.turn;
        let mut left = from;
        while left != 0 {
            let queue = (left.rotate_right(turn).trailing_zeros() + turn) % 64;
            left &= !(1 << queue);
            if self.take(queue, budget, queues)? == Work::Left {
                self.stalled |= left;
                return Ok(Work::Left);
            }
        }
        Ok(Work::Done)
    }

    /// Takes requests from one queue, while there is room.
    fn take(
        &mut self,
        queue: u32,
        budget: &mut u64,
        queues: &mut Queues<'_>,
    ) -> Result<Work, DriverFault> {
        let Ok(number) = u16::try_from(queue) else {
            return Ok(Work::Done);
        };
        self.stalled |= 1 << queue;
        while !self.table.has_waiting() {
            if *budget == 0 {
                return Ok(Work::Left);
            }
            let Some((index, slot)) = self.table.free_slot() else {
                return Ok(Work::Done);
            };
            if !queues.pop(number, &mut slot.chain)? {
                self.stalled &= !(1 << queue);
                return Ok(Work::Done);
            }
            let descriptors = slot.chain.descriptors() as u64;
            *budget = budget.saturating_sub(descriptors * DESCRIPTOR_COST_BYTES);
            self.table.occupy(number);
            self.turn = queue + 1;
            if matches!(self.begin(index, budget, queues)?, Run::Tired) {
                return Ok(Work::Left);
            }
        }
        Ok(Work::Done)
    }

    /// Reads a request and answers or starts it.
    fn begin(
        &mut self,
        index: u16,
        budget: &mut u64,
        queues: &mut Queues<'_>,
    ) -> Result<Run, DriverFault> {
        let Some(slot) = self.table.slot(index) else {
            return Ok(Run::Ended);
        };
        match Job::plan(&slot.chain, queues.memory(), &self.disk, self.write_through)? {
            Plan::Answer(status, written) => {
                *budget = budget.saturating_sub(REQUEST_COST_BYTES);
                self.answer(index, status, written, queues)?;
                Ok(Run::Ended)
            }
            Plan::Run(job) => {
                slot.job = job;
                self.run(index, budget, queues)
            }
        }
    }

    /// Gives the backend the next part of a request, and further ones while it
    /// does them at once.
    fn run(
        &mut self,
        index: u16,
        budget: &mut u64,
        queues: &mut Queues<'_>,
    ) -> Result<Run, DriverFault> {
        let max_bytes = self.disk.max_bytes();
        loop {
            if *budget == 0 {
                self.table.set_waiting(index);
                return Ok(Run::Tired);
            }
            let Some(slot) = self.table.slot(index) else {
                return Ok(Run::Ended);
            };
            let cost = slot.job.part_bytes(max_bytes) + REQUEST_COST_BYTES;
            let (operation, data) = slot.job.part(&slot.chain, queues.memory(), max_bytes);
            match self.disk.start(slot.id(index), operation, &data) {
                Progress::Done(result) => {
                    *budget = budget.saturating_sub(cost);
                    if !self.ended(index, result, queues)? {
                        return Ok(Run::Ended);
                    }
                }
                Progress::Started => {
                    *budget = budget.saturating_sub(cost);
                    self.table.set_started(index);
                    return Ok(Run::Started);
                }
                Progress::Busy => {
                    self.table.set_waiting(index);
                    return Ok(Run::Busy);
                }
            }
        }
    }

    /// Notes how a part of a request ended, and answers if it was the last.
    /// Returns whether there is another part.
    fn ended(
        &mut self,
        index: u16,
        result: Result<(), BlockError>,
        queues: &mut Queues<'_>,
    ) -> Result<bool, DriverFault> {
        let max_bytes = self.disk.max_bytes();
        let Some(slot) = self.table.slot(index) else {
            return Ok(false);
        };
        if result.is_ok() && !slot.job.advance(max_bytes) {
            return Ok(true);
        }
        let written = slot.job.bytes_read();
        self.answer(index, result.into(), written, queues)?;
        Ok(false)
    }

    /// Writes the status byte, gives the chain back and frees the slot; `data`
    /// bytes were written before.
    fn answer(
        &mut self,
        index: u16,
        status: Status,
        data: u64,
        queues: &mut Queues<'_>,
    ) -> Result<(), DriverFault> {
        let Some(slot) = self.table.slot(index) else {
            return Ok(());
        };
        slot.chain.write_last(queues.memory(), status as u8)?;
        let last = slot.chain.writable_bytes().saturating_sub(1);
        // The length counts from the start without a gap (2.7.8.2).
        let written = if data == last { data + 1 } else { data };
        let written = u32::try_from(written).unwrap_or(u32::MAX);
        queues.push(slot.queue, slot.chain.head(), written)?;
        self.table.release(index);
        Ok(())
    }
}

impl<B: BlockBackend> VirtioDevice for Block<B> {
    fn device_id(&self) -> DeviceId {
        DeviceId::Block
    }

    fn features(&self) -> u64 {
        let queues = u16::try_from(self.queue_sizes.len()).unwrap_or(1);
        layout::features(&self.disk, queues)
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn start(&mut self, features: u64) {
        self.write_through = features & feature::FLUSH == 0;
    }

    fn process(&mut self, queue: u16, queues: &mut Queues<'_>) -> Result<Work, DriverFault> {
        let mut budget = CALL_BYTES;
        self.go_on(1 << (queue & 63), &mut budget, queues)
    }

    fn reset_queue(&mut self, queue: u16) {
        let disk = &mut self.disk;
        self.table.clear(Some(queue), |id| disk.abandon(id));
        self.stalled &= !(1 << (queue & 63));
    }

    fn reset(&mut self) {
        let disk = &mut self.disk;
        self.table.clear(None, |id| disk.abandon(id));
        self.stalled = 0;
        self.write_through = true;
    }
}

impl<B: BlockBackend> VirtioMmio<Block<B>> {
    /// Ends request `id`, which the backend had started and whose work is done:
    /// the backend's [`finish`](BlockBackend::finish) is called, the driver gets
    /// its answer, and requests that waited are started. A request from before a
    /// reset is none any more, and nothing happens.
    pub fn complete(&mut self, around: &Surroundings<'_>, id: RequestId) {
        self.work(around, |device, queues| device.complete(id, queues));
    }
}
