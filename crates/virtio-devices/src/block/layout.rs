//! Numbers of the block device (VirtIO 1.2, 5.2.3, 5.2.4, 5.2.6).

use super::backend::BlockBackend;

/// Features of the block device.
pub(super) mod feature {
    pub(crate) const SEG_MAX: u64 = 1 << 2;
    pub(crate) const RO: u64 = 1 << 5;
    pub(crate) const BLK_SIZE: u64 = 1 << 6;
    pub(crate) const FLUSH: u64 = 1 << 9;
    pub(crate) const MQ: u64 = 1 << 12;
    pub(crate) const DISCARD: u64 = 1 << 13;
    pub(crate) const WRITE_ZEROES: u64 = 1 << 14;
}

/// What a request can ask for.
pub(super) mod request_type {
    pub(crate) const IN: u32 = 0;
    pub(crate) const OUT: u32 = 1;
    pub(crate) const FLUSH: u32 = 4;
    pub(crate) const GET_ID: u32 = 8;
    pub(crate) const DISCARD: u32 = 11;
    pub(crate) const WRITE_ZEROES: u32 = 13;
}

/// How many sectors one discard or write of zeros may cover: 64 MiB.
pub(super) const MOST_RANGE_SECTORS: u32 = (64 << 20) / 512;

/// The size of the configuration space.
pub(super) const CONFIG_BYTES: usize = 60;

/// Returns the configuration space.
pub(super) fn config(disk: &impl BlockBackend, segments: u16, queues: u16) -> [u8; CONFIG_BYTES] {
    let range = MOST_RANGE_SECTORS.to_le_bytes();
    let block_sectors = disk.block_bytes() / 512;
    let one = 1_u32.to_le_bytes();
    let mut config = [0; CONFIG_BYTES];
    let fields: [(usize, &[u8]); 10] = [
        (0, &disk.capacity_sectors().to_le_bytes()),
        (12, &u32::from(segments).to_le_bytes()),
        (20, &disk.block_bytes().to_le_bytes()),
        (34, &queues.to_le_bytes()),
        (36, &range),
        (40, &one),
        (44, &block_sectors.max(1).to_le_bytes()),
        (48, &range),
        (52, &one),
        (56, &[1]),
    ];
    for (offset, field) in fields {
        for (target, byte) in config.iter_mut().skip(offset).zip(field) {
            *target = *byte;
        }
    }
    config
}

/// Returns the features that `disk` has.
pub(super) fn features(disk: &impl BlockBackend, queues: u16) -> u64 {
    let optional = [
        (disk.is_read_only(), feature::RO),
        (queues > 1, feature::MQ),
        (disk.discards() && !disk.is_read_only(), feature::DISCARD),
        (
            disk.writes_zeroes() && !disk.is_read_only(),
            feature::WRITE_ZEROES,
        ),
    ];
    let always = feature::SEG_MAX | feature::BLK_SIZE | feature::FLUSH;
    optional
        .iter()
        .filter(|(there, _)| *there)
        .fold(always, |all, (_, feature)| all | feature)
}
