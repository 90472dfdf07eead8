//! The network card (VirtIO 1.2, 5.1): one pair of queues and a control queue.
//!
//! Frames go to and come from a [`NetBackend`], which is a switch, a cable or a host's
//! card. Checksums that a driver leaves to its card are passed on as they are; where the
//! receiving driver does not take such frames, they are completed here. Segmentation is
//! not offered: a frame is one frame.

mod backend;
mod checksum;
mod control;
mod filter;
mod header;
mod receive;

use alloc::vec::Vec;

pub use backend::{Checksum, NetBackend, ReceivedFrame, Take, TransmitFrame};
use filter::Filter;
use header::HEADER_BYTES;

use crate::{Chain, DeviceId, DriverFault, Queues, Segment, VirtioDevice, Work, features};

/// The queues (5.1.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
const CONTROL: u16 = 2;
const QUEUE_SIZES: [u16; 3] = [256, 256, 64];

/// How many descriptors one call reads at most, and the rest of a chain: far more than
/// two for each chain of a queue.
const CALL_DESCRIPTORS: usize = 4096;

/// The longest Ethernet header: addresses, a VLAN tag and the type.
const LONGEST_HEADER: u64 = 18;
/// The least MTU that may be announced (5.1.4.1).
const LEAST_MTU: u16 = 68;

/// `VIRTIO_NET_F_CSUM`: the card completes checksums.
pub const CSUM: u64 = 1 << 0;
/// `VIRTIO_NET_F_GUEST_CSUM`: the driver takes frames with incomplete checksums.
pub const GUEST_CSUM: u64 = 1 << 1;
/// `VIRTIO_NET_F_MTU`: the card announces its MTU.
pub const MTU: u64 = 1 << 3;
/// `VIRTIO_NET_F_MAC`: the card has an address.
pub const MAC: u64 = 1 << 5;
/// `VIRTIO_NET_F_MRG_RXBUF`: the driver takes a frame in several buffers.
pub const MRG_RXBUF: u64 = 1 << 15;
/// `VIRTIO_NET_F_STATUS`: the card tells whether its link is up.
pub const STATUS: u64 = 1 << 16;
/// `VIRTIO_NET_F_CTRL_VQ`: there is a control queue.
pub const CTRL_VQ: u64 = 1 << 17;
/// `VIRTIO_NET_F_CTRL_RX`: it chooses what is received.
pub const CTRL_RX: u64 = 1 << 18;
/// `VIRTIO_NET_F_CTRL_RX_EXTRA`: more modes of receiving.
pub const CTRL_RX_EXTRA: u64 = 1 << 20;

/// What the card offers.
pub const OFFERED: u64 =
    CSUM | GUEST_CSUM | MTU | MAC | MRG_RXBUF | STATUS | CTRL_VQ | CTRL_RX | CTRL_RX_EXTRA;

/// The bit of the status that says that the link is up (5.1.4).
const LINK_UP: u8 = 1;

/// What a card has counted. All wrap at 2^64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetCounters {
    /// Frames given to the backend.
    pub transmitted: u64,
    /// Frames given to the driver.
    pub received: u64,
    /// Frames of the driver without a whole header, or with one that says what was not
    /// agreed on or is outside the frame.
    pub malformed: u64,
    /// Frames of the driver that are longer than the MTU allows.
    pub oversized: u64,
    /// Frames of the driver while the link was down.
    pub link_down: u64,
    /// Frames for which the driver's buffer was too small.
    pub no_room: u64,
    /// Frames that the driver does not want.
    pub filtered: u64,
}

/// A network card.
///
/// When the backend has frames, call
/// [`VirtioMmio::receive`](crate::VirtioMmio::receive). The backend learns of
/// transmitted frames during the accesses of the driver.
#[derive(Debug)]
pub struct Net<B: NetBackend> {
    backend: B,
    config: [u8; 12],
    mtu: u16,
    /// The features in force.
    agreed: u64,
    filter: Filter,
    /// A frame that waits for a buffer.
    waiting: Option<B::Received>,
    chain: Chain,
    /// How many descriptors this call has read.
    descriptors: usize,
    /// Buffers of several chains, for one frame.
    merged: Merged,
    counters: NetCounters,
}

/// Several chains taken for one frame.
#[derive(Debug)]
struct Merged {
    segments: Vec<Segment>,
    /// Heads and lengths.
    chains: Vec<(u16, u64)>,
}

