//! The registers that describe interrupts: where they lie and what an access to
//! one does to a [`Bank`].
//!
//! They lie at the same offsets in the distributor of either GIC (SPIs; with
//! GICv2 also SGIs and PPIs) and in the SGI_base frame of a GICv3 redistributor.

use vm_contract::{AccessError, Width};

use crate::bank::Bank;

/// A register with one bit per interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitRegister {
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

/// A register that describes interrupts. `bank` counts in 32 interrupts; bank 0
/// is the SGIs and PPIs.
///
/// ```
/// use arm_vgic_core::{BitRegister, IrqRegister};
///
/// let register = BitRegister::SetEnable;
/// let gicd_isenabler1 = IrqRegister::decode(0x104);
/// assert_eq!(gicd_isenabler1, Some(IrqRegister::Bits { register, bank: 1 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqRegister {
    /// One bit each.
    Bits {
        /// Which of them.
        register: BitRegister,
        /// Which 32 interrupts.
        bank: usize,
    },
    /// One byte each, from interrupt `first` of the bank.
    Priority {
        /// Which 32 interrupts.
        bank: usize,
        /// Which of them comes first.
        first: u32,
    },
    /// Two bits each, for one half of the bank.
    Config {
        /// Which 32 interrupts.
        bank: usize,
        /// Which half of them.
        upper: bool,
    },
}

impl IrqRegister {
    /// Decodes an offset, or returns `None` if none of these registers lies
    /// there.
    #[must_use]
    #[inline]
    pub fn decode(offset: u64) -> Option<Self> {
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
    #[must_use]
    #[inline]
    pub const fn bank(self) -> usize {
        match self {
            Self::Bits { bank, .. } | Self::Priority { bank, .. } | Self::Config { bank, .. } => {
                bank
            }
        }
    }

    /// Tells whether the register shows or changes state that the guest changes
    /// behind our back while it is in a list register: pending and active.
    #[must_use]
    #[inline]
    pub const fn is_live_state(self) -> bool {
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

    /// Checks that the register takes accesses of this width: words, and
    /// single bytes for priorities.
    ///
    /// # Errors
    /// [`AccessError::InvalidWidth`] for all others.
    #[inline]
    pub fn check_width(self, width: Width) -> Result<(), AccessError> {
        match (self, width) {
            (_, Width::Word) | (Self::Priority { .. }, Width::Byte) => Ok(()),
            _ => Err(AccessError::InvalidWidth),
        }
    }

    /// Reads the register, whose width has been checked, for `bank`.
    #[inline]
    pub(crate) fn read(self, bank: &Bank, width: Width) -> u64 {
        match self {
            Self::Bits { register, .. } => bank.read(register).into(),
            Self::Config { upper, .. } => bank.config(upper).into(),
            Self::Priority { first, .. } => {
                let mut bytes = [0; 8];
                let priorities = bank.priority.iter().skip(first as usize);
                for (byte, priority) in bytes.iter_mut().zip(priorities) {
                    *byte = *priority;
                }
                width.truncate(u64::from_le_bytes(bytes))
            }
        }
    }

    /// Writes the register, whose width has been checked. Only interrupts in
    /// `valid` exist, only priority bits in `priority_mask` are implemented.
    /// Returns the interrupts whose list register may be wrong now.
    #[inline]
    pub(crate) fn write(
        self,
        bank: &mut Bank,
        width: Width,
        value: u64,
        valid: u32,
        priority_mask: u8,
    ) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "these registers have 32 bits"
        )]
        let word = value as u32;
        match self {
            Self::Bits { register, .. } => bank.write(register, word & valid),
            Self::Config { upper, .. } => bank.set_config(upper, word, valid),
            Self::Priority { first, .. } => {
                let mut changed = 0;
                let bytes = word.to_le_bytes();
                let count = usize::try_from(width.bytes()).unwrap_or_default();
                let numbered = bank.priority.iter_mut().zip(0u32..).skip(first as usize);
                for ((priority, number), byte) in numbered.zip(bytes).take(count) {
                    let byte = byte & priority_mask;
                    let bit = 1 << number;
                    if valid & bit != 0 && *priority != byte {
                        *priority = byte;
                        changed |= bit;
                    }
                }
                changed
            }
        }
    }
}
