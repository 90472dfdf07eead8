//! The machine's own devices that its VMs share.

use alloc::sync::Arc;
use alloc::vec::Vec;

use vm_contract::{IntId, VcpuId, VmId};

use crate::net::Network;
use crate::storage::HostDisk;

/// What the hypervisor drives for all VMs, and the interrupts that tell of it.
#[derive(Default)]
pub struct HostDevices {
    disks: Vec<(IntId, Arc<HostDisk>)>,
    /// With the interrupt of the card that is its way out.
    network: Option<(Option<IntId>, Arc<Network>)>,
}

impl HostDevices {
    /// Adds a disk, which has the next number, and its interrupt.
    pub fn add_disk(&mut self, intid: IntId, disk: Arc<HostDisk>) {
        self.disks.push((intid, disk));
    }

    /// Returns disk number `number`.
    #[must_use]
    pub fn disk(&self, number: usize) -> Option<&Arc<HostDisk>> {
        self.disks.get(number).map(|(_, disk)| disk)
    }

    /// Returns all disks, in the order of their numbers.
    pub fn disks(&self) -> impl Iterator<Item = &Arc<HostDisk>> {
        self.disks.iter().map(|(_, disk)| disk)
    }

    /// Adds the network, and the interrupt of its way out.
    pub fn set_network(&mut self, intid: Option<IntId>, network: Arc<Network>) {
        self.network = Some((intid, network));
    }

    /// Returns the network, if any VM has a card.
    #[must_use]
    pub fn network(&self) -> Option<&Arc<Network>> {
        self.network.as_ref().map(|(_, network)| network)
    }

    /// Answers all interrupts, whether they came or not: once the interrupt controller
    /// listens to the devices. A wire that was raised before would never rise again.
    pub fn service_all(&self) {
        for (_, disk) in &self.disks {
            disk.service(None);
        }
        if let Some((_, network)) = &self.network {
            network.service_uplink(None);
        }
    }

    /// Answers the interrupt of a device. `current` is the vCPU on whose behalf this CPU
    /// acts.
    #[inline(never)]
    pub fn service(&self, intid: IntId, current: Option<(VmId, VcpuId)>) {
        for (_, disk) in self.disks.iter().filter(|(own, _)| *own == intid) {
            disk.service(current);
        }
        if let Some((own, network)) = &self.network
            && *own == Some(intid)
        {
            network.service_uplink(current);
        }
    }
}
