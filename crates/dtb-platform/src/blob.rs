//! The check that a blob must pass before it is read.
//!
//! The reading crate underneath trusts a blob's offsets and tokens and panics
//! where they lie; it also loses properties that follow a no-operation token.
//! So a blob is walked once here: what passes has every offset, length, string
//! and nesting verified, and no such token left.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::ops::Range;

use crate::BlobError;

/// The deepest nesting that is followed; it bounds the reader's recursion.
/// Real trees have about ten levels.
pub(crate) const MAX_DEPTH: usize = 32;

const MAGIC: u32 = 0xd00d_feed;
const HEADER_BYTES: usize = 40;
/// The version of the format that is read and written here.
const VERSION: u32 = 17;

/// Offsets of the header's fields in bytes.
mod field {
    pub(super) const MAGIC: usize = 0;
    pub(super) const TOTAL_SIZE: usize = 4;
    pub(super) const STRUCTURE_OFFSET: usize = 8;
    pub(super) const STRINGS_OFFSET: usize = 12;
    pub(super) const RESERVATIONS_OFFSET: usize = 16;
    pub(super) const VERSION: usize = 20;
    pub(super) const LAST_COMPATIBLE_VERSION: usize = 24;
    pub(super) const BOOT_CPU: usize = 28;
    pub(super) const STRINGS_SIZE: usize = 32;
    pub(super) const STRUCTURE_SIZE: usize = 36;
}

/// The tokens of the structure block.
mod token {
    pub(super) const BEGIN_NODE: u32 = 1;
    pub(super) const END_NODE: u32 = 2;
    pub(super) const PROPERTY: u32 = 3;
    pub(super) const NOP: u32 = 4;
    pub(super) const END: u32 = 9;
}

/// Returns how many bytes the blob has that starts with `start`, of which the
/// first 8 bytes suffice: what a boot loader's bare pointer leaves to be found
/// out.
///
/// ```
/// let start = [0xd0, 0x0d, 0xfe, 0xed, 0x00, 0x00, 0x12, 0x34];
/// assert_eq!(dtb_platform::blob_bytes(&start), Ok(0x1234));
/// ```
///
/// # Errors
/// [`BlobError::BadMagic`] if this is not a device tree, and
/// [`BlobError::Truncated`] if `start` is too short or the blob says that it
/// is shorter than its own header.
pub fn blob_bytes(start: &[u8]) -> Result<usize, BlobError> {
    let magic = be32(start, field::MAGIC).ok_or(BlobError::Truncated)?;
    if magic != MAGIC {
        return Err(BlobError::BadMagic);
    }
    let bytes = be32(start, field::TOTAL_SIZE).ok_or(BlobError::Truncated)? as usize;
    if bytes < HEADER_BYTES {
        Err(BlobError::Truncated)
    } else {
        Ok(bytes)
    }
}

/// A blob that the reading crate can be trusted with.
pub(crate) struct Blob<'a>(Cow<'a, [u8]>);

impl<'a> Blob<'a> {
    /// Checks `bytes`, which may be longer than the blob.
    pub(crate) fn check(bytes: &'a [u8]) -> Result<Self, BlobError> {
        let total = blob_bytes(bytes)?;
        let bytes = bytes.get(..total).ok_or(BlobError::Truncated)?;
        let header = |at| be32(bytes, at).ok_or(BlobError::Truncated);

        let version = header(field::VERSION)?;
        if version < VERSION || header(field::LAST_COMPATIBLE_VERSION)? > VERSION {
            return Err(BlobError::Version(version));
        }
        let block = |offset, size| {
            let start = header(offset)? as usize;
            let end = start
                .checked_add(header(size)? as usize)
                .ok_or(BlobError::Truncated)?;
            Ok(start..end)
        };
        let strings = block(field::STRINGS_OFFSET, field::STRINGS_SIZE)?;
        let strings = bytes.get(strings).ok_or(BlobError::Block("strings"))?;
        let place = block(field::STRUCTURE_OFFSET, field::STRUCTURE_SIZE)?;
        let structure = bytes
            .get(place.clone())
            .ok_or(BlobError::Block("structure"))?;
        check_reservations(bytes, header(field::RESERVATIONS_OFFSET)? as usize)?;

        let mut nops = Vec::new();
        check_structure(structure, strings, &mut nops)?;
        Ok(Self(if nops.is_empty() {
            Cow::Borrowed(bytes)
        } else {
            Cow::Owned(without_nops(bytes, place, &nops))
        }))
    }

