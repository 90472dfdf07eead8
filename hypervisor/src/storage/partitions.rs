//! The partitions of a disk: those of a GUID partition table (UEFI 2.10, 5.3), or else
//! the four of a master boot record.
//!
//! What is on a disk is anybody's: nothing of it is believed before it is checked.

use alloc::sync::Arc;
use alloc::vec::Vec;

use vm_contract::{VcpuId, VmId};

use super::{
    Command, DiskError, DiskEvent, DiskUser, DiskView, HostDisk, SECTOR_BYTES, SLOT_BYTES,
};

/// A part of a disk that its partition table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1 on: the place of its entry in the table.
    pub number: u32,
    /// Its first sector.
    pub first_sector: u64,
    /// How many there are: at least one, and none beyond the end of the disk.
    pub sectors: u64,
}

/// The signature at the end of a master boot record, and where it is.
const MBR_SIGNATURE: [u8; 2] = [0x55, 0xaa];
const MBR_SIGNATURE_AT: usize = 510;
const MBR_ENTRIES_AT: usize = 446;
const MBR_ENTRY_BYTES: usize = 16;
/// The type of the one partition of a record that only protects a GUID table.
const MBR_PROTECTIVE: u8 = 0xee;

const GPT_SIGNATURE: &[u8] = b"EFI PART";
const GPT_HEADER_BYTES: usize = 92;
/// More entries than any table has, and the sizes that they have in practice.
const GPT_MOST_ENTRIES: u32 = 256;
const GPT_ENTRY_BYTES: [u32; 3] = [128, 256, 512];

/// Returns the partitions of a disk whose first bytes are `start`; none if there is no
/// table that is right.
#[must_use]
pub fn partitions(start: &[u8], block_bytes: u32, capacity_sectors: u64) -> Vec<Partition> {
    let Some(record) = start.get(..SECTOR_BYTES) else {
        return Vec::new();
    };
    if record.get(MBR_SIGNATURE_AT..) != Some(&MBR_SIGNATURE) {
        return Vec::new();
    }
    let is_protective = mbr_entries(record).any(|entry| entry.get(4) == Some(&MBR_PROTECTIVE));
    let block_sectors = (u64::from(block_bytes) / SECTOR_BYTES as u64).max(1);
    let found = if is_protective {
        gpt(start, block_bytes).unwrap_or_default()
    } else {
        mbr(record)
    };
    let in_sectors = |(number, first, count): (u32, u64, u64)| {
        let first_sector = first.checked_mul(block_sectors)?;
        let sectors = count.checked_mul(block_sectors)?;
        let end = first_sector.checked_add(sectors)?;
        (sectors > 0 && end <= capacity_sectors).then_some(Partition {
            number,
            first_sector,
            sectors,
        })
    };
    found.into_iter().filter_map(in_sectors).collect()
}

fn mbr_entries(record: &[u8]) -> impl Iterator<Item = &[u8]> {
    let entries = record.get(MBR_ENTRIES_AT..MBR_SIGNATURE_AT);
    entries.unwrap_or_default().chunks_exact(MBR_ENTRY_BYTES)
}

/// Returns number, first block and count of each primary partition.
fn mbr(record: &[u8]) -> Vec<(u32, u64, u64)> {
    (1..)
        .zip(mbr_entries(record))
        .filter(|(_, entry)| entry.get(4).is_some_and(|kind| *kind != 0))
        .filter_map(|(n, entry)| Some((n, word(entry, 8)?.into(), word(entry, 12)?.into())))
        .collect()
}

