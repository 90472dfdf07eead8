//! The machine's network: one switch that the cards of all VMs are joined to, and a card
//! of the machine, if it is the switch's way out.
//!
//! Every card of a VM has a port of its own, in the order of the configuration, whether
//! the VM runs or not. While it does, the card has the [`Endpoint`] of the port. Who sends
//! a frame learns which ports have something to receive, and tells their users once it
//! holds no lock any more.

mod uplink;

use alloc::boxed::Box;
use alloc::sync::Weak;
use alloc::vec::Vec;

use dtb_platform::{NetConfig, VlanMode, VmConfig};
use thiserror::Error;
use vm_contract::{VcpuId, VmId};
use vswitch::{
    ConfigError, DropReason, Endpoint, FrameBuf, Limits, MacAddress, PortConfig, PortId, PortSet,
    Statistics, Switch, VlanId, VlanSet,
};

use crate::cpu::Machine;
use crate::lock::{RankedLock, rank};
use uplink::Uplink;

pub use uplink::NetHardware;

/// Bytes of the longest frame, without a tag: an MTU of 1500.
pub const FRAME_BYTES: usize = 1514;
/// The MTU.
pub const MTU: u16 = 1500;

/// How much of the heap all frames together take at the most.
const FRAMES_BYTES: usize = 6 << 20;
/// How many frames may wait for a port: fewer where there are many ports.
const QUEUE_FRAMES: core::ops::RangeInclusive<usize> = 32..=256;

/// Somebody with cards on the switch. It is told without any lock held.
pub trait NetUser: Send + Sync {
    /// Takes note of frames that wait for its card number `card`. `current` is the vCPU
    /// on whose behalf this CPU acts.
    fn frames_wait(&self, card: usize, current: Option<(VmId, VcpuId)>);
}

/// Why there is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// The switch cannot be made.
    #[error(transparent)]
    Switch(#[from] ConfigError),
    /// A VLAN has a number that none can have.
    #[error("there is no VLAN {0}")]
    NoVlan(u16),
}

/// A port and whose it is.
struct Port {
    vm: VmId,
    card: usize,
    id: PortId,
    /// While nobody uses the card.
    endpoint: Option<Endpoint>,
    user: Option<Weak<dyn NetUser>>,
}

/// The switch, and who is joined to it.
pub struct Network {
    machine: &'static dyn Machine,
    switch: RankedLock<Switch, { rank::SWITCH }>,
    /// In the order of their numbers; the uplink is not among them.
    ports: RankedLock<Vec<Port>, { rank::SWITCH_PORTS }>,
    uplink: Option<Uplink>,
}