    /// Returns the blob, without anything behind it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the header's number of the CPU that boots.
    pub(crate) fn boot_cpu(&self) -> u32 {
        be32(&self.0, field::BOOT_CPU).unwrap_or(0)
    }
}

/// Returns a copy of `bytes` whose structure block, at `place`, lacks the
/// tokens at the offsets `nops`. The gap is left behind its end.
fn without_nops(bytes: &[u8], place: Range<usize>, nops: &[usize]) -> Vec<u8> {
    let (Some(before), Some(structure), Some(after)) = (
        bytes.get(..place.start),
        bytes.get(place.clone()),
        bytes.get(place.end..),
    ) else {
        return bytes.to_vec();
    };
    let mut copy = Vec::with_capacity(bytes.len());
    copy.extend_from_slice(before);
    let mut kept = 0;
    for &nop in nops {
        copy.extend_from_slice(structure.get(kept..nop).unwrap_or_default());
        kept = nop + 4;
    }
    copy.extend_from_slice(structure.get(kept..).unwrap_or_default());
    copy.resize(place.end, 0);
    copy.extend_from_slice(after);
    copy
}

/// Checks that the list of memory reservations ends within the blob.
fn check_reservations(bytes: &[u8], offset: usize) -> Result<(), BlobError> {
    let list = bytes.get(offset..).unwrap_or_default();
    let (entries, _) = list.as_chunks::<16>();
    if entries.contains(&[0; 16]) {
        Ok(())
    } else {
        Err(BlobError::Block("memory reservation"))
    }
}

/// Walks the structure block and collects the offsets of its no-operation
/// tokens.
fn check_structure(
    structure: &[u8],
    strings: &[u8],
    nops: &mut Vec<usize>,
) -> Result<(), BlobError> {
    let mut walk = Walk { structure, at: 0 };
    let mut depth = 0;
    // Properties come before the subnodes of their node.
    let mut properties_allowed = false;
    loop {
        let start = walk.at;
        let malformed = BlobError::Structure(start);
        let step = match walk.word().ok_or(malformed)? {
            token::NOP => {
                nops.push(start);
                continue;
            }
            token::BEGIN_NODE if depth == MAX_DEPTH => return Err(BlobError::TooDeep),
            token::BEGIN_NODE => walk
                .name()
                .filter(|name| {
                    // The root alone has no name, and nothing lies beside it.
                    let is_root = start == nops.len() * 4;
                    (depth == 0) == is_root && name.is_empty() == is_root && !name.contains('/')
                })
                .map(|_| {
                    depth += 1;
                    properties_allowed = true;
                }),
            token::PROPERTY if properties_allowed => walk.property(strings),
            token::END_NODE if depth > 0 => {
                depth -= 1;
                properties_allowed = false;
                Some(())
            }
            token::END if depth == 0 && start > nops.len() * 4 => return Ok(()),
            _ => None,
        };
        step.ok_or(malformed)?;
    }
}

/// A position in the structure block, always a multiple of 4.
struct Walk<'a> {
    structure: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    fn word(&mut self) -> Option<u32> {
        let word = be32(self.structure, self.at)?;
        self.at += 4;
        Some(word)
    }

    /// Takes a node's name with its padding.
    fn name(&mut self) -> Option<&'a str> {
        let name = c_str(self.structure.get(self.at..)?)?;
        self.skip(name.len() + 1)?;
        Some(name)
    }

    /// Takes the rest of a property with its padding.
    fn property(&mut self, strings: &[u8]) -> Option<()> {
        let length = self.word()? as usize;
        let name = self.word()? as usize;
        c_str(strings.get(name..)?).filter(|name| !name.is_empty())?;
        self.skip(length)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        let end = self.at.checked_add(bytes)?.checked_next_multiple_of(4)?;
        self.structure.get(self.at..end)?;
        self.at = end;
        Some(())
    }
}

/// Returns the UTF-8 string in front of the first NUL.
fn c_str(bytes: &[u8]) -> Option<&str> {
    core::ffi::CStr::from_bytes_until_nul(bytes)
        .ok()?
        .to_str()
        .ok()
}

/// Returns the big-endian word at byte `at`.
pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_be_bytes)
}
