//! Widths of access, and places without registers.

use core::fmt;

use test_guests::runtime::probe::{self, Fault};
use test_guests::runtime::{mmio, random::Random};

use crate::interface::Interface;
use crate::snapshot::{self, Snapshot};
use crate::transcript::{add, line};

/// What is written at every width: priorities and an affinity as both keep them.
const PATTERN: u64 = 0x0000_0018_0020_0010;

/// A register that is accessed at every width that its version lets mean something.
pub(crate) struct Wide {
    pub(crate) name: &'static str,
    pub(crate) address: u64,
    pub(crate) bytes: u64,
    pub(crate) widths: &'static [u64],
}

/// A frame of registers.
pub(crate) struct Frame {
    pub(crate) name: &'static str,
    pub(crate) address: u64,
    /// Where its last places lie that may be reserved.
    pub(crate) end: u64,
    /// Tells whether a register lies at this offset, or may lie there.
    pub(crate) exists: fn(u64) -> bool,
}

/// Accesses of every width.
pub(crate) fn widths<I: Interface>(registers: &[Wide], identification: &[Wide]) {
    line!("== widths");
    snapshot::start_over::<I>();
    let mut now = Snapshot::<I>::take();
    for register in registers {
        for width in register.widths {
            for part in 0..register.bytes {
                let address = register.address + part;
                if part.is_multiple_of(*width) && address.is_multiple_of(*width) {
                    let value = PATTERN >> (8 * part);
                    let written = probe::write(address, *width, value).map(|()| 0);
                    add!("{}+{part} {width} {}", register.name, Answer(written));
                    add!(" {}", Answer(probe::read(address, *width)));
                    now.advance();
                }
            }
        }
    }
    for Wide {
        name,
        address,
        widths,
        ..
    } in identification
    {
        for width in *widths {
            let read = probe::read(address & !(width - 1), *width);
            line!("{name} {width} {}", Answer(read));
        }
    }
}

/// What an access came to.
struct Answer(Result<u64, Fault>);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(value) => write!(f, "{value:x}"),
            Err(fault) => write!(f, "fault {:x}", fault.class()),
        }
    }
}

/// Writes to places without registers, which read as zero and change nothing.
pub(crate) fn reserved<I: Interface>(frames: &[Frame]) {
    line!("== reserved places");
    snapshot::start_over::<I>();
    let mut now = Snapshot::<I>::take();
    let mut random = Random::new(8);
    for Frame {
        name,
        address,
        end,
        exists,
    } in frames
    {
        let (mut count, mut zero) = (0, 0);
        while count < 400 {
            // Most registers lie low.
            let end = if random.below(2) == 0 {
                0x1000.min(*end)
            } else {
                *end
            };
            let offset = random.below(end) & !3;
            if exists(offset) {
                continue;
            }
            count += 1;
            mmio::write32(address + offset, u32::MAX);
            match mmio::read32(address + offset) {
                0 => zero += 1,
                value => line!("{name}+{offset:x} {value:x}"),
            }
        }
        add!("{name}: {zero} of {count} read as zero");
        now.advance();
    }
}
