//! Which frames the driver wants (VirtIO 1.2, 5.1.6.5.1 and 5.1.6.5.2).

/// How many addresses of a kind are kept; with more, all of the kind are wanted.
const ADDRESSES: usize = 32;

/// Addresses of one kind.
#[derive(Debug)]
pub(super) struct Addresses {
    addresses: [[u8; 6]; ADDRESSES],
    count: usize,
    overflown: bool,
}

impl Addresses {
    /// How many addresses are kept.
    pub(super) const MOST: u64 = ADDRESSES as u64;

    pub(super) const NONE: Self = Self {
        addresses: [[0; 6]; ADDRESSES],
        count: 0,
        overflown: false,
    };

    /// Adds an address, or notes that there is no room.
    pub(super) fn add(&mut self, address: [u8; 6]) {
        if let Some(place) = self.addresses.get_mut(self.count) {
            *place = address;
            self.count += 1;
        } else {
            self.overflown = true;
        }
    }

    fn has(&self, address: [u8; 6]) -> bool {
        let mut kept = self.addresses.iter().take(self.count);
        self.overflown || kept.any(|kept| *kept == address)
    }
}

/// The modes of receiving, as the driver has set them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Modes {
    pub(super) promiscuous: bool,
    pub(super) all_multicast: bool,
    pub(super) all_unicast: bool,
    pub(super) no_multicast: bool,
    pub(super) no_unicast: bool,
    pub(super) no_broadcast: bool,
}

/// What is received.
#[derive(Debug)]
pub(super) struct Filter {
    own: [u8; 6],
    pub(super) modes: Modes,
    pub(super) unicast: Addresses,
    pub(super) multicast: Addresses,
}

impl Filter {
    /// Returns the filter of a driver that has said nothing: it gets everything, so
    /// that one that knows no filters misses nothing.
    pub(super) fn new(own: [u8; 6]) -> Self {
        Self {
            own,
            modes: Modes {
                promiscuous: true,
                ..Modes::default()
            },
            unicast: Addresses::NONE,
            multicast: Addresses::NONE,
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.own);
    }

    /// Tells whether the driver wants a frame to this address.
    pub(super) fn accepts(&self, destination: [u8; 6]) -> bool {
        let modes = &self.modes;
        let [first, ..] = destination;
        if modes.promiscuous {
            true
        } else if destination == [0xFF; 6] {
            !modes.no_broadcast
        } else if first & 1 != 0 {
            !modes.no_multicast && (modes.all_multicast || self.multicast.has(destination))
        } else {
            let own = destination == self.own;
            !modes.no_unicast && (own || modes.all_unicast || self.unicast.has(destination))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const GROUP: [u8; 6] = [1, 0, 0x5E, 0, 0, 1];
    const ALL: [[u8; 6]; 4] = [OWN, OTHER, GROUP, [0xFF; 6]];

    fn accepted(modes: Modes) -> [bool; 4] {
        let mut filter = Filter::new(OWN);
        filter.modes = modes;
        ALL.map(|address| filter.accepts(address))
    }

    #[test]
    fn modes_choose_by_kind_of_address() {
        let none = Modes::default();
        let all = Filter::new(OWN).modes;
        let (all_unicast, all_multicast) = (true, true);
        assert_eq!(accepted(none), [true, false, false, true]);
        assert_eq!(accepted(all), [true; 4]);
        let modes = Modes {
            all_unicast,
            ..none
        };
        assert_eq!(accepted(modes), [true, true, false, true]);
        let modes = Modes {
            all_multicast,
            ..none
        };
        assert_eq!(accepted(modes), [true, false, true, true]);
        let modes = Modes {
            all_unicast,
            all_multicast,
            no_unicast: true,
            no_multicast: true,
            no_broadcast: true,
            promiscuous: false,
        };
        assert_eq!(accepted(modes), [false; 4]);
    }

    #[test]
    fn listed_addresses_are_wanted_and_too_many_mean_all() {
        let mut filter = Filter::new(OWN);
        filter.modes.promiscuous = false;
        filter.multicast.add(GROUP);
        assert_eq!(ALL.map(|it| filter.accepts(it)), [true, false, true, true]);
        (0..32).for_each(|n| filter.unicast.add([4, 0, 0, 0, 0, n]));
        assert!(filter.accepts([4, 0, 0, 0, 0, 31]) && !filter.accepts(OTHER));
        filter.unicast.add(OWN);
        assert!(filter.accepts(OTHER));
    }
}
