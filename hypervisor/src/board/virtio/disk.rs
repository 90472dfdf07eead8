//! A virtio disk (VirtIO 1.2, 5.2).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;

use aarch64_cpu::asm::barrier;
use bitflags::bitflags;
use hypervisor::frames::{FRAME_BYTES, FramePool};
use hypervisor::storage::{
    Buffer, Command, DiskError, DiskFacts, DiskHardware, Finished, SECTOR_BYTES, SLOT_BYTES,
    SLOT_COUNT,
};
use static_assertions::const_assert;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceStatus, Transport};

use super::{IdentityMapped, Problem};

/// The only queue that is used.
const QUEUE: u16 = 0;
/// Descriptors of the queue: what QEMU and others offer at least.
const QUEUE_SIZE: usize = 256;
/// Descriptors of a request: its header, its data, its status.
const CHAIN: usize = 3;
// A free slot always finds room in the queue.
const_assert!(SLOT_COUNT * CHAIN <= QUEUE_SIZE);

/// Bytes of a block where the device does not say.
const USUAL_BLOCK_BYTES: u32 = 512;

/// Bytes in which a slot has the header and the status of its request.
const CONTROL_BYTES: usize = 64;
const HEADER_BYTES: usize = 16;
const_assert!(SLOT_COUNT * CONTROL_BYTES <= FRAME_BYTES);

bitflags! {
    /// Features that make a difference here. Event indices are not among them: the
    /// queue's own reckoning with them fails once its 16-bit index has wrapped around.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        const SIZE_MAX = 1 << 1;
        const RO = 1 << 5;
        const BLK_SIZE = 1 << 6;
        const FLUSH = 1 << 9;
        const DISCARD = 1 << 13;
        const WRITE_ZEROES = 1 << 14;
        const VERSION_1 = 1 << 32;
    }
}

/// Where the configuration has what is read of it.
mod config {
    pub(super) const CAPACITY: usize = 0;
    pub(super) const SIZE_MAX: usize = 8;
    pub(super) const BLK_SIZE: usize = 20;
    pub(super) const MAX_DISCARD_SECTORS: usize = 36;
    pub(super) const MAX_WRITE_ZEROES_SECTORS: usize = 48;
}

/// Types of requests.
mod kind {
    pub(super) const IN: u32 = 0;
    pub(super) const OUT: u32 = 1;
    pub(super) const FLUSH: u32 = 4;
    pub(super) const DISCARD: u32 = 11;
    pub(super) const WRITE_ZEROES: u32 = 13;
}

/// What the device says of a request that is done.
mod status {
    pub(super) const OK: u8 = 0;
    pub(super) const UNSUPPORTED: u8 = 2;
    /// It has not said anything yet.
    pub(super) const NONE: u8 = 0xff;
}

/// The part of a discard request that the device may forget its sectors instead of
/// zeroing them.
const UNMAP: u32 = 1;

/// A request that the device works on.
struct Request {
    token: u16,
    flow: Flow,
    buffer: NonNull<[u8]>,
}

/// Which part of the buffer goes where.
#[derive(Clone, Copy)]
enum Flow {
    Nothing,
    ToDevice(usize),
    FromDevice(usize),
}

/// A disk that is in use.
pub(super) struct VirtioDisk {
    transport: MmioTransport<'static>,
    queue: VirtQueue<IdentityMapped, QUEUE_SIZE>,
    features: Features,
    facts: DiskFacts,
    /// The start of [`CONTROL_BYTES`] for each slot.
    control: NonNull<u8>,
    requests: Box<[Option<Request>; SLOT_COUNT]>,
    /// The slot of the request whose first descriptor has this number.
    by_token: Box<[usize; QUEUE_SIZE]>,
    is_broken: bool,
}

// SAFETY: the pointers lead to memory that belongs to the disk alone.
unsafe impl Send for VirtioDisk {}

impl VirtioDisk {
    /// Sets a disk up, and finds buffers for it.
    pub(super) fn take(
        mut transport: MmioTransport<'static>,
        pool: &FramePool,
    ) -> Result<(Self, Vec<Buffer>), Problem> {
        let features = transport.begin_init(Features::all());
        let accepted = transport.get_status().contains(DeviceStatus::FEATURES_OK);
        if !accepted || !features.contains(Features::VERSION_1) {
            return Err(Problem::TooOld);
        }
        let facts = read_facts(&transport, features)?;
        let queue = VirtQueue::new(&mut transport, QUEUE, false, false)?;
        let control = pool.allocate(FRAME_BYTES).ok_or(Problem::NoMemory)?;
        let Some(buffers) = pool.allocate(SLOT_COUNT * SLOT_BYTES) else {
            pool.free(control);
            return Err(Problem::NoMemory);
        };
        let control = core::ptr::with_exposed_provenance_mut(control.start.into());
        let first = core::ptr::with_exposed_provenance_mut(buffers.start.into());
        // SAFETY: memory of the pool that is never given back; nobody else knows it.
        let buffers: &'static mut [u8] =
            unsafe { core::slice::from_raw_parts_mut(first, buffers.size_bytes) };
        transport.finish_init();
        let disk = Self {
            transport,
            queue,
            features,
            facts,
            control: NonNull::new(control).ok_or(Problem::NoMemory)?,
            requests: Box::new([const { None }; SLOT_COUNT]),
            by_token: Box::new([0; QUEUE_SIZE]),
            is_broken: false,
        };
        Ok((disk, buffers.chunks_exact_mut(SLOT_BYTES).collect()))
    }

