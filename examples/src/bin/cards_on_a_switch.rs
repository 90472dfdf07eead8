//! Joins the network cards of two VMs to a switch. What a hypervisor writes is `Port`:
//! it copies a frame once from its sender to the pool of the switch, and once out of it
//! to each receiver. The guests are played by `Rig`.
//!
//! Expected output:
//!
//! ```text
//! card 0 sends a frame with an open checksum: wakes 0b10
//! card 1 gets 72 bytes with the checksum [fe, fd]
//! ```

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use virtio_devices::fakes::{Buffer, DriverQueue, Rig};
use virtio_devices::net::{self, Checksum, ReceivedFrame, TransmitFrame};
use virtio_devices::{Net, NetBackend, Surroundings};
use vm_contract::AccessError;
use vswitch::{DropReason, Endpoint, Frame, Limits, Offload, PortConfig, PortSet, Switch, VlanId};

/// Where a guest has its frames, behind its queues.
const BUFFER: u64 = Rig::<Net<Port>>::MEMORY + 0x8000;

struct Port {
    endpoint: Endpoint,
    switch: Arc<Mutex<Switch>>,
    /// Who has something to receive since the hypervisor looked last.
    wake: PortSet,
}

impl Port {
    fn send(&mut self, frame: &TransmitFrame<'_>) -> Result<(), DropReason> {
        let offload = match frame.checksum() {
            Checksum::InFrame => Offload::None,
            Checksum::Needed { start, offset } => Offload::ChecksumNeeded { start, offset },
            Checksum::Valid => Offload::ChecksumValid,
        };
        let mut copy = self.endpoint.frame(offload)?;
        let data = frame.data();
        let bytes = usize::try_from(data.len()).unwrap_or(usize::MAX);
        // A hypervisor returns an error of the guest's memory to the card.
        let fill = |room: &mut [u8]| data.read_at(0, room).map_err(|_| DropReason::TooShort);
        copy.append_with(bytes, fill)?;
        let mut switch = self.switch.lock().unwrap_or_else(PoisonError::into_inner);
        self.wake = self.wake.union(switch.submit(copy, 0)?);
        Ok(())
    }
}

impl NetBackend for Port {
    type Received = Received;

    fn transmit(&mut self, frame: &TransmitFrame<'_>) -> Result<(), AccessError> {
        // What is dropped is counted; the guest does not learn of it.
        self.send(frame).or(Ok(()))
    }

    fn receive(&mut self) -> Option<Received> {
        self.endpoint.receive().map(Received)
    }
}

struct Received(Frame);

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

    fn pieces(&self, take: net::Take<'_>) -> Result<(), AccessError> {
        self.0.bytes().pieces().into_iter().try_for_each(take)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let ports = [1, 2].map(|_| PortConfig::access(VlanId::DEFAULT));
    let (switch, endpoints) = Switch::new(&Limits::usual(1000, 0x5EED), ports)?;
    let switch = Arc::new(Mutex::new(switch));
    let guest = |endpoint| {
        let port = Port {
            endpoint,
            switch: Arc::clone(&switch),
            wake: PortSet::EMPTY,
        };
        let mut rig = Rig::new(Net::new([2, 0, 0, 0, 0, 0], 1500, port), 0x10000);
        let queues: [DriverQueue; 3] = rig.bring_up(net::CSUM, 64);
        (rig, queues)
    };
    let mut guests = endpoints.into_iter().map(guest);
    let (mut sender, [_, mut transmit, _]) = guests.next().ok_or("no port 0")?;
    let (mut receiver, [mut receive, ..]) = guests.next().ok_or("no port 1")?;
    // NEEDS_CSUM, from byte 14 on, to be stored 2 bytes further on (VirtIO 1.2, 5.1.6).
    let memory = &sender.memory;
    memory.set(BUFFER, &[1, 0, 0, 0, 0, 0, 14, 0, 2, 0, 0, 0]);
    memory.set(BUFFER + 12, &[0xFF; 6]);
    memory.set(BUFFER + 18, &[2, 0, 0, 0, 0, 1, 8, 0, 1, 2, 0, 0]);
    transmit.add(memory, &[Buffer::readable(BUFFER, 12 + 60)]);
    sender.notify(1);
    // Here a hypervisor lets go of the sender's lock before it takes another's.
    let wake = std::mem::take(&mut sender.mmio.device_mut().backend_mut().wake);
    let wake = wake.bits();
    println!("card 0 sends a frame with an open checksum: wakes {wake:#b}");
    receive.add(&receiver.memory, &[Buffer::writable(BUFFER, 2048)]);
    let (memory, line) = (&receiver.memory, &receiver.line);
    receiver.mmio.receive(&Surroundings { memory, line });
    let (_, bytes) = receive.pop_used(memory).ok_or("nothing came")?;
    let checksum = memory.bytes(BUFFER + 28, 2);
    println!("card 1 gets {bytes} bytes with the checksum {checksum:02x?}");
    Ok(())
}
