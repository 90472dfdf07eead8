//! Flattens the hypervisor's ELF file into an arm64 `Image`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use object::Endianness;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

/// The magic number `ARM\x64` and its offset, by the kernel's boot protocol
/// for arm64.
const MAGIC: &[u8] = b"ARM\x64";
const MAGIC_OFFSET: usize = 0x38;

/// An image larger than this means a wrong linker script.
const LARGEST_IMAGE: u64 = 256 << 20;

/// Writes the flat form of the ELF file `elf` to `image`: its loadable
/// segments at their addresses, the lowest of which must be zero. What the
/// header promises beyond the file (`.bss`) stays out.
pub(crate) fn flatten(elf: &Path, image: &Path) -> Result<()> {
    let bytes = fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
    let flat = flatten_bytes(&bytes).with_context(|| format!("in {}", elf.display()))?;
    fs::write(image, flat).with_context(|| format!("cannot write {}", image.display()))
}

fn flatten_bytes(elf: &[u8]) -> Result<Vec<u8>> {
    let header = FileHeader64::<Endianness>::parse(elf).context("not an ELF64 file")?;
    let endian = header.endian()?;
    let mut flat = Vec::new();
    for segment in header.program_headers(endian, elf)? {
        if segment.p_type(endian) != PT_LOAD {
            continue;
        }
        let start = segment.p_vaddr(endian);
        let data = segment
            .data(endian, elf)
            .ok()
            .context("a segment lies outside the file")?;
        let end = start
            .checked_add(data.len() as u64)
            .filter(|end| *end <= LARGEST_IMAGE)
            .with_context(|| format!("a segment at {start:#x} is out of the image's range"))?;
        let (start, end) = (usize::try_from(start)?, usize::try_from(end)?);
        if flat.len() < end {
            flat.resize(end, 0);
        }
        if let Some(place) = flat.get_mut(start..end) {
            place.copy_from_slice(data);
        }
    }
    ensure!(!flat.is_empty(), "no loadable segment");
    if flat.get(MAGIC_OFFSET..MAGIC_OFFSET + MAGIC.len()) != Some(MAGIC) {
        bail!("no arm64 Image header at address 0");
    }
    Ok(flat)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an ELF64 file with these loadable segments.
    fn elf(segments: &[(u64, &[u8])]) -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
        file.resize(16, 0);
        let data_start = 64 + 56 * segments.len() as u64;
        file.extend_from_slice(&3u16.to_le_bytes());
        file.extend_from_slice(&183u16.to_le_bytes());
        file.extend_from_slice(&1u32.to_le_bytes());
        for word in [0u64, 64, 0] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(&0u32.to_le_bytes());
        for half in [64u16, 56, u16::try_from(segments.len()).unwrap(), 64, 0, 0] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        let mut offset = data_start;
        for (address, data) in segments {
            file.extend_from_slice(&1u32.to_le_bytes());
            file.extend_from_slice(&5u32.to_le_bytes());
            let length = data.len() as u64;
            for word in [offset, *address, *address, length, length + 4096, 4096] {
                file.extend_from_slice(&word.to_le_bytes());
            }
            offset += length;
        }
        for (_, data) in segments {
            file.extend_from_slice(data);
        }
        file
    }

    fn header() -> Vec<u8> {
        let mut header = vec![0; 64];
        header[MAGIC_OFFSET..MAGIC_OFFSET + 4].copy_from_slice(MAGIC);
        header
    }

    #[test]
    fn segments_land_at_their_addresses_with_zeros_between() {
        let flat = flatten_bytes(&elf(&[(0, &header()), (0x1000, &[1, 2, 3])])).unwrap();
        assert_eq!(flat.len(), 0x1003);
        assert_eq!(flat[..64], header());
        assert!(flat[64..0x1000].iter().all(|byte| *byte == 0));
        assert_eq!(flat[0x1000..], [1, 2, 3]);
    }

    #[test]
    fn files_that_are_no_image_are_refused() {
        assert!(flatten_bytes(b"not an ELF file").is_err());
        assert!(flatten_bytes(&elf(&[])).is_err());
        assert!(flatten_bytes(&elf(&[(0, &[0; 128])])).is_err(), "no magic");
        assert!(flatten_bytes(&elf(&[(0, &header()), (u64::MAX - 1, &[1; 4])])).is_err());
        assert!(flatten_bytes(&elf(&[(0, &header()), (1 << 40, &[1])])).is_err());
    }
}
