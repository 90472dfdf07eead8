//! The guest memory of a request, as one stream of bytes.

use vm_contract::{AccessError, GuestMemory, GuestPhysAddr};

/// How much is filled at once.
const FILL_BYTES: usize = 256;

/// One contiguous piece of guest memory. It does not wrap around the address
/// space; whether it lies in RAM shows when it is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts.
    pub address: GuestPhysAddr,
    /// How long it is.
    pub bytes: u32,
}

/// Scattered guest memory that is read or written as one stream.
///
/// The list of segments is the device's own copy: the guest can change what
/// lies in them, not where they are. As everything of a guest, the contents are
/// read once and checked after that.
#[derive(Clone, Copy)]
pub struct DataBuffers<'a> {
    memory: &'a dyn GuestMemory,
    segments: &'a [Segment],
    /// How many bytes of the segments come before the stream.
    skip: u64,
    len: u64,
}

impl<'a> DataBuffers<'a> {
    /// Makes a stream of all bytes of `segments`.
    #[must_use]
    pub fn new(memory: &'a dyn GuestMemory, segments: &'a [Segment]) -> Self {
        let len = segments
            .iter()
            .map(|segment| u64::from(segment.bytes))
            .sum();
        Self::with_length(memory, segments, len)
    }

    /// As [`new`](Self::new), by who knows the sum of the lengths.
    pub(crate) const fn with_length(
        memory: &'a dyn GuestMemory,
        segments: &'a [Segment],
        len: u64,
    ) -> Self {
        Self {
            memory,
            segments,
            skip: 0,
            len,
        }
    }

    /// Returns the length of the stream in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Tells whether the stream has no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the part of `len` bytes that starts at `offset`, or `None` if it
    /// is not within the stream.
    #[must_use]
    pub fn slice(&self, offset: u64, len: u64) -> Option<Self> {
        let end = offset.checked_add(len)?;
        (end <= self.len).then(|| Self {
            skip: self.skip.saturating_add(offset),
            len,
            ..*self
        })
    }

    /// Copies the bytes at `offset` into `buffer`.
    ///
    /// # Errors
    /// [`AccessError::OutsideMemory`] if they are not all within the stream, or
    /// the guest named addresses where it has no memory; `buffer` is then
    /// unspecified.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), AccessError> {
        if let Some(address) = self.within_first(offset, buffer.len()) {
            return self.memory.read(address, buffer);
        }
        let mut rest = buffer;
        for piece in self.pieces_at(offset, rest.len())? {
            let (now, later) = rest
                .split_at_mut_checked(bytes_of(piece))
                .ok_or(AccessError::OutsideMemory)?;
            self.memory.read(piece.address, now)?;
            rest = later;
        }
        Ok(())
    }

    /// Copies `bytes` to the stream at `offset`.
    ///
    /// # Errors
    /// [`AccessError::OutsideMemory`] if they do not all fit, or the guest named
    /// addresses where it has no memory, [`AccessError::ReadOnly`] for memory
    /// that is not writable. A part may have been written.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        if let Some(address) = self.within_first(offset, bytes.len()) {
            return self.memory.write(address, bytes);
        }
        let mut rest = bytes;
        for piece in self.pieces_at(offset, rest.len())? {
            let (now, later) = rest
                .split_at_checked(bytes_of(piece))
                .ok_or(AccessError::OutsideMemory)?;
            self.memory.write(piece.address, now)?;
            rest = later;
        }
        Ok(())
    }

    /// Copies what `source` gives to the start of the stream, up to `most` bytes, until
    /// it gives nothing: it fills what it is given from the start and returns how many
    /// bytes that was. Returns how many there were in all.
    pub(crate) fn fill(
        &self,
        most: u64,
        mut source: impl FnMut(&mut [u8]) -> usize,
    ) -> Result<u64, AccessError> {
        let most = most.min(self.len);
        let mut piece = [0; FILL_BYTES];
        let mut written = 0;
        while written < most {
            let room = usize::try_from(most - written).unwrap_or(FILL_BYTES);
            let bytes = piece.get_mut(..room.min(FILL_BYTES)).unwrap_or_default();
            let filled = source(bytes);
            let filled = bytes.get(..filled).unwrap_or(bytes);
            if filled.is_empty() {
                break;
            }
            self.write_at(written, filled)?;
            written += filled.len() as u64;
        }
        Ok(written)
    }

    /// Returns where the bytes of the stream lie, in their order.
    pub fn pieces(&self) -> impl Iterator<Item = Segment> + use<'a> {
        pieces(self.segments, self.skip, self.len)
    }

    /// Returns where `len` bytes at `offset` lie if they are all in the first
    /// segment, as most are.
    #[inline]
    fn within_first(&self, offset: u64, len: usize) -> Option<GuestPhysAddr> {
        let first = self.segments.first()?;
        let end = offset.checked_add(u64::try_from(len).ok()?)?;
        let start = self.skip.checked_add(offset)?;
        let fits = end <= self.len && self.skip.checked_add(end)? <= first.bytes.into();
        let address = usize::from(first.address).checked_add(usize::try_from(start).ok()?)?;
        fits.then(|| address.into())
    }

    fn pieces_at(
        &self,
        offset: u64,
        len: usize,
    ) -> Result<impl Iterator<Item = Segment> + use<'a>, AccessError> {
        let part = u64::try_from(len)
            .ok()
            .and_then(|len| self.slice(offset, len));
        part.map(|part| part.pieces())
            .ok_or(AccessError::OutsideMemory)
    }
}

