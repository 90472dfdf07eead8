//! Frames in somebody's hands.

use core::fmt;

use spin::RwLockReadGuard;

use crate::checksum::Offload;
use crate::pool::{Buffer, FramePool};
use crate::vlan::{TAG_BYTES, Tag};
use crate::{BadChecksum, DropReason, PortId, complete_checksum};

/// The two addresses at the start of a frame, after which a tag stands.
pub(crate) const ADDRESSES_BYTES: usize = 12;

/// A hold on a frame of a pool; gives it up when dropped.
struct Hold {
    pool: FramePool,
    slot: u32,
    account: usize,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.pool.release(self.slot, self.account);
    }
}

/// A frame that a port is about to send: the sender appends the bytes and gives it to
/// [`Switch::submit`](crate::Switch::submit). Dropping it gives the frame back.
#[must_use = "the frame is not sent"]
pub struct FrameBuf {
    hold: Hold,
    port: PortId,
}

impl FrameBuf {
    /// Takes an empty frame for `port`, charged to its account as a sender.
    pub(crate) fn take(
        pool: &FramePool,
        port: PortId,
        account: usize,
        offload: Offload,
    ) -> Result<Self, DropReason> {
        let slot = pool.take(account)?;
        let hold = Hold {
            pool: pool.clone(),
            slot,
            account,
        };
        if let Some(buffer) = pool.buffer(slot) {
            let mut buffer = buffer.write();
            (buffer.start, buffer.end, buffer.offload) = (0, 0, offload);
        }
        Ok(Self { hold, port })
    }

    /// Returns the port that it will come from.
    #[must_use]
    pub const fn port(&self) -> PortId {
        self.port
    }

    /// Returns how many bytes it has so far.
    #[must_use]
    pub fn len(&self) -> usize {
        let buffer = self.hold.pool.buffer(self.hold.slot);
        buffer.map_or(0, |buffer| buffer.read().len())
    }

    /// Tells whether it has no bytes yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends `bytes` bytes, which `fill` writes. What `fill` is given to write to has
    /// unspecified contents; it must write all of it or fail.
    ///
    /// # Errors
    /// What `fill` returns, or [`DropReason::TooLong`] if the frame would be longer
    /// than the pool's frames and a tag. The frame is as it was then.
    pub fn append_with<E: From<DropReason>>(
        &mut self,
        bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let buffer = self.hold.pool.buffer(self.hold.slot);
        let mut buffer = buffer.ok_or(DropReason::Foreign)?.write();
        let end = buffer.end.saturating_add(bytes);
        let range = buffer.end..end;
        let room = buffer.bytes.get_mut(range).ok_or(DropReason::TooLong)?;
        fill(room)?;
        buffer.end = end;
        Ok(())
    }

    /// Appends these bytes.
    ///
    /// # Errors
    /// [`DropReason::TooLong`], as for [`append_with`](Self::append_with).
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), DropReason> {
        self.append_with(bytes.len(), |room| {
            room.copy_from_slice(bytes);
            Ok(())
        })
    }

    pub(crate) const fn slot(&self) -> u32 {
        self.hold.slot
    }

    pub(crate) const fn pool(&self) -> &FramePool {
        &self.hold.pool
    }
}

impl fmt::Debug for FrameBuf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = out.debug_struct("FrameBuf");
        out.field("port", &self.port).finish_non_exhaustive()
    }
}

/// A frame that a port received. Others may hold the same one: it does not change.
/// Dropping it gives the hold back, so a receiver that keeps many has less room in its
/// queue.
pub struct Frame {
    hold: Hold,
    /// The tag with which it leaves the switch.
    tag: Option<Tag>,
    len: usize,
    offload: Offload,
}

impl Frame {
    /// Takes over a hold that is charged to `account`.
    pub(crate) fn adopt(pool: &FramePool, slot: u32, account: usize, tag: Option<Tag>) -> Self {
        let hold = Hold {
            pool: pool.clone(),
            slot,
            account,
        };
        let (len, offload) = pool.buffer(slot).map_or((0, Offload::None), |buffer| {
            let buffer = buffer.read();
            (buffer.len(), buffer.offload)
        });
        let (len, offload) = match tag {
            Some(_) => (len + TAG_BYTES, offload.with_tag(4)),
            None => (len, offload),
        };
        Self {
            hold,
            tag,
            len,
            offload,
        }
    }

    /// Returns the length in bytes, with the tag if it has one.
    #[expect(clippy::len_without_is_empty, reason = "a frame has a header")]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns what is known of its checksum.
    #[must_use]
    pub const fn offload(&self) -> Offload {
        self.offload
    }

    /// Returns the tag that the switch put in, if it did.
    #[must_use]
    pub const fn tag(&self) -> Option<Tag> {
        self.tag
    }

    /// Returns the bytes, for as long as the result lives.
    #[must_use]
    pub fn bytes(&self) -> FrameBytes<'_> {
        FrameBytes {
            buffer: self
                .hold
                .pool
                .buffer(self.hold.slot)
                .map(|lock| lock.read()),
            tag: self.tag.map(Tag::bytes),
        }
    }

    /// Copies the frame to the start of `out` and returns its length, or `None` if
    /// `out` is too short.
    #[must_use]
    pub fn copy_to(&self, out: &mut [u8]) -> Option<usize> {
        let out = out.get_mut(..self.len)?;
        let mut at = 0;
        for piece in self.bytes().pieces() {
            out.get_mut(at..at + piece.len())?.copy_from_slice(piece);
            at += piece.len();
        }
        Some(at)
    }

    /// Does as [`copy_to`](Self::copy_to), and completes the checksum in the copy: for a
    /// receiver that cannot, such as a network card.
    ///
    /// # Errors
    /// [`BadChecksum`] if `out` is too short.
    pub fn copy_completed(&self, out: &mut [u8]) -> Result<usize, BadChecksum> {
        let len = self.copy_to(out).ok_or(BadChecksum)?;
        let copy = out.get_mut(..len).ok_or(BadChecksum)?;
        complete_checksum(copy, self.offload)?;
        Ok(len)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = out.debug_struct("Frame");
        out.field("len", &self.len)
            .field("tag", &self.tag)
            .field("offload", &self.offload)
            .finish_non_exhaustive()
    }
}

/// The bytes of a [`Frame`].
pub struct FrameBytes<'a> {
    buffer: Option<RwLockReadGuard<'a, Buffer>>,
    tag: Option<[u8; TAG_BYTES]>,
}

impl FrameBytes<'_> {
    /// Returns the frame's bytes in order: the addresses, the tag, the rest. The tag is
    /// empty if there is none, and so that is how one frame serves tagged and untagged
    /// ports.
    #[must_use]
    pub fn pieces(&self) -> [&[u8]; 3] {
        let frame = self.buffer.as_ref().and_then(|buffer| {
            let frame = buffer.bytes.get(buffer.start..buffer.end)?;
            frame.split_at_checked(ADDRESSES_BYTES)
        });
        let (addresses, rest) = frame.unwrap_or_default();
        let tag = self.tag.as_ref().map_or(&[][..], |tag| tag);
        [addresses, tag, rest]
    }
}

impl fmt::Debug for FrameBytes<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.pieces()).finish()
    }
}
