//! A guest that does anything to a device, and a host that does what it does.

use vm_contract::Width;

use super::{Bytes, Finding, MEMORY, MEMORY_BYTES, bounded};
use crate::fakes::{Buffer, DriverQueue, Rig};
use crate::{VirtioDevice, features};

/// How many descriptors a queue has.
const SIZE: u16 = 8;
/// Flags of a descriptor.
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Brings `device` up properly and lets its guest and its host do what `input` says;
/// again whenever it has stopped. `host` is what is particular to the device.
pub(super) fn play<D: VirtioDevice, const N: usize>(
    device: D,
    input: &[u8],
    mut host: impl FnMut(&mut Rig<D>, &mut Bytes<'_>) -> Result<(), Finding>,
) -> Result<(), Finding> {
    let mut bytes = Bytes::new(input);
    let mut rig = Rig::new(device, MEMORY_BYTES);
    while !bytes.is_empty() {
        let unwanted = u64::from(bytes.half());
        let offered = rig.mmio.device().features();
        let taken = offered & !(unwanted & 0xFF | (unwanted >> 8) << 14);
        if !rig.mmio.device().accepts(taken) {
            continue;
        }
        let transport = [features::EVENT_IDX, features::INDIRECT_DESC, 0];
        let transport = transport.get(usize::from(bytes.byte() % 3));
        let mut queues: [DriverQueue; N] =
            rig.bring_up(taken | transport.copied().unwrap_or(0), SIZE);
        while !bytes.is_empty() && !rig.needs_reset() {
            if bytes.byte().is_multiple_of(4) {
                host(&mut rig, &mut bytes)?;
            } else {
                step(&mut rig, &mut queues, &mut bytes)?;
            }
        }
    }
    let _: [DriverQueue; N] = rig.bring_up(0, SIZE);
    if rig.needs_reset() {
        return Err("a device after a reset does not work");
    }
    Ok(())
}

fn step<D: VirtioDevice, const N: usize>(
    rig: &mut Rig<D>,
    queues: &mut [DriverQueue; N],
    bytes: &mut Bytes<'_>,
) -> Result<(), Finding> {
    let choice = bytes.byte();
    let index = usize::from(bytes.byte()) % N;
    let Some(queue) = queues.get_mut(index) else {
        return Ok(());
    };
    match choice % 16 {
        0 => {
            let offset = u64::from(bytes.half() % 0x200) & !3;
            let value = bytes.half().into();
            // Whatever the answer is.
            let _ = rig.try_write(offset, Width::Word, value);
        }
        1 => {
            let offset = u64::from(bytes.half()) % (MEMORY_BYTES as u64 - 8);
            rig.memory.set(MEMORY + offset, &[bytes.byte(); 8]);
        }
        2 => queue.set_available_index(&rig.memory, bytes.half()),
        3 => queue.offer(&rig.memory, bytes.half()),
        4 => {
            let buffer = buffer(bytes);
            let index = u16::from(bytes.byte()) % SIZE;
            let (flags, next) = (bytes.half() % 8, bytes.half() % (SIZE + 2));
            queue.set_descriptor(&rig.memory, index, buffer, flags, next);
        }
        5 => {
            let table = address(bytes).clamp(MEMORY, MEMORY + MEMORY_BYTES as u64 - 32);
            let buffers = [buffer(bytes), buffer(bytes)];
            queue.add_indirect(&rig.memory, table, &buffers);
        }
        6..10 => offer_chain(rig, queue, u16::from(choice / 16) % 3 + 1, bytes),
        10..15 => {
            let number = u32::try_from(index).unwrap_or(0);
            bounded(rig, |rig| rig.notify(number))?;
        }
        _ => bounded(rig, Rig::poll)?,
    }
    Ok(())
}

/// Makes a chain of `count` descriptors available that is mostly a good one.
fn offer_chain<D>(rig: &Rig<D>, queue: &mut DriverQueue, count: u16, bytes: &mut Bytes<'_>) {
    let first = u16::from(bytes.byte()) % SIZE;
    for place in 0..count {
        let index = (first + place) % SIZE;
        let buffer = buffer(bytes);
        let write = if buffer.writable { WRITE } else { 0 };
        let next = if place + 1 < count { NEXT } else { 0 };
        queue.set_descriptor(&rig.memory, index, buffer, write | next, (index + 1) % SIZE);
    }
    queue.offer(&rig.memory, first);
}

fn buffer(bytes: &mut Bytes<'_>) -> Buffer {
    let address = address(bytes);
    let length = match bytes.byte() {
        0xFF => u32::MAX - u32::from(bytes.byte()),
        0xFE => bytes.half().into(),
        short => short.into(),
    };
    Buffer {
        address,
        bytes: length,
        writable: bytes.byte() & 1 != 0,
    }
}

/// Returns an address in memory or a little behind it; now and then, any.
fn address(bytes: &mut Bytes<'_>) -> u64 {
    match bytes.half() {
        u16::MAX => bytes.number(),
        low => MEMORY + u64::from(low) % (MEMORY_BYTES as u64 + 0x100),
    }
}
