//! Drivers that do anything, made from bytes: for fuzzers, random tests and
//! kept inputs.
//!
//! Each function plays one driver and returns what broke: too much work in one
//! call, or a device that a reset does not make usable again. A panic, or a
//! request that the disk was given wrongly, is a finding as well.

mod block;
mod bytes;
mod console;
mod guest;
mod net;
mod registers;
mod rings;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub use block::block;
use bytes::Bytes;
pub use console::console;
pub use net::net;
pub use registers::registers;
pub use rings::rings;

use super::{Buffer, Rig, SlowDisk};
use crate::block::{Block, BlockOptions};
use crate::{Surroundings, VirtioDevice};

/// What broke.
pub type Finding = &'static str;

/// Replays the inputs of `corpus`, one per line in hexadecimal.
///
/// # Errors
/// The number of the line, from 1, and what broke.
pub fn replay(corpus: &str, play: fn(&[u8]) -> Result<(), Finding>) -> Result<(), String> {
    for (number, line) in (1..).zip(corpus.lines()) {
        let input = from_hex(line).ok_or_else(|| format!("line {number}: not hexadecimal"))?;
        play(&input).map_err(|finding| format!("line {number}: {finding}"))?;
    }
    Ok(())
}

fn from_hex(line: &str) -> Option<Vec<u8>> {
    let digits = line.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// Memory of the guests; small, so that buffers and rings overlap.
const MEMORY_BYTES: usize = 0x2000;
const MEMORY: u64 = 0x4000_0000;

/// The most reads and writes of guest memory that one call may do with queues
/// of up to 8 chains under way: a queue holds 8 chains of 8 descriptors, each
/// perhaps with a table of 1024.
const MOST_ACCESSES: u64 = 8 * (8 + 1024 + 64);

/// Does `act` and checks how much it did.
fn bounded<D: VirtioDevice>(
    rig: &mut Rig<D>,
    act: impl FnOnce(&mut Rig<D>),
) -> Result<(), Finding> {
    let before = rig.memory.accesses();
    act(rig);
    if rig.memory.accesses() - before > MOST_ACCESSES {
        return Err("a call does too much");
    }
    Ok(())
}

type SlowRig = Rig<Block<SlowDisk>>;

/// A block device with room for few requests on a slow disk of 16 sectors.
fn slow_rig(room: usize, max_bytes: u32) -> SlowRig {
    let options = BlockOptions {
        queues: 2,
        queue_size: 8,
        in_flight: 3,
        segments: 4,
    };
    let disk = SlowDisk::new(16, room, max_bytes);
    Rig::new(Block::new(disk, options), MEMORY_BYTES)
}

/// Lets the disk end one of its requests.
fn complete_one(rig: &mut SlowRig, choice: u8) {
    let pending = rig.mmio.device().disk().pending();
    let chosen = usize::from(choice).checked_rem(pending.len());
    if let Some(id) = chosen.and_then(|index| pending.get(index)) {
        let around = Surroundings {
            memory: &rig.memory,
            line: &rig.line,
        };
        rig.mmio.complete(&around, *id);
    }
}

/// Checks that a reset makes a block device as new.
fn check_usable(rig: &mut SlowRig) -> Result<(), Finding> {
    rig.memory.calm();
    let [mut queue] = rig.bring_up(0, 8);
    if !rig.mmio.device().disk().pending().is_empty() {
        return Err("the disk keeps requests beyond a reset");
    }
    // More requests than there is room for.
    for round in 0..8 {
        rig.memory.set(MEMORY + 0x1000, &[0; 16]);
        let chain = [
            Buffer::readable(MEMORY + 0x1000, 16),
            Buffer::writable(MEMORY + 0x1100, 512),
            Buffer::writable(MEMORY + 0x1010, 1),
        ];
        queue.add(&rig.memory, &chain).ok_or("no descriptors")?;
        rig.notify(0);
        // One part after the other, if it is cut into parts.
        for _ in 0..8 {
            complete_one(rig, round);
        }
        if queue.pop_used(&rig.memory).is_none() {
            return Err("a request after a reset has no answer");
        }
    }
    if rig.needs_reset() || !rig.line.is_high() {
        return Err("a device after a reset does not work");
    }
    Ok(())
}
