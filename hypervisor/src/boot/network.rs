//! The switch between the VMs, and the machine's card that leads out of it.

use alloc::sync::Arc;

use dtb_platform::{Uplink, VmConfig};
use hypervisor::cpu::Machine;
use hypervisor::devices::HostDevices;
use hypervisor::net::Network;
use hypervisor::vm::FillEntropy;

use crate::board::virtio::Devices;

/// Returns which card of the machine the switch is to be joined to.
pub(super) fn uplink(blob: &[u8]) -> Option<Uplink> {
    match dtb_platform::uplink(blob) {
        Ok(Ok(uplink)) => uplink,
        Ok(Err(error)) => {
            log::error!("no uplink: {error}");
            None
        }
        // It has been read before.
        Err(_) => None,
    }
}

/// Makes the switch, if one of the `vms` has a card.
pub(super) fn connect<'a>(
    machine: &'static dyn Machine,
    mut devices: Devices,
    vms: impl Iterator<Item = Option<&'a VmConfig>> + Clone,
    uplink: Option<&Uplink>,
    entropy: Option<FillEntropy>,
) -> HostDevices {
    let mut host = devices.host;
    if vms.clone().flatten().all(|config| config.nets.is_empty()) {
        return host;
    }
    let (intid, hardware) = devices.card.take().unzip();
    if let Some(uplink) = uplink
        && hardware.is_none()
    {
        log::error!("no uplink: the machine has no network card {}", uplink.card);
    }
    let way_out = uplink.map(|uplink| &uplink.vlan).zip(hardware);
    match Network::new(machine, vms, way_out, seed(machine, entropy)) {
        Ok(network) => host.set_network(intid, Arc::new(network)),
        Err(error) => log::error!("no network: {error}"),
    }
    host
}

/// Returns a number that guests do not know, as far as the machine has one.
fn seed(machine: &dyn Machine, entropy: Option<FillEntropy>) -> u64 {
    let mut bytes = [0; 8];
    match entropy.map(|fill| fill(&mut bytes)) {
        Some(8) => u64::from_le_bytes(bytes),
        _ => machine.now_ticks(),
    }
}
