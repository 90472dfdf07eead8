//! The header of an arm64 `Image` (Linux, "Booting AArch64 Linux").

use super::LoadError;

/// How many bytes of the file are needed to tell.
pub(super) const HEADER_BYTES: usize = 64;

const MAGIC: [u8; 4] = *b"ARM\x64";
/// `text_offset` is taken for granted where `image_size` is zero (before Linux 3.17).
const LEGACY_TEXT_OFFSET: u64 = 0x8_0000;
const FLAG_BIG_ENDIAN: u64 = 1 << 0;
/// The image must lie at a 2 MiB boundary plus `text_offset`.
const BASE_ALIGNMENT: u64 = 2 << 20;

/// Where an image wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    /// From the start of memory, which is aligned to 2 MiB.
    pub(super) offset: u64,
    /// How much memory it uses from there, its uninitialised data included.
    pub(super) occupies: u64,
}

/// Reads the header of a file of `size` bytes that begins with `head`; `None` if
/// it is not an `Image`.
pub(super) fn place(head: &[u8], size: u64) -> Result<Option<Placement>, LoadError> {
    let Some(header) = head.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    if header.get(0x38..0x3c) != Some(&MAGIC) {
        return Ok(None);
    }
    let field = |at: usize| -> u64 {
        header
            .get(at..at + 8)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    };
    let (text_offset, image_size, flags) = (field(0x08), field(0x10), field(0x18));
    if flags & FLAG_BIG_ENDIAN != 0 {
        return Err(LoadError::BadImage);
    }
    let placement = if image_size == 0 {
        Placement {
            offset: LEGACY_TEXT_OFFSET,
            occupies: size,
        }
    } else {
        Placement {
            offset: text_offset,
            occupies: image_size,
        }
    };
    // The entry is at the image's first byte, so that must be an instruction's
    // address; an offset beyond any block boundary makes no sense.
    if !placement.offset.is_multiple_of(4096) || placement.offset > BASE_ALIGNMENT {
        return Err(LoadError::BadImage);
    }
    Ok(Some(placement))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::loader) fn header(text_offset: u64, image_size: u64, flags: u64) -> [u8; 64] {
        let mut header = [0; 64];
        header[0x08..0x10].copy_from_slice(&text_offset.to_le_bytes());
        header[0x10..0x18].copy_from_slice(&image_size.to_le_bytes());
        header[0x18..0x20].copy_from_slice(&flags.to_le_bytes());
        header[0x38..0x3c].copy_from_slice(b"ARM\x64");
        header
    }

    #[test]
    fn the_header_is_honoured() {
        assert_eq!(
            place(&header(0x1000, 0x20_0000, 0b1010), 5000),
            Ok(Some(Placement {
                offset: 0x1000,
                occupies: 0x20_0000
            }))
        );
        assert_eq!(place(&[0; 64], 64), Ok(None));
        assert_eq!(place(&header(0, 1, 0)[..63], 63), Ok(None));
    }

    #[test]
    fn an_old_image_has_no_size() {
        assert_eq!(
            place(&header(0x1234, 0, 0), 5000),
            Ok(Some(Placement {
                offset: 0x8_0000,
                occupies: 5000
            }))
        );
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(place(&header(0, 1, 1), 64), Err(LoadError::BadImage));
        assert_eq!(place(&header(3, 1, 0), 64), Err(LoadError::BadImage));
        assert_eq!(place(&header(!0xfff, 1, 0), 64), Err(LoadError::BadImage));
    }
}
