//! From the backend to the driver's buffers (VirtIO 1.2, 5.1.6.3 and 5.1.6.4).

use vm_contract::AccessError;

use super::checksum::completed;
use super::header::{HEADER_BYTES, encode};
use super::{
    Checksum, GUEST_CSUM, MRG_RXBUF, Merged, Net, NetBackend, RECEIVE, ReceivedFrame, features,
};
use crate::{Chain, DataBuffers, DriverFault, Queues, Surroundings, VirtioMmio, Work};

/// How many frames one call looks at.
const MOST_FRAMES: usize = 256;

/// What became of a frame.
enum Fate {
    /// It is in the driver's memory.
    Delivered,
    /// The driver's buffers were too small, and were given back.
    NoRoom,
    /// The driver has no buffer.
    Waits,
}

impl<B: NetBackend> VirtioMmio<Net<B>> {
    /// Gives the driver the frames that the backend has, as far as it has buffers: to be
    /// called when the backend has got some. The next frame waits in the card, the others
    /// stay with the backend. When the driver adds buffers, the card goes on by itself.
    pub fn receive(&mut self, around: &Surroundings<'_>) {
        self.work(around, |card, queues| card.receive(queues));
    }
}

impl<B: NetBackend> Net<B> {
    /// Does what [`VirtioMmio::receive`] says.
    pub(super) fn receive(&mut self, queues: &mut Queues<'_>) -> Result<Work, DriverFault> {
        self.descriptors = 0;
        for _ in 0..MOST_FRAMES {
            if self.is_tired() {
                break;
            }
            let Some(frame) = self.waiting.take().or_else(|| self.backend.receive()) else {
                // While there are buffers, the driver need not tell of more. With event
                // indices it does not do so unless asked.
                if !self.has(features::EVENT_IDX) {
                    queues.suppress_notifications(RECEIVE)?;
                }
                return Ok(Work::Done);
            };
            if !self.filter.accepts(destination(&frame)?) {
                self.counters.filtered += 1;
                continue;
            }
            match self.deliver(queues, &frame)? {
                Fate::Delivered => self.counters.received += 1,
                Fate::NoRoom => self.counters.no_room += 1,
                Fate::Waits => {
                    self.waiting = Some(frame);
                    return Ok(Work::Done);
                }
            }
        }
        Ok(Work::Left)
    }

    fn deliver(
        &mut self,
        queues: &mut Queues<'_>,
        frame: &B::Received,
    ) -> Result<Fate, DriverFault> {
        if !self.pop(RECEIVE, queues)? {
            return Ok(Fate::Waits);
        }
        let total = (HEADER_BYTES + frame.len()) as u64;
        let target = self.chain.writable(queues.memory());
        if target.len() >= total {
            write(&target, frame, self.has(GUEST_CSUM), 1)?;
            queues.push(RECEIVE, self.chain.head(), length(total))?;
            return Ok(Fate::Delivered);
        }
        if !self.has(MRG_RXBUF) {
            queues.push(RECEIVE, self.chain.head(), 0)?;
            return Ok(Fate::NoRoom);
        }
        self.deliver_merged(queues, frame, total)
    }

    /// Delivers a frame to as many chains as it needs, the first of which is taken.
    fn deliver_merged(
        &mut self,
        queues: &mut Queues<'_>,
        frame: &B::Received,
        total: u64,
    ) -> Result<Fate, DriverFault> {
        self.merged.clear();
        let mut room = 0;
        while !self.is_tired() && self.merged.add(&self.chain, queues) {
            room += self.chain.writable(queues.memory()).len();
            if room >= total {
                return self.fill_merged(queues, frame, total);
            }
            if !self.pop(RECEIVE, queues)? {
                // All of it again when there are more.
                self.merged
                    .chains
                    .iter()
                    .for_each(|_| queues.unpop(RECEIVE));
                return Ok(Fate::Waits);
            }
        }
        // In too many pieces.
        for (head, _) in self.merged.chains.drain(..) {
            queues.push(RECEIVE, head, 0)?;
        }
        queues.push(RECEIVE, self.chain.head(), 0)?;
        Ok(Fate::NoRoom)
    }

    fn fill_merged(
        &mut self,
        queues: &mut Queues<'_>,
        frame: &B::Received,
        total: u64,
    ) -> Result<Fate, DriverFault> {
        let target = DataBuffers::new(queues.memory(), &self.merged.segments);
        let chains = u16::try_from(self.merged.chains.len()).unwrap_or(u16::MAX);
        write(&target, frame, self.has(GUEST_CSUM), chains)?;
        let mut rest = total;
        for (head, bytes) in self.merged.chains.drain(..) {
            let here = rest.min(bytes);
            rest -= here;
            queues.push(RECEIVE, head, length(here))?;
        }
        Ok(Fate::Delivered)
    }
}

impl Merged {
    fn clear(&mut self) {
        self.segments.clear();
        self.chains.clear();
    }

    /// Adds a chain; tells whether there was room.
    fn add(&mut self, chain: &Chain, queues: &Queues<'_>) -> bool {
        let target = chain.writable(queues.memory());
        let pieces = target.pieces().count();
        let room = self.segments.len() + pieces <= self.segments.capacity()
            && self.chains.len() < self.chains.capacity();
        if room {
            self.segments.extend(target.pieces());
            self.chains.push((chain.head(), target.len()));
        }
        room
    }
}

/// Writes header and frame to buffers that are large enough.
fn write(
    target: &DataBuffers<'_>,
    frame: &impl ReceivedFrame,
    partial: bool,
    buffers: u16,
) -> Result<(), DriverFault> {
    // A backend that names a place outside the frame means none.
    let checksum = frame.checksum().within(frame.len() as u64);
    let checksum = checksum.unwrap_or_default();
    let told = if partial { checksum } else { Checksum::InFrame };
    target.write_at(0, &encode(told, buffers))?;
    let mut at = HEADER_BYTES as u64;
    frame.pieces(&mut |piece| {
        let here = at;
        at += piece.len() as u64;
        target.write_at(here, piece)
    })?;
    if let Checksum::Needed { start, offset } = checksum
        && !partial
    {
        let field = u64::from(start) + u64::from(offset) + HEADER_BYTES as u64;
        target.write_at(field, &completed(frame, start)?)?;
    }
    Ok(())
}

/// Returns the first six bytes of a frame.
fn destination(frame: &impl ReceivedFrame) -> Result<[u8; 6], AccessError> {
    let mut address = [0; 6];
    let mut places = address.iter_mut();
    frame.pieces(&mut |piece| {
        if places.len() > 0 {
            piece
                .iter()
                .zip(&mut places)
                .for_each(|(byte, place)| *place = *byte);
        }
        Ok(())
    })?;
    Ok(address)
}

/// Returns a length that is at most that of a frame and its header.
fn length(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
