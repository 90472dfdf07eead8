//! The status of a device and the reasons of its interrupt.

use bitflags::bitflags;

bitflags! {
    /// How far the driver has come with a device (VirtIO 1.2, 2.1).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Status: u32 {
        /// The driver has seen the device.
        const ACKNOWLEDGE = 1;
        /// The driver knows how to drive it.
        const DRIVER = 2;
        /// The driver is ready.
        const DRIVER_OK = 4;
        /// Features are agreed upon.
        const FEATURES_OK = 8;
        /// The device has stopped until it is reset.
        const DEVICE_NEEDS_RESET = 64;
        /// The driver has given up.
        const FAILED = 128;
    }
}

impl Status {
    /// What a driver can set.
    pub(crate) const OF_DRIVER: Self = Self::all().difference(Self::DEVICE_NEEDS_RESET);

    /// Tells whether the device may touch its queues.
    pub(crate) const fn is_live(self) -> bool {
        let both = Self::DRIVER_OK.union(Self::DEVICE_NEEDS_RESET);
        self.intersection(both).bits() == Self::DRIVER_OK.bits()
    }
}

bitflags! {
    /// Why the interrupt line is high (VirtIO 1.2, 4.2.2, InterruptStatus).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Interrupt: u32 {
        /// Buffers were used.
        const USED_BUFFER = 1;
        /// The configuration or the status has changed.
        const CONFIG_CHANGE = 2;
    }
}
