//! The switch: where frames go.

use alloc::sync::Arc;
use alloc::vec::Vec;

use thiserror::Error;

use crate::config::{ConfigError, Limits, PortConfig};
use crate::counters::{Counters, DropReason, Statistics};
use crate::endpoint::Endpoint;
use crate::frame::FrameBuf;
use crate::ingress::{Admitted, admit, egress};
use crate::pool::FramePool;
use crate::queue::{Producer, Queued, queue};
use crate::table::MacTable;
use crate::vlan::TAG_BYTES;
use crate::{MacAddress, PortId, PortSet, VlanId};

#[derive(Debug)]
struct Port {
    config: PortConfig,
    up: bool,
    queue: Producer,
    counters: Arc<Counters>,
}

/// Why an address cannot be pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PinError {
    /// The switch has no such port.
    #[error("the switch has no such port")]
    NoPort,
    /// A group or zero.
    #[error("the address is no station's")]
    BadAddress,
    /// As many are pinned as the switch was built for.
    #[error("no more addresses can be pinned")]
    Full,
}

/// A learning switch (IEEE 802.1Q-2018, clause 8). It is the one producer of all
/// queues: several CPUs that send lock it, for the time that it takes to look up an
/// address. It sends no interrupt: it returns who has something to receive.
#[derive(Debug)]
pub struct Switch {
    ports: Vec<Port>,
    table: MacTable,
    pool: FramePool,
}

impl Switch {
    /// Allocates a switch with these ports, all up, and the endpoint of each.
    ///
    /// # Errors
    /// What the limits do not allow.
    pub fn new(
        limits: &Limits,
        ports: impl IntoIterator<Item = PortConfig>,
    ) -> Result<(Self, Vec<Endpoint>), ConfigError> {
        let configs: Vec<_> = ports.into_iter().collect();
        limits.check(configs.len())?;
        let frames = limits.frames(u32::try_from(configs.len()).unwrap_or(u32::MAX));
        // Two accounts for each port: see `accounts`.
        let shares = configs.iter();
        let shares = shares.flat_map(|_| [limits.sender_frames, limits.queue_frames]);
        let pool = FramePool::new(frames, limits.frame_bytes, shares);
        let table = MacTable::new(
            configs.len(),
            limits.learned_per_port,
            limits.pinned,
            limits.age_ticks,
            limits.hash_seed,
        );
        let port = |(id, config): (PortId, PortConfig)| {
            let (sending, receiving) = accounts(id);
            let (producer, consumer) = queue(&pool, receiving, limits.queue_frames);
            let counters = Arc::new(Counters::default());
            let shared = Arc::clone(&counters);
            let port = Port {
                config,
                up: true,
                queue: producer,
                counters,
            };
            (
                port,
                Endpoint::new(id, pool.clone(), consumer, sending, shared),
            )
        };
        let (ports, endpoints) = PortId::all().zip(configs).map(port).unzip();
        let switch = Self { ports, table, pool };
        Ok((switch, endpoints))
    }

    /// Forwards a frame and returns the ports that have something to receive by it.
    /// `now` is the time in any unit, the same as of [`Limits::age_ticks`].
    ///
    /// A receiver whose queue is full is left out, and the frame counted there as
    /// [`DropReason::QueueFull`]; others get it.
    ///
    /// # Errors
    /// Why the frame went to nobody, which is counted at the port that it came from. If
    /// every receiver's queue was full, it is the success of an empty set.
    pub fn submit(&mut self, frame: FrameBuf, now: u64) -> Result<PortSet, DropReason> {
        let from = frame.port();
        let outcome = self.forward(&frame, now);
        if let Some(port) = self.ports.get(from.index()) {
            match outcome {
                Ok((_, bytes)) => port.counters.count_rx(bytes),
                Err(reason) => port.counters.count_drop(reason),
            }
        }
        outcome.map(|(wake, _)| wake)
    }

    /// Does what [`submit`](Self::submit) says; also returns the frame's length as it came.
    fn forward(&mut self, frame: &FrameBuf, now: u64) -> Result<(PortSet, usize), DropReason> {
        let from = frame.port();
        if !frame.pool().is(&self.pool) {
            return Err(DropReason::Foreign);
        }
        let port = self.ports.get(from.index()).ok_or(DropReason::Foreign)?;
        if !port.up {
            return Err(DropReason::LinkDown);
        }
        let buffer = self.pool.buffer(frame.slot()).ok_or(DropReason::Foreign)?;
        let mut buffer = buffer.write();
        let came = buffer.len();
        let admitted = admit(&port.config, self.pool.frame_bytes(), &mut buffer)?;
        let bytes = buffer.len();
        drop(buffer);
        let (vlan, source) = (admitted.vlan, admitted.source);
        self.table.learn(vlan, source, from, now)?;
        let destination = admitted.destination;
        let known = if destination.is_multicast() {
            None
        } else {
            self.table.port(vlan, destination, now)
        };
        let wake = match known {
            Some(to) if to == from => return Err(DropReason::SamePort),
            Some(to) => self.send_to_one(to, frame.slot(), bytes, &admitted)?,
            None => self.flood(from, frame.slot(), bytes, &admitted)?,
        };
        Ok((wake, came))
    }

