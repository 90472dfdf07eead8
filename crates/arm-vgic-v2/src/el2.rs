//! The GICH frame itself.
#![expect(unsafe_code, reason = "registers are where the device tree says")]

use crate::gich::GichRegs;

const HCR: usize = 0x000;
const VTR: usize = 0x004;
const VMCR: usize = 0x008;
const APR: usize = 0x0F0;
const LR: usize = 0x100;

/// The GICH registers of the CPU that this code runs on.
#[derive(Debug)]
pub struct El2Gich {
    base: usize,
}

impl El2Gich {
    /// Uses the GICH frame at `base`.
    ///
    /// # Safety
    /// `base` is the virtual address of a GICv2's GICH frame, mapped as device
    /// memory for as long as the value lives, and no other code writes the
    /// registers of the CPU that uses the value. The registers are banked: each
    /// CPU needs a value of its own.
    #[must_use]
    pub const unsafe fn new(base: usize) -> Self {
        Self { base }
    }

    #[inline]
    fn read(&self, offset: usize) -> u32 {
        let register = core::ptr::with_exposed_provenance::<u32>(self.base + offset);
        // SAFETY: a register of the frame, by the contract of `new`.
        unsafe { register.read_volatile() }
    }

    #[inline]
    fn write(&self, offset: usize, value: u32) {
        let register = core::ptr::with_exposed_provenance_mut::<u32>(self.base + offset);
        // SAFETY: a register of the frame, by the contract of `new`.
        unsafe { register.write_volatile(value) };
    }
}

impl GichRegs for El2Gich {
    #[inline]
    fn read_vtr(&self) -> u32 {
        self.read(VTR)
    }

    #[inline]
    fn read_hcr(&self) -> u32 {
        self.read(HCR)
    }

    #[inline]
    fn write_hcr(&mut self, value: u32) {
        self.write(HCR, value);
    }

    #[inline]
    fn read_vmcr(&self) -> u32 {
        self.read(VMCR)
    }

    #[inline]
    fn write_vmcr(&mut self, value: u32) {
        self.write(VMCR, value);
    }

    #[inline]
    fn read_apr(&self) -> u32 {
        self.read(APR)
    }

    #[inline]
    fn write_apr(&mut self, value: u32) {
        self.write(APR, value);
    }

    #[inline]
    fn read_lr(&self, n: usize) -> u32 {
        debug_assert!(n < 64, "GICH has 64 list registers at most");
        self.read(LR + 4 * (n % 64))
    }

    #[inline]
    fn write_lr(&mut self, n: usize, value: u32) {
        debug_assert!(n < 64, "GICH has 64 list registers at most");
        self.write(LR + 4 * (n % 64), value);
    }
}
