//! Requests of a block device that ask for anything.

use super::{Bytes, Finding, MEMORY, SlowRig, bounded, check_usable, complete_one, slow_rig};
use crate::block::{BlockError, SECTOR_BYTES};
use crate::fakes::{Buffer, DriverQueue};
use crate::features;

/// Headers and status bytes; data lies behind.
const HEADERS: u64 = MEMORY + 0x800;
const DATA: u64 = MEMORY + 0x1000;
const FLUSH_FEATURE: u64 = 1 << 9;
/// What requests mostly ask for.
const TYPES: [u32; 8] = [0, 0, 1, 1, 4, 8, 11, 13];

/// Plays a driver that makes requests as `input` says, on a disk that ends them
/// late.
///
/// # Errors
/// What broke.
pub fn block(input: &[u8]) -> Result<(), Finding> {
    let mut bytes = Bytes::new(input);
    let shape = bytes.byte();
    let max_bytes = if shape & 1 == 0 { 1 << 20 } else { 700 };
    let mut rig = slow_rig(usize::from(shape >> 1 & 3), max_bytes);
    let mut wanted = features::RING_RESET;
    if shape & 8 != 0 {
        wanted |= FLUSH_FEATURE;
    }
    if shape & 16 != 0 {
        wanted |= features::EVENT_IDX;
    }
    let mut queues: [DriverQueue; 2] = rig.bring_up(wanted, 8);
    while !bytes.is_empty() {
        let choice = bytes.byte();
        let number = choice >> 7;
        let index = u32::from(number);
        let [first, second] = &mut queues;
        let queue = if number == 0 { first } else { second };
        match choice & 0xF {
            0..=5 => offer(&rig, queue, choice >> 4 & 7, &mut bytes),
            6..=8 => bounded(&mut rig, |rig| rig.notify(index))?,
            9..=11 => bounded(&mut rig, |rig| complete_one(rig, choice >> 4))?,
            12 => while queue.pop_used(&rig.memory).is_some() {},
            13 => rig.mmio.device_mut().disk_mut().failure = Some(BlockError::Io),
            14 => {
                rig.write(0x030, index);
                rig.write(0x0C0, 1);
            }
            _ => bounded(&mut rig, super::Rig::poll)?,
        }
        if rig.needs_reset() {
            if !rig.mmio.device().disk().pending().is_empty() {
                return Err("a device that has stopped keeps requests");
            }
            queues = rig.bring_up(wanted, 8);
        }
    }
    // A disk that never has room would end nothing.
    let room = rig.mmio.device().disk().room();
    if room == 0 {
        return Ok(());
    }
    check_usable(&mut rig)
}

/// Offers a request.
fn offer(rig: &SlowRig, queue: &mut DriverQueue, slot: u8, bytes: &mut Bytes<'_>) {
    let kind = bytes.byte();
    let request = match TYPES.get(usize::from(kind & 0xF)) {
        Some(request) => *request,
        None => bytes.word(),
    };
    let sector = bytes.number();
    let header = HEADERS + 32 * u64::from(slot);
    let whole = u128::from(request) | u128::from(sector) << 64;
    rig.memory.set(header, &whole.to_le_bytes());
    let mut chain = alloc::vec![Buffer::readable(header, 16)];
    for _ in 0..(kind >> 4 & 3) {
        chain.push(data(bytes));
    }
    if kind & 0xC0 != 0xC0 {
        chain.push(Buffer::writable(header + 16, 1));
    }
    if chain.iter().is_sorted_by_key(|buffer| buffer.writable) || kind & 0x80 != 0 {
        // None when there is no room in the queue, which is no matter.
        let _ = queue.add(&rig.memory, &chain);
    }
}

fn data(bytes: &mut Bytes<'_>) -> Buffer {
    let kind = bytes.byte();
    let length = match kind & 7 {
        0..=2 => 512,
        3 => 16,
        4 => 1024,
        5 => 20,
        6 => u32::from(bytes.half()),
        _ => bytes.word(),
    };
    let place = u64::from(kind >> 4) * (SECTOR_BYTES / 2);
    Buffer {
        address: if kind == 0xFF {
            bytes.number()
        } else {
            DATA + place
        },
        bytes: length,
        writable: kind & 8 != 0,
    }
}
