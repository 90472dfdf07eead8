//! Any access to any register.

use vm_contract::{BaseDeviceOps, Width};

use super::{Bytes, Finding, MEMORY, MEMORY_BYTES, bounded, check_usable, complete_one, slow_rig};
use crate::features;

/// Registers that do something, more often than the others.
const BUSY: [u64; 16] = [
    0x010, 0x014, 0x020, 0x024, 0x030, 0x038, 0x044, 0x050, 0x060, 0x064, 0x070, 0x080, 0x090,
    0x0A0, 0x0C0, 0x100,
];
const STATUS: u64 = 0x070;
const WINDOW_BYTES: u64 = 0x200;
/// A status that a driver writes often.
const STATUSES: [u32; 8] = [0, 1, 3, 0xB, 0xF, 0x80, 0x40, 0xFF];

/// Plays a driver that accesses registers as `input` says.
///
/// # Errors
/// What broke.
pub fn registers(input: &[u8]) -> Result<(), Finding> {
    let mut bytes = Bytes::new(input);
    let mut rig = slow_rig(2, 1024);
    while !bytes.is_empty() {
        let choice = bytes.byte();
        let detail = bytes.byte();
        match choice & 0xF {
            0..=6 => {
                let register = register(detail);
                let value = value(&mut bytes, register);
                let width = width(choice);
                bounded(&mut rig, |rig| {
                    // An access of the wrong width is refused, and that is all.
                    let _ = rig.try_write(register, width, value);
                })?;
            }
            7..=9 => {
                let read = rig.try_read(register(detail), width(choice));
                if read.is_ok_and(|value| value & !width(choice).mask() != 0) {
                    return Err("a read has bits beyond its width");
                }
            }
            10 => {
                let agreed = rig.negotiate(features::EVENT_IDX);
                if !agreed {
                    return Err("features that are offered are refused");
                }
            }
            11 => {
                // Rings where they may be, full of what the memory holds.
                let addresses = [MEMORY, MEMORY + 0x400, MEMORY + 0x800];
                let queue = u32::from(detail & 1);
                bounded(&mut rig, |rig| {
                    rig.program_queue(queue, 8, addresses);
                    rig.write(STATUS, 0xF);
                })?;
            }
            12 => {
                let address = MEMORY + u64::from(bytes.half()) % (MEMORY_BYTES as u64 - 4);
                rig.memory.set(address, &bytes.word().to_le_bytes());
            }
            13 => bounded(&mut rig, |rig| complete_one(rig, detail))?,
            14 => rig.mmio.change_config(&rig.line, |_| {}),
            _ if detail & 0xF == 0 => rig.mmio.reset(),
            _ => bounded(&mut rig, super::Rig::poll)?,
        }
        let high = rig.try_read(0x060, Width::Word) != Ok(0);
        // After a reset of the machine, the line is not the device's to tell.
        if high && !rig.line.is_high() {
            return Err("the line does not follow its reasons");
        }
    }
    check_usable(&mut rig)
}

fn register(detail: u8) -> u64 {
    let busy = BUSY.get(usize::from(detail)).copied();
    busy.unwrap_or(u64::from(detail) * 2 % WINDOW_BYTES)
}

fn value(bytes: &mut Bytes<'_>, register: u64) -> u64 {
    let choice = bytes.byte();
    if register == STATUS {
        let known = STATUSES.get(usize::from(choice)).copied();
        return known.unwrap_or(choice.into()).into();
    }
    match choice >> 6 {
        0 | 1 => u64::from(choice & 0x1F),
        2 => MEMORY + u64::from(choice & 0x3F) * 0x80,
        _ => bytes.number(),
    }
}

fn width(choice: u8) -> Width {
    match choice >> 4 {
        0 => Width::Byte,
        1 => Width::Half,
        2 => Width::Dword,
        _ => Width::Word,
    }
}
