//! Offsets and fields of the registers that a guest sees; no behaviour.

use vm_contract::Width;

/// GICD_CTLR and GICR_CTLR.
pub(crate) const CTLR: u64 = 0x0000;

/// The distributor's own registers.
pub(crate) mod gicd {
    pub(crate) const TYPER: u64 = 0x0004;
    pub(crate) const IIDR: u64 = 0x0008;
    pub(crate) const SETSPI_NSR: u64 = 0x0040;
    pub(crate) const CLRSPI_NSR: u64 = 0x0048;
    pub(crate) const IROUTER: u64 = 0x6000;

    /// Affinity routing is enabled.
    pub(crate) const CTLR_ARE: u32 = 1 << 4;
    /// Security is disabled.
    pub(crate) const CTLR_DS: u32 = 1 << 6;

    /// Message-based SPIs: SETSPI_NSR and CLRSPI_NSR work.
    pub(crate) const TYPER_MBIS: u32 = 1 << 16;
    /// INTIDs have ten bits.
    pub(crate) const TYPER_IDBITS_10: u32 = 9 << 19;
    /// INTIDs have 14 bits: up to 8192 LPIs.
    pub(crate) const TYPER_IDBITS_14: u32 = 13 << 19;
    /// There are LPIs.
    pub(crate) const TYPER_LPIS: u32 = 1 << 17;
    /// There are two to the power of this and one more.
    pub(crate) const TYPER_NUM_LPIS_SHIFT: u32 = 11;
    /// Affinity level 3 can be other than zero.
    pub(crate) const TYPER_A3V: u32 = 1 << 24;
    /// SGIs reach Aff0 values from 0 to 255.
    pub(crate) const TYPER_RSS: u32 = 1 << 26;

    /// `IROUTER<n>.Interrupt_Routing_Mode`: any one participating vCPU.
    pub(crate) const IROUTER_IRM: u64 = 1 << 31;
    /// The bits of `IROUTER<n>` that are not reserved: IRM and the affinity.
    pub(crate) const IROUTER_MASK: u64 = 0xFF_80FF_FFFF;
}

/// A redistributor's registers: the RD_base frame, then the SGI_base frame.
pub(crate) mod gicr {
    pub(crate) const FRAME_BYTES: u64 = 0x1_0000;
    /// Both frames of one vCPU.
    pub(crate) const STRIDE: u64 = 2 * FRAME_BYTES;

    pub(crate) const IIDR: u64 = 0x0004;
    pub(crate) const TYPER: u64 = 0x0008;
    pub(crate) const TYPER_UPPER: u64 = TYPER + 4;
    pub(crate) const WAKER: u64 = 0x0014;
    pub(crate) const PROPBASER: u64 = 0x0070;
    /// One past GICR_PENDBASER, which follows.
    pub(crate) const LPI_TABLES_END: u64 = 0x0080;

    pub(crate) const CTLR_ENABLE_LPIS: u32 = 1 << 0;
    /// EnableLPIs can be cleared.
    pub(crate) const CTLR_CES: u32 = 1 << 1;
    /// A write of EnableLPIs has not had all its effects.
    pub(crate) const CTLR_RWP: u32 = 1 << 3;

    /// There are LPIs.
    pub(crate) const TYPER_PLPIS: u64 = 1 << 0;

    /// This is the last redistributor of its region.
    pub(crate) const TYPER_LAST: u64 = 1 << 4;
    pub(crate) const TYPER_PROCESSOR_NUMBER_SHIFT: u32 = 8;
    pub(crate) const TYPER_AFFINITY_SHIFT: u32 = 32;

    pub(crate) const WAKER_PROCESSOR_SLEEP: u32 = 1 << 1;
    pub(crate) const WAKER_CHILDREN_ASLEEP: u32 = 1 << 2;
}

/// What GICD_IIDR and GICR_IIDR say: product `A`, no JEP106 manufacturer.
pub(crate) const IIDR_VALUE: u32 = 0x4100_0000;

/// The first of the identification registers.
pub(crate) const ID_BASE: u64 = 0xFFD0;

/// PIDR4–7, PIDR0–3, CIDR0–3, as they lie from [`ID_BASE`]. PIDR2.ArchRev = 3
/// says GICv3; drivers check that and the CoreSight class in CIDR1.
const ID_VALUES: [u32; 12] = [
    0x44, 0, 0, 0, 0x92, 0xB4, 0x3B, 0x00, 0x0D, 0xF0, 0x05, 0xB1,
];

/// Returns the identification register at `offset`, or `None` if there is none.
pub(crate) fn identification(offset: u64) -> Option<u32> {
    let index = usize::try_from(offset.checked_sub(ID_BASE)? / 4).ok()?;
    ID_VALUES.get(index).copied()
}

/// Returns what an access of this width at `offset` reads of a register of 64 bits.
pub(crate) fn part(register: u64, offset: u64, width: Width) -> u64 {
    width.truncate(register >> (8 * (offset & 4)))
}

/// Returns what a register of 64 bits becomes when `value` is written at `offset`
/// with this width.
pub(crate) fn merge(register: u64, offset: u64, width: Width, value: u64) -> u64 {
    let shift = 8 * (offset & 4);
    let written = width.truncate(u64::MAX) << shift;
    register & !written | value << shift & written
}
