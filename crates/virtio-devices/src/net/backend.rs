//! What a card is joined to.

use vm_contract::AccessError;

use crate::DataBuffers;

/// What is known of the transport checksum of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// It stands in the frame, as yet unchecked.
    #[default]
    InFrame,
    /// It is incomplete: its field holds the sum of the pseudo-header, to which what
    /// follows must be added (VirtIO 1.2, 5.1.6.2, `VIRTIO_NET_HDR_F_NEEDS_CSUM`).
    Needed {
        /// First byte that is summed, counted from the start of the frame.
        start: u16,
        /// Where the 16-bit field is, counted from `start`.
        offset: u16,
    },
    /// It was verified (`VIRTIO_NET_HDR_F_DATA_VALID`).
    Valid,
}

impl Checksum {
    /// Returns `self` if a checksum to complete lies within a frame of this length,
    /// else `None`.
    #[must_use]
    pub fn within(self, frame_bytes: u64) -> Option<Self> {
        match self {
            Self::Needed { start, offset } => {
                let end = u64::from(start) + u64::from(offset) + 2;
                (end <= frame_bytes).then_some(self)
            }
            other => Some(other),
        }
    }
}

/// A frame of the driver, in its memory.
#[derive(Clone, Copy)]
pub struct TransmitFrame<'a> {
    pub(super) data: DataBuffers<'a>,
    pub(super) checksum: Checksum,
}

impl<'a> TransmitFrame<'a> {
    /// Returns the frame from its destination address on. It may be shorter than an
    /// Ethernet header. The guest can change it at any time: copy it, then look at the
    /// copy.
    #[must_use]
    pub const fn data(&self) -> DataBuffers<'a> {
        self.data
    }

    /// Returns what is known of its checksum, which lies within the frame.
    #[must_use]
    pub const fn checksum(&self) -> Checksum {
        self.checksum
    }
}

/// Takes the next piece of a frame.
pub type Take<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), AccessError>;

/// A frame for the driver.
pub trait ReceivedFrame {
    /// Returns the length in bytes from the destination address on; no more than 65,535.
    fn len(&self) -> usize;

    /// Tells whether it has no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what is known of its checksum.
    fn checksum(&self) -> Checksum;

    /// Gives the bytes to `take`, in order, in as many pieces as they are kept in;
    /// [`len`](Self::len) bytes in all, the same each time.
    ///
    /// # Errors
    /// What `take` returns; it is then not called again.
    fn pieces(&self, take: Take<'_>) -> Result<(), AccessError>;
}

/// Where a card's frames go to and come from.
pub trait NetBackend: Send {
    /// A frame for the driver. The card may keep one until the driver has a buffer.
    type Received: ReceivedFrame + Send;

    /// Sends a frame: copies it, or drops it and counts that.
    ///
    /// # Errors
    /// Only that of a copy from [`TransmitFrame::data`]: the driver named memory that it
    /// does not have, and its card stops.
    fn transmit(&mut self, frame: &TransmitFrame<'_>) -> Result<(), AccessError>;

    /// Takes the next frame for the driver, if there is one.
    fn receive(&mut self) -> Option<Self::Received>;
}
