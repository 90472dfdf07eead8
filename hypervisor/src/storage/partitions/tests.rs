use alloc::vec;

use proptest::prelude::*;

use super::*;

const CAPACITY: u64 = 4096;

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn with_mbr(entries: &[(u8, u32, u32)]) -> Vec<u8> {
    let mut start = vec![0; 34 * SECTOR_BYTES];
    for (n, (kind, first, count)) in entries.iter().enumerate() {
        let at = MBR_ENTRIES_AT + n * MBR_ENTRY_BYTES;
        start[at + 4] = *kind;
        put(&mut start, at + 8, &first.to_le_bytes());
        put(&mut start, at + 12, &count.to_le_bytes());
    }
    put(&mut start, MBR_SIGNATURE_AT, &MBR_SIGNATURE);
    start
}

/// Makes a disk with a GUID table of partitions from one block to another.
fn with_gpt(block_bytes: usize, parts: &[(u64, u64)]) -> Vec<u8> {
    let mut start = with_mbr(&[(MBR_PROTECTIVE, 1, u32::MAX)]);
    start.resize(2 * block_bytes + 128 * 128, 0);
    let table = 2 * block_bytes;
    for (n, (first, last)) in parts.iter().enumerate() {
        let at = table + n * 128;
        start[at..at + 16].fill(0x5a);
        put(&mut start, at + 32, &first.to_le_bytes());
        put(&mut start, at + 40, &last.to_le_bytes());
    }
    let table_crc = crc32_without(&start[table..], 0..0);
    let header = block_bytes;
    put(&mut start, header, GPT_SIGNATURE);
    put(&mut start, header + 12, &92u32.to_le_bytes());
    put(&mut start, header + 72, &2u64.to_le_bytes());
    put(&mut start, header + 80, &128u32.to_le_bytes());
    put(&mut start, header + 84, &128u32.to_le_bytes());
    put(&mut start, header + 88, &table_crc.to_le_bytes());
    let crc = crc32_without(&start[header..header + 92], 16..20);
    put(&mut start, header + 16, &crc.to_le_bytes());
    start
}

fn places(start: &[u8], block_bytes: u32) -> Vec<(u32, u64, u64)> {
    partitions(start, block_bytes, CAPACITY)
        .into_iter()
        .map(|found| (found.number, found.first_sector, found.sectors))
        .collect()
}

#[test]
fn the_checksum_is_that_of_ethernet() {
    assert_eq!(crc32_without(b"123456789", 0..0), 0xcbf4_3926);
    let zeroed = crc32_without(b"12\0\0\x006789", 0..0);
    assert_eq!(crc32_without(b"123456789", 2..5), zeroed);
}

#[test]
fn primary_partitions_keep_their_numbers() {
    let start = with_mbr(&[
        (0x83, 64, 100),
        (0, 1, 1),
        (0x83, 4000, 96),
        (0x83, 4000, 97),
    ]);
    assert_eq!(places(&start, 512), [(1, 64, 100), (3, 4000, 96)]);
}

#[test]
fn guid_partitions_are_found_in_blocks_of_any_size() {
    let start = with_gpt(512, &[(100, 199), (200, 200)]);
    assert_eq!(places(&start, 512), [(1, 100, 100), (2, 200, 1)]);
    let start = with_gpt(4096, &[(100, 199), (511, 511), (511, 512)]);
    assert_eq!(places(&start, 4096), [(1, 800, 800), (2, 4088, 8)]);
}

#[test]
fn a_damaged_table_has_no_partitions() {
    let good = with_gpt(512, &[(100, 199)]);
    for at in [510, 512, 524, 592, 600, 1024, 1056, 1024 + 127 * 128] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(places(&bad, 512), [], "byte {at}");
    }
    for len in [0, 511, 513, 1024, good.len() - 1] {
        assert_eq!(places(&good[..len], 512), [], "{len} bytes");
    }
    assert_eq!(places(&good, 0), []);
    assert_eq!(places(&vec![0; 512], 512), []);
}

proptest! {
    #[test]
    fn whatever_is_on_the_disk_partitions_lie_on_it(
        damage in proptest::collection::vec((0usize..2048, any::<u8>()), 0..40),
        repaired in any::<bool>(),
        block_bytes in prop_oneof![Just(512u32), Just(4096), any::<u32>()],
    ) {
        let mut start = with_gpt(512, &[(100, 199), (5, 9)]);
        for (at, byte) in damage {
            start[at] = byte;
        }
        if repaired {
            put(&mut start, MBR_SIGNATURE_AT, &MBR_SIGNATURE);
            put(&mut start, 512, GPT_SIGNATURE);
            let table_crc = crc32_without(&start[1024..1024 + 128 * 128], 0..0);
            put(&mut start, 512 + 88, &table_crc.to_le_bytes());
            let crc = crc32_without(&start[512..512 + 92], 16..20);
            put(&mut start, 512 + 16, &crc.to_le_bytes());
        }
        for found in partitions(&start, block_bytes, CAPACITY) {
            prop_assert!(found.sectors > 0);
            prop_assert!(found.first_sector + found.sectors <= CAPACITY);
        }
    }
}
