//! A VM's network card on its port of the machine's switch.

use alloc::sync::Arc;

use virtio_devices::net::{Checksum, NetBackend, ReceivedFrame, TransmitFrame};
use virtio_devices::{Net, VirtioMmio};
use vm_contract::{AccessError, DeviceContext, VcpuId, VmId, Width};
use vswitch::{DropReason, Endpoint, Frame, Offload, PortId, PortSet};

use super::VirtioSlot;
use crate::net::{MTU, Network};
use crate::vm::bus::SharedDevice;
use crate::vm::its::Left;

/// A card in its place on the bus.
pub(super) struct NetSlot {
    pub(super) slot: Arc<VirtioSlot<Net<Port>>>,
    vm: VmId,
    port: PortId,
    network: Arc<Network>,
}

impl NetSlot {
    /// Makes the card with this address of a VM.
    pub(super) fn new(
        place: dtb_platform::GuestDevice,
        vm: VmId,
        mac: [u8; 6],
        network: Arc<Network>,
        endpoint: Endpoint,
    ) -> Self {
        let port = endpoint.id();
        let backend = Port {
            endpoint: Some(endpoint),
            network: Arc::clone(&network),
            wake: PortSet::EMPTY,
        };
        Self {
            slot: VirtioSlot::new(place, Net::new(mac, MTU, backend)),
            vm,
            port,
            network,
        }
    }

    pub(super) const fn port(&self) -> PortId {
        self.port
    }

    pub(super) const fn network(&self) -> &Arc<Network> {
        &self.network
    }
}

impl SharedDevice for NetSlot {
    fn read(
        &self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        self.slot.read(context, offset, width)
    }

    fn write(
        &self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Left, AccessError> {
        let (written, wake) = self
            .slot
            .write_then(context, offset, width, value, |device| {
                device.device_mut().backend_mut().take_wake()
            });
        // The card is unlocked: those that receive have locks of the same rank.
        if !wake.is_empty() {
            self.network.wake(wake, Some((self.vm, context.vcpu)));
        }
        written
    }

    fn reset(&self) {
        self.slot.reset();
    }
}

/// The port behind a card.
pub(super) struct Port {
    /// Until it is dropped.
    endpoint: Option<Endpoint>,
    network: Arc<Network>,
    /// Who has something to receive and has not been told.
    wake: PortSet,
}

impl Port {
    fn take_wake(&mut self) -> PortSet {
        core::mem::replace(&mut self.wake, PortSet::EMPTY)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Some(endpoint) = self.endpoint.take() {
            self.network.leave(endpoint);
        }
    }
}

/// Why a frame was not copied.
enum NotCopied {
    Dropped(DropReason),
    Refused(AccessError),
}

impl From<DropReason> for NotCopied {
    fn from(reason: DropReason) -> Self {
        Self::Dropped(reason)
    }
}

impl NetBackend for Port {
    type Received = Received;

    fn transmit(&mut self, frame: &TransmitFrame<'_>) -> Result<(), AccessError> {
        let Some(endpoint) = &self.endpoint else {
            return Ok(());
        };
        let offload = match frame.checksum() {
            Checksum::InFrame => Offload::None,
            Checksum::Needed { start, offset } => Offload::ChecksumNeeded { start, offset },
            Checksum::Valid => Offload::ChecksumValid,
        };
        // What is dropped is counted at the port.
        let Ok(mut copy) = endpoint.frame(offload) else {
            return Ok(());
        };
        let data = frame.data();
        let bytes = usize::try_from(data.len()).unwrap_or(usize::MAX);
        let copied = copy.append_with(bytes, |room| {
            data.read_at(0, room).map_err(NotCopied::Refused)
        });
        match copied {
            Ok(()) => self.wake = self.wake.union(self.network.submit(copy)),
            Err(NotCopied::Dropped(reason)) => endpoint.count_drop(reason),
            Err(NotCopied::Refused(error)) => return Err(error),
        }
        Ok(())
    }

    fn receive(&mut self) -> Option<Received> {
        self.endpoint.as_mut()?.receive().map(Received)
    }
}

/// A frame from the switch.
pub(super) struct Received(Frame);

impl ReceivedFrame for Received {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn checksum(&self) -> Checksum {
        match self.0.offload() {
            Offload::None => Checksum::InFrame,
            Offload::ChecksumNeeded { start, offset } => Checksum::Needed { start, offset },
            Offload::ChecksumValid => Checksum::Valid,
        }
    }

    fn pieces(
        &self,
        take: &mut dyn FnMut(&[u8]) -> Result<(), AccessError>,
    ) -> Result<(), AccessError> {
        self.0.bytes().pieces().into_iter().try_for_each(take)
    }
}

impl crate::net::NetUser for crate::vm::Vm {
    fn frames_wait(&self, card: usize, current: Option<(VmId, VcpuId)>) {
        if let Some(card) = self.virtio.nets.get(card) {
            card.slot.bring(self, current, VirtioMmio::receive);
        }
    }
}