impl<B: NetBackend> Net<B> {
    /// Makes a card with this address, the first byte on the wire first, whose link is
    /// up. `mtu` is the longest payload of a frame in bytes; less than 68 counts as
    /// that. Allocates.
    #[must_use]
    pub fn new(mac: [u8; 6], mtu: u16, backend: B) -> Self {
        let mtu = mtu.max(LEAST_MTU);
        let [a, b, c, d, e, f] = mac;
        let [low, high] = mtu.to_le_bytes();
        // Address, status, number of queue pairs, MTU (5.1.4).
        let config = [a, b, c, d, e, f, LINK_UP, 0, 1, 0, low, high];
        let [receive, ..] = QUEUE_SIZES;
        Self {
            backend,
            config,
            mtu,
            agreed: 0,
            filter: Filter::new(mac),
            waiting: None,
            chain: Chain::with_limit(receive),
            descriptors: 0,
            merged: Merged {
                segments: Vec::with_capacity(receive.into()),
                chains: Vec::with_capacity(receive.into()),
            },
            counters: NetCounters::default(),
        }
    }

    /// Returns the backend.
    #[must_use]
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    /// Returns the backend.
    pub const fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Returns what has been counted.
    #[must_use]
    pub const fn counters(&self) -> NetCounters {
        self.counters
    }

    /// Takes the link up or down; within
    /// [`VirtioMmio::change_config`](crate::VirtioMmio::change_config), so that the driver
    /// is told. While it is down, frames of the driver go nowhere.
    pub const fn set_link_up(&mut self, up: bool) {
        let [_, _, _, _, _, _, status, ..] = &mut self.config;
        *status = if up { LINK_UP } else { 0 };
    }

    /// Tells whether the link is up.
    #[must_use]
    pub const fn is_link_up(&self) -> bool {
        let [_, _, _, _, _, _, status, ..] = self.config;
        status == LINK_UP
    }

    const fn has(&self, feature: u64) -> bool {
        self.agreed & feature != 0
    }

    /// Takes the next chain of a queue, if there is one.
    fn pop(&mut self, queue: u16, queues: &mut Queues<'_>) -> Result<bool, DriverFault> {
        let found = queues.pop(queue, &mut self.chain)?;
        if found {
            self.descriptors += self.chain.descriptors();
        }
        Ok(found)
    }

    /// Tells whether this call has read as many descriptors as it may.
    const fn is_tired(&self) -> bool {
        self.descriptors >= CALL_DESCRIPTORS
    }

    /// Sends what the driver has made available.
    fn transmit(&mut self, queues: &mut Queues<'_>) -> Result<Work, DriverFault> {
        self.descriptors = 0;
        while !self.is_tired() {
            if !self.pop(TRANSMIT, queues)? {
                return Ok(Work::Done);
            }
            self.transmit_one(queues)?;
            queues.push(TRANSMIT, self.chain.head(), 0)?;
        }
        Ok(Work::Left)
    }

    fn transmit_one(&mut self, queues: &Queues<'_>) -> Result<(), DriverFault> {
        let all = self.chain.readable(queues.memory());
        let frame_bytes = all.len().saturating_sub(HEADER_BYTES as u64);
        let Some(data) = all.slice(HEADER_BYTES as u64, frame_bytes) else {
            self.counters.malformed += 1;
            return Ok(());
        };
        if frame_bytes > u64::from(self.mtu) + LONGEST_HEADER {
            self.counters.oversized += 1;
            return Ok(());
        }
        let mut header = [0; HEADER_BYTES];
        all.read_at(0, &mut header)?;
        let Some(checksum) = header::decode(&header, self.has(CSUM), frame_bytes) else {
            self.counters.malformed += 1;
            return Ok(());
        };
        if !self.is_link_up() {
            self.counters.link_down += 1;
            return Ok(());
        }
        self.counters.transmitted += 1;
        let frame = TransmitFrame { data, checksum };
        Ok(self.backend.transmit(&frame)?)
    }
}

impl<B: NetBackend> VirtioDevice for Net<B> {
    fn device_id(&self) -> DeviceId {
        DeviceId::Network
    }

    fn features(&self) -> u64 {
        OFFERED
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn accepts(&self, features: u64) -> bool {
        // What a control queue does needs one (5.1.3.1).
        let control = features & (CTRL_RX | CTRL_RX_EXTRA) != 0;
        !control || features & CTRL_VQ != 0
    }

    fn start(&mut self, features: u64) {
        self.agreed = features;
    }

    fn process(&mut self, queue: u16, queues: &mut Queues<'_>) -> Result<Work, DriverFault> {
        match queue {
            RECEIVE => self.receive(queues),
            TRANSMIT => self.transmit(queues),
            CONTROL => self.control(queues),
            _ => Ok(Work::Done),
        }
    }

    // No chain is kept between calls.
    fn reset_queue(&mut self, _queue: u16) {}

    fn reset(&mut self) {
        self.agreed = 0;
        self.filter.reset();
        self.waiting = None;
    }
}
