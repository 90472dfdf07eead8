//! Where a guest's image, initramfs and device tree go in its memory.
//!
//! Three kinds of image are told apart by their first bytes: arm64 `Image`
//! (plain or compressed with gzip), ELF64, and everything else, which is a raw
//! binary. All are entered at EL1h with X0 pointing to the device tree.

mod elf;
mod gzip;
mod image;

use core::ops::Range;

use thiserror::Error;
use vm_contract::GuestPhysAddr;

pub use elf::ElfError;

/// Where a raw binary goes, from the start of memory.
const RAW_OFFSET: u64 = 0x8_0000;
/// Blocks of this size hold the initramfs and the device tree, so that Linux can
/// map each with one block of its own.
const BLOCK: u64 = 2 << 20;
/// Initramfs and device tree go above this much of the memory, or above half of
/// it: what a raw binary or ELF file keeps behind its end (stack, heap) is
/// unknown.
const LOW_PART: u64 = 128 << 20;
/// Space kept for the device tree.
pub const TREE_BYTES: u64 = BLOCK;

/// Why a guest cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    /// The image's header contradicts itself.
    #[error("the arm64 Image header is damaged")]
    BadImage,
    /// The ELF file cannot be loaded.
    #[error("the ELF file cannot be loaded: {0}")]
    Elf(#[from] ElfError),
    /// The compressed data is damaged or too large when unpacked.
    #[error("the gzip data is damaged or unpacks to more than the VM's memory")]
    BadGzip,
    /// The VM has too little memory for its images.
    #[error("the VM's memory is too small for its image, initramfs and device tree")]
    DoesNotFit,
}

/// A piece of an image and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The first address.
    pub address: GuestPhysAddr,
    /// What goes there.
    pub bytes: &'a [u8],
}

/// An image, understood: what goes where and where it begins.
#[derive(Debug)]
pub struct Layout {
    /// The first instruction.
    pub entry: GuestPhysAddr,
    /// Where the device tree goes: [`TREE_BYTES`] are kept for it.
    pub tree: GuestPhysAddr,
    /// Where the initramfs goes.
    pub initrd: Option<GuestPhysAddr>,
    kind: Kind,
    ram_start: u64,
}

#[derive(Debug)]
enum Kind {
    /// One piece, at this address.
    Flat(u64),
    Compressed(u64),
    Elf,
}

impl Layout {
    /// Plans where `image` and an initramfs of `initrd_bytes` go in memory that
    /// spans `ram`.
    ///
    /// # Errors
    /// [`LoadError`]: what is wrong with the image, or that it does not fit.
    pub fn plan(
        image: &[u8],
        initrd_bytes: Option<u64>,
        ram: Range<u64>,
    ) -> Result<Self, LoadError> {
        let (kind, entry, occupied) = Self::understand(image, &ram)?;
        if occupied.start < ram.start || occupied.end > ram.end {
            return Err(LoadError::DoesNotFit);
        }
        let low_part = ram.start + LOW_PART.min((ram.end - ram.start) / 2);
        let tree = align_up(occupied.end, BLOCK)
            .map(|end| end.max(low_part & !(BLOCK - 1)))
            .ok_or(LoadError::DoesNotFit)?;
        let after_tree = tree + TREE_BYTES;
        let end = initrd_bytes
            .map_or(Some(after_tree), |bytes| after_tree.checked_add(bytes))
            .ok_or(LoadError::DoesNotFit)?;
        if end > ram.end {
            return Err(LoadError::DoesNotFit);
        }
        Ok(Self {
            entry: guest(entry),
            tree: guest(tree),
            initrd: initrd_bytes.map(|_| guest(after_tree)),
            kind,
            ram_start: ram.start,
        })
    }

    /// Plans for firmware in read-only memory at address 0: entered there, with
    /// the device tree at the start of RAM.
    #[must_use]
    pub fn firmware(ram: &Range<u64>) -> Self {
        Self {
            entry: guest(0),
            tree: guest(ram.start),
            initrd: None,
            kind: Kind::Flat(0),
            ram_start: ram.start,
        }
    }

    /// Returns where the image goes if it goes there as it is.
    #[must_use]
    pub fn flat(&self) -> Option<GuestPhysAddr> {
        match self.kind {
            Kind::Flat(address) => Some(guest(address)),
            Kind::Compressed(_) | Kind::Elf => None,
        }
    }

