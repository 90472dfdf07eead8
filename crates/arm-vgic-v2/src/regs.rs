//! Offsets and fields of the registers that a guest sees; no behaviour.

/// The distributor's own registers.
pub(crate) mod gicd {
    pub(crate) const CTLR: u64 = 0x000;
    pub(crate) const TYPER: u64 = 0x004;
    pub(crate) const IIDR: u64 = 0x008;
    /// `ITARGETSR<n>`: a byte for each interrupt.
    pub(crate) const ITARGETSR: u64 = 0x800;
    pub(crate) const ITARGETSR_END: u64 = 0xC00;
    pub(crate) const SGIR: u64 = 0xF00;
    /// `CPENDSGIR<n>` and `SPENDSGIR<n>`: a byte for each SGI.
    pub(crate) const CPENDSGIR: u64 = 0xF10;
    pub(crate) const SPENDSGIR: u64 = 0xF20;
    pub(crate) const SPENDSGIR_END: u64 = 0xF30;

    pub(crate) const TYPER_CPU_NUMBER_SHIFT: u32 = 5;

    /// Product `A`, variant 2, no JEP106 manufacturer.
    pub(crate) const IIDR_VALUE: u32 = 0x4102_0000;
}

/// The CPU interface's registers that trap.
pub(crate) mod gicc {
    pub(crate) const DIR: u64 = 0x1000;
}

/// The first of the identification registers.
pub(crate) const ID_BASE: u64 = 0xFD0;

/// PIDR4–7, PIDR0–3, CIDR0–3, as they lie from [`ID_BASE`]. ICPIDR2.ArchRev = 2
/// says GICv2.
const ID_VALUES: [u32; 12] = [
    0x04, 0, 0, 0, 0x90, 0xB4, 0x2B, 0x00, 0x0D, 0xF0, 0x05, 0xB1,
];

/// Returns the identification register at `offset`, or `None` if there is none.
pub(crate) fn identification(offset: u64) -> Option<u32> {
    let index = usize::try_from(offset.checked_sub(ID_BASE)? / 4).ok()?;
    ID_VALUES.get(index).copied()
}

/// Fields of `GICH_LR<n>`.
pub(crate) mod lr {
    pub(crate) const INTID_MASK: u32 = 0x3FF;
    /// Physical INTID with HW = 1; else the sender in its lowest three bits.
    pub(crate) const PINTID_SHIFT: u32 = 10;
    pub(crate) const SOURCE_MASK: u32 = 0x7;
    /// With HW = 0: maintenance on deactivation.
    pub(crate) const EOI: u32 = 1 << 19;
    pub(crate) const PRIORITY_SHIFT: u32 = 23;
    pub(crate) const PENDING: u32 = 1 << 28;
    pub(crate) const ACTIVE: u32 = 1 << 29;
    pub(crate) const GROUP1: u32 = 1 << 30;
    pub(crate) const HW: u32 = 1 << 31;
}