/// Returns number, first block and count of each partition of a GUID table.
fn gpt(start: &[u8], block_bytes: u32) -> Option<Vec<(u32, u64, u64)>> {
    let block_bytes = usize::try_from(block_bytes).ok()?;
    let header = start.get(block_bytes..)?.get(..block_bytes)?;
    if !header.starts_with(GPT_SIGNATURE) {
        return None;
    }
    let header_bytes = usize::try_from(word(header, 12)?).ok()?;
    let covered = header.get(..header_bytes)?;
    if header_bytes < GPT_HEADER_BYTES || word(header, 16)? != crc32_without(covered, 16..20) {
        return None;
    }
    let count = word(header, 80)?;
    let entry_bytes = word(header, 84)?;
    if count > GPT_MOST_ENTRIES || !GPT_ENTRY_BYTES.contains(&entry_bytes) {
        return None;
    }
    let entry_bytes = usize::try_from(entry_bytes).ok()?;
    let table_bytes = entry_bytes.checked_mul(usize::try_from(count).ok()?)?;
    let table_at = usize::try_from(double(header, 72)?).ok()?;
    let table = start.get(table_at.checked_mul(block_bytes)?..)?;
    let table = table.get(..table_bytes)?;
    if word(header, 88)? != crc32_without(table, 0..0) {
        return None;
    }
    let entries = (1..).zip(table.chunks_exact(entry_bytes));
    let used = entries.filter(|(_, entry)| !entry.starts_with(&[0; 16]));
    let place = |(number, entry): (u32, &[u8])| {
        let (first, last) = (double(entry, 32)?, double(entry, 40)?);
        let count = last.checked_sub(first)?.checked_add(1)?;
        Some((number, first, count))
    };
    Some(used.filter_map(place).collect())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn double(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

/// Returns the CRC-32 (IEEE 802.3) of `bytes`, of which those in `zeroed` count as zero.
fn crc32_without(bytes: &[u8], zeroed: core::ops::Range<usize>) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let mut crc = u32::MAX;
    for (at, byte) in bytes.iter().enumerate() {
        crc ^= if zeroed.contains(&at) {
            0
        } else {
            u32::from(*byte)
        };
        for _ in 0..8 {
            let carry = crc & 1;
            crc = crc >> 1 ^ if carry == 1 { POLYNOMIAL } else { 0 };
        }
    }
    !crc
}

/// Whoever waits for the disk by looking at it again and again.
struct Onlooker;

impl DiskUser for Onlooker {
    fn disk_event(&self, _disk: usize, _event: DiskEvent, _current: Option<(VmId, VcpuId)>) {}
}

impl HostDisk {
    /// Reads the partition table, before anybody uses the disk: nobody else runs on the
    /// machine, and its interrupts do not come yet. Gives up once `is_patient` says so.
    ///
    /// # Errors
    /// [`DiskError`]: those of the disk; [`DiskError::Broken`] if it takes too long.
    pub fn read_partitions(
        self: &Arc<Self>,
        mut is_patient: impl FnMut() -> bool,
    ) -> Result<(), DiskError> {
        const TAG: u64 = 0;
        let Ok(client) = self.attach(self.whole()) else {
            // It is empty.
            return Ok(());
        };
        let onlooker: Arc<dyn DiskUser> = Arc::new(Onlooker);
        client.listen(Arc::downgrade(&onlooker), 0);
        let bounce = client.begin().ok_or(DiskError::Broken)?;
        let capacity = self.facts.capacity_sectors;
        let capacity_bytes = usize::try_from(capacity)
            .map_or(usize::MAX, |sectors| sectors.saturating_mul(SECTOR_BYTES));
        let bytes = SLOT_BYTES
            .min(self.facts.max_request_bytes)
            .min(capacity_bytes);
        bounce.submit(Command::Read { sector: 0, bytes }, TAG)?;
        let start = loop {
            self.service(None);
            match client.collect(TAG) {
                Some(done) => {
                    done.result?;
                    break done.bounce;
                }
                None if is_patient() => core::hint::spin_loop(),
                None => return Err(DiskError::Broken),
            }
        };
        let start = start.get(..bytes).unwrap_or_default();
        let found = partitions(start, self.facts.block_bytes, capacity);
        self.partitions.call_once(|| found);
        Ok(())
    }

    /// Returns the partitions that were [read](Self::read_partitions).
    #[must_use]
    pub fn partitions(&self) -> &[Partition] {
        self.partitions.get().map_or(&[], Vec::as_slice)
    }

    /// Returns a view of the partition with this number, if there is one.
    #[must_use]
    pub fn partition(&self, number: u32) -> Option<DiskView> {
        let found = self.partitions().iter();
        let found = found.copied().find(|found| found.number == number)?;
        Some(DiskView {
            first_sector: found.first_sector,
            sectors: found.sectors,
            is_read_only: self.facts.is_read_only,
        })
    }
}

#[cfg(test)]
mod tests;
