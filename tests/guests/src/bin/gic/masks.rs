//! What may differ between two GICs that both are right: the one place where
//! something visible is left out of the transcript, each with its reason.
//!
//! Beyond these, the sections keep clear of what the specification leaves open,
//! each where it applies:
//!
//! - Interrupts of equal priority that are pending at once: which one comes
//!   first is IMPLEMENTATION DEFINED. Priorities differ, or the order among
//!   equals is not printed.
//! - The pending state of an interrupt whose configuration changes between edge
//!   and level while it is pending is UNKNOWN, and changing an enabled one is
//!   UNPREDICTABLE: it is disabled first and ICPENDR is written last.
//! - The group of an active interrupt does not change.
//! - EOIs come in the reverse order of the acknowledges: any other order is
//!   UNPREDICTABLE. Deactivations by ICC_DIR_EL1 come in any order.
//! - Writes to one CPU's interface or redistributor reach another CPU in finite
//!   time, not at once: see `snapshot::settle`.
//! - GICR_WAKER at reset is not printed: QEMU's redistributors sleep then, and
//!   deliver all the same; the hypervisor's are awake, as firmware leaves them.
//! - ICC_SGI1R_EL1.RS is reserved where GICD_TYPER.RSS is 0, as in QEMU.
//! - ICC_SGI1R_EL1 and SGIs that their target has in Group 0: with one security
//!   state they are forwarded. QEMU 7.2 drops them, which is wrong, so none is
//!   sent.
//! - A group that the CPU interface disables while an interrupt of it is the
//!   most urgent one: QEMU 7.2 then shows no other.

use crate::interface::Icc;

/// GICD_TYPER: ESPI (8) and SecurityExtn (10). How many bits INTIDs have, LPIs,
/// message-based SPIs, RSS and No1N are each GIC's own choice. ITLinesNumber (4:0)
/// should be 8 for the 256 SPIs of both; QEMU says 7, which is wrong.
pub(crate) const GICD_TYPER: u32 = 0x0000_0500;

/// GICR_TYPER: Last (4), the processor number (23:8) and the affinity. LPIs are
/// optional.
pub(crate) const GICR_TYPER: u64 = 0xFFFF_FFFF_00FF_FF10;

/// PIDR2.ArchRev: the rest of the identification registers is IMPLEMENTATION
/// DEFINED.
pub(crate) const PIDR2: u32 = 0xF0;

/// Of priorities the five bits that both implement; others are RAZ/WI.
pub(crate) const PRIORITIES: u32 = 0xF8F8_F8F8;

/// Returns the bits of a register of the CPU interface that are compared.
pub(crate) const fn icc(register: Icc) -> u64 {
    match register {
        // CBPR and EOImode. Numbers of implemented bits are free, and so is
        // support for affinity level 3, range selectors and SEIs.
        Icc::Ctlr => 0b11,
        _ => u64::MAX,
    }
}
