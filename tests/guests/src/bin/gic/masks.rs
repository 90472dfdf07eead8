//! What the transcripts of two GICs need not have in common: the one place where
//! something visible is masked or avoided, each with its reason.
//!
//! # The specification leaves it open
//!
//! - Interrupts of equal priority that are pending at once: which one comes
//!   first is IMPLEMENTATION DEFINED, and so is which of an SGI's senders does on
//!   a GICv2. Priorities differ, or the order among equals is not printed.
//! - The pending state of an interrupt whose configuration changes between edge
//!   and level while it is pending is UNKNOWN, and changing an enabled one is
//!   UNPREDICTABLE: it is disabled first and ICPENDR is written last.
//! - The group of an active interrupt does not change.
//! - EOIs come in the reverse order of the acknowledges: any other order is
//!   UNPREDICTABLE. Deactivations by ICC_DIR_EL1 or GICC_DIR come in any order. What
//!   was acknowledged and not ended keeps its active state, and an interrupt that is
//!   not active is not deactivated.
//! - ICC_SGI1R_EL1.RS is reserved where GICD_TYPER.RSS is 0, as in QEMU.
//! - A width that a register does not take is CONSTRAINED UNPREDICTABLE: both GICs
//!   let it read as zero and ignore writes.
//! - GICv2: binary points below 2 and the lowest bits of GICC_PMR, of which there are
//!   as many as priorities have bits; SPIs with several targets; ISACTIVER and ICACTIVER
//!   of SGIs, which are active for a sender; GICD_ISENABLER0 of SGIs; whether PPIs
//!   can be configured.
//! - ITS: changes of the property table without INV, since caching it is a choice;
//!   collections that move without MOVALL, and MOVALL without them, since it may
//!   remap collections; the pending tables in memory, which are written when the GIC
//!   likes.
//!
//! # QEMU 7.2 is wrong
//!
//! - GICD_TYPER.ITLinesNumber of the GICv3 should be 8 for the 256 SPIs of both; it
//!   says 7.
//! - ICC_SGI1R_EL1 and SGIs that their target has in Group 0: with one security
//!   state they are forwarded. QEMU drops them, so none is sent.
//! - A group that the CPU interface disables while an interrupt of it is the
//!   most urgent one: QEMU then shows no other.
//! - GICR_WAKER at reset: its redistributors sleep then, and deliver all the same.
//!   It is not printed: the hypervisor's are awake, as firmware leaves them.
//! - GICv2: GICD_ISPENDR0 and GICD_ICPENDR0, which it writes for all CPUs; SPIs
//!   without a target, which it does not let become pending; new targets of pending
//!   SPIs, to whom it does not forward them, and of active ones, to whom it signals
//!   them though they are active; one group off in GICD_CTLR, which it forwards as
//!   long as the other is on; GICC_AIAR, GICC_AEOIR and GICC_AHPPIR, which it lacks
//!   (GICC_CTLR.AckCtl is set instead); words written to GICD_SPENDSGIR, with which it
//!   makes SGIs pending of which the byte is 0, and dies when one is acknowledged:
//!   bytes do.
//! - GICv2: GICD_ICACTIVER and GICC_DIR of an SPI that another CPU has acknowledged,
//!   which they leave active.
//! - GICv2, its virtual side: the end of an interrupt that is linked to a physical one
//!   deactivates that, but if the line is still high nobody is told until something
//!   else happens at the physical GIC. So no timer's interrupt is ended while its line
//!   is high.
//!
//! # Ours is limited
//!
//! - Acknowledges, EOIs and writes to one CPU's interface are visible to another CPU
//!   once the first one has been in the hypervisor. The specification wants finite
//!   time, and gives no bound; `snapshot::settle` takes both CPUs there.
//! - Message-based SPIs, 1 of N, extended ranges and affinity level 3 are absent.
//!   The specification lets them be, so the bits that say so are masked below.

use crate::v3::interface::Icc;

/// GICD_TYPER: ESPI (8) and SecurityExtn (10). How many bits INTIDs have, LPIs,
/// message-based SPIs, RSS and No1N are each GIC's own choice, and see above of
/// ITLinesNumber (4:0).
pub(crate) const GICD_TYPER: u32 = 0x0000_0500;

/// GICD_TYPER of a GICv2: SecurityExtn (10), the number of CPUs (7:5) and
/// ITLinesNumber, which QEMU says right here. Lockable SPIs are an option.
pub(crate) const V2_TYPER: u32 = 0x0000_04FF;

/// GICR_TYPER: Last (4), the processor number (23:8) and the affinity. LPIs are
/// optional.
pub(crate) const GICR_TYPER: u64 = 0xFFFF_FFFF_00FF_FF10;

/// GICR_CTLR: UWP (31) and RWP (3). The rest is about LPIs, which are optional.
pub(crate) const GICR_CTLR: u32 = 1 << 31 | 1 << 3;

/// GICR_CTLR where there are LPIs: EnableLPIs.
pub(crate) const GICR_CTLR_LPIS: u32 = 1;

/// GICR_WAKER: bits 31 and 0 are IMPLEMENTATION DEFINED, so they are not written.
pub(crate) const GICR_WAKER: u32 = 0x7FFF_FFFE;

/// PIDR2.ArchRev: the rest of the identification registers is IMPLEMENTATION
/// DEFINED.
pub(crate) const PIDR2: u32 = 0xF0;

/// Of priorities the five bits that both implement; others are RAZ/WI.
pub(crate) const PRIORITIES: u32 = 0xF8F8_F8F8;

/// Of GICD_ISENABLER0 of a GICv2 the PPIs: SGIs may be always enabled, or not.
pub(crate) const V2_ISENABLER0: u32 = 0xFFFF_0000;

/// GITS_CTLR.Enabled: Quiescent takes its time.
pub(crate) const GITS_CTLR: u32 = 1;

/// GITS_TYPER: Physical and PTA. Numbers and sizes are the ITS's own.
pub(crate) const GITS_TYPER: u64 = 1 | 1 << 19;

/// GITS_BASER: Valid and the type; the page size and the number of pages are not
/// shown by all, and cacheability is a choice.
pub(crate) const GITS_BASER: u64 = 1 << 63 | 0b111 << 56;

/// GITS_CBASER: Valid and the size; cacheability is a choice.
pub(crate) const GITS_CBASER: u64 = 1 << 63 | 0xFF;

/// Returns the bits of a register of the CPU interface that are compared.
pub(crate) const fn icc(register: Icc) -> u64 {
    match register {
        // CBPR and EOImode. Numbers of implemented bits are free, and so is
        // support for affinity level 3, range selectors and SEIs.
        Icc::Ctlr => 0b11,
        _ => u64::MAX,
    }
}