    fn send_to_one(
        &mut self,
        to: PortId,
        slot: u32,
        bytes: usize,
        frame: &Admitted,
    ) -> Result<PortSet, DropReason> {
        let port = self.ports.get_mut(to.index());
        let sent = port.and_then(|port| port.send(slot, bytes, frame));
        match sent {
            Some(true) => Ok(PortSet::from_iter([to])),
            Some(false) => Ok(PortSet::EMPTY),
            None => Err(DropReason::NoReceiver),
        }
    }

    fn flood(
        &mut self,
        from: PortId,
        slot: u32,
        bytes: usize,
        frame: &Admitted,
    ) -> Result<PortSet, DropReason> {
        let mut wake = PortSet::EMPTY;
        let mut reached = false;
        for (id, port) in PortId::all()
            .zip(&mut self.ports)
            .filter(|(id, _)| *id != from)
        {
            let sent = port.send(slot, bytes, frame);
            reached |= sent.is_some();
            if sent == Some(true) {
                wake.insert(id);
            }
        }
        if reached {
            Ok(wake)
        } else {
            Err(DropReason::NoReceiver)
        }
    }

    /// Takes a port up or down. A port that is down neither sends nor receives, and
    /// what was learned from it is forgotten. What waits in its queue stays there.
    pub fn set_up(&mut self, port: PortId, up: bool) {
        if let Some(state) = self.ports.get_mut(port.index()) {
            state.up = up;
            if !up {
                self.table.forget_port(port);
            }
        }
    }

    /// Gives a port another configuration. What was learned from it is forgotten;
    /// pinned addresses stay.
    pub fn configure(&mut self, port: PortId, config: PortConfig) {
        if let Some(state) = self.ports.get_mut(port.index()) {
            state.config = config;
            self.table.forget_port(port);
        }
    }

    /// Ties an address to a port: its frames go there even if it has never sent, and no
    /// other port may use it as a source. Pinning it again moves it.
    ///
    /// # Errors
    /// See [`PinError`].
    pub fn pin(&mut self, vlan: VlanId, mac: MacAddress, port: PortId) -> Result<(), PinError> {
        if port.index() >= self.ports.len() {
            Err(PinError::NoPort)
        } else if !mac.is_station() {
            Err(PinError::BadAddress)
        } else if self.table.pin(vlan, mac, port) {
            Ok(())
        } else {
            Err(PinError::Full)
        }
    }

    /// Undoes [`pin`](Self::pin); tells whether the address was pinned.
    pub fn unpin(&mut self, vlan: VlanId, mac: MacAddress) -> bool {
        self.table.unpin(vlan, mac)
    }

    /// Returns the port behind which an address is, as far as is known at this time.
    #[must_use]
    pub fn port_of(&self, vlan: VlanId, mac: MacAddress, now: u64) -> Option<PortId> {
        self.table.port(vlan, mac, now)
    }

    /// Returns how many addresses are learned from a port, old ones included.
    #[must_use]
    pub fn learned(&self, port: PortId) -> usize {
        self.table.learned(port)
    }

    /// Returns the ports that are marked as uplinks.
    pub fn uplinks(&self) -> PortSet {
        let ports = PortId::all().zip(&self.ports);
        ports
            .filter_map(|(id, port)| port.config.uplink.then_some(id))
            .collect()
    }

    /// Returns what has been counted at a port, or `None` if there is no such port.
    #[must_use]
    pub fn statistics(&self, port: PortId) -> Option<Statistics> {
        let port = self.ports.get(port.index())?;
        Some(port.counters.snapshot())
    }

    /// Returns the pool of all frames.
    #[must_use]
    pub const fn pool(&self) -> &FramePool {
        &self.pool
    }
}

impl Port {
    /// Puts a frame into the queue if it leaves by this port. Tells whether there was
    /// room, or `None` if it does not leave here.
    fn send(&mut self, slot: u32, bytes: usize, frame: &Admitted) -> Option<bool> {
        let tag = egress(&self.config.mode, frame).filter(|_| self.up)?;
        let sent = self.queue.put(Queued { slot, tag });
        if sent {
            let tag_bytes = if tag.is_some() { TAG_BYTES } else { 0 };
            self.counters.count_tx(bytes + tag_bytes);
        } else {
            self.counters.count_drop(DropReason::QueueFull);
        }
        Some(sent)
    }
}

/// Returns where a port's frames are charged: those that it builds, and those that wait
/// for it or that it has received.
const fn accounts(port: PortId) -> (usize, usize) {
    (port.index() * 2, port.index() * 2 + 1)
}