    fn control(&self, slot: usize) -> NonNull<u8> {
        // SAFETY: slots have numbers below SLOT_COUNT, which all fit into the frame.
        unsafe { self.control.add(slot % SLOT_COUNT * CONTROL_BYTES) }
    }

    /// Gives up on a device that does not keep to the rules. It is reset, so that it
    /// does not reach memory any more.
    fn give_up(&mut self) {
        log::error!("a disk does not keep to the virtio protocol, and is not used any more");
        self.transport.set_status(DeviceStatus::empty());
        self.is_broken = true;
    }

    /// Returns a request that will never be done.
    fn take_lost(&mut self) -> Option<Finished> {
        let requests = self.requests.iter_mut().enumerate();
        let (slot, request) = requests
            .filter_map(|(slot, request)| Some((slot, request.take()?)))
            .next()?;
        Some(Finished {
            slot,
            // SAFETY: the buffer that came with the request; the device was reset.
            buffer: unsafe { &mut *request.buffer.as_ptr() },
            result: Err(DiskError::Broken),
        })
    }
}

fn read_facts(
    transport: &MmioTransport<'static>,
    features: Features,
) -> Result<DiskFacts, virtio_drivers::Error> {
    let word = |offset| transport.read_config_space::<u32>(offset);
    let if_any = |feature, offset| match features.contains(feature) {
        true => word(offset).map(Some),
        false => Ok(None),
    };
    transport.read_consistent(|| {
        let low = word(config::CAPACITY)?;
        let high = word(config::CAPACITY + 4)?;
        let largest = if_any(Features::SIZE_MAX, config::SIZE_MAX)?.unwrap_or(u32::MAX);
        Ok(DiskFacts {
            capacity_sectors: u64::from(high) << 32 | u64::from(low),
            is_read_only: features.contains(Features::RO),
            block_bytes: if_any(Features::BLK_SIZE, config::BLK_SIZE)?.unwrap_or(USUAL_BLOCK_BYTES),
            max_request_bytes: SLOT_BYTES.min(largest as usize / SECTOR_BYTES * SECTOR_BYTES),
            max_discard_sectors: if_any(Features::DISCARD, config::MAX_DISCARD_SECTORS)?
                .unwrap_or(0),
            max_zeroes_sectors: if_any(Features::WRITE_ZEROES, config::MAX_WRITE_ZEROES_SECTORS)?
                .unwrap_or(0),
        })
    })
}

/// Returns the type of request that a command makes, its first sector, and which part
/// of the buffer it uses. Writes into the buffer what a command has there by itself.
fn request_of(command: Command, buffer: &mut [u8]) -> (u32, u64, Flow) {
    let mut put_segment = |sector: u64, sectors: u32, flags: u32| {
        let fields = sector
            .to_le_bytes()
            .into_iter()
            .chain(sectors.to_le_bytes())
            .chain(flags.to_le_bytes());
        for (place, byte) in buffer.iter_mut().zip(fields) {
            *place = byte;
        }
        Flow::ToDevice(16)
    };
    match command {
        Command::Read { sector, bytes } => (kind::IN, sector, Flow::FromDevice(bytes)),
        Command::Write { sector, bytes } => (kind::OUT, sector, Flow::ToDevice(bytes)),
        Command::Flush => (kind::FLUSH, 0, Flow::Nothing),
        Command::Discard { sector, sectors } => (kind::DISCARD, 0, put_segment(sector, sectors, 0)),
        Command::WriteZeroes {
            sector,
            sectors,
            may_unmap,
        } => {
            let flags = if may_unmap { UNMAP } else { 0 };
            (kind::WRITE_ZEROES, 0, put_segment(sector, sectors, flags))
        }
    }
}

/// Returns what a slot has for header and status.
///
/// # Safety
/// `control` is that of a slot, and the device does not use it while the caller does.
unsafe fn control_bytes<'a>(control: NonNull<u8>) -> &'a mut [u8; CONTROL_BYTES] {
    // SAFETY: by the function's contract.
    unsafe { control.cast().as_mut() }
}

