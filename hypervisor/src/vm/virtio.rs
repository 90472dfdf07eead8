//! A VM's virtio devices: what their crate emulates, joined to the VM and to what the
//! machine has.
//!
//! A driver's access takes the lock of its device, and does all that the device can do at
//! once. What happens elsewhere, a request that the machine's disk is done with, takes
//! the same lock afterwards. No two of these locks are ever held together.

mod disk;
mod entropy;
mod net;

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use dtb_platform::layout::{self, VIRTIO_MMIO};
use dtb_platform::{GuestDevice, VmConfig};
use virtio_devices::{Block, Placeholder, Surroundings, VirtioDevice, VirtioMmio};
use vm_contract::{
    AccessError, BaseDeviceOps, DeviceContext, GuestPhysAddrRange, IntId, VcpuId, VmId, Width,
};

use self::disk::Disk;
pub use self::disk::DiskProblem;
pub use self::entropy::FillEntropy;
use self::entropy::HostEntropy;
use self::net::NetSlot;
use super::build::{BuildError, VmBuilder};
use super::bus::{Bus, DeviceLock, SharedDevice, Target};
use super::its::Left;
use super::{Line, Vm};
use crate::lock::RankedLock;
use crate::storage::{DiskEvent, DiskUser};

/// QueueNotify (VirtIO 1.2, 4.2.2): a driver may write it again and again.
const QUEUE_NOTIFY: u64 = 0x50;

/// How often a device goes on after an event that was too much for one call. So often
/// suffices for all frames that can wait for a card and all requests that a disk takes;
/// whatever comes meanwhile is an event of its own.
const ROUNDS_PER_EVENT: usize = 8;

/// A virtio device in its place on the bus.
pub(super) struct VirtioSlot<D> {
    device: DeviceLock<VirtioMmio<D>>,
    intid: IntId,
}

impl<D: VirtioDevice> VirtioSlot<D> {
    fn new(place: GuestDevice, device: D) -> Arc<Self> {
        Arc::new(Self {
            device: RankedLock::new(VirtioMmio::new(place.range.start, device)),
            intid: place.interrupt,
        })
    }

    /// Does a driver's store, and then `then` before anybody else has the device.
    fn write_then<R>(
        &self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
        value: u64,
        then: impl FnOnce(&mut VirtioMmio<D>) -> R,
    ) -> (Result<Left, AccessError>, R) {
        let mut device = self.device.lock();
        let written = device.write(context, offset, width, value);
        let written = match device.has_work() {
            true => Ok(go_on(&mut device, context, offset)),
            false => written.map(|()| Left::Nothing),
        };
        (written, then(&mut device))
    }

    /// Brings something to the device that happened elsewhere. `current` is the vCPU on
    /// whose behalf this CPU acts.
    fn bring(
        &self,
        vm: &Vm,
        current: Option<(VmId, VcpuId)>,
        event: impl FnOnce(&mut VirtioMmio<D>, &Surroundings<'_>),
    ) {
        let current = current.and_then(|(id, vcpu)| (id == vm.id()).then_some(vcpu));
        let line = Line::new(vm, self.intid, current);
        let around = Surroundings {
            memory: vm.ram(),
            line: &line,
        };
        let mut device = self.device.lock();
        event(&mut device, &around);
        for _ in 0..ROUNDS_PER_EVENT {
            if !device.has_work() {
                return;
            }
            device.poll(&around);
        }
    }
}

impl<D: VirtioDevice> SharedDevice for VirtioSlot<D> {
    fn read(
        &self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        SharedDevice::read(&self.device, context, offset, width)
    }

    fn write(
        &self,
        context: &DeviceContext<'_>,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Left, AccessError> {
        self.write_then(context, offset, width, value, |_| ()).0
    }

