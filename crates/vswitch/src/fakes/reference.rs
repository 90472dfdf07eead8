//! What the switch should do, written for reading: vectors, whole frames, searches.
#![expect(
    clippy::indexing_slicing,
    reason = "a model for tests: its callers name ports that exist"
)]

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use crate::{
    DropReason, Limits, MacAddress, Offload, PortConfig, PortId, PortMode, PortSet, Statistics,
    Tag, VlanId,
};

/// What a port receives: the bytes as they leave the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The whole frame, with its tag.
    pub bytes: Vec<u8>,
    /// What is known of its checksum.
    pub offload: Offload,
    /// Which frame of the pool it is.
    frame: usize,
}

struct Entry {
    vlan: VlanId,
    mac: MacAddress,
    port: PortId,
    seen: u64,
    pinned: bool,
}

/// The model of a switch, its pool and its queues.
pub struct ReferenceSwitch {
    limits: Limits,
    capacity: usize,
    configs: Vec<PortConfig>,
    up: Vec<bool>,
    /// The learned ones oldest first.
    entries: Vec<Entry>,
    queues: Vec<VecDeque<Delivery>>,
    /// Received and not given back, by port.
    held: Vec<VecDeque<Delivery>>,
    /// Taken from the pool and not submitted, by port.
    unsent: Vec<Vec<usize>>,
    statistics: Vec<Statistics>,
    taken: usize,
}

impl ReferenceSwitch {
    /// Returns a model like the switch that is built from the same arguments.
    #[must_use]
    pub fn new(limits: &Limits, configs: Vec<PortConfig>) -> Self {
        let ports = configs.len();
        let each = limits.queue_frames + limits.sender_frames;
        let all = each as usize * ports;
        Self {
            limits: limits.clone(),
            capacity: limits.pool_frames.map_or(all, |frames| frames as usize),
            configs,
            up: alloc::vec![true; ports],
            entries: Vec::new(),
            queues: alloc::vec![VecDeque::new(); ports],
            held: alloc::vec![VecDeque::new(); ports],
            unsent: alloc::vec![Vec::new(); ports],
            statistics: alloc::vec![Statistics::default(); ports],
            taken: 0,
        }
    }

    /// Returns how many frames of the pool are free.
    #[must_use]
    pub fn free(&self) -> usize {
        let received = self.queues.iter().chain(&self.held).flatten();
        let received = received.map(|delivery| delivery.frame);
        let unsent = self.unsent.iter().flatten().copied();
        let used: BTreeSet<_> = received.chain(unsent).collect();
        self.capacity - used.len()
    }

    /// Takes an empty frame for `port`, as `Endpoint::frame` does.
    ///
    /// # Errors
    /// As there.
    pub fn take(&mut self, port: PortId) -> Result<(), DropReason> {
        let outcome = if self.unsent[port.index()].len() >= self.limits.sender_frames as usize {
            Err(DropReason::ShareUsed)
        } else if self.free() == 0 {
            Err(DropReason::PoolEmpty)
        } else {
            Ok(())
        };
        match outcome {
            Ok(()) => {
                self.taken += 1;
                self.unsent[port.index()].push(self.taken);
            }
            Err(reason) => self.statistics[port.index()].count_drop(reason),
        }
        outcome
    }

    /// Counts a frame that a sender could not build.
    pub fn count_drop(&mut self, port: PortId, reason: DropReason) {
        self.statistics[port.index()].count_drop(reason);
    }

    /// Gives back the frame that was taken last and not sent.
    pub fn give_back_unsent(&mut self, port: PortId) {
        self.unsent[port.index()].pop();
    }

    /// Submits the frame that was taken last, with these bytes.
    ///
    /// # Errors
    /// Why it goes to nobody.
    pub fn submit(
        &mut self,
        from: PortId,
        bytes: &[u8],
        offload: Offload,
        now: u64,
    ) -> Result<PortSet, DropReason> {
        let frame = self.unsent[from.index()].last().copied().unwrap_or(0);
        let outcome = self.forward(from, frame, bytes, offload, now);
        self.unsent[from.index()].pop();
        let statistics = &mut self.statistics[from.index()];
        match outcome {
            Ok(_) => {
                statistics.rx_frames += 1;
                statistics.rx_bytes += bytes.len() as u64;
            }
            Err(reason) => statistics.count_drop(reason),
        }
        outcome
    }

