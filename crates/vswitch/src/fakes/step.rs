//! What happens to a switch, made from bytes.

use alloc::vec::Vec;

use crate::{MacAddress, Offload, PortConfig, PortId, Tag, VlanId, VlanSet};

/// How many ports the switch of the tests has.
const PORTS: u64 = 5;

/// One event at a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A port sends a frame.
    Send {
        /// The port.
        port: PortId,
        /// The frame, right or wrong.
        bytes: Vec<u8>,
        /// What is said of its checksum.
        offload: Offload,
    },
    /// A port takes an empty frame and keeps it.
    Take(PortId),
    /// A port gives back the empty frame that it took last.
    Untake(PortId),
    /// A port receives a frame and keeps it.
    Receive(PortId),
    /// A port gives back the frame that it has kept longest.
    GiveBack(PortId),
    /// A port goes up or down.
    SetUp(PortId, bool),
    /// A port gets another configuration.
    Configure(PortId, PortConfig),
    /// An address is pinned.
    Pin(VlanId, MacAddress, PortId),
    /// An address is no longer pinned.
    Unpin(VlanId, MacAddress),
    /// Time passes.
    Wait(u64),
}

/// A number from which small ones are taken.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        let result = self.0 % end;
        self.0 /= end;
        result
    }

    fn small(&mut self, end: u8) -> u8 {
        u8::try_from(self.below(end.into())).unwrap_or(0)
    }

    fn port(&mut self) -> PortId {
        let index = usize::try_from(self.below(PORTS)).unwrap_or(0);
        PortId::new(index).unwrap_or(PortId::FIRST)
    }

    fn vlan(&mut self) -> VlanId {
        let raw = (self.below(3) + 1) * 10;
        let raw = u16::try_from(raw).ok();
        raw.and_then(VlanId::new).unwrap_or(VlanId::DEFAULT)
    }

    fn station(&mut self) -> MacAddress {
        MacAddress::new([2, 0, 0, 0, 0, self.small(6)])
    }

    fn any_address(&mut self) -> MacAddress {
        match self.below(16) {
            0 => MacAddress::ZERO,
            1 => MacAddress::BROADCAST,
            2 => MacAddress::new([1, 0x80, 0xC2, 0, 0, self.small(32)]),
            3 => MacAddress::new([1, 0, 0x5E, 0, 0, 1]),
            _ => self.station(),
        }
    }

    /// Appends a tag, or none.
    fn tag(&mut self, bytes: &mut Vec<u8>) {
        let priority = 0xA000 * u16::from(self.small(2));
        let tag = match self.below(8) {
            0..4 => return,
            4 => Tag::new(priority),
            5 => Tag::new(priority | 0xFFF),
            _ => Tag::new(priority).in_vlan(self.vlan()),
        };
        bytes.extend(tag.bytes());
    }

    fn offload(&mut self, bytes: usize) -> Offload {
        match self.below(4) {
            0 => Offload::ChecksumNeeded {
                start: u16::try_from(self.below(bytes as u64 + 4)).unwrap_or(0),
                offset: self.small(20).into(),
            },
            1 => Offload::ChecksumValid,
            _ => Offload::None,
        }
    }

    fn send(&mut self) -> Step {
        let port = self.port();
        let mut bytes = Vec::new();
        bytes.extend(self.any_address().bytes());
        bytes.extend(self.any_address().bytes());
        self.tag(&mut bytes);
        if bytes.len() > 12 {
            self.tag(&mut bytes);
        }
        bytes.extend([0x08, 0x00]);
        match self.below(8) {
            0 => bytes.truncate(usize::from(self.small(20))),
            1 => bytes.resize(96 + usize::from(self.small(12)), self.small(251)),
            _ => bytes.extend((0..self.small(40)).map(|n| n ^ 0x5A)),
        }
        let offload = self.offload(bytes.len());
        Step::Send {
            port,
            bytes,
            offload,
        }
    }
}

impl Step {
    /// Makes a step of a number: most send or receive.
    #[must_use]
    pub fn decode(number: u64) -> Self {
        let mut dice = Dice(number);
        match dice.below(32) {
            0 => Self::Take(dice.port()),
            1 => Self::Untake(dice.port()),
            2 => Self::SetUp(dice.port(), dice.below(3) > 0),
            3 => {
                let port = dice.port();
                let mut configs = port_configs();
                let kind = usize::try_from(dice.below(PORTS)).unwrap_or(0);
                Self::Configure(port, configs.swap_remove(kind))
            }
            4 => Self::Pin(dice.vlan(), dice.station(), dice.port()),
            5 => Self::Unpin(dice.vlan(), dice.station()),
            6 => Self::Wait(dice.below(7)),
            7..12 => Self::Receive(dice.port()),
            12..18 => Self::GiveBack(dice.port()),
            _ => dice.send(),
        }
    }
}

/// Returns the ports of the switch of the tests: two access ports of VLAN 10, the first
/// with one address only, one of VLAN 20, a trunk of 10 and 20, and an uplink with
/// native VLAN 20 that carries 10 and 30 too.
#[must_use]
pub fn port_configs() -> Vec<PortConfig> {
    let vlan = |raw| VlanId::new(raw).unwrap_or(VlanId::DEFAULT);
    let set = |vlans: [u16; 2]| -> VlanSet { vlans.into_iter().map(vlan).collect() };
    let own = MacAddress::new([2, 0, 0, 0, 0, 0]);
    [
        PortConfig::access(vlan(10)).only_from(own),
        PortConfig::access(vlan(10)),
        PortConfig::access(vlan(20)),
        PortConfig::trunk(set([10, 20]), None),
        PortConfig::trunk(set([10, 30]), Some(vlan(20))).as_uplink(),
    ]
    .into()
}
