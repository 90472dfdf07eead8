//! ELF64 executables for AArch64: their loadable segments.

use core::ops::Range;

use thiserror::Error;

const IDENT: [u8; 7] = [0x7f, b'E', b'L', b'F', 2, 1, 1];
const EM_AARCH64: u16 = 183;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PROGRAM_HEADER_BYTES: usize = 56;

/// What is wrong with an ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ElfError {
    /// It is for another machine, or not an executable.
    #[error("it is not an executable for little-endian AArch64")]
    WrongKind,
    /// Headers or segments lie outside the file, or addresses overflow.
    #[error("its headers are damaged")]
    Damaged,
    /// It has no loadable segment.
    #[error("it has nothing to load")]
    Empty,
}

/// A checked view of a file.
pub(super) struct Elf<'a> {
    file: &'a [u8],
    kind: u16,
    entry: u64,
    headers: &'a [u8],
    header_size: usize,
}

/// A segment that goes into memory. What of it is not in the file is zero, as
/// fresh memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    /// Physical address.
    pub(super) address: u64,
    /// What the file holds of it.
    pub(super) bytes: &'a [u8],
    /// One past its end in memory.
    end: u64,
    /// Virtual address of its first byte.
    virtual_address: u64,
}

impl<'a> Elf<'a> {
    pub(super) fn is_elf(file: &[u8]) -> bool {
        file.starts_with(IDENT.get(..4).unwrap_or_default())
    }

    pub(super) fn parse(file: &'a [u8]) -> Result<Self, ElfError> {
        let kind = half(file, 16)?;
        if !file.starts_with(&IDENT)
            || half(file, 18)? != EM_AARCH64
            || !matches!(kind, ET_EXEC | ET_DYN)
        {
            return Err(ElfError::WrongKind);
        }
        let (header_size, count) = (usize::from(half(file, 54)?), usize::from(half(file, 56)?));
        if header_size < PROGRAM_HEADER_BYTES {
            return Err(ElfError::Damaged);
        }
        let headers = slice(file, quad(file, 32)?, (header_size * count) as u64)?;
        Ok(Self {
            file,
            kind,
            entry: quad(file, 24)?,
            headers,
            header_size,
        })
    }

    /// Returns the loadable segments. At most 65,535 headers are looked at.
    pub(super) fn segments(&self) -> impl Iterator<Item = Result<Segment<'a>, ElfError>> {
        let file = self.file;
        self.headers
            .chunks_exact(self.header_size)
            .filter(|header| word(header, 0) == Ok(PT_LOAD))
            .map(move |header| segment(file, header))
            .filter(|segment| segment.is_err() || segment.is_ok_and(|s| s.end > s.address))
    }

    /// Returns the addresses that all segments together span.
    pub(super) fn span(&self) -> Result<Range<u64>, ElfError> {
        let mut span: Option<Range<u64>> = None;
        for segment in self.segments() {
            let segment = segment?;
            let (start, end) = (segment.address, segment.end);
            span = Some(span.map_or(start..end, |span| span.start.min(start)..span.end.max(end)));
        }
        span.ok_or(ElfError::Empty)
    }

    /// Returns what is added to every address: nothing for an executable with
    /// fixed addresses; one that can lie anywhere goes to the start of memory.
    pub(super) fn bias(&self, ram_start: u64) -> Result<u64, ElfError> {
        let span = self.span()?;
        if self.kind == ET_EXEC || span.start >= ram_start {
            return Ok(0);
        }
        span.end.checked_add(ram_start).ok_or(ElfError::Damaged)?;
        Ok(ram_start)
    }

    /// Returns the physical address of the first instruction: where its segment
    /// has different virtual and physical addresses, the latter counts.
    pub(super) fn entry(&self) -> u64 {
        self.segments()
            .flatten()
            .find(|s| {
                self.entry
                    .checked_sub(s.virtual_address)
                    .is_some_and(|offset| offset < s.end - s.address)
            })
            .map_or(self.entry, |s| self.entry - s.virtual_address + s.address)
    }
}