    /// Calls `put` for each piece of `image`, the one that was planned for.
    ///
    /// # Errors
    /// [`LoadError::BadGzip`] if it cannot be unpacked, and whatever `put` returns.
    pub fn load(
        &self,
        image: &[u8],
        mut put: impl FnMut(Piece<'_>) -> Result<(), LoadError>,
    ) -> Result<(), LoadError> {
        match self.kind {
            Kind::Flat(address) => put(Piece {
                address: guest(address),
                bytes: image,
            }),
            Kind::Compressed(address) => gzip::unpack(image, |offset, bytes| {
                put(Piece {
                    address: guest(address + offset),
                    bytes,
                })
            }),
            Kind::Elf => {
                let elf = elf::Elf::parse(image)?;
                let bias = elf.bias(self.ram_start)?;
                for segment in elf.segments() {
                    let segment = segment?;
                    put(Piece {
                        address: guest(segment.address + bias),
                        bytes: segment.bytes,
                    })?;
                }
                Ok(())
            }
        }
    }

    /// Returns the kind of `image`, its entry and what it occupies.
    fn understand(image: &[u8], ram: &Range<u64>) -> Result<(Kind, u64, Range<u64>), LoadError> {
        if elf::Elf::is_elf(image) {
            let elf = elf::Elf::parse(image)?;
            let bias = elf.bias(ram.start)?;
            let span = elf.span()?;
            let end = span.end.checked_add(bias).ok_or(LoadError::DoesNotFit)?;
            return Ok((
                Kind::Elf,
                elf.entry().wrapping_add(bias),
                span.start + bias..end,
            ));
        }
        let compressed = gzip::is_gzip(image);
        let mut unpacked_head = [0; image::HEADER_BYTES];
        let head = if compressed {
            gzip::unpack_head(image, &mut unpacked_head)?;
            &unpacked_head[..]
        } else {
            image
        };
        let size = if compressed {
            gzip::unpacked_bytes(image)?
        } else {
            image.len() as u64
        };
        let placement = image::place(head, size)?;
        let offset = placement.map_or(RAW_OFFSET, |image| image.offset);
        let occupies = placement.map_or(size, |image| image.occupies.max(size));
        let start = ram.start + offset;
        let end = start.checked_add(occupies).ok_or(LoadError::DoesNotFit)?;
        let kind = if compressed {
            Kind::Compressed(start)
        } else {
            Kind::Flat(start)
        };
        Ok((kind, start, start..end))
    }
}

/// A guest physical address; targets have 64-bit pointers only.
fn guest(address: u64) -> GuestPhysAddr {
    GuestPhysAddr::from(usize::try_from(address).unwrap_or(usize::MAX))
}

fn align_up(value: u64, alignment: u64) -> Option<u64> {
    value.checked_next_multiple_of(alignment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const RAM: Range<u64> = 0x4000_0000..0x6000_0000;

    fn addresses(layout: &Layout) -> (usize, usize, Option<usize>) {
        (
            layout.entry.into(),
            layout.tree.into(),
            layout.initrd.map(usize::from),
        )
    }

    #[test]
    fn an_image_goes_where_its_header_says_and_the_tree_above_it() {
        let image = image::tests::header(0, 40 << 20, 0b1010);
        let layout = Layout::plan(&image, Some(1000), RAM).expect("a good image");
        assert_eq!(
            addresses(&layout),
            (0x4000_0000, 0x4800_0000, Some(0x4820_0000))
        );
    }

    #[test]
    fn a_large_image_pushes_the_tree_up() {
        let image = image::tests::header(0x8_0000, 300 << 20, 0b1010);
        let layout = Layout::plan(&image, None, RAM).expect("a good image");
        assert_eq!(
            addresses(&layout),
            (0x4008_0000, 0x5300_0000 - 0x20_0000, None)
        );
    }

    #[test]
    fn a_raw_binary_is_entered_at_its_first_byte() {
        let raw = vec![0x1f; 100];
        let layout = Layout::plan(&raw, None, RAM).expect("anything is a raw binary");
        assert_eq!(addresses(&layout), (0x4008_0000, 0x4800_0000, None));
        let mut pieces = Vec::new();
        layout
            .load(&raw, |piece| {
                pieces.push((usize::from(piece.address), piece.bytes.len()));
                Ok(())
            })
            .expect("plain copy");
        assert_eq!(pieces, [(0x4008_0000, 100)]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let small = 0x4000_0000..0x4040_0000;
        assert_eq!(
            Layout::plan(&[0; 64], Some(4 << 20), small.clone()).err(),
            Some(LoadError::DoesNotFit)
        );
        assert_eq!(
            Layout::plan(&[0; 64], Some(u64::MAX), RAM).err(),
            Some(LoadError::DoesNotFit)
        );
        let image = image::tests::header(0, u64::MAX, 0b1010);
        assert!(Layout::plan(&image, None, RAM).is_err());
        assert!(Layout::plan(&[0; 64], None, small).is_ok());
    }

    #[test]
    fn a_compressed_image_is_unpacked_in_place() {
        let mut image = image::tests::header(0, 1 << 20, 0b1010).to_vec();
        image.extend((0..=250u8).cycle().take(300_000));
        let packed = gzip::tests::stored(&image);
        let layout = Layout::plan(&packed, None, RAM).expect("a good image");
        assert_eq!(addresses(&layout).0, 0x4000_0000);
        let mut unpacked = vec![0; image.len()];
        layout
            .load(&packed, |piece| {
                let at = usize::from(piece.address) - 0x4000_0000;
                unpacked[at..at + piece.bytes.len()].copy_from_slice(piece.bytes);
                Ok(())
            })
            .expect("it was planned");
        assert!(unpacked == image);
    }

    proptest! {
        #[test]
        fn no_image_whatever_leads_out_of_memory_or_panics(
            kind in 0..4usize,
            mut bytes in prop::collection::vec(any::<u8>(), 0..600),
            initrd in prop::option::of(0..0x4000_0000u64),
        ) {
            let magic: &[u8] = [&b""[..], b"\x7fELF\x02\x01\x01", b"\x1f\x8b\x08", b""][kind];
            if bytes.len() >= 64 {
                bytes[..magic.len()].copy_from_slice(magic);
                if kind == 3 {
                    bytes[0x38..0x3c].copy_from_slice(b"ARM\x64");
                }
            }
            if let Ok(layout) = Layout::plan(&bytes, initrd, RAM) {
                prop_assert!(layout.tree >= guest(RAM.start));
                prop_assert!(usize::from(layout.tree) as u64 + TREE_BYTES <= RAM.end);
                let _ = layout.load(&bytes, |_| Ok(()));
            }
        }
    }
}
