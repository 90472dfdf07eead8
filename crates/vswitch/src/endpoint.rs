//! A port as its device sees it.

use alloc::sync::Arc;
use core::fmt;

use crate::checksum::Offload;
use crate::counters::{Counters, Statistics};
use crate::frame::{Frame, FrameBuf};
use crate::pool::FramePool;
use crate::queue::{Consumer, Queued};
use crate::{DropReason, PortId};

/// The outer side of a port: takes empty frames from the pool and received ones from
/// the port's queue. It belongs to one device and needs no lock of the switch.
pub struct Endpoint {
    id: PortId,
    pool: FramePool,
    queue: Consumer,
    /// Where frames that are being built are charged.
    sending: usize,
    counters: Arc<Counters>,
}

impl Endpoint {
    pub(crate) const fn new(
        id: PortId,
        pool: FramePool,
        queue: Consumer,
        sending: usize,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            id,
            pool,
            queue,
            sending,
            counters,
        }
    }

    /// Returns the port.
    #[must_use]
    pub const fn id(&self) -> PortId {
        self.id
    }

    /// Takes an empty frame to send.
    ///
    /// # Errors
    /// [`DropReason::ShareUsed`] if the port holds as many unsent frames as it may,
    /// [`DropReason::PoolEmpty`]. Both are counted.
    pub fn frame(&self, offload: Offload) -> Result<FrameBuf, DropReason> {
        FrameBuf::take(&self.pool, self.id, self.sending, offload)
            .inspect_err(|reason| self.counters.count_drop(*reason))
    }

    /// Counts a frame that its sender could not build, such as one that is too long:
    /// what [`FrameBuf::append_with`] tells is not counted by itself.
    pub fn count_drop(&self, reason: DropReason) {
        self.counters.count_drop(reason);
    }

    /// Takes the oldest frame that waits for the port.
    pub fn receive(&mut self) -> Option<Frame> {
        let account = self.queue.account();
        let Queued { slot, tag } = self.queue.take()?;
        Some(Frame::adopt(&self.pool, slot, account, tag))
    }

    /// Tells whether a frame waits at this moment.
    #[must_use]
    pub fn has_frames(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Gives back all frames that wait, as a reset of the device does. Frames that come
    /// meanwhile may stay. Returns how many there were.
    pub fn discard(&mut self) -> usize {
        // Bounded by what a queue can hold, so that a busy sender does not keep it here.
        let most = self.pool.capacity();
        (0..most).map_while(|_| self.receive()).count()
    }

    /// Returns the pool, which tells the length of the longest frame.
    #[must_use]
    pub const fn pool(&self) -> &FramePool {
        &self.pool
    }

    /// Returns what has been counted at the port.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.counters.snapshot()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = out.debug_struct("Endpoint");
        out.field("id", &self.id).finish_non_exhaustive()
    }
}
