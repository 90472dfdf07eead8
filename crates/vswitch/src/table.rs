//! Which address is behind which port.
//!
//! A hash table with chains, all entries allocated at the start: as many for each port
//! as it may learn, and those that can be pinned. A port that has learned its share
//! replaces its own oldest entry, so the table is never full for another, and a pinned
//! entry is replaced by nobody.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::{DropReason, MacAddress, PortId, VlanId};

/// No entry.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// VLAN and address.
    key: u64,
    port: PortId,
    pinned: bool,
    seen: u64,
    /// The next of the chain, or of the free ones.
    next: u32,
    /// Neighbours in the port's list of learned entries.
    newer: u32,
    older: u32,
}

/// The entries learned from a port, by age.
#[derive(Clone, Copy, Debug)]
struct Learned {
    newest: u32,
    oldest: u32,
    count: u32,
}

#[derive(Debug)]
pub(crate) struct MacTable {
    chains: Box<[u32]>,
    entries: Box<[Entry]>,
    ports: Box<[Learned]>,
    free: u32,
    pinned: u32,
    most_pinned: u32,
    most_learned: u32,
    age: u64,
    seed: u64,
}

fn key(vlan: VlanId, mac: MacAddress) -> u64 {
    u64::from(vlan.raw()) << 48 | mac.number()
}

impl MacTable {
    /// Allocates a table in which each of `ports` ports may learn `learned` addresses.
    pub(crate) fn new(ports: usize, learned: u32, pinned: u32, age: u64, seed: u64) -> Self {
        let count = (learned as usize * ports + pinned as usize).max(1);
        let vacant = Entry {
            key: 0,
            port: PortId::FIRST,
            pinned: false,
            seen: 0,
            next: NONE,
            newer: NONE,
            older: NONE,
        };
        let mut entries: Vec<_> = core::iter::repeat_n(vacant, count).collect();
        for (next, entry) in (1..).zip(entries.iter_mut().rev().skip(1).rev()) {
            entry.next = next;
        }
        let none = Learned {
            newest: NONE,
            oldest: NONE,
            count: 0,
        };
        Self {
            chains: core::iter::repeat_n(NONE, count.next_power_of_two()).collect(),
            entries: entries.into_boxed_slice(),
            ports: core::iter::repeat_n(none, ports).collect(),
            free: 0,
            pinned: 0,
            most_pinned: pinned,
            most_learned: learned,
            age,
            seed,
        }
    }

    /// Returns the port of an address, unless it has not been heard of for too long.
    pub(crate) fn port(&self, vlan: VlanId, mac: MacAddress, now: u64) -> Option<PortId> {
        let entry = self.entry(self.find(key(vlan, mac)))?;
        let old = now.saturating_sub(entry.seen) > self.age;
        (entry.pinned || !old).then_some(entry.port)
    }

    /// Notes that a frame from `mac` came in at `port`.
    ///
    /// # Errors
    /// [`DropReason::PinnedElsewhere`] if the address belongs to another port.
    pub(crate) fn learn(
        &mut self,
        vlan: VlanId,
        mac: MacAddress,
        port: PortId,
        now: u64,
    ) -> Result<(), DropReason> {
        let key = key(vlan, mac);
        let index = self.find(key);
        match self.entry(index) {
            Some(entry) if entry.pinned && entry.port == port => return Ok(()),
            Some(entry) if entry.pinned => return Err(DropReason::PinnedElsewhere),
            Some(entry) if entry.port == port => {
                self.touch(index, port, now);
                return Ok(());
            }
            Some(_) => self.forget(index),
            None => {}
        }
        let Some(learned) = self.ports.get(port.index()) else {
            return Ok(());
        };
        if learned.count >= self.most_learned {
            self.forget(learned.oldest);
        }
        if self.most_learned > 0 {
            self.add(key, port, false, now);
        }
        Ok(())
    }

    /// Ties an address to a port; tells whether there was room.
    pub(crate) fn pin(&mut self, vlan: VlanId, mac: MacAddress, port: PortId) -> bool {
        let key = key(vlan, mac);
        let index = self.find(key);
        let was_pinned = self.entry(index).is_some_and(|entry| entry.pinned);
        if !was_pinned && self.pinned >= self.most_pinned {
            return false;
        }
        self.forget(index);
        self.add(key, port, true, 0);
        true
    }

