//! The network cards of a VM, and the switch that they are joined to: read,
//! checked and written.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use vm_contract::VmId;

use super::read::check_properties;
use super::{NET, allowed, property};
use crate::tree::{Node, has_repeats};
use crate::{ConfigError, PropertyError, RawNode};

/// A network card of a VM, which is a port of the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetConfig {
    /// Its address; without one it has [its usual one](NetConfig::usual_mac).
    pub mac: Option<[u8; 6]>,
    /// The VLANs that it is in.
    pub vlan: VlanMode,
    /// Whether the switch drops what the VM sends from another address than that
    /// of the card.
    pub anti_spoofing: bool,
}

/// The VLANs that a port of the switch is in. Each is one of
/// [`VlanMode::VLANS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VlanMode {
    /// One, whose frames have no tag on this port.
    Access(u16),
    /// Several, whose frames have a tag on this port.
    Trunk {
        /// Those with a tag: at least one, and none twice.
        tagged: Vec<u16>,
        /// The one of frames without a tag, none of the others; without it such
        /// frames are dropped.
        native: Option<u16>,
    },
}

impl Default for NetConfig {
    /// A card that says nothing is in the usual VLAN and sends from its usual address.
    fn default() -> Self {
        Self {
            mac: None,
            vlan: VlanMode::default(),
            anti_spoofing: true,
        }
    }
}

impl Default for VlanMode {
    /// A port that says nothing is in VLAN 1, as is usual.
    fn default() -> Self {
        Self::Access(Self::USUAL)
    }
}

impl VlanMode {
    /// The numbers that a VLAN may have (IEEE 802.1Q, 9.6).
    pub const VLANS: RangeInclusive<u16> = 1..=4094;
    /// The VLAN of a port that says nothing about it.
    pub const USUAL: u16 = 1;

    /// Checks it by itself, as [`NetConfig::check`] does.
    pub(crate) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let exists = |vlan: &u16| Self::VLANS.contains(vlan);
        match self {
            Self::Access(vlan) if !exists(vlan) => Err((property::VLAN, allowed::VLAN)),
            Self::Trunk { tagged, .. }
                if tagged.is_empty() || has_repeats(tagged) || !tagged.iter().all(exists) =>
            {
                Err((property::TRUNK, allowed::TRUNK))
            }
            Self::Trunk {
                tagged,
                native: Some(native),
            } if !exists(native) || tagged.contains(native) => {
                Err((property::NATIVE_VLAN, allowed::NATIVE_VLAN))
            }
            Self::Access(_) | Self::Trunk { .. } => Ok(()),
        }
    }

    /// Reads the VLANs that the port at `node` is in.
    pub(crate) fn read(node: Node<'_, '_>) -> Result<Self, PropertyError> {
        use property::{NATIVE_VLAN, TRUNK, VLAN};
        let number = |name, allowed| {
            let word = node.word(name, allowed)?;
            let narrow = word.map(|word| u16::try_from(word).ok());
            narrow
                .map(|word| word.ok_or_else(|| node.invalid(name, allowed)))
                .transpose()
        };
        let access = number(VLAN, allowed::VLAN)?;
        let native = number(NATIVE_VLAN, allowed::NATIVE_VLAN)?;
        match (node.words(TRUNK, allowed::TRUNK)?, access, native) {
            (None, access, None) => Ok(access.map_or_else(Self::default, Self::Access)),
            (None, _, Some(_)) => Err(node.invalid(NATIVE_VLAN, allowed::NO_NATIVE_VLAN)),
            (Some(_), Some(_), _) => Err(node.invalid(VLAN, allowed::NO_VLAN)),
            (Some(words), None, native) => {
                let tagged: Result<_, _> = words.into_iter().map(u16::try_from).collect();
                let tagged = tagged.map_err(|_| node.invalid(TRUNK, allowed::TRUNK))?;
                Ok(Self::Trunk { tagged, native })
            }
        }
    }

    /// Adds to `node`, which is a port's, what says so.
    pub(crate) fn write(&self, node: &mut RawNode) {
        match self {
            Self::Access(vlan) => node.set_words(property::VLAN, &[(*vlan).into()]),
            Self::Trunk { tagged, native } => {
                let words: Vec<u32> = tagged.iter().copied().map(u32::from).collect();
                node.set_words(property::TRUNK, &words);
                if let Some(native) = native {
                    node.set_words(property::NATIVE_VLAN, &[(*native).into()]);
                }
            }
        }
    }
}

impl NetConfig {
    /// How every [usual address](Self::usual_mac) begins. It is a locally
    /// administered one.
    const USUAL_MAC: [u8; 3] = [0x02, 0x61, 0x72];

    /// Returns the address of a card that is given none, the one with this number
    /// of `vm`. No card can be given that of another.
    ///
    /// ```
    /// use dtb_platform::NetConfig;
    /// use vm_contract::VmId;
    ///
    /// let mac = NetConfig::usual_mac(VmId::new(0x102), 1);
    /// assert_eq!(mac, [0x02, 0x61, 0x72, 0x01, 0x02, 0x01]);
    /// ```
    #[must_use]
    pub const fn usual_mac(vm: VmId, number: u8) -> [u8; 6] {
        let [first, second, third] = Self::USUAL_MAC;
        let [high, low] = vm.raw().to_be_bytes();
        [first, second, third, high, low, number]
    }

    /// Tells whether a card can be given this address: it must be neither a group's
    /// nor a [usual one](Self::usual_mac).
    #[must_use]
    pub fn may_have(mac: [u8; 6]) -> bool {
        let [first, ..] = mac;
        first & 1 == 0 && mac != [0; 6] && !mac.starts_with(&Self::USUAL_MAC)
    }

    /// Checks it by itself. What is wrong is a property, and comes with what that
    /// may be.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        match self.mac {
            Some(mac) if !Self::may_have(mac) => Err((property::MAC, allowed::MAC)),
            _ => self.vlan.check(),
        }
    }

    pub(super) fn read(node: Node<'_, '_>) -> Result<Self, ConfigError> {
        use property::{ANY_SOURCE, MAC, NATIVE_VLAN, TRUNK, VLAN};
        check_properties(node, &[VLAN, TRUNK, NATIVE_VLAN, ANY_SOURCE])?;
        let mac = node.property(MAC).map(<[u8; 6]>::try_from).transpose();
        Ok(Self {
            mac: mac.map_err(|_| node.invalid(MAC, allowed::MAC))?,
            vlan: VlanMode::read(node)?,
            anti_spoofing: !node.flag(ANY_SOURCE)?,
        })
    }

    /// Makes the node that describes it, the one with this number.
    pub(crate) fn node(&self, number: usize) -> RawNode {
        let mut node = RawNode::new(alloc::format!("net{number}"));
        node.set_text("compatible", NET);
        if let Some(mac) = &self.mac {
            node.set(property::MAC, mac);
        }
        self.vlan.write(&mut node);
        if !self.anti_spoofing {
            node.set(property::ANY_SOURCE, &[]);
        }
        node
    }
}
