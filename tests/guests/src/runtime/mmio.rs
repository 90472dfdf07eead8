//! Device registers by plain loads and stores, whose syndrome a hypervisor
//! gets in full. What the address does not answer ends in the vectors.

#![expect(unsafe_code, reason = "loads and stores at device addresses")]

use core::arch::asm;

/// Loads a word.
#[must_use]
pub fn read32(address: u64) -> u32 {
    let value: u32;
    // SAFETY: a load at an address outside of Rust's memory.
    unsafe {
        asm!("ldr {0:w}, [{1}]", out(reg) value, in(reg) address, options(nostack, preserves_flags))
    };
    value
}

/// Stores a word.
pub fn write32(address: u64, value: u32) {
    // SAFETY: a store at an address outside of Rust's memory.
    unsafe {
        asm!("str {0:w}, [{1}]", in(reg) value, in(reg) address, options(nostack, preserves_flags))
    };
}

/// Loads a double word.
#[must_use]
pub fn read64(address: u64) -> u64 {
    let value: u64;
    // SAFETY: as in `read32`.
    unsafe {
        asm!("ldr {0}, [{1}]", out(reg) value, in(reg) address, options(nostack, preserves_flags))
    };
    value
}

/// Stores a double word.
pub fn write64(address: u64, value: u64) {
    // SAFETY: as in `write32`.
    unsafe {
        asm!("str {0}, [{1}]", in(reg) value, in(reg) address, options(nostack, preserves_flags))
    };
}

/// Stores a byte.
pub fn write8(address: u64, value: u8) {
    // SAFETY: as in `write32`.
    unsafe {
        asm!("strb {0:w}, [{1}]", in(reg) u32::from(value), in(reg) address,
            options(nostack, preserves_flags));
    }
}

/// Stores a half word.
pub fn write16(address: u64, value: u16) {
    // SAFETY: as in `write32`.
    unsafe {
        asm!("strh {0:w}, [{1}]", in(reg) u32::from(value), in(reg) address,
            options(nostack, preserves_flags));
    }
}
