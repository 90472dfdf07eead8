//! Guest accesses to the registers that describe interrupts: the same in the
//! distributor (SPIs) and in the SGI_base frame of a redistributor (SGIs and
//! PPIs), so written once for a [`Bank`].

use vm_contract::{AccessError, Width};

use crate::irq::Bank;
use crate::regs::IrqRegister;

impl IrqRegister {
    /// Checks that the register takes accesses of this width: words, and
    /// single bytes for priorities.
    pub(crate) fn check_width(self, width: Width) -> Result<(), AccessError> {
        match (self, width) {
            (_, Width::Word) | (Self::Priority { .. }, Width::Byte) => Ok(()),
            _ => Err(AccessError::InvalidWidth),
        }
    }

    /// Reads the register, whose width has been checked, for `bank`.
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
                let count = usize::from(width == Width::Word) * 3 + 1;
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