impl Network {
    /// Makes a switch with a port for each card of `vms`, which are in the order of their
    /// numbers, and one for the machine's own card. Nobody who runs in a VM should know
    /// `hash_seed`.
    ///
    /// # Errors
    /// [`NetworkError`]: the configuration is to blame.
    pub fn new<'a>(
        machine: &'static dyn Machine,
        vms: impl Iterator<Item = Option<&'a VmConfig>>,
        uplink: Option<(&VlanMode, Box<dyn NetHardware>)>,
        hash_seed: u64,
    ) -> Result<Self, NetworkError> {
        let cards = (0..).map(VmId::new).zip(vms).flat_map(|(vm, config)| {
            let nets = config.map_or(&[][..], |config| &config.nets);
            nets.iter().enumerate().map(move |(n, net)| (vm, n, net))
        });
        let cards: Vec<_> = cards.collect();
        let mut configs = cards
            .iter()
            .map(|(vm, card, net)| port_config(*vm, *card, net))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some((vlans, _)) = &uplink {
            configs.push(PortConfig::new(port_mode(vlans)?).as_uplink());
        }
        let limits = limits(machine, configs.len(), hash_seed);
        let (mut switch, endpoints) = Switch::new(&limits, configs)?;
        let mut endpoints = endpoints.into_iter();
        let mut ports = Vec::with_capacity(cards.len());
        for ((vm, card, net), endpoint) in cards.into_iter().zip(&mut endpoints) {
            let id = endpoint.id();
            if let VlanMode::Access(vlan) = net.vlan
                && net.anti_spoofing
                && let Some(vlan) = VlanId::new(vlan)
            {
                // Where there is no room for it, it is learned as any other.
                let _ = switch.pin(vlan, MacAddress::new(mac(vm, card, net)), id);
            }
            switch.set_up(id, false);
            ports.push(Port {
                vm,
                card,
                id,
                endpoint: Some(endpoint),
                user: None,
            });
        }
        let hardware = uplink.map(|(_, hardware)| hardware);
        let uplink = hardware.zip(endpoints.next());
        Ok(Self {
            machine,
            switch: RankedLock::new(switch),
            ports: RankedLock::new(ports),
            uplink: uplink.map(|(hardware, endpoint)| Uplink::new(hardware, endpoint)),
        })
    }

    /// Joins a card of a VM to its port. `None` if the VM has no such card, or one that
    /// somebody has still.
    #[must_use]
    pub fn join(&self, vm: VmId, card: usize) -> Option<Endpoint> {
        let mut endpoint = {
            let mut ports = self.ports.lock();
            let mut ports = ports.iter_mut();
            let port = ports.find(|port| port.vm == vm && port.card == card)?;
            port.endpoint.take()?
        };
        // Of the life before.
        endpoint.discard();
        self.switch.lock().set_up(endpoint.id(), true);
        Some(endpoint)
    }

    /// Takes a card off its port.
    pub fn leave(&self, endpoint: Endpoint) {
        let id = endpoint.id();
        self.switch.lock().set_up(id, false);
        let user = self.ports.lock().get_mut(id.index()).and_then(|port| {
            port.endpoint = Some(endpoint);
            port.user.take()
        });
        drop(user);
    }

    /// Says who hears of frames for a port.
    pub fn listen(&self, port: PortId, user: Weak<dyn NetUser>) {
        if let Some(port) = self.ports.lock().get_mut(port.index()) {
            port.user = Some(user);
        }
    }

    /// Sends a frame, and returns who is to be [woken](Self::wake) for it. What is
    /// dropped is counted at its port.
    pub fn submit(&self, frame: FrameBuf) -> PortSet {
        let mut switch = self.switch.lock();
        // Under the lock, so that the switch's time never runs backwards.
        let now = self.machine.now_ticks();
        switch.submit(frame, now).unwrap_or(PortSet::EMPTY)
    }

    /// Tells the users of ports that frames wait. The caller holds no lock. `current` is
    /// the vCPU on whose behalf this CPU acts.
    pub fn wake(&self, ports: PortSet, current: Option<(VmId, VcpuId)>) {
        let mut left = ports.bits();
        while left != 0 {
            let index = left.trailing_zeros();
            left &= left - 1;
            let user = {
                let ports = self.ports.lock();
                let port = ports.get(index as usize);
                port.and_then(|port| Some((port.user.as_ref()?.upgrade()?, port.card)))
            };
            match (user, &self.uplink) {
                (Some((user, card)), _) => user.frames_wait(card, current),
                (None, Some(uplink)) if uplink.port().index() == index as usize => {
                    uplink.send_out();
                }
                _ => {}
            }
        }
    }

    /// Answers the interrupt of the machine's own card.
    pub fn service_uplink(&self, current: Option<(VmId, VcpuId)>) {
        if let Some(uplink) = &self.uplink {
            uplink.service(
                |frame| self.submit(frame),
                |ports| self.wake(ports, current),
            );
        }
    }

    /// Returns what has been counted at each port of a VM's cards.
    #[must_use]
    pub fn statistics(&self) -> Vec<(VmId, usize, Statistics)> {
        let ports: Vec<_> = {
            let ports = self.ports.lock();
            let ports = ports.iter().map(|port| (port.vm, port.card, port.id));
            ports.collect()
        };
        let switch = self.switch.lock();
        let ports = ports.into_iter();
        ports
            .filter_map(|(vm, card, id)| Some((vm, card, switch.statistics(id)?)))
            .collect()
    }

    /// Returns what has been counted at the port of the machine's own card.
    #[must_use]
    pub fn uplink_statistics(&self) -> Option<Statistics> {
        let port = self.uplink.as_ref()?.port();
        self.switch.lock().statistics(port)
    }
}

/// Returns the address of card number `card` of a VM.
#[must_use]
pub fn mac(vm: VmId, card: usize, net: &NetConfig) -> [u8; 6] {
    let number = u8::try_from(card).unwrap_or(u8::MAX);
    net.mac.unwrap_or(NetConfig::usual_mac(vm, number))
}

fn port_config(vm: VmId, card: usize, net: &NetConfig) -> Result<PortConfig, NetworkError> {
    let port = PortConfig::new(port_mode(&net.vlan)?);
    Ok(match net.anti_spoofing {
        true => port.only_from(MacAddress::new(mac(vm, card, net))),
        false => port,
    })
}

fn port_mode(vlans: &VlanMode) -> Result<vswitch::PortMode, NetworkError> {
    let vlan = |number: u16| VlanId::new(number).ok_or(NetworkError::NoVlan(number));
    Ok(match vlans {
        VlanMode::Access(number) => vswitch::PortMode::Access(vlan(*number)?),
        VlanMode::Trunk { tagged, native } => {
            let mut allowed = VlanSet::none();
            for number in tagged {
                allowed.insert(vlan(*number)?);
            }
            let native = native.map(vlan).transpose()?;
            vswitch::PortMode::Trunk { allowed, native }
        }
    })
}

/// Returns the sizes of a switch with `ports` ports.
fn limits(machine: &dyn Machine, ports: usize, hash_seed: u64) -> Limits {
    let usual = Limits::usual(machine.ticks_per_second(), hash_seed);
    let frames = FRAMES_BYTES / FRAME_BYTES / ports.max(1);
    let frames = frames.clamp(*QUEUE_FRAMES.start(), *QUEUE_FRAMES.end());
    Limits {
        frame_bytes: FRAME_BYTES,
        queue_frames: u32::try_from(frames).unwrap_or(usual.queue_frames),
        ..usual
    }
}

/// Builds a frame of `bytes`, and counts at the port if that cannot be.
fn frame_of(endpoint: &Endpoint, bytes: &[u8]) -> Option<FrameBuf> {
    let mut frame = endpoint.frame(vswitch::Offload::None).ok()?;
    let appended: Result<(), DropReason> = frame.append(bytes);
    appended
        .inspect_err(|reason| endpoint.count_drop(*reason))
        .ok()?;
    Some(frame)
}

#[cfg(test)]
mod tests;
