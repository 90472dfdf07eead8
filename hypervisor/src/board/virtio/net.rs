//! A virtio network card (VirtIO 1.2, 5.1): one queue each way, no offloads.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::NonNull;

use aarch64_cpu::asm::barrier;
use bitflags::bitflags;
use hypervisor::frames::FramePool;
use hypervisor::net::{FRAME_BYTES, NetHardware};
use static_assertions::const_assert;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::mmio::MmioTransport;
use virtio_drivers::transport::{DeviceStatus, Transport};

use super::{IdentityMapped, Problem};

/// The queues (5.1.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Descriptors of each queue, and so buffers: what a burst at the speed of the other side
/// needs until the interrupt is answered.
const QUEUE_SIZE: usize = 128;

/// The header before each frame, with its number of buffers (5.1.6).
const HEADER_BYTES: usize = 12;
const BUFFER_BYTES: usize = 2048;
/// The longest frame comes with a tag.
const TAG_BYTES: usize = 4;
const_assert!(HEADER_BYTES + FRAME_BYTES + TAG_BYTES <= BUFFER_BYTES);

bitflags! {
    /// Features that make a difference here. For event indices see [`disk`](super::disk).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Features: u64 {
        const MAC = 1 << 5;
        const VERSION_1 = 1 << 32;
    }
}

/// Which way a queue goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    FromDevice,
    ToDevice,
}

/// A queue with a buffer for each of its descriptors.
struct Ring {
    queue: VirtQueue<IdentityMapped, QUEUE_SIZE>,
    way: Way,
    /// The start of [`BUFFER_BYTES`] for each buffer.
    buffers: NonNull<u8>,
    /// The buffers that the driver has.
    free: Vec<usize>,
    /// The buffer, and how much of it, of each descriptor that the device has.
    posted: Box<[Option<(usize, usize)>; QUEUE_SIZE]>,
    /// Something was posted that the device has not been told of.
    is_new: bool,
}

// SAFETY: the pointers lead to memory that belongs to the ring alone.
unsafe impl Send for Ring {}

/// A device does not keep to the protocol.
struct Broken;

impl Ring {
    fn new(
        transport: &mut MmioTransport<'static>,
        pool: &FramePool,
        index: u16,
        way: Way,
    ) -> Result<Self, Problem> {
        let queue = VirtQueue::new(transport, index, false, false)?;
        let memory = pool.allocate(QUEUE_SIZE * BUFFER_BYTES);
        let memory = usize::from(memory.ok_or(Problem::NoMemory)?.start);
        let buffers = NonNull::new(core::ptr::with_exposed_provenance_mut(memory));
        Ok(Self {
            queue,
            way,
            buffers: buffers.ok_or(Problem::NoMemory)?,
            free: (0..QUEUE_SIZE).collect(),
            posted: Box::new([None; QUEUE_SIZE]),
            is_new: false,
        })
    }

    /// Returns a buffer.
    ///
    /// # Safety
    /// It is the driver's, and nobody has it.
    unsafe fn buffer<'a>(&self, number: usize) -> &'a mut [u8; BUFFER_BYTES] {
        // SAFETY: there are as many buffers as descriptors.
        let start = unsafe { self.buffers.add(number % QUEUE_SIZE * BUFFER_BYTES) };
        // SAFETY: by the function's contract.
        unsafe { start.cast().as_mut() }
    }

    /// Gives the device the first `bytes` of a buffer.
    fn post(&mut self, number: usize, bytes: usize) -> Result<(), Broken> {
        // SAFETY: whoever posts a buffer has it.
        let (data, _) = unsafe { self.buffer(number) }.split_at_mut(bytes);
        let added = match self.way {
            // SAFETY: nobody touches the buffer until the device has returned it.
            Way::ToDevice => unsafe { self.queue.add(&[data], &mut []) },
            // SAFETY: as above.
            Way::FromDevice => unsafe { self.queue.add(&[], &mut [data]) },
        };
        let token = added.map_err(|_| Broken)?;
        let posted = self.posted.get_mut(usize::from(token)).ok_or(Broken)?;
        *posted = Some((number, bytes));
        self.is_new = true;
        Ok(())
    }

    /// Takes back a buffer that the device is done with, and how much it has written.
    fn take_used(&mut self) -> Result<Option<(usize, usize)>, Broken> {
        let Some(token) = self.queue.peek_used() else {
            return Ok(None);
        };
        let posted = self.posted.get_mut(usize::from(token));
        let (number, bytes) = posted.and_then(Option::take).ok_or(Broken)?;
        // SAFETY: the device has returned it.
        let (data, _) = unsafe { self.buffer(number) }.split_at_mut(bytes);
        let popped = match self.way {
            // SAFETY: the same that was added.
            Way::ToDevice => unsafe { self.queue.pop_used(token, &[data], &mut []) },
            // SAFETY: as above.
            Way::FromDevice => unsafe { self.queue.pop_used(token, &[], &mut [data]) },
        };
        let written = popped.map_err(|_| Broken)? as usize;
        Ok(Some((number, written.min(bytes))))
    }

