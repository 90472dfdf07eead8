//! A disk in the machine's memory.
#![expect(unsafe_code, reason = "its contents are raw memory")]

use core::ptr;

use vm_contract::HostPhysAddrRange;

use super::SECTOR_BYTES;

/// Whole sectors of memory that the boot loader has filled. Several may have the same
/// contents, one after the other as their VM is built again: these stay.
pub struct RamDisk {
    contents: HostPhysAddrRange,
    is_writable: bool,
}

impl RamDisk {
    /// Makes a disk of `contents`, of which a part of a sector at the end is left out.
    ///
    /// # Safety
    /// The contents are memory that is mapped at its own address, writable if
    /// `is_writable` says so, and that no Rust reference covers from now on.
    #[must_use]
    pub const unsafe fn new(contents: HostPhysAddrRange, is_writable: bool) -> Self {
        Self {
            contents,
            is_writable,
        }
    }

    /// Returns how many sectors there are.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        (self.contents.size() / SECTOR_BYTES) as u64
    }

    /// Tells whether it can only be read.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        !self.is_writable
    }

    /// Returns where `bytes` bytes begin, `offset` bytes from the start of a sector.
    fn place(&self, sector: u64, offset: usize, bytes: usize) -> Option<usize> {
        let first = usize::try_from(sector).ok()?.checked_mul(SECTOR_BYTES)?;
        let at = first.checked_add(offset)?;
        let whole = self.contents.size() / SECTOR_BYTES * SECTOR_BYTES;
        (at.checked_add(bytes)? <= whole).then(|| usize::from(self.contents.start) + at)
    }

    /// Copies from the disk, from `offset` bytes after the start of a sector on; `false`
    /// if it ends before.
    #[must_use]
    pub fn read(&self, sector: u64, offset: usize, target: &mut [u8]) -> bool {
        let Some(at) = self.place(sector, offset, target.len()) else {
            return false;
        };
        let at = ptr::with_exposed_provenance::<u8>(at);
        // SAFETY: within the contents, which are mapped and which no reference covers;
        // another CPU may write at the same time, for the same VM.
        unsafe { ptr::copy_nonoverlapping(at, target.as_mut_ptr(), target.len()) };
        true
    }

    /// Copies to the disk; `false` if it ends before, or can only be read.
    #[must_use]
    pub fn write(&mut self, sector: u64, offset: usize, bytes: &[u8]) -> bool {
        let place = self.place(sector, offset, bytes.len());
        let Some(at) = place.filter(|_| self.is_writable) else {
            return false;
        };
        let at = ptr::with_exposed_provenance_mut::<u8>(at);
        // SAFETY: as in `read`, and the contents may be written.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
        true
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::vec;

    use super::*;

    fn disk(bytes: usize, is_writable: bool) -> RamDisk {
        let memory = Box::leak(vec![0x11u8; bytes].into_boxed_slice());
        let start = memory.as_mut_ptr().expose_provenance();
        let contents = HostPhysAddrRange::from_start_size(start.into(), bytes);
        // SAFETY: memory that was leaked for this disk alone.
        unsafe { RamDisk::new(contents, is_writable) }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let mut disk = disk(4 * SECTOR_BYTES + 100, true);
        assert_eq!(disk.sectors(), 4);
        assert!(disk.write(2, 100, &[7; 900]));
        let mut back = [0; 1024];
        assert!(disk.read(2, 0, &mut back));
        assert_eq!(back[..100], [0x11; 100]);
        assert_eq!(back[100..1000], [7; 900]);
        assert_eq!(back[1000..], [0x11; 24]);
    }

    #[test]
    fn nothing_beyond_its_end_is_reached() {
        let mut disk = disk(4 * SECTOR_BYTES + 100, true);
        assert!(!disk.write(3, 0, &[7; 513]));
        assert!(!disk.read(4, 0, &mut [0; 1]));
        assert!(!disk.read(u64::MAX, 0, &mut [0; 1]));
        assert!(!disk.read(0, usize::MAX, &mut [0; 1]));
        assert!(disk.read(3, 0, &mut [0; 512]));
    }

    #[test]
    fn a_disk_that_can_only_be_read_stays_as_it_is() {
        let mut disk = disk(SECTOR_BYTES, false);
        assert!(disk.is_read_only());
        assert!(!disk.write(0, 0, &[7; 512]));
        let mut back = [0; 512];
        assert!(disk.read(0, 0, &mut back));
        assert_eq!(back, [0x11; 512]);
    }
}
