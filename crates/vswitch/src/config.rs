//! What a switch and its ports are like.

use thiserror::Error;

use crate::{MacAddress, PortId, VlanId, VlanSet};

/// Sizes of a switch. All memory is allocated by them, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Length of the longest frame in bytes, from the destination address to the end of
    /// the payload: 1514 for an MTU of 1500. A tag comes on top. 60 to 65,000.
    pub frame_bytes: usize,
    /// How many frames may wait for one receiver or be in its hands. 1 to 65,536.
    pub queue_frames: u32,
    /// How many frames one sender may have in its hands. 1 to 65,536.
    pub sender_frames: u32,
    /// Frames in the pool, at least 1. `None`: as many as all ports together may hold,
    /// so that the pool never runs out. With fewer, ports compete for them.
    pub pool_frames: Option<u32>,
    /// How many addresses may be learned from one port; then its own oldest makes room.
    /// 0 to 65,536.
    pub learned_per_port: u32,
    /// How many addresses can be pinned. 0 to 65,536.
    pub pinned: u32,
    /// After how long without a frame from it an address is forgotten, in the unit of
    /// the times given to [`Switch::submit`](crate::Switch::submit).
    pub age_ticks: u64,
    /// A number that guests do not know, so that they cannot choose addresses that all
    /// fall into one chain of the table.
    pub hash_seed: u64,
}

impl Limits {
    /// Returns usual sizes for an MTU of 1500: 256 frames for a receiver, 8 for a
    /// sender, 256 addresses per port and 64 pinned ones, 300 seconds of `ticks_per_second` ticks.
    #[must_use]
    pub const fn usual(ticks_per_second: u64, hash_seed: u64) -> Self {
        Self {
            frame_bytes: 1514,
            queue_frames: 256,
            sender_frames: 8,
            pool_frames: None,
            learned_per_port: 256,
            pinned: 64,
            age_ticks: ticks_per_second.saturating_mul(300),
            hash_seed,
        }
    }

    /// Returns the number of frames in the pool of a switch with `ports` ports.
    pub(crate) fn frames(&self, ports: u32) -> u32 {
        let all = (self.queue_frames + self.sender_frames).saturating_mul(ports);
        self.pool_frames.unwrap_or(all)
    }

    pub(crate) fn check(&self, ports: usize) -> Result<(), ConfigError> {
        const MOST: u32 = 65_536;
        let shares = [self.queue_frames, self.sender_frames];
        let table = [self.learned_per_port, self.pinned];
        if ports == 0 || ports > PortId::COUNT {
            Err(ConfigError::Ports(ports))
        } else if !(60..=65_000).contains(&self.frame_bytes) {
            Err(ConfigError::FrameBytes(self.frame_bytes))
        } else if shares.iter().any(|share| !(1..=MOST).contains(share))
            || self.pool_frames == Some(0)
        {
            Err(ConfigError::Frames)
        } else if table.iter().any(|entries| *entries > MOST) {
            Err(ConfigError::Addresses)
        } else {
            Ok(())
        }
    }
}

/// Why a switch cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A switch has 1 to 64 ports.
    #[error("a switch has 1 to 64 ports, not {0}")]
    Ports(usize),
    /// Frames have 60 to 65,000 bytes.
    #[error("frames have 60 to 65,000 bytes, not {0}")]
    FrameBytes(usize),
    /// Queue, sender's share or pool outside its bounds.
    #[error("a queue, a share or the pool has too many or too few frames")]
    Frames,
    /// Too many addresses.
    #[error("too many addresses to learn or to pin")]
    Addresses,
}

/// Which VLANs a port is in, and how its frames tell them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortMode {
    /// One VLAN, no tags either way. A tag without a VLAN (priority only) is taken
    /// away; any other is refused.
    Access(VlanId),
    /// Several VLANs, by tag.
    Trunk {
        /// The VLANs whose frames pass.
        allowed: VlanSet,
        /// The VLAN of frames without a tag, which is allowed by being named here.
        /// `None`: such frames are dropped.
        native: Option<VlanId>,
    },
}

/// What a port is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    pub(crate) mode: PortMode,
    pub(crate) only_source: Option<MacAddress>,
    pub(crate) uplink: bool,
}

impl PortConfig {
    /// Returns a port of this mode that is no uplink and may use any address.
    #[must_use]
    pub const fn new(mode: PortMode) -> Self {
        Self {
            mode,
            only_source: None,
            uplink: false,
        }
    }

    /// Returns an access port of `vlan`.
    #[must_use]
    pub const fn access(vlan: VlanId) -> Self {
        Self::new(PortMode::Access(vlan))
    }

    /// Returns a trunk of the `allowed` VLANs.
    #[must_use]
    pub const fn trunk(allowed: VlanSet, native: Option<VlanId>) -> Self {
        Self::new(PortMode::Trunk { allowed, native })
    }

    /// Drops frames from the port that have another source address: no spoofing.
    #[must_use]
    pub const fn only_from(mut self, source: MacAddress) -> Self {
        self.only_source = Some(source);
        self
    }

    /// Marks the port as one that leads to the world outside. It forwards like any
    /// other; see [`Switch::uplinks`](crate::Switch::uplinks).
    #[must_use]
    pub const fn as_uplink(mut self) -> Self {
        self.uplink = true;
        self
    }

    /// Returns the mode.
    #[must_use]
    pub const fn mode(&self) -> &PortMode {
        &self.mode
    }
}