    fn forward(
        &mut self,
        from: PortId,
        frame: usize,
        bytes: &[u8],
        offload: Offload,
        now: u64,
    ) -> Result<PortSet, DropReason> {
        if !self.up[from.index()] {
            return Err(DropReason::LinkDown);
        }
        let (vlan, priority, plain) = self.classify(from, bytes)?;
        let tag_bytes = bytes.len() - plain.len();
        let offload = plain_offload(offload, tag_bytes, plain.len())?;
        let destination = address(&plain[..6]);
        self.learn(from, vlan, address(&plain[6..12]), now)?;
        let known = self
            .port_of(vlan, destination, now)
            .filter(|_| !destination.is_multicast());
        if known == Some(from) {
            return Err(DropReason::SamePort);
        }
        let ports = (0..self.configs.len()).filter_map(PortId::new);
        let targets: Vec<_> = match known {
            Some(to) => [to].into(),
            None => ports.filter(|port| *port != from).collect(),
        };
        let up = self.up.clone();
        let mut wake = PortSet::EMPTY;
        let mut reached = false;
        for to in targets.into_iter().filter(|port| up[port.index()]) {
            let Some(tagged) = self.tagged_at(to, vlan, &plain) else {
                continue;
            };
            reached = true;
            let tag = tagged.then(|| priority.in_vlan(vlan));
            if self.deliver(to, frame, &plain, tag, offload) {
                wake.insert(to);
            }
        }
        if reached {
            Ok(wake)
        } else {
            Err(DropReason::NoReceiver)
        }
    }

    /// Returns VLAN, priority and the frame without its tag.
    fn classify(&self, from: PortId, bytes: &[u8]) -> Result<(VlanId, Tag, Vec<u8>), DropReason> {
        let config = &self.configs[from.index()];
        let tagged = bytes.len() >= 14 && bytes[12..14] == [0x81, 0];
        let least = if tagged { 18 } else { 14 };
        let longest = self.limits.frame_bytes + if tagged { 4 } else { 0 };
        if bytes.len() < least {
            return Err(DropReason::TooShort);
        } else if bytes.len() > longest {
            return Err(DropReason::TooLong);
        }
        let source = address(&bytes[6..12]);
        if source == MacAddress::ZERO || source.is_multicast() {
            return Err(DropReason::BadSource);
        } else if config.only_source.is_some_and(|only| only != source) {
            return Err(DropReason::Spoofed);
        } else if bytes[..5] == [1, 0x80, 0xC2, 0, 0] && bytes[5] < 16 {
            return Err(DropReason::Reserved);
        }
        let mut plain = bytes.to_vec();
        let mut tag = Tag::new(0);
        if tagged {
            tag = Tag::new(u16::from_be_bytes([bytes[14], bytes[15]]));
            plain.drain(12..16);
        }
        let vlan = match (&config.mode, tag.identifier()) {
            (PortMode::Access(_), _) if plain[12..14] == [0x81, 0] => {
                return Err(DropReason::TaggedOnAccess);
            }
            (PortMode::Access(vlan), 0) => *vlan,
            (PortMode::Access(_), _) => return Err(DropReason::TaggedOnAccess),
            (PortMode::Trunk { native, .. }, 0) => native.ok_or(DropReason::NoNativeVlan)?,
            (PortMode::Trunk { allowed, native }, raw) => match VlanId::new(raw) {
                Some(vlan) if allowed.contains(vlan) || *native == Some(vlan) => vlan,
                _ => return Err(DropReason::VlanNotAllowed),
            },
        };
        Ok((vlan, tag, plain))
    }

    /// Tells whether frames of `vlan` leave `port` with a tag; `None` if not at all.
    fn tagged_at(&self, port: PortId, vlan: VlanId, plain: &[u8]) -> Option<bool> {
        match &self.configs[port.index()].mode {
            PortMode::Access(own) => (*own == vlan).then_some(false),
            PortMode::Trunk { native, .. } if *native == Some(vlan) => {
                Some(plain[12..14] == [0x81, 0])
            }
            PortMode::Trunk { allowed, .. } => allowed.contains(vlan).then_some(true),
        }
    }

    fn deliver(
        &mut self,
        to: PortId,
        frame: usize,
        plain: &[u8],
        tag: Option<Tag>,
        offload: Offload,
    ) -> bool {
        let statistics = &mut self.statistics[to.index()];
        let waiting = self.queues[to.index()].len() + self.held[to.index()].len();
        if waiting >= self.limits.queue_frames as usize {
            statistics.count_drop(DropReason::QueueFull);
            return false;
        }
        let mut bytes = plain.to_vec();
        let mut offload = offload;
        if let Some(tag) = tag {
            bytes.splice(12..12, tag.bytes());
            if let Offload::ChecksumNeeded { start, .. } = &mut offload {
                *start += 4;
            }
        }
        statistics.tx_frames += 1;
        statistics.tx_bytes += bytes.len() as u64;
        self.queues[to.index()].push_back(Delivery {
            bytes,
            offload,
            frame,
        });
        true
    }