    /// Undoes [`pin`](Self::pin); tells whether the address was pinned.
    pub(crate) fn unpin(&mut self, vlan: VlanId, mac: MacAddress) -> bool {
        let index = self.find(key(vlan, mac));
        let pinned = self.entry(index).is_some_and(|entry| entry.pinned);
        if pinned {
            self.forget(index);
        }
        pinned
    }

    /// Forgets what was learned from a port.
    pub(crate) fn forget_port(&mut self, port: PortId) {
        // Bounded by the port's share: each turn removes one.
        while let Some(Learned { oldest, count, .. }) = self.ports.get(port.index()).copied()
            && count > 0
        {
            self.forget(oldest);
        }
    }

    /// Returns how many addresses are learned from a port, old ones included.
    pub(crate) fn learned(&self, port: PortId) -> usize {
        let learned = self.ports.get(port.index());
        learned.map_or(0, |learned| learned.count as usize)
    }

    fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(index as usize)
    }

    fn entry_mut(&mut self, index: u32) -> Option<&mut Entry> {
        self.entries.get_mut(index as usize)
    }

    /// Returns the number of a key's chain.
    #[expect(clippy::cast_possible_truncation, reason = "reduced to the chains")]
    fn chain(&self, key: u64) -> usize {
        // Two rounds of multiplication and folding: the seed reaches every bit.
        let fold = |value: u64| value ^ value >> 32;
        let mixed = fold((key ^ self.seed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mixed = fold((mixed ^ self.seed.rotate_left(32)).wrapping_mul(0xD6E8_FEB8_6659_FD93));
        mixed as usize & (self.chains.len() - 1)
    }

    /// Returns the entry of a key, or [`NONE`].
    fn find(&self, key: u64) -> u32 {
        let mut index = self.chains.get(self.chain(key)).copied().unwrap_or(NONE);
        while let Some(entry) = self.entry(index) {
            if entry.key == key {
                return index;
            }
            index = entry.next;
        }
        NONE
    }

    /// Adds an entry for a key that has none.
    fn add(&mut self, key: u64, port: PortId, pinned: bool, seen: u64) {
        let index = self.free;
        let chain = self.chain(key);
        let (Some(entry), Some(first)) = (
            self.entries.get_mut(index as usize),
            self.chains.get_mut(chain),
        ) else {
            return;
        };
        self.free = entry.next;
        *entry = Entry {
            key,
            port,
            pinned,
            seen,
            next: *first,
            newer: NONE,
            older: NONE,
        };
        *first = index;
        if pinned {
            self.pinned += 1;
        } else {
            self.list_as_newest(index, port);
        }
    }

    /// Removes an entry, if it is one.
    fn forget(&mut self, index: u32) {
        let Some(entry) = self.entry(index).copied() else {
            return;
        };
        if entry.pinned {
            self.pinned -= 1;
        } else {
            self.unlist(index, entry);
        }
        let chain = self.chain(entry.key);
        let mut before = NONE;
        let mut at = self.chains.get(chain).copied().unwrap_or(NONE);
        while at != index
            && let Some(next) = self.entry(at).map(|entry| entry.next)
        {
            (before, at) = (at, next);
        }
        let free = self.free;
        if let Some(previous) = self.entry_mut(before) {
            previous.next = entry.next;
        } else if let Some(first) = self.chains.get_mut(chain) {
            *first = entry.next;
        }
        if let Some(entry) = self.entry_mut(index) {
            entry.next = free;
            self.free = index;
        }
    }

    /// Notes that a learned entry was seen again.
    fn touch(&mut self, index: u32, port: PortId, now: u64) {
        let newest = self.ports.get(port.index()).map(|learned| learned.newest);
        let Some(entry) = self.entry_mut(index) else {
            return;
        };
        entry.seen = now;
        let entry = *entry;
        if newest != Some(index) {
            self.unlist(index, entry);
            self.list_as_newest(index, port);
        }
    }

    fn list_as_newest(&mut self, index: u32, port: PortId) {
        let Some(learned) = self.ports.get_mut(port.index()) else {
            return;
        };
        let older = learned.newest;
        learned.newest = index;
        learned.count += 1;
        if older == NONE {
            learned.oldest = index;
        }
        if let Some(entry) = self.entry_mut(older) {
            entry.newer = index;
        }
        if let Some(entry) = self.entry_mut(index) {
            (entry.newer, entry.older) = (NONE, older);
        }
    }

    fn unlist(&mut self, index: u32, entry: Entry) {
        let Some(learned) = self.ports.get_mut(entry.port.index()) else {
            return;
        };
        learned.count -= 1;
        if learned.newest == index {
            learned.newest = entry.older;
        }
        if learned.oldest == index {
            learned.oldest = entry.newer;
        }
        if let Some(newer) = self.entry_mut(entry.newer) {
            newer.older = entry.older;
        }
        if let Some(older) = self.entry_mut(entry.older) {
            older.newer = entry.newer;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VLAN: VlanId = VlanId::DEFAULT;

    fn mac(n: u8) -> MacAddress {
        MacAddress::new([2, 0, 0, 0, 0, n])
    }

    fn port(n: usize) -> PortId {
        PortId::new(n).unwrap()
    }

    #[test]
    fn a_flood_of_addresses_hurts_its_own_port_only() {
        let mut table = MacTable::new(3, 4, 1, 100, 7);
        assert!(table.pin(VLAN, mac(200), port(2)));
        table.learn(VLAN, mac(201), port(0), 0).unwrap();
        for n in 1..=100 {
            table.learn(VLAN, mac(n), port(1), n.into()).unwrap();
        }
        assert_eq!(table.learned(port(1)), 4);
        assert_eq!(table.port(VLAN, mac(200), 100), Some(port(2)));
        assert_eq!(table.port(VLAN, mac(201), 100), Some(port(0)));
        let known = (1..=100).filter(|n| table.port(VLAN, mac(*n), 100).is_some());
        assert!(known.eq(97..=100));
    }

    #[test]
    fn the_address_that_was_seen_last_stays() {
        let mut table = MacTable::new(1, 2, 0, 100, 7);
        for n in [1, 2, 1, 3] {
            table.learn(VLAN, mac(n), port(0), 0).unwrap();
        }
        assert_eq!(table.port(VLAN, mac(1), 0), Some(port(0)));
        assert_eq!(table.port(VLAN, mac(2), 0), None);
    }

    #[test]
    fn addresses_move_and_grow_old_unless_pinned() {
        let mut table = MacTable::new(2, 4, 1, 10, 7);
        table.learn(VLAN, mac(1), port(0), 0).unwrap();
        table.learn(VLAN, mac(1), port(1), 5).unwrap();
        assert_eq!(table.port(VLAN, mac(1), 15), Some(port(1)));
        assert_eq!(table.port(VLAN, mac(1), 16), None);
        assert_eq!((table.learned(port(0)), table.learned(port(1))), (0, 1));
        assert!(table.pin(VLAN, mac(1), port(0)));
        assert!(!table.pin(VLAN, mac(2), port(0)));
        let moved = table.learn(VLAN, mac(1), port(1), 20);
        assert_eq!(moved, Err(DropReason::PinnedElsewhere));
        assert_eq!(table.port(VLAN, mac(1), u64::MAX), Some(port(0)));
        assert!(table.unpin(VLAN, mac(1)) && !table.unpin(VLAN, mac(1)));
        assert_eq!(table.port(VLAN, mac(1), 20), None);
    }

    #[test]
    fn vlans_have_addresses_of_their_own() {
        let mut table = MacTable::new(2, 4, 0, 10, 7);
        let other = VlanId::new(2).unwrap();
        table.learn(VLAN, mac(1), port(0), 0).unwrap();
        table.learn(other, mac(1), port(1), 0).unwrap();
        assert_eq!(table.port(VLAN, mac(1), 0), Some(port(0)));
        assert_eq!(table.port(other, mac(1), 0), Some(port(1)));
        table.forget_port(port(1));
        assert_eq!(table.port(other, mac(1), 0), None);
    }

    #[test]
    fn a_table_without_room_learns_nothing() {
        let mut table = MacTable::new(1, 0, 0, 10, 7);
        table.learn(VLAN, mac(1), port(0), 0).unwrap();
        assert_eq!(table.port(VLAN, mac(1), 0), None);
    }
}