    /// Takes back all buffers that the device is done with.
    fn reclaim(&mut self) -> Result<(), Broken> {
        while let Some((number, _)) = self.take_used()? {
            self.free.push(number);
        }
        Ok(())
    }

    /// Gives the device all buffers that the driver has.
    fn post_all(&mut self) -> Result<(), Broken> {
        while let Some(number) = self.free.pop() {
            self.post(number, BUFFER_BYTES)?;
        }
        Ok(())
    }

    /// Tells the device of what is new.
    fn notify(&mut self, transport: &mut MmioTransport<'static>, index: u16) {
        if core::mem::take(&mut self.is_new) && self.queue.should_notify() {
            // The device finds in memory what it is told of.
            barrier::dsb(barrier::OSHST);
            transport.notify(index);
        }
    }
}

/// A card that is in use.
pub(super) struct VirtioNet {
    transport: MmioTransport<'static>,
    receive: Ring,
    transmit: Ring,
    is_broken: bool,
}

impl VirtioNet {
    /// Sets a card up.
    pub(super) fn take(
        mut transport: MmioTransport<'static>,
        pool: &FramePool,
    ) -> Result<Self, Problem> {
        let features = transport.begin_init(Features::all());
        let accepted = transport.get_status().contains(DeviceStatus::FEATURES_OK);
        if !accepted || !features.contains(Features::VERSION_1) {
            return Err(Problem::TooOld);
        }
        let receive = Ring::new(&mut transport, pool, RECEIVE, Way::FromDevice)?;
        let mut transmit = Ring::new(&mut transport, pool, TRANSMIT, Way::ToDevice)?;
        // Frames that were sent are looked for when there is another one to send.
        transmit.queue.set_dev_notify(false);
        transport.finish_init();
        let mut card = Self {
            transport,
            receive,
            transmit,
            is_broken: false,
        };
        let posted = card.receive.post_all();
        card.check(posted);
        card.notify();
        Ok(card)
    }

    /// Gives up on a card that does not keep to the rules. It is reset, so that it does
    /// not reach memory any more.
    fn check<T>(&mut self, result: Result<T, Broken>) -> Option<T> {
        if result.is_err() && !self.is_broken {
            log::error!(
                "the network card does not keep to the virtio protocol, and is not used any more"
            );
            self.transport.set_status(DeviceStatus::empty());
            self.is_broken = true;
        }
        result.ok()
    }
}

impl NetHardware for VirtioNet {
    fn receive_slots(&self) -> usize {
        QUEUE_SIZE
    }

    fn acknowledge(&mut self) {
        self.transport.ack_interrupt();
    }

    fn receive(&mut self, take: &mut dyn FnMut(&[u8])) -> bool {
        if self.is_broken {
            return false;
        }
        let used = self.receive.take_used();
        let Some(Some((number, written))) = self.check(used) else {
            return false;
        };
        // SAFETY: the device has returned it.
        let buffer = unsafe { self.receive.buffer(number) };
        if let Some(frame) = buffer.get(HEADER_BYTES..written) {
            take(frame);
        }
        let posted = self.receive.post(number, BUFFER_BYTES);
        self.check(posted).is_some()
    }

    fn has_room(&mut self) -> bool {
        if self.is_broken {
            return false;
        }
        if !self.transmit.free.is_empty() {
            return true;
        }
        let reclaimed = self.transmit.reclaim();
        self.check(reclaimed);
        let is_full = self.transmit.free.is_empty();
        self.transmit.queue.set_dev_notify(is_full);
        if is_full {
            // What was sent before the card was asked to tell is seen here.
            barrier::dmb(barrier::ISH);
            let reclaimed = self.transmit.reclaim();
            self.check(reclaimed);
        }
        !self.transmit.free.is_empty()
    }

    fn send(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> Option<usize>) {
        let Some(number) = self.transmit.free.pop() else {
            return;
        };
        // SAFETY: it was free.
        let buffer = unsafe { self.transmit.buffer(number) };
        let (header, frame) = buffer.split_at_mut(HEADER_BYTES);
        header.fill(0);
        let filled = fill(frame).filter(|bytes| *bytes > 0 && *bytes <= frame.len());
        let Some(bytes) = filled else {
            self.transmit.free.push(number);
            return;
        };
        let posted = self.transmit.post(number, HEADER_BYTES + bytes);
        self.check(posted);
    }

    fn notify(&mut self) {
        if !self.is_broken {
            self.receive.notify(&mut self.transport, RECEIVE);
            self.transmit.notify(&mut self.transport, TRANSMIT);
        }
    }
}
