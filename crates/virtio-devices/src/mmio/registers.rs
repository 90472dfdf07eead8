//! The registers of virtio-mmio, version 2 (VirtIO 1.2, 4.2.2).

pub(crate) const MAGIC_VALUE: u64 = 0x000;
pub(crate) const VERSION: u64 = 0x004;
pub(crate) const DEVICE_ID: u64 = 0x008;
pub(crate) const VENDOR_ID: u64 = 0x00C;
pub(crate) const DEVICE_FEATURES: u64 = 0x010;
pub(crate) const DEVICE_FEATURES_SEL: u64 = 0x014;
pub(crate) const DRIVER_FEATURES: u64 = 0x020;
pub(crate) const DRIVER_FEATURES_SEL: u64 = 0x024;
pub(crate) const QUEUE_SEL: u64 = 0x030;
pub(crate) const QUEUE_NUM_MAX: u64 = 0x034;
pub(crate) const QUEUE_NUM: u64 = 0x038;
pub(crate) const QUEUE_READY: u64 = 0x044;
pub(crate) const QUEUE_NOTIFY: u64 = 0x050;
pub(crate) const INTERRUPT_STATUS: u64 = 0x060;
pub(crate) const INTERRUPT_ACK: u64 = 0x064;
pub(crate) const STATUS: u64 = 0x070;
pub(crate) const QUEUE_DESC_LOW: u64 = 0x080;
pub(crate) const QUEUE_DESC_HIGH: u64 = 0x084;
pub(crate) const QUEUE_DRIVER_LOW: u64 = 0x090;
pub(crate) const QUEUE_DRIVER_HIGH: u64 = 0x094;
pub(crate) const QUEUE_DEVICE_LOW: u64 = 0x0A0;
pub(crate) const QUEUE_DEVICE_HIGH: u64 = 0x0A4;
pub(crate) const SHM_LEN_LOW: u64 = 0x0B0;
pub(crate) const SHM_BASE_HIGH: u64 = 0x0BC;
pub(crate) const QUEUE_RESET: u64 = 0x0C0;
pub(crate) const CONFIG_GENERATION: u64 = 0x0FC;
/// Where the configuration space starts.
pub(crate) const CONFIG: u64 = 0x100;

/// "virt".
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"virt");
/// Not the interface of before the standard, which is 1.
pub(crate) const VERSION_2: u32 = 2;
/// "ARMA": whose implementation it is.
pub(crate) const VENDOR: u32 = u32::from_le_bytes(*b"ARMA");

/// The size of a register window.
pub(crate) const WINDOW_BYTES: u64 = 0x200;
