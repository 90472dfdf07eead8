//! Checksums that a sender left to somebody behind it.

use thiserror::Error;

/// What travels with a frame besides its bytes: what is known of its transport
/// checksum. A frame is never a segment of several: there is no segmentation
/// offload.
///
/// Positions count from the first byte of the frame as it stands where the value is
/// seen: the switch moves `start` by the four bytes of a VLAN tag when it takes one
/// away or puts one in. The sum covers what follows `start`, which a tag is not part
/// of, so that the sum itself does not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Offload {
    /// Nothing: the checksum stands in the frame, as yet unchecked.
    #[default]
    None,
    /// The checksum is incomplete: its field holds the sum of the pseudo-header, and
    /// what follows must be added (VirtIO 1.2, 5.1.6.2: VIRTIO_NET_HDR_F_NEEDS_CSUM).
    ChecksumNeeded {
        /// First byte that is summed.
        start: u16,
        /// Where the 16-bit field is, counted from `start`.
        offset: u16,
    },
    /// Somebody has verified the checksum (VIRTIO_NET_HDR_F_DATA_VALID).
    ChecksumValid,
}

impl Offload {
    /// Returns the same for a frame that has a tag of `bytes` bytes more in it.
    pub(crate) fn with_tag(self, bytes: u16) -> Self {
        self.moved(|start| start.saturating_add(bytes))
    }

    /// Returns the same for a frame that has lost a tag of `bytes` bytes.
    pub(crate) fn without_tag(self, bytes: u16) -> Self {
        self.moved(|start| start.saturating_sub(bytes))
    }

    fn moved(self, to: impl FnOnce(u16) -> u16) -> Self {
        match self {
            Self::ChecksumNeeded { start, offset } => Self::ChecksumNeeded {
                start: to(start),
                offset,
            },
            other => other,
        }
    }

    /// Checks that an incomplete checksum lies in a frame of `frame_bytes` bytes,
    /// behind its header of `header_bytes`.
    pub(crate) fn check(
        self,
        header_bytes: usize,
        frame_bytes: usize,
    ) -> Result<Self, BadChecksum> {
        match self {
            Self::ChecksumNeeded { start, offset }
                if usize::from(start) < header_bytes
                    || usize::from(start) + usize::from(offset) + 2 > frame_bytes =>
            {
                Err(BadChecksum)
            }
            other => Ok(other),
        }
    }
}

/// The checksum to complete lies outside the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the checksum to complete lies outside the frame")]
pub struct BadChecksum;

/// Completes the checksum of a frame in software, for a receiver that would not do
/// it, such as a network card. Does nothing if it is complete.
///
/// A sum of zero is stored as 0xFFFF, which is the same number and, in UDP, not "no
/// checksum" (RFC 768).
///
/// # Errors
/// [`BadChecksum`] if `offload` names bytes outside `frame`, which is unchanged then.
///
/// ```
/// use vswitch::{Offload, complete_checksum};
///
/// let mut frame = [0x12, 0x34, 0x00, 0x00, 0x56];
/// complete_checksum(&mut frame, Offload::ChecksumNeeded { start: 0, offset: 2 })?;
/// // 0x1234 + 0x5600 = 0x6834, and its complement.
/// assert_eq!(frame, [0x12, 0x34, 0x97, 0xCB, 0x56]);
/// # Ok::<(), vswitch::BadChecksum>(())
/// ```
pub fn complete_checksum(frame: &mut [u8], offload: Offload) -> Result<(), BadChecksum> {
    let Offload::ChecksumNeeded { start, offset } = offload else {
        return Ok(());
    };
    let covered = frame.get_mut(usize::from(start)..).ok_or(BadChecksum)?;
    let sum = !ones_complement_sum(covered);
    let sum = if sum == 0 { 0xFFFF } else { sum };
    let field = covered
        .get_mut(usize::from(offset)..)
        .and_then(<[u8]>::first_chunk_mut)
        .ok_or(BadChecksum)?;
    *field = sum.to_be_bytes();
    Ok(())
}

/// Returns the sum of `bytes` as 16-bit numbers in ones' complement (RFC 1071). An
/// odd last byte is followed by a zero.
fn ones_complement_sum(bytes: &[u8]) -> u16 {
    let (words, last) = bytes.as_chunks();
    let words = words
        .iter()
        .map(|word| u64::from(u16::from_be_bytes(*word)));
    let last = last.iter().map(|byte| u64::from(*byte) << 8);
    let mut sum: u64 = words.chain(last).sum();
    while let Some(carry) = core::num::NonZeroU64::new(sum >> 16) {
        sum = (sum & 0xFFFF) + carry.get();
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: Offload = Offload::ChecksumNeeded {
        start: 14,
        offset: 2,
    };

    #[test]
    fn the_sum_of_a_completed_frame_is_all_ones() {
        let mut frame: [u8; 61] = core::array::from_fn(|n| u8::try_from(n * 7 % 256).unwrap());
        frame[16] = 0;
        frame[17] = 0;
        complete_checksum(&mut frame, NEEDED).unwrap();
        assert_eq!(ones_complement_sum(&frame[14..]), 0xFFFF);
    }

    #[test]
    fn a_sum_of_zero_is_stored_as_ones() {
        let mut frame = [0xFF; 18];
        complete_checksum(&mut frame, NEEDED).unwrap();
        assert_eq!(frame[16..], [0xFF, 0xFF]);
    }

    #[test]
    fn a_field_outside_the_frame_is_refused() {
        let mut frame = [7; 17];
        assert_eq!(complete_checksum(&mut frame, NEEDED), Err(BadChecksum));
        assert_eq!(frame, [7; 17]);
        assert_eq!(
            complete_checksum(&mut frame[..13], NEEDED),
            Err(BadChecksum)
        );
        assert_eq!(NEEDED.check(14, 17), Err(BadChecksum));
        assert_eq!(NEEDED.check(14, 18), Ok(NEEDED));
        assert_eq!(NEEDED.check(15, 18), Err(BadChecksum));
    }

    #[test]
    fn a_tag_moves_the_start_and_nothing_else() {
        let moved = NEEDED.with_tag(4);
        assert_eq!(
            moved,
            Offload::ChecksumNeeded {
                start: 18,
                offset: 2
            }
        );
        assert_eq!(moved.without_tag(4), NEEDED);
        assert_eq!(Offload::ChecksumValid.with_tag(4), Offload::ChecksumValid);
    }
}
