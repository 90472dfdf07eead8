//! What all PrimeCells have in common: a window of 4 KiB, registers a word
//! apart, and identification at its end.

use vm_contract::{AccessError, GuestPhysAddr, GuestPhysAddrRange, Width};

/// The size of the register window.
const WINDOW_BYTES: usize = 0x1000;

/// The offset of the peripheral identification, followed by the PrimeCell's.
const PERIPH_ID0: u64 = 0xFE0;

/// The PrimeCell identification, lowest byte first.
const PCELL_ID: [u8; 4] = [0x0D, 0xF0, 0x05, 0xB1];

/// Returns the window at `base`, cut off at the end of the address space.
pub(crate) fn window(base: GuestPhysAddr) -> GuestPhysAddrRange {
    let start = usize::from(base);
    GuestPhysAddrRange {
        start: base,
        end: start.saturating_add(WINDOW_BYTES).into(),
    }
}

/// Checks that an access fits a register: 8, 16 or 32 bits, from its lowest
/// byte.
pub(crate) const fn check_access(offset: u64, width: Width) -> Result<(), AccessError> {
    if matches!(width, Width::Dword) || !offset.is_multiple_of(4) {
        Err(AccessError::InvalidWidth)
    } else {
        Ok(())
    }
}

/// Reads the identification registers; `periph_id` has the lowest byte first.
/// What is no register reads as zero.
pub(crate) fn identification(periph_id: [u8; 4], offset: u64) -> u32 {
    let index = offset.checked_sub(PERIPH_ID0).map(|distance| distance / 4);
    let mut bytes = periph_id.into_iter().chain(PCELL_ID);
    let byte = index
        .and_then(|index| usize::try_from(index).ok())
        .and_then(|index| bytes.nth(index));
    byte.map_or(0, u32::from)
}
