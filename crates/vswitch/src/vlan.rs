//! VLAN identifiers, sets of them, and tags (IEEE 802.1Q-2018, clause 9).

use alloc::boxed::Box;

/// The type field of a frame that carries a customer VLAN tag (table 9-1).
pub(crate) const TAG_TYPE: u16 = 0x8100;
/// What a tag adds to a frame.
pub(crate) const TAG_BYTES: usize = 4;

/// A VLAN, 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

impl VlanId {
    /// The VLAN that ports are in by custom when nobody thinks of VLANs.
    pub const DEFAULT: Self = Self(1);

    /// Returns VLAN number `raw`, or `None` unless that is 1 to 4094: 0 says
    /// "no VLAN, only a priority", and 4095 is reserved (table 9-2).
    #[must_use]
    pub const fn new(raw: u16) -> Option<Self> {
        if raw >= 1 && raw <= 4094 {
            Some(Self(raw))
        } else {
            None
        }
    }

    /// Returns the VLAN's number.
    #[must_use]
    pub const fn raw(self) -> u16 {
        self.0
    }
}

/// A set of VLANs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanSet(Box<[u64; 64]>);

impl VlanSet {
    /// Returns the set without a VLAN.
    #[must_use]
    pub fn none() -> Self {
        Self(Box::new([0; 64]))
    }

    /// Returns the set of all VLANs.
    #[must_use]
    pub fn all() -> Self {
        (1..=4094).filter_map(VlanId::new).collect()
    }

    /// Adds a VLAN.
    pub fn insert(&mut self, vlan: VlanId) {
        if let Some(word) = self.0.get_mut(usize::from(vlan.0 / 64)) {
            *word |= 1 << (vlan.0 % 64);
        }
    }

    /// Tells whether the VLAN is in the set.
    #[inline]
    #[must_use]
    pub fn contains(&self, vlan: VlanId) -> bool {
        let word = self.0.get(usize::from(vlan.0 / 64));
        word.is_some_and(|word| word >> (vlan.0 % 64) & 1 != 0)
    }
}

impl FromIterator<VlanId> for VlanSet {
    fn from_iter<I: IntoIterator<Item = VlanId>>(vlans: I) -> Self {
        let mut set = Self::none();
        for vlan in vlans {
            set.insert(vlan);
        }
        set
    }
}

/// The tag control information of a tag: priority (3 bits), drop eligible (1 bit)
/// and VLAN identifier (12 bits), 9.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(u16);

impl Tag {
    /// Returns the tag with this control information.
    #[must_use]
    pub const fn new(control: u16) -> Self {
        Self(control)
    }

    /// Returns the tag control information.
    #[must_use]
    pub const fn control(self) -> u16 {
        self.0
    }

    /// Returns the VLAN identifier as it stands in the tag: 0 to 4095.
    #[must_use]
    pub const fn identifier(self) -> u16 {
        self.0 & 0xFFF
    }

    /// Returns the tag of the same priority for `vlan`.
    #[must_use]
    pub const fn in_vlan(self, vlan: VlanId) -> Self {
        Self(self.0 & 0xF000 | vlan.0)
    }

    /// Returns the tag as it stands in a frame.
    #[must_use]
    pub const fn bytes(self) -> [u8; 4] {
        let [a, b] = TAG_TYPE.to_be_bytes();
        let [c, d] = self.0.to_be_bytes();
        [a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_vlans_have_an_identity() {
        assert_eq!(VlanId::new(0), None);
        assert_eq!(VlanId::new(4095), None);
        assert_eq!(VlanId::new(4094).map(VlanId::raw), Some(4094));
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let vlans = [1, 63, 64, 4094].map(|raw| VlanId::new(raw).unwrap());
        let set: VlanSet = vlans.into_iter().collect();
        let held = (1..=4094).filter_map(VlanId::new);
        assert!(held.filter(|vlan| set.contains(*vlan)).eq(vlans));
        assert!(VlanSet::all().contains(vlans[3]) && !VlanSet::none().contains(vlans[0]));
    }

    #[test]
    fn a_tag_keeps_its_priority_in_another_vlan() {
        let tag = Tag::new(0xE000).in_vlan(VlanId::new(0x123).unwrap());
        assert_eq!(tag.bytes(), [0x81, 0x00, 0xE1, 0x23]);
        assert_eq!(tag.identifier(), 0x123);
    }
}
