//! Completing a checksum for a driver that does not take incomplete ones.

use vm_contract::AccessError;

use super::ReceivedFrame;

/// Adds bytes as 16-bit numbers in ones' complement (RFC 1071), in pieces of any
/// length.
#[derive(Default)]
struct Sum {
    total: u64,
    /// The first half of a number whose second half is in the next piece.
    half: Option<u8>,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if let Some(high) = self.half
            && let Some((low, others)) = bytes.split_first()
        {
            self.total += u64::from(u16::from_be_bytes([high, *low]));
            self.half = None;
            rest = others;
        }
        let (words, last) = rest.as_chunks();
        let words = words
            .iter()
            .map(|word| u64::from(u16::from_be_bytes(*word)));
        self.total += words.sum::<u64>();
        self.half = last.first().copied().or(self.half);
    }

    fn finish(self) -> u16 {
        let last = u16::from_be_bytes([self.half.unwrap_or(0), 0]);
        let mut total = self.total + u64::from(last);
        while total >> 16 != 0 {
            total = (total & 0xFFFF) + (total >> 16);
        }
        u16::try_from(total).unwrap_or(u16::MAX)
    }
}

/// Returns the checksum of what follows the first `start` bytes of a frame, as it
/// belongs into its field. Never zero, which would mean "none" in UDP (RFC 768).
pub(super) fn completed(frame: &impl ReceivedFrame, start: u16) -> Result<[u8; 2], AccessError> {
    let mut before = usize::from(start);
    let mut sum = Sum::default();
    frame.pieces(&mut |piece| {
        let skipped = before.min(piece.len());
        before -= skipped;
        sum.add(piece.get(skipped..).unwrap_or_default());
        Ok(())
    })?;
    let sum = !sum.finish();
    let sum = if sum == 0 { u16::MAX } else { sum };
    Ok(sum.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(pieces: &[&[u8]]) -> u16 {
        let mut sum = Sum::default();
        pieces.iter().for_each(|piece| sum.add(piece));
        sum.finish()
    }

    #[test]
    fn pieces_make_no_difference() {
        let whole = sum(&[&[0x12, 0x34, 0x56, 0x78, 0x9A]]);
        assert_eq!(whole, {
            let plain: u32 = 0x1234 + 0x5678 + 0x9A00;
            u16::try_from((plain & 0xFFFF) + (plain >> 16)).unwrap()
        });
        assert_eq!(sum(&[&[0x12], &[], &[0x34, 0x56], &[0x78, 0x9A]]), whole);
        assert_eq!(sum(&[&[0x12, 0x34, 0x56], &[0x78], &[0x9A]]), whole);
    }

    #[test]
    fn carries_come_round() {
        assert_eq!(sum(&[&[0xFF, 0xFF, 0x00, 0x01]]), 1);
        assert_eq!(sum(&[&[0xFF; 64]]), 0xFFFF);
        assert_eq!(sum(&[]), 0);
    }
}