    fn reset(&self) {
        SharedDevice::reset(&self.device);
    }
}

/// Goes on with what was too much for one access. The guest makes it again as long as
/// there is more, if that does no harm.
#[cold]
fn go_on<D: VirtioDevice>(
    device: &mut VirtioMmio<D>,
    context: &DeviceContext<'_>,
    offset: u64,
) -> Left {
    device.poll(&Surroundings::from(context));
    if device.has_work() && offset == QUEUE_NOTIFY {
        Left::Work
    } else {
        Left::Nothing
    }
}

/// The virtio devices that something happens to.
#[derive(Default)]
pub(super) struct VirtioDevices {
    disks: Vec<Arc<VirtioSlot<Block<Disk>>>>,
    nets: Vec<Arc<NetSlot>>,
}

impl VmBuilder {
    /// Puts a VM's virtio devices on its bus. Returns them, and the places in which they
    /// are.
    pub(super) fn add_virtio(
        &self,
        id: VmId,
        config: &VmConfig,
        bus: &mut Bus,
    ) -> Result<(VirtioDevices, Vec<GuestDevice>), BuildError> {
        let mut devices = VirtioDevices::default();
        let mut places = Vec::new();
        for (number, (place, disk)) in config.disk_places().enumerate() {
            let disk = Disk::new(self, id, number, disk)
                .map_err(|problem| BuildError::Disk { number, problem })?;
            let slot = VirtioSlot::new(place, disk.into_device());
            devices.disks.push(Arc::clone(&slot));
            add(bus, place, slot)?;
            places.push(place);
        }
        for (number, (place, net)) in config.net_places().enumerate() {
            let network = self.devices.network();
            let joined = network.and_then(|network| Some((network, network.join(id, number)?)));
            let (network, endpoint) = joined.ok_or(BuildError::Net { number })?;
            let mac = crate::net::mac(id, number, net);
            let slot = NetSlot::new(place, id, mac, Arc::clone(network), endpoint);
            let slot = Arc::new(slot);
            devices.nets.push(Arc::clone(&slot));
            add(bus, place, slot)?;
            places.push(place);
        }
        let next = config.disks.len() + config.nets.len();
        if let Some((place, fill)) = layout::virtio_mmio(next).zip(self.host.entropy) {
            let slot = VirtioSlot::new(place, HostEntropy::device(fill));
            add(bus, place, slot)?;
            places.push(place);
        }
        add_placeholders(bus, places.len())?;
        Ok((devices, places))
    }
}

fn add(
    bus: &mut Bus,
    GuestDevice { range, interrupt }: GuestDevice,
    device: Arc<dyn SharedDevice>,
) -> Result<(), BuildError> {
    let intid = interrupt;
    Ok(bus.add(range, Target::Device { device, intid })?)
}

/// Answers for the places from number `first` on: nothing is there.
fn add_placeholders(bus: &mut Bus, first: usize) -> Result<(), BuildError> {
    let windows = u32::try_from(layout::VIRTIO_MMIO_SLOTS.saturating_sub(first)).unwrap_or(0);
    let Some(GuestDevice { range, interrupt }) = layout::virtio_mmio(first) else {
        return Ok(());
    };
    let rest = GuestDevice {
        range: GuestPhysAddrRange {
            start: range.start,
            end: VIRTIO_MMIO.end,
        },
        interrupt,
    };
    let nothing = DeviceLock::new(Placeholder::new(range.start, windows));
    add(bus, rest, Arc::new(nothing))
}

impl Vm {
    /// Lets the VM, which exists from now on, hear of what happens to its devices.
    pub(crate) fn connect_devices(self: &Arc<Self>) {
        for (number, slot) in self.virtio.disks.iter().enumerate() {
            let vm: Weak<Self> = Arc::downgrade(self);
            slot.device.lock().device().disk().listen(vm, number);
        }
        for card in &self.virtio.nets {
            let vm: Weak<Self> = Arc::downgrade(self);
            card.network().listen(card.port(), vm);
        }
    }
}

impl DiskUser for Vm {
    fn disk_event(&self, disk: usize, event: DiskEvent, current: Option<(VmId, VcpuId)>) {
        if let Some(slot) = self.virtio.disks.get(disk) {
            slot.bring(self, current, |device, around| {
                disk::take_event(device, around, event);
            });
        }
    }
}

#[cfg(test)]
mod tests;