    fn learn(
        &mut self,
        from: PortId,
        vlan: VlanId,
        mac: MacAddress,
        now: u64,
    ) -> Result<(), DropReason> {
        let found = self.find(vlan, mac);
        match found.map(|at| (self.entries[at].pinned, self.entries[at].port)) {
            Some((true, port)) if port == from => return Ok(()),
            Some((true, _)) => return Err(DropReason::PinnedElsewhere),
            _ => {}
        }
        if let Some(at) = found {
            self.entries.remove(at);
        }
        let own = |entry: &Entry| !entry.pinned && entry.port == from;
        if self.learned(from) >= self.limits.learned_per_port as usize
            && let Some(oldest) = self.entries.iter().position(own)
        {
            self.entries.remove(oldest);
        }
        if self.limits.learned_per_port == 0 {
            return Ok(());
        }
        self.entries.push(Entry {
            vlan,
            mac,
            port: from,
            seen: now,
            pinned: false,
        });
        Ok(())
    }

    fn find(&self, vlan: VlanId, mac: MacAddress) -> Option<usize> {
        let mut entries = self.entries.iter();
        entries.position(|entry| entry.vlan == vlan && entry.mac == mac)
    }

    /// Does as `Switch::port_of`.
    #[must_use]
    pub fn port_of(&self, vlan: VlanId, mac: MacAddress, now: u64) -> Option<PortId> {
        let entry = &self.entries[self.find(vlan, mac)?];
        (entry.pinned || now - entry.seen <= self.limits.age_ticks).then_some(entry.port)
    }

    /// Does as `Switch::learned`.
    #[must_use]
    pub fn learned(&self, port: PortId) -> usize {
        let entries = self.entries.iter();
        let own = entries.filter(|entry| !entry.pinned && entry.port == port);
        own.count()
    }

    /// Pins an address; tells whether there was room.
    pub fn pin(&mut self, vlan: VlanId, mac: MacAddress, port: PortId) -> bool {
        let same = |entry: &Entry| entry.vlan == vlan && entry.mac == mac;
        let others = self.entries.iter();
        let others = others.filter(|entry| entry.pinned && !same(entry));
        if others.count() >= self.limits.pinned as usize {
            return false;
        }
        self.entries.retain(|entry| !same(entry));
        self.entries.push(Entry {
            vlan,
            mac,
            port,
            seen: 0,
            pinned: true,
        });
        true
    }

    /// Undoes it; tells whether the address was pinned.
    pub fn unpin(&mut self, vlan: VlanId, mac: MacAddress) -> bool {
        let before = self.entries.len();
        let same = |entry: &Entry| entry.pinned && entry.vlan == vlan && entry.mac == mac;
        self.entries.retain(|entry| !same(entry));
        self.entries.len() < before
    }

    /// Does as `Switch::set_up`.
    pub fn set_up(&mut self, port: PortId, up: bool) {
        self.up[port.index()] = up;
        if !up {
            self.forget(port);
        }
    }

    /// Does as `Switch::configure`.
    pub fn configure(&mut self, port: PortId, config: PortConfig) {
        self.configs[port.index()] = config;
        self.forget(port);
    }

    fn forget(&mut self, port: PortId) {
        let own = |entry: &Entry| !entry.pinned && entry.port == port;
        self.entries.retain(|entry| !own(entry));
    }

    /// Takes the oldest frame that waits; the port holds it then.
    pub fn receive(&mut self, port: PortId) -> Option<Delivery> {
        let delivery = self.queues[port.index()].pop_front()?;
        self.held[port.index()].push_back(delivery.clone());
        Some(delivery)
    }

    /// Gives back the frame that the port has held longest.
    pub fn give_back(&mut self, port: PortId) {
        self.held[port.index()].pop_front();
    }

    /// Does as `Switch::statistics`.
    #[must_use]
    pub fn statistics(&self, port: PortId) -> &Statistics {
        &self.statistics[port.index()]
    }
}

fn address(bytes: &[u8]) -> MacAddress {
    MacAddress::new(core::array::from_fn(|n| bytes[n]))
}

fn plain_offload(
    offload: Offload,
    tag_bytes: usize,
    plain_bytes: usize,
) -> Result<Offload, DropReason> {
    let Offload::ChecksumNeeded { start, offset } = offload else {
        return Ok(offload);
    };
    let first = usize::from(start).checked_sub(tag_bytes);
    let first = first
        .filter(|first| *first >= 14)
        .ok_or(DropReason::BadChecksum)?;
    if first + usize::from(offset) + 2 > plain_bytes {
        return Err(DropReason::BadChecksum);
    }
    let start = u16::try_from(first).map_err(|_| DropReason::BadChecksum)?;
    Ok(Offload::ChecksumNeeded { start, offset })
}