fn segment<'a>(file: &'a [u8], header: &[u8]) -> Result<Segment<'a>, ElfError> {
    let address = quad(header, 24)?;
    let bytes = slice(file, quad(header, 8)?, quad(header, 32)?)?;
    let size = quad(header, 40)?;
    if (bytes.len() as u64) > size {
        return Err(ElfError::Damaged);
    }
    let end = address.checked_add(size).ok_or(ElfError::Damaged)?;
    Ok(Segment {
        address,
        bytes,
        end,
        virtual_address: quad(header, 16)?,
    })
}

fn slice(bytes: &[u8], start: u64, length: u64) -> Result<&[u8], ElfError> {
    let start = usize::try_from(start).map_err(|_| ElfError::Damaged)?;
    let length = usize::try_from(length).map_err(|_| ElfError::Damaged)?;
    bytes
        .get(start..)
        .and_then(|rest| rest.get(..length))
        .ok_or(ElfError::Damaged)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], ElfError> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(ElfError::Damaged)
}

fn half(bytes: &[u8], at: usize) -> Result<u16, ElfError> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Result<u32, ElfError> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn quad(bytes: &[u8], at: usize) -> Result<u64, ElfError> {
    array(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    /// A file with one segment of 8 bytes (16 in memory).
    fn file(kind: u16, physical: u64, virtual_address: u64, entry: u64) -> Vec<u8> {
        let mut file = vec![0; 64 + 56 + 8];
        file[..7].copy_from_slice(&IDENT);
        file[16..18].copy_from_slice(&kind.to_le_bytes());
        file[18..20].copy_from_slice(&EM_AARCH64.to_le_bytes());
        file[24..32].copy_from_slice(&entry.to_le_bytes());
        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[54..56].copy_from_slice(&56u16.to_le_bytes());
        file[56..58].copy_from_slice(&1u16.to_le_bytes());
        let header = &mut file[64..120];
        header[0..4].copy_from_slice(&PT_LOAD.to_le_bytes());
        header[8..16].copy_from_slice(&120u64.to_le_bytes());
        header[16..24].copy_from_slice(&virtual_address.to_le_bytes());
        header[24..32].copy_from_slice(&physical.to_le_bytes());
        header[32..40].copy_from_slice(&8u64.to_le_bytes());
        header[40..48].copy_from_slice(&16u64.to_le_bytes());
        file[120..].copy_from_slice(b"contents");
        file
    }

    #[test]
    fn a_fixed_executable_stays_where_it_is() {
        let file = file(ET_EXEC, 0x4008_0000, 0x4008_0000, 0x4008_0004);
        let elf = Elf::parse(&file).expect("a good file");
        assert_eq!(elf.bias(0x4000_0000), Ok(0));
        assert_eq!(elf.span(), Ok(0x4008_0000..0x4008_0010));
        assert_eq!(elf.entry(), 0x4008_0004);
        let segment = elf.segments().next().expect("one").expect("good");
        assert_eq!(segment.bytes, b"contents");
    }

    #[test]
    fn a_position_independent_one_goes_to_the_start_of_memory() {
        let file = file(ET_DYN, 0x1000, 0x1000, 0x1004);
        let elf = Elf::parse(&file).expect("a good file");
        assert_eq!(elf.bias(0x4000_0000), Ok(0x4000_0000));
    }

    #[test]
    fn the_entry_is_a_physical_address() {
        let file = file(
            ET_EXEC,
            0x4000_0000,
            0xffff_8000_0000_0000,
            0xffff_8000_0000_0008,
        );
        assert_eq!(Elf::parse(&file).expect("a good file").entry(), 0x4000_0008);
    }

    #[test]
    fn segments_outside_the_file_are_refused() {
        let mut file = file(ET_EXEC, 0x4000_0000, 0, 0);
        file.pop();
        let elf = Elf::parse(&file).expect("the headers are good");
        assert_eq!(elf.span(), Err(ElfError::Damaged));
    }

    #[test]
    fn other_machines_are_refused() {
        let mut file = file(ET_EXEC, 0, 0, 0);
        file[18] = 62;
        assert_eq!(Elf::parse(&file).err(), Some(ElfError::WrongKind));
        assert_eq!(Elf::parse(&file[..30]).err(), Some(ElfError::WrongKind));
    }
}
