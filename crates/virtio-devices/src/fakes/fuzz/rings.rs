//! Rings and descriptors that hold anything and change at any time.

use super::{Bytes, Finding, MEMORY, MEMORY_BYTES, bounded};
use crate::fakes::{Buffer, DriverQueue, Rig};
use crate::{Chain, DeviceId, DriverFault, Queues, VirtioDevice, Work, features};

/// The size of the queue.
const SIZE: u16 = 8;
/// Where buffers and tables lie: among them also the rings, which are at the
/// start.
const TABLES: u64 = MEMORY + 0x200;

/// Copies what it may read to where it may write.
struct Copier {
    chain: Chain,
    suppresses: bool,
}

impl VirtioDevice for Copier {
    fn device_id(&self) -> DeviceId {
        DeviceId::Console
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[SIZE]
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn start(&mut self, _features: u64) {}

    fn process(&mut self, queue: u16, queues: &mut Queues<'_>) -> Result<Work, DriverFault> {
        while queues.pop(queue, &mut self.chain)? {
            let source = self.chain.readable(queues.memory());
            let target = self.chain.writable(queues.memory());
            let mut written = 0;
            let mut bytes = [0; 64];
            let len = source.len().min(target.len()).min(64);
            if let Some(bytes) = usize::try_from(len)
                .ok()
                .and_then(|len| bytes.get_mut(..len))
                && source.read_at(0, bytes).is_ok()
                && target.write_at(0, bytes).is_ok()
            {
                written = u32::try_from(len).unwrap_or(0);
            }
            queues.push(queue, self.chain.head(), written)?;
        }
        if self.suppresses {
            queues.suppress_notifications(queue)?;
        }
        Ok(Work::Done)
    }

    fn reset_queue(&mut self, _queue: u16) {}

    fn reset(&mut self) {}
}

/// Plays a driver whose rings are as `input` says, and change while they are
/// read.
///
/// # Errors
/// What broke.
pub fn rings(input: &[u8]) -> Result<(), Finding> {
    let mut bytes = Bytes::new(input);
    let shape = bytes.byte();
    let copier = Copier {
        chain: Chain::with_limit(if shape & 1 == 0 { 6 } else { 1024 }),
        suppresses: shape & 2 != 0,
    };
    let mut rig = Rig::new(copier, MEMORY_BYTES);
    let mut taken = 0;
    if shape & 4 != 0 {
        taken |= features::EVENT_IDX;
    }
    if shape & 8 != 0 {
        taken |= features::INDIRECT_DESC;
    }
    let [mut queue] = rig.bring_up(taken, SIZE);
    if shape & 16 != 0 {
        let every = usize::from(bytes.byte() % 16) + 1;
        let changes = bytes.rest();
        disturb(&rig, every, changes);
        bytes = Bytes::new(changes);
    }
    while !bytes.is_empty() {
        step(&mut rig, &mut queue, &mut bytes)?;
        if rig.needs_reset() {
            [queue] = rig.bring_up(taken, SIZE);
        }
    }
    rig.memory.calm();
    let [mut queue] = rig.bring_up(taken, SIZE);
    for _ in 0..20 {
        let chain = [Buffer::readable(TABLES, 4), Buffer::writable(TABLES + 4, 4)];
        let head = queue.add(&rig.memory, &chain);
        rig.notify(0);
        if queue.pop_used(&rig.memory) != head.zip(Some(4)) {
            return Err("a device after a reset does not work");
        }
    }
    Ok(())
}

/// Writes the bytes of `changes` over and over into the first part of memory,
/// one after each so many reads.
fn disturb(rig: &Rig<Copier>, every: usize, changes: &[u8]) {
    let changes = changes.to_vec();
    let mut reads = 0;
    rig.memory.disturb(move |memory| {
        reads += 1;
        if reads % every != 0 {
            return;
        }
        let choice = |index: usize| changes.get(index.checked_rem(changes.len())?);
        if let (Some(place), Some(value)) = (choice(reads * 2), choice(reads * 2 + 1))
            && let Some(byte) = memory.get_mut(usize::from(*place))
        {
            *byte = *value;
        }
    });
}

fn step(
    rig: &mut Rig<Copier>,
    queue: &mut DriverQueue,
    bytes: &mut Bytes<'_>,
) -> Result<(), Finding> {
    let choice = bytes.byte();
    match choice & 7 {
        0 => {
            let (buffer, flags, next) = descriptor(bytes);
            queue.set_descriptor(&rig.memory, (choice >> 3).into(), buffer, flags, next);
        }
        1 => {
            let (buffer, flags, next) = descriptor(bytes);
            let whole = u128::from(buffer.address)
                | u128::from(buffer.bytes) << 64
                | u128::from(flags) << 96
                | u128::from(next) << 112;
            let address = TABLES + 16 * u64::from(choice >> 3);
            rig.memory.set(address, &whole.to_le_bytes());
        }
        2 => queue.offer(&rig.memory, (choice >> 4).into()),
        3 => queue.set_available_index(&rig.memory, bytes.half()),
        4 => {
            let address = MEMORY + u64::from(bytes.half()) % MEMORY_BYTES as u64;
            rig.memory.set(address, &[bytes.byte()]);
        }
        5 => queue.set_used_event(&rig.memory, bytes.half()),
        _ => bounded(rig, |rig| rig.notify(0))?,
    }
    Ok(())
}

/// Makes a descriptor that is often a good one.
fn descriptor(bytes: &mut Bytes<'_>) -> (Buffer, u16, u16) {
    let kind = bytes.byte();
    let address = match kind >> 6 {
        0 | 1 => TABLES + 16 * u64::from(bytes.byte()),
        2 => MEMORY + MEMORY_BYTES as u64 - u64::from(bytes.byte()),
        _ => bytes.number(),
    };
    let length = match (kind >> 4) & 3 {
        0 => bytes.byte().into(),
        1 => u32::from(bytes.byte()) * 16,
        2 => bytes.word(),
        _ => 64,
    };
    let flags = u16::from(kind & 7);
    let next = bytes.byte();
    // The flags are the caller's.
    (Buffer::readable(address, length), flags, (next % 10).into())
}