/// Returns `work`, which is then known to take what [`with_chain`] has.
fn chain_work<R, F>(work: F) -> F
where
    F: for<'a> FnOnce(&'a [&'a [u8]], &'a mut [&'a mut [u8]]) -> R,
{
    work
}

/// Calls `work` with what of a request the device reads, and what it writes.
///
/// # Safety
/// `control` and `buffer` are those of the request, and the device does not use them
/// during the call.
unsafe fn with_chain<R>(
    control: NonNull<u8>,
    mut buffer: NonNull<[u8]>,
    flow: Flow,
    work: impl for<'a> FnOnce(&'a [&'a [u8]], &'a mut [&'a mut [u8]]) -> R,
) -> R {
    // SAFETY: by the function's contract.
    let control = unsafe { control_bytes(control) };
    let (header, rest) = control.split_at_mut(HEADER_BYTES);
    let (status, _) = rest.split_at_mut(1);
    // SAFETY: by the function's contract.
    let buffer = unsafe { buffer.as_mut() };
    let part = |bytes: usize| bytes.min(SLOT_BYTES);
    match flow {
        Flow::Nothing => work(&[header], &mut [status]),
        Flow::ToDevice(bytes) => {
            let (data, _) = buffer.split_at_mut(part(bytes));
            work(&[header, data], &mut [status])
        }
        Flow::FromDevice(bytes) => {
            let (data, _) = buffer.split_at_mut(part(bytes));
            work(&[header], &mut [data, status])
        }
    }
}

impl DiskHardware for VirtioDisk {
    fn facts(&self) -> DiskFacts {
        self.facts
    }

    fn start(&mut self, slot: usize, command: Command, buffer: Buffer) -> Result<(), Buffer> {
        let place = self.requests.get(slot);
        if self.is_broken || place.is_none_or(Option::is_some) {
            return Err(buffer);
        }
        let (kind, sector, flow) = match command {
            // A disk that has no cache to flush has nothing to do. It is asked to read
            // a sector instead, which tells that it is there.
            Command::Flush if !self.features.contains(Features::FLUSH) => {
                (kind::IN, 0, Flow::FromDevice(SECTOR_BYTES))
            }
            command => request_of(command, buffer),
        };
        let control = self.control(slot);
        let header = kind
            .to_le_bytes()
            .into_iter()
            .chain([0; 4])
            .chain(sector.to_le_bytes())
            .chain([status::NONE]);
        // SAFETY: the slot has no request, so that its control is the driver's.
        let bytes = unsafe { control_bytes(control) };
        for (place, byte) in bytes.iter_mut().zip(header) {
            *place = byte;
        }
        let buffer = NonNull::from(buffer);
        let queue = &mut self.queue;
        let add = chain_work(|inputs, outputs| {
            // SAFETY: until it is done nobody touches what belongs to the request.
            unsafe { queue.add(inputs, outputs) }
        });
        // SAFETY: the device does not know of them yet.
        let added = unsafe { with_chain(control, buffer, flow, add) };
        let Ok(token) = added else {
            // SAFETY: the buffer that came, which the device does not know.
            return Err(unsafe { &mut *buffer.as_ptr() });
        };
        if let Some(by_token) = self.by_token.get_mut(usize::from(token)) {
            *by_token = slot;
        }
        if let Some(place) = self.requests.get_mut(slot) {
            *place = Some(Request {
                token,
                flow,
                buffer,
            });
        }
        if self.queue.should_notify() {
            // The device finds in memory what it is told of.
            barrier::dsb(barrier::OSHST);
            self.transport.notify(QUEUE);
        }
        Ok(())
    }

    fn acknowledge(&mut self) {
        self.transport.ack_interrupt();
    }

    fn take_finished(&mut self) -> Option<Finished> {
        if self.is_broken {
            return self.take_lost();
        }
        let token = self.queue.peek_used()?;
        let slot = self.by_token.get(usize::from(token)).copied();
        let slot = slot.unwrap_or(SLOT_COUNT);
        let place = self.requests.get_mut(slot);
        let request = place.and_then(|place| place.take_if(|request| request.token == token));
        let Some(Request { flow, buffer, .. }) = request else {
            self.give_up();
            return self.take_lost();
        };
        let control = self.control(slot);
        let queue = &mut self.queue;
        let pop = chain_work(|inputs, outputs| {
            // SAFETY: these are the ones that were added.
            unsafe { queue.pop_used(token, inputs, outputs) }
        });
        // SAFETY: the device has returned them.
        let popped = unsafe { with_chain(control, buffer, flow, pop) };
        // SAFETY: as above.
        let status = unsafe { control_bytes(control) }.get(HEADER_BYTES).copied();
        let result = match popped.map(|_| status.unwrap_or(status::NONE)) {
            Ok(status::OK) => Ok(()),
            Ok(status::UNSUPPORTED) => Err(DiskError::Unsupported),
            _ => Err(DiskError::Io),
        };
        Some(Finished {
            slot,
            // SAFETY: the buffer that came with the request, which is done.
            buffer: unsafe { &mut *buffer.as_ptr() },
            result,
        })
    }
}
