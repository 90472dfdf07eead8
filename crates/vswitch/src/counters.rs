//! What is counted at each port.

use core::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

/// Why a frame went no further.
///
/// All but [`QueueFull`](Self::QueueFull) are counted at the port that the frame came
/// from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum DropReason {
    /// The port is down.
    #[error("the port is down")]
    LinkDown,
    /// The pool has no free frame.
    #[error("the pool has no free frame")]
    PoolEmpty,
    /// The sender holds as many unsent frames as it may.
    #[error("the sender holds its share of frames already")]
    ShareUsed,
    /// Shorter than an Ethernet header, with its tag if it has one.
    #[error("the frame is shorter than its header")]
    TooShort,
    /// Longer than the pool's frames.
    #[error("the frame is longer than the pool's frames")]
    TooLong,
    /// The source is a group address or zero.
    #[error("the source address is no station's")]
    BadSource,
    /// The source is not the address that the port must use.
    #[error("the source address is not the port's")]
    Spoofed,
    /// The source is pinned to another port.
    #[error("the source address is pinned to another port")]
    PinnedElsewhere,
    /// The destination is reserved for bridges.
    #[error("the destination is reserved for bridges")]
    Reserved,
    /// A tag on an access port.
    #[error("an access port takes no tagged frames")]
    TaggedOnAccess,
    /// No tag on a trunk without a native VLAN.
    #[error("the trunk has no native VLAN")]
    NoNativeVlan,
    /// The tag's VLAN is not one of the trunk's.
    #[error("the trunk does not carry this VLAN")]
    VlanNotAllowed,
    /// The checksum that is asked for lies outside the frame.
    #[error("the checksum to complete lies outside the frame")]
    BadChecksum,
    /// The destination is behind the port that the frame came from.
    #[error("the destination is where the frame came from")]
    SamePort,
    /// No other port is up in the VLAN.
    #[error("nobody else is there")]
    NoReceiver,
    /// The frame is of another switch's pool.
    #[error("the frame belongs to another switch")]
    Foreign,
    /// The receiver has its share of frames already. Counted at the receiver's port.
    #[error("the receiver's queue is full")]
    QueueFull,
}

impl DropReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 17] = [
        Self::LinkDown,
        Self::PoolEmpty,
        Self::ShareUsed,
        Self::TooShort,
        Self::TooLong,
        Self::BadSource,
        Self::Spoofed,
        Self::PinnedElsewhere,
        Self::Reserved,
        Self::TaggedOnAccess,
        Self::NoNativeVlan,
        Self::VlanNotAllowed,
        Self::BadChecksum,
        Self::SamePort,
        Self::NoReceiver,
        Self::Foreign,
        Self::QueueFull,
    ];
}

/// The counters of a port. All wrap at 2^64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames that came from the port and went to at least one queue.
    pub rx_frames: u64,
    /// Their bytes, as they came.
    pub rx_bytes: u64,
    /// Frames put into the port's queue.
    pub tx_frames: u64,
    /// Their bytes, as they leave.
    pub tx_bytes: u64,
    /// Dropped frames by reason, see [`drops`](Self::drops).
    dropped: [u64; DropReason::ALL.len()],
}

impl Statistics {
    /// Returns how many frames were dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped.get(reason as usize).copied().unwrap_or(0)
    }

    /// Returns each reason with its number of frames.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.into_iter().zip(self.dropped)
    }

    #[cfg(feature = "fakes")]
    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        if let Some(count) = self.dropped.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

/// Counters that the switch and the port's endpoint both write.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    rx_frames: AtomicU64,
    rx_bytes: AtomicU64,
    tx_frames: AtomicU64,
    tx_bytes: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
}

impl Counters {
    pub(crate) fn count_drop(&self, reason: DropReason) {
        if let Some(counter) = self.dropped.get(reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_rx(&self, bytes: usize) {
        self.rx_frames.fetch_add(1, Ordering::Relaxed);
        self.rx_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_tx(&self, bytes: usize) {
        self.tx_frames.fetch_add(1, Ordering::Relaxed);
        self.tx_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Statistics {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            rx_frames: value(&self.rx_frames),
            rx_bytes: value(&self.rx_bytes),
            tx_frames: value(&self.tx_frames),
            tx_bytes: value(&self.tx_bytes),
            dropped: self.dropped.each_ref().map(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let counters = Counters::default();
        for (times, reason) in (1..).zip(DropReason::ALL) {
            (0..times).for_each(|_| counters.count_drop(reason));
        }
        let counted = counters.snapshot();
        for (times, (reason, count)) in (1..).zip(counted.drops()) {
            assert_eq!(
                (count, counted.dropped(reason)),
                (times, times),
                "{reason:?}"
            );
        }
    }
}
