//! Ports by number, and sets of them.

use core::fmt;

/// A port of a switch: its place in the list that the switch was built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(u8);

impl PortId {
    /// How many ports a switch can have.
    pub const COUNT: usize = 64;
    /// The port that every switch has.
    pub(crate) const FIRST: Self = Self(0);

    /// Returns port number `index`, or `None` if that is 64 or more.
    #[must_use]
    pub fn new(index: usize) -> Option<Self> {
        let raw = u8::try_from(index).ok()?;
        (index < Self::COUNT).then_some(Self(raw))
    }

    /// Returns all that a switch can have, in order.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).filter_map(Self::new)
    }

    /// Returns the port's number, 0 to 63.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, out)
    }
}

/// A set of ports, such as those that have a frame waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[must_use = "the receivers would not learn of their frames"]
pub struct PortSet(u64);

impl PortSet {
    /// The set without a port.
    pub const EMPTY: Self = Self(0);

    /// Returns the set as bits: bit n is port n.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Tells whether no port is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Tells whether `port` is in the set.
    #[must_use]
    pub const fn contains(self, port: PortId) -> bool {
        self.0 >> port.0 & 1 != 0
    }

    /// Adds a port.
    pub const fn insert(&mut self, port: PortId) {
        self.0 |= 1 << port.0;
    }

    /// Returns the ports that are in this set or in the other.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<PortId> for PortSet {
    fn from_iter<I: IntoIterator<Item = PortId>>(ports: I) -> Self {
        let mut set = Self::EMPTY;
        for port in ports {
            set.insert(port);
        }
        set
    }
}

impl Iterator for PortSet {
    type Item = PortId;

    /// Takes the lowest port out of the set.
    fn next(&mut self) -> Option<PortId> {
        let index = usize::try_from(self.0.trailing_zeros()).ok()?;
        let port = PortId::new(index)?;
        self.0 &= self.0 - 1;
        Some(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_gives_its_ports_back_in_order() {
        let ports = [63, 0, 17].map(|index| PortId::new(index).unwrap());
        let set: PortSet = ports.into_iter().collect();
        assert!(set.contains(ports[2]) && !set.contains(PortId::new(1).unwrap()));
        assert!(set.map(PortId::index).eq([0, 17, 63]));
        assert_eq!(PortSet::EMPTY.count(), 0);
        assert_eq!(PortId::new(64), None);
    }
}
