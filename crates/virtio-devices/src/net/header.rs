//! The header of each frame in a queue (VirtIO 1.2, 5.1.6).

use super::Checksum;

/// Its length, which always counts `num_buffers` (5.1.6: VERSION_1).
pub(super) const HEADER_BYTES: usize = 12;

/// The flags.
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

/// Reads the header of a frame of the driver. Returns `None` if it asks for what was
/// not agreed on, or outside the frame.
pub(super) fn decode(
    header: &[u8; HEADER_BYTES],
    partial: bool,
    frame_bytes: u64,
) -> Option<Checksum> {
    let [flags, segmentation, _, _, _, _, a, b, c, d, _, _] = *header;
    if segmentation != 0 {
        return None;
    }
    if flags & NEEDS_CSUM == 0 {
        return Some(Checksum::InFrame);
    }
    let checksum = Checksum::Needed {
        start: u16::from_le_bytes([a, b]),
        offset: u16::from_le_bytes([c, d]),
    };
    checksum.within(frame_bytes).filter(|_| partial)
}

/// Makes the header of a frame that lies in `buffers` chains.
pub(super) fn encode(checksum: Checksum, buffers: u16) -> [u8; HEADER_BYTES] {
    let (flags, start, offset) = match checksum {
        Checksum::InFrame => (0, 0, 0),
        Checksum::Needed { start, offset } => (NEEDS_CSUM, start, offset),
        Checksum::Valid => (DATA_VALID, 0, 0),
    };
    let [a, b] = start.to_le_bytes();
    let [c, d] = offset.to_le_bytes();
    let [e, f] = buffers.to_le_bytes();
    [flags, 0, 0, 0, 0, 0, a, b, c, d, e, f]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_the_same_both_ways() {
        let needed = Checksum::Needed {
            start: 0x122,
            offset: 6,
        };
        assert_eq!(encode(needed, 1), [1, 0, 0, 0, 0, 0, 0x22, 1, 6, 0, 1, 0]);
        assert_eq!(encode(Checksum::Valid, 0x102)[..1], [2]);
        let header = encode(needed, 0);
        assert_eq!(decode(&header, true, 0x12A), Some(needed));
        assert_eq!(decode(&header, true, 0x129), None);
        assert_eq!(decode(&header, false, 0x12A), None);
        let plain = encode(Checksum::InFrame, 0);
        assert_eq!(decode(&plain, false, 0), Some(Checksum::InFrame));
    }

    #[test]
    fn segments_are_refused() {
        let header = [0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0];
        assert_eq!(decode(&header, true, 1000), None);
    }
}
