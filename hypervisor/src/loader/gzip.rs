//! Images compressed with gzip (RFC 1952), unpacked piece by piece.

use alloc::boxed::Box;
use alloc::vec;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use super::LoadError;

const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
const FIXED_HEADER_BYTES: usize = 10;
const FLAG_CRC: u8 = 1 << 1;
const FLAG_EXTRA: u8 = 1 << 2;
const FLAG_NAME: u8 = 1 << 3;
const FLAG_COMMENT: u8 = 1 << 4;
/// DEFLATE refers at most this far back, and the window must be a power of two.
const WINDOW_BYTES: usize = 32 << 10;

pub(super) fn is_gzip(file: &[u8]) -> bool {
    file.starts_with(&MAGIC)
}

/// Returns the size that the trailer states (modulo 4 GiB).
pub(super) fn unpacked_bytes(file: &[u8]) -> Result<u64, LoadError> {
    let trailer = file.last_chunk::<4>().ok_or(LoadError::BadGzip)?;
    Ok(u64::from(u32::from_le_bytes(*trailer)))
}

/// Unpacks the first bytes, as many as `head` has; fewer if there are no more.
pub(super) fn unpack_head(file: &[u8], head: &mut [u8]) -> Result<(), LoadError> {
    let wanted = head.len() as u64;
    let outcome = unpack(file, |offset, bytes| {
        for (at, byte) in (offset..).zip(bytes) {
            if let Some(slot) = usize::try_from(at).ok().and_then(|at| head.get_mut(at)) {
                *slot = *byte;
            }
        }
        // Stops the unpacking early; the error is not one.
        if offset + bytes.len() as u64 >= wanted {
            Err(LoadError::DoesNotFit)
        } else {
            Ok(())
        }
    });
    match outcome {
        Ok(()) | Err(LoadError::DoesNotFit) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Calls `put` with each unpacked piece and its offset. Never yields more bytes
/// than the trailer states, whatever the data says.
pub(super) fn unpack(
    file: &[u8],
    mut put: impl FnMut(u64, &[u8]) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let mut input = deflate_data(file).ok_or(LoadError::BadGzip)?;
    let expected = unpacked_bytes(file)?;
    let mut state = Box::new(DecompressorOxide::new());
    let mut window = vec![0; WINDOW_BYTES];
    let (mut total, mut at) = (0, 0);
    loop {
        let (status, consumed, produced) = decompress(
            &mut state,
            input,
            &mut window,
            at,
            inflate_flags::TINFL_FLAG_HAS_MORE_INPUT,
        );
        let piece = window.get(at..at + produced).ok_or(LoadError::BadGzip)?;
        if total + produced as u64 > expected {
            return Err(LoadError::BadGzip);
        }
        if produced > 0 {
            put(total, piece)?;
        }
        total += produced as u64;
        at = (at + produced) % WINDOW_BYTES;
        input = input.get(consumed..).unwrap_or_default();
        match status {
            TINFLStatus::Done if total == expected => return Ok(()),
            // Progress is made each time, or the data is at its end.
            TINFLStatus::HasMoreOutput if produced > 0 || consumed > 0 => {}
            _ => return Err(LoadError::BadGzip),
        }
    }
}

/// Returns what lies between header and trailer.
fn deflate_data(file: &[u8]) -> Option<&[u8]> {
    let flags = *file.get(3)?;
    let mut rest = file.get(FIXED_HEADER_BYTES..)?;
    if flags & FLAG_EXTRA != 0 {
        let length = usize::from(u16::from_le_bytes(*rest.first_chunk()?));
        rest = rest.get(2 + length..)?;
    }
    for flag in [FLAG_NAME, FLAG_COMMENT] {
        if flags & flag != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & FLAG_CRC != 0 {
        rest = rest.get(2..)?;
    }
    rest.get(..rest.len().checked_sub(8)?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Packs `data` into stored blocks, with a name in the header.
    pub(in crate::loader) fn stored(data: &[u8]) -> Vec<u8> {
        let mut file = vec![0x1f, 0x8b, 8, FLAG_NAME, 0, 0, 0, 0, 0, 3];
        file.extend(b"Image\0");
        let mut blocks = data.chunks(0xffff).peekable();
        while let Some(block) = blocks.next() {
            let length = u16::try_from(block.len()).expect("a chunk is short");
            file.push(u8::from(blocks.peek().is_none()));
            file.extend(length.to_le_bytes());
            file.extend((!length).to_le_bytes());
            file.extend(block);
        }
        file.extend([0; 4]);
        file.extend(
            u32::try_from(data.len())
                .expect("tests are small")
                .to_le_bytes(),
        );
        file
    }

    #[test]
    fn what_was_packed_comes_out() {
        let data: Vec<u8> = (0..=255u8).cycle().take(100_000).collect();
        let packed = stored(&data);
        let mut out = Vec::new();
        unpack(&packed, |offset, bytes| {
            assert_eq!(offset, out.len() as u64);
            out.extend_from_slice(bytes);
            Ok(())
        })
        .expect("good data");
        assert!(out == data);
        let mut head = [0; 5];
        unpack_head(&packed, &mut head).expect("good data");
        assert_eq!(head, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn damage_ends_in_an_error() {
        let packed = stored(&[7; 1000]);
        for length in 0..packed.len() {
            assert!(
                unpack(&packed[..length], |_, _| Ok(())).is_err(),
                "{length} bytes"
            );
        }
        let mut small = packed.clone();
        let end = small.len();
        small[end - 4..].copy_from_slice(&999u32.to_le_bytes());
        assert_eq!(unpack(&small, |_, _| Ok(())), Err(LoadError::BadGzip));
    }
}
