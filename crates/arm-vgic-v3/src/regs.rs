//! Offsets and fields of the registers that a guest sees; no behaviour.

/// GICD_CTLR and GICR_CTLR.
pub(crate) const CTLR: u64 = 0x0000;

/// The distributor's own registers.
pub(crate) mod gicd {
    pub(crate) const TYPER: u64 = 0x0004;
    pub(crate) const IIDR: u64 = 0x0008;
    pub(crate) const SETSPI_NSR: u64 = 0x0040;
    pub(crate) const CLRSPI_NSR: u64 = 0x0048;
    pub(crate) const IROUTER: u64 = 0x6000;
    /// One past the router of INTID 1019.
    pub(crate) const IROUTER_END: u64 = IROUTER + 8 * 1020;

    pub(crate) const CTLR_ENABLE_GRP0: u32 = 1 << 0;
    pub(crate) const CTLR_ENABLE_GRP1: u32 = 1 << 1;
    /// Affinity routing is enabled.
    pub(crate) const CTLR_ARE: u32 = 1 << 4;
    /// Security is disabled.
    pub(crate) const CTLR_DS: u32 = 1 << 6;

    /// Message-based SPIs: SETSPI_NSR and CLRSPI_NSR work.
    pub(crate) const TYPER_MBIS: u32 = 1 << 16;
    /// INTIDs have ten bits.
    pub(crate) const TYPER_IDBITS_10: u32 = 9 << 19;
    /// Affinity level 3 can be other than zero.
    pub(crate) const TYPER_A3V: u32 = 1 << 24;
    /// SGIs reach Aff0 values from 0 to 255.
    pub(crate) const TYPER_RSS: u32 = 1 << 26;

    /// `IROUTER<n>.Interrupt_Routing_Mode`: any one participating vCPU.
    pub(crate) const IROUTER_IRM: u64 = 1 << 31;
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

/// A register with one bit per interrupt, the same in both frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BitRegister {
    /// IGROUPR: Group 1 rather than Group 0.
    Group,
    /// ISENABLER.
    SetEnable,
    /// ICENABLER.
    ClearEnable,
    /// ISPENDR.
    SetPending,
    /// ICPENDR.
    ClearPending,
    /// ISACTIVER.
    SetActive,
    /// ICACTIVER.
    ClearActive,
}

/// A register that describes interrupts and lies at the same offset in the
/// distributor and in the SGI_base frame of a redistributor. `bank` counts in
/// 32 interrupts; bank 0 is the SGIs and PPIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IrqRegister {
    /// One bit each.
    Bits { register: BitRegister, bank: usize },
    /// One byte each, from interrupt `first` of the bank.
    Priority { bank: usize, first: u32 },
    /// Two bits each, for one half of the bank.
    Config { bank: usize, upper: bool },
}

impl IrqRegister {
    /// Decodes an offset, or returns `None` if none of these registers lies
    /// there.
    pub(crate) fn decode(offset: u64) -> Option<Self> {
        // All these offsets are below 4 KiB.
        let offset = u32::try_from(offset).ok()?;
        let bank_of = |interrupt: u32| (interrupt / 32) as usize;
        Some(match offset {
            0x080..0x400 => {
                let register = match offset >> 7 {
                    1 => BitRegister::Group,
                    2 => BitRegister::SetEnable,
                    3 => BitRegister::ClearEnable,
                    4 => BitRegister::SetPending,
                    5 => BitRegister::ClearPending,
                    6 => BitRegister::SetActive,
                    _ => BitRegister::ClearActive,
                };
                Self::Bits {
                    register,
                    bank: bank_of((offset & 0x7F) * 8),
                }
            }
            0x400..0x800 => {
                let interrupt = offset - 0x400;
                Self::Priority {
                    bank: bank_of(interrupt),
                    first: interrupt % 32,
                }
            }
            0xC00..0xD00 => {
                let interrupt = (offset - 0xC00) * 4;
                Self::Config {
                    bank: bank_of(interrupt),
                    upper: interrupt % 32 >= 16,
                }
            }
            _ => return None,
        })
    }

    /// Returns the number of the bank that the register describes.
    pub(crate) fn bank(self) -> usize {
        match self {
            Self::Bits { bank, .. } | Self::Priority { bank, .. } | Self::Config { bank, .. } => {
                bank
            }
        }
    }

    /// Tells whether the register shows or changes state that the guest changes
    /// behind our back while it is in a list register: pending and active.
    pub(crate) fn is_live_state(self) -> bool {
        matches!(
            self,
            Self::Bits {
                register: BitRegister::SetPending
                    | BitRegister::ClearPending
                    | BitRegister::SetActive
                    | BitRegister::ClearActive,
                ..
            }
        )
    }
}

/// Fields of ICH_VMCR_EL2, the guest's view of its CPU interface.
pub(crate) mod vmcr {
    pub(crate) const VENG0: u64 = 1 << 0;
    pub(crate) const VENG1: u64 = 1 << 1;
    /// One whenever system registers are used, as they always are here.
    pub(crate) const VFIQEN: u64 = 1 << 3;
    /// ICC_BPR0_EL1 serves both groups.
    pub(crate) const VCBPR: u64 = 1 << 4;
    /// EOI drops the priority only; DIR deactivates.
    pub(crate) const VEOIM: u64 = 1 << 9;
    pub(crate) const VBPR1_SHIFT: u32 = 18;
    pub(crate) const VBPR0_SHIFT: u32 = 21;
    pub(crate) const VPMR_SHIFT: u32 = 24;
}

/// Fields of ICH_HCR_EL2, which switches the virtual CPU interface.
pub(crate) mod hcr {
    pub(crate) const EN: u64 = 1 << 0;
    /// Maintenance when the guest ended an interrupt that no list register holds.
    pub(crate) const LRENPIE: u64 = 1 << 2;
    /// Maintenance when no list register is pending.
    pub(crate) const NPIE: u64 = 1 << 3;
    /// Maintenance while Group 0 is enabled, or disabled, by the guest.
    pub(crate) const VGRP0EIE: u64 = 1 << 4;
    pub(crate) const VGRP0DIE: u64 = 1 << 5;
    /// Maintenance while Group 1 is enabled, or disabled, by the guest.
    pub(crate) const VGRP1EIE: u64 = 1 << 6;
    pub(crate) const VGRP1DIE: u64 = 1 << 7;
    /// Traps the guest's writes of ICC_DIR_EL1.
    pub(crate) const TDIR: u64 = 1 << 14;
    /// How many interrupts that no list register holds the guest has ended.
    pub(crate) const EOI_COUNT_SHIFT: u32 = 27;
}
