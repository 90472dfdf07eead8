//! Feature bits that do not belong to one kind of device (VirtIO 1.2, clause 6).

/// `VIRTIO_F_INDIRECT_DESC`: a descriptor may refer to a table of descriptors.
pub const INDIRECT_DESC: u64 = 1 << 28;
/// `VIRTIO_F_EVENT_IDX`: both sides say at which index they want to be told.
pub const EVENT_IDX: u64 = 1 << 29;
/// `VIRTIO_F_VERSION_1`: not the interface of before the standard.
pub const VERSION_1: u64 = 1 << 32;
/// `VIRTIO_F_RING_RESET`: one queue can be reset.
pub const RING_RESET: u64 = 1 << 40;

/// What the transport offers for every device.
pub const TRANSPORT: u64 = INDIRECT_DESC | EVENT_IDX | VERSION_1 | RING_RESET;