/// Cuts the `len` bytes after the first `skip` out of `segments`.
fn pieces(segments: &[Segment], skip: u64, len: u64) -> impl Iterator<Item = Segment> + use<'_> {
    let (mut skip, mut len) = (skip, len);
    segments
        .iter()
        .map_while(move |segment| {
            if len == 0 {
                return None;
            }
            let before = skip.min(segment.bytes.into());
            skip -= before;
            let here = (u64::from(segment.bytes) - before).min(len);
            len -= here;
            // Neither exceeds the length of the segment.
            let bytes = u32::try_from(here).ok()?;
            let before = usize::try_from(before).ok()?;
            let address = usize::from(segment.address).checked_add(before)?;
            Some(Segment {
                address: address.into(),
                bytes,
            })
        })
        .filter(|piece| piece.bytes != 0)
}

/// Returns the length of a segment as a length of slices.
fn bytes_of(segment: Segment) -> usize {
    usize::try_from(segment.bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::fakes::SimMemory;

    fn segment(address: usize, bytes: u32) -> Segment {
        Segment {
            address: address.into(),
            bytes,
        }
    }

    #[test]
    fn a_stream_crosses_its_segments_in_order() {
        let memory = SimMemory::new(0x1000, 0x1000);
        let segments = [segment(0x1100, 3), segment(0x1080, 1), segment(0x1200, 4)];
        let stream = DataBuffers::new(&memory, &segments);
        assert_eq!(stream.len(), 8);
        stream.write_at(0, b"abcdefgh").expect("it fits");
        assert_eq!(memory.bytes(0x1100, 3), b"abc");
        assert_eq!(memory.bytes(0x1080, 1), b"d");
        assert_eq!(memory.bytes(0x1200, 4), b"efgh");
        let mut middle = [0; 4];
        stream.read_at(2, &mut middle).expect("within");
        assert_eq!(&middle, b"cdef");
        let part = stream.slice(3, 3).expect("within");
        assert_eq!(
            part.pieces().collect::<Vec<_>>(),
            [segment(0x1080, 1), segment(0x1200, 2)]
        );
        let mut all = [0; 3];
        part.read_at(0, &mut all).expect("within");
        assert_eq!(&all, b"def");
    }

    #[test]
    fn a_stream_is_filled_until_the_source_or_the_room_ends() {
        let memory = SimMemory::new(0x1000, 0x1000);
        let segments = [segment(0x1000, 300), segment(0x1200, 300)];
        let stream = DataBuffers::new(&memory, &segments);
        let fill = |most, each: usize, mut left: usize| {
            let source = |bytes: &mut [u8]| {
                let count = each.min(left).min(bytes.len());
                left -= count;
                bytes[..count].fill(7);
                count
            };
            stream.fill(most, source).expect("it lies in memory")
        };
        assert_eq!(fill(10, 4, 9), 9);
        assert_eq!(memory.bytes(0x1008, 2), [7, 0]);
        assert_eq!(fill(10, usize::MAX, usize::MAX), 10);
        assert_eq!(fill(u64::MAX, usize::MAX, usize::MAX), 600);
        assert_eq!(memory.bytes(0x1200, 301)[299..], [7, 0]);
    }

    #[test]
    fn nothing_beyond_the_end_is_reached() {
        let memory = SimMemory::new(0x1000, 0x1000);
        let segments = [segment(0x1000, 8), segment(0x1FFC, 8)];
        let stream = DataBuffers::new(&memory, &segments);
        assert_eq!(
            stream.read_at(9, &mut [0; 8]),
            Err(AccessError::OutsideMemory),
            "longer than the stream"
        );
        assert_eq!(
            stream.write_at(8, &[1; 8]),
            Err(AccessError::OutsideMemory),
            "longer than the memory"
        );
        assert!(stream.slice(u64::MAX, 2).is_none());
        assert!(stream.slice(16, 0).is_some_and(|part| part.is_empty()));
        let part = stream.slice(0, 8).expect("within");
        assert_eq!(part.write_at(4, &[1; 5]), Err(AccessError::OutsideMemory));
    }
}
