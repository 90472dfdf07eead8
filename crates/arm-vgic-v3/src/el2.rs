//! The hardware edge: the ICH_* system registers.

use aarch64_cpu::registers::{
    ICH_AP0R0_EL2, ICH_AP0R1_EL2, ICH_AP0R2_EL2, ICH_AP0R3_EL2, ICH_AP1R0_EL2, ICH_AP1R1_EL2,
    ICH_AP1R2_EL2, ICH_AP1R3_EL2, ICH_HCR_EL2, ICH_LR0_EL2, ICH_LR1_EL2, ICH_LR2_EL2, ICH_LR3_EL2,
    ICH_LR4_EL2, ICH_LR5_EL2, ICH_LR6_EL2, ICH_LR7_EL2, ICH_LR8_EL2, ICH_LR9_EL2, ICH_LR10_EL2,
    ICH_LR11_EL2, ICH_LR12_EL2, ICH_LR13_EL2, ICH_LR14_EL2, ICH_LR15_EL2, ICH_VMCR_EL2,
    ICH_VTR_EL2, Readable, Writeable,
};

use arm_vgic_core::{IchRegs, ListRegister};

/// The registers of the CPU that this code runs on, at EL2 with
/// ICC_SRE_EL2.SRE set.
///
/// The guest must not run between an access and the context
/// synchronisation that makes it count; the return to the guest is one.
#[derive(Clone, Copy, Debug)]
pub struct El2Ich {
    vtr: u64,
}

impl El2Ich {
    /// Reads what this CPU implements. The value serves on this CPU, and on
    /// every other that implements the same.
    #[must_use]
    pub fn new() -> Self {
        Self {
            vtr: ICH_VTR_EL2.get(),
        }
    }
}

impl Default for El2Ich {
    fn default() -> Self {
        Self::new()
    }
}

/// Implements the accessors of a numbered register; numbers that the
/// architecture does not have read as zero and ignore writes.
macro_rules! numbered {
    ($inline:meta, $read:ident, $write:ident, $value:ty, $from:expr, $to:expr,
     $($n:literal => $register:ident),+) => {
        #[$inline]
        fn $read(&self, n: usize) -> $value {
            $from(match n {
                $($n => $register.get(),)+
                _ => 0,
            })
        }

        #[$inline]
        fn $write(&mut self, n: usize, value: $value) {
            match n {
                $($n => $register.set($to(value)),)+
                _ => {}
            }
        }
    };
}

impl El2Ich {
    numbered!(inline(never), read_further_lr, write_further_lr, ListRegister, ListRegister::from_bits, ListRegister::bits,
        1 => ICH_LR1_EL2, 2 => ICH_LR2_EL2, 3 => ICH_LR3_EL2,
        4 => ICH_LR4_EL2, 5 => ICH_LR5_EL2, 6 => ICH_LR6_EL2, 7 => ICH_LR7_EL2,
        8 => ICH_LR8_EL2, 9 => ICH_LR9_EL2, 10 => ICH_LR10_EL2, 11 => ICH_LR11_EL2,
        12 => ICH_LR12_EL2, 13 => ICH_LR13_EL2, 14 => ICH_LR14_EL2, 15 => ICH_LR15_EL2);
}

impl IchRegs for El2Ich {
    #[inline]
    fn lr_count(&self) -> usize {
        (self.vtr & 0xF) as usize + 1
    }

    #[inline]
    fn priority_bits(&self) -> u32 {
        (self.vtr >> 29 & 0x7) as u32 + 1
    }

    #[inline]
    fn preemption_bits(&self) -> u32 {
        (self.vtr >> 26 & 0x7) as u32 + 1
    }

    #[inline]
    fn can_trap_dir(&self) -> bool {
        self.vtr >> 19 & 1 != 0
    }

    #[inline]
    fn read_vmcr(&self) -> u64 {
        ICH_VMCR_EL2.get()
    }

    #[inline]
    fn write_vmcr(&mut self, value: u64) {
        ICH_VMCR_EL2.set(value);
    }

    #[inline]
    fn read_hcr(&self) -> u64 {
        ICH_HCR_EL2.get()
    }

    #[inline]
    fn write_hcr(&mut self, value: u64) {
        ICH_HCR_EL2.set(value);
    }

    // Mostly there is but one interrupt, in the first list register.
    #[inline(always)]
    fn read_lr(&self, n: usize) -> ListRegister {
        match n {
            0 => ListRegister::from_bits(ICH_LR0_EL2.get()),
            _ => self.read_further_lr(n),
        }
    }

    #[inline(always)]
    fn write_lr(&mut self, n: usize, value: ListRegister) {
        match n {
            0 => ICH_LR0_EL2.set(value.bits()),
            _ => self.write_further_lr(n, value),
        }
    }

    numbered!(inline, read_ap0r, write_ap0r, u64, core::convert::identity, core::convert::identity,
        0 => ICH_AP0R0_EL2, 1 => ICH_AP0R1_EL2, 2 => ICH_AP0R2_EL2, 3 => ICH_AP0R3_EL2);
    numbered!(inline, read_ap1r, write_ap1r, u64, core::convert::identity, core::convert::identity,
        0 => ICH_AP1R0_EL2, 1 => ICH_AP1R1_EL2, 2 => ICH_AP1R2_EL2, 3 => ICH_AP1R3_EL2);
}
