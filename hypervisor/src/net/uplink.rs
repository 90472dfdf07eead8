//! The switch's way out: a network card of the machine.

use alloc::boxed::Box;

use vswitch::{Endpoint, FrameBuf, PortId, PortSet};

use super::frame_of;
use crate::lock::{RankedLock, rank};

/// How many received frames go to the switch before their receivers are told.
const BATCH: usize = 32;

/// What drives a network card.
pub trait NetHardware: Send {
    /// Returns how many frames it receives before buffers have to be given back to it.
    fn receive_slots(&self) -> usize;

    /// Takes back the card's interrupt. What happens from now on raises it again.
    fn acknowledge(&mut self);

    /// Gives the oldest frame that was received to `take`; `false` if there is none.
    fn receive(&mut self, take: &mut dyn FnMut(&[u8])) -> bool;

    /// Tells whether a frame can be sent now. If not, an interrupt comes once one can.
    fn has_room(&mut self) -> bool;

    /// Sends the frame that `fill` writes to the buffer it is given, and whose length it
    /// returns; none if that is `None`. Only if there [is room](Self::has_room).
    fn send(&mut self, fill: &mut dyn FnMut(&mut [u8]) -> Option<usize>);

    /// Has the card look at what it was given since the last time.
    fn notify(&mut self);
}

/// The machine's card and its port.
pub(super) struct Uplink {
    port: PortId,
    inner: RankedLock<Inner, { rank::HOST_NET }>,
}

struct Inner {
    hardware: Box<dyn NetHardware>,
    endpoint: Endpoint,
}

impl Uplink {
    pub(super) fn new(hardware: Box<dyn NetHardware>, endpoint: Endpoint) -> Self {
        Self {
            port: endpoint.id(),
            inner: RankedLock::new(Inner { hardware, endpoint }),
        }
    }

    pub(super) const fn port(&self) -> PortId {
        self.port
    }

    /// Sends what waits for the port, as far as the card has room.
    pub(super) fn send_out(&self) {
        let Inner { hardware, endpoint } = &mut *self.inner.lock();
        // No more than can wait, whatever is added meanwhile: who adds it comes here too.
        let mut most = endpoint.pool().capacity();
        while most > 0
            && hardware.has_room()
            && let Some(frame) = endpoint.receive()
        {
            hardware.send(&mut |buffer| frame.copy_completed(buffer).ok());
            most -= 1;
        }
        hardware.notify();
    }

    /// Answers the card's interrupt: gives what was received to `submit`, and has `wake`
    /// tell the receivers.
    pub(super) fn service(
        &self,
        mut submit: impl FnMut(FrameBuf) -> PortSet,
        mut wake: impl FnMut(PortSet),
    ) {
        let mut left = {
            let mut inner = self.inner.lock();
            inner.hardware.acknowledge();
            // More than that were not received before.
            inner.hardware.receive_slots()
        };
        let mut goes_on = true;
        while goes_on && left > 0 {
            let mut ports = PortSet::EMPTY;
            {
                let Inner { hardware, endpoint } = &mut *self.inner.lock();
                for _ in 0..BATCH.min(left) {
                    goes_on = hardware.receive(&mut |bytes| {
                        if let Some(frame) = frame_of(endpoint, bytes) {
                            ports = ports.union(submit(frame));
                        }
                    });
                    if !goes_on {
                        break;
                    }
                }
                hardware.notify();
            }
            wake(ports);
            left = left.saturating_sub(BATCH);
        }
        self.send_out();
    }
}
