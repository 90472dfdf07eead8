//! Ethernet addresses.

use core::fmt;

/// A 48-bit Ethernet address (IEEE 802-2014, 8.2), first byte on the wire first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; 6]);

impl MacAddress {
    /// The address of everybody.
    pub const BROADCAST: Self = Self([0xFF; 6]);
    /// The address of nobody.
    pub const ZERO: Self = Self([0; 6]);

    /// Returns the address made of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// Returns the address as bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// Tells whether this is the address of a group, broadcast included.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        let [first, ..] = self.0;
        first & 1 != 0
    }

    /// Tells whether a station may have this address: neither a group's nor zero.
    #[must_use]
    pub const fn is_station(self) -> bool {
        !self.is_multicast() && self.number() != 0
    }

    /// Tells whether this is one of 01-80-C2-00-00-00 to -0F, which a bridge keeps to
    /// itself (IEEE 802.1Q-2018, table 8-1).
    #[must_use]
    pub const fn is_bridge_reserved(self) -> bool {
        self.number() & !0xF == 0x0180_C200_0000
    }

    /// Returns the address as a number of 48 bits, the first byte the highest.
    pub(crate) const fn number(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl From<[u8; 6]> for MacAddress {
    fn from(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_nobody_are_no_stations() {
        assert!(MacAddress::new([2, 0, 0, 0, 0, 1]).is_station());
        assert!(!MacAddress::ZERO.is_station());
        assert!(!MacAddress::BROADCAST.is_station());
        assert!(!MacAddress::new([1, 0, 0x5E, 0, 0, 1]).is_station());
    }

    #[test]
    fn sixteen_addresses_are_reserved() {
        let address = |last| MacAddress::new([0x01, 0x80, 0xC2, 0, 0, last]);
        assert!((0x00..=0x0F).all(|last| address(last).is_bridge_reserved()));
        assert!(!address(0x10).is_bridge_reserved());
        assert!(!MacAddress::new([0x01, 0x80, 0xC2, 0, 1, 0]).is_bridge_reserved());
    }
}
