//! The hardware edge: what the virtual CPU interface of a CPU offers.

use crate::list_register::ListRegister;

/// The virtual CPU interface control registers of the CPU this runs on, in the
/// format of GICv3's system registers.
///
/// Implemented by the vGIC crates on the machine and by `FakeIch` in tests.
/// Indices are below [`lr_count`](Self::lr_count) for list registers, and below
/// `1 << (preemption_bits - 5)` for active-priority registers.
pub trait IchRegs {
    /// Returns the number of list registers: 1 to 16.
    fn lr_count(&self) -> usize;
    /// Returns the number of virtual priority bits (ICH_VTR_EL2.PRIbits + 1).
    fn priority_bits(&self) -> u32;
    /// Returns the number of virtual preemption bits (ICH_VTR_EL2.PREbits + 1):
    /// 5 to 7.
    fn preemption_bits(&self) -> u32;
    /// Tells whether ICH_HCR_EL2.TDIR exists (ICH_VTR_EL2.TDS).
    fn can_trap_dir(&self) -> bool;
    /// Reads `ICH_LR<n>_EL2`.
    fn read_lr(&self, n: usize) -> ListRegister;
    /// Writes `ICH_LR<n>_EL2`.
    fn write_lr(&mut self, n: usize, value: ListRegister);
    /// Reads ICH_VMCR_EL2.
    fn read_vmcr(&self) -> u64;
    /// Writes ICH_VMCR_EL2.
    fn write_vmcr(&mut self, value: u64);
    /// Reads ICH_HCR_EL2.
    fn read_hcr(&self) -> u64;
    /// Writes ICH_HCR_EL2.
    fn write_hcr(&mut self, value: u64);
    /// Reads `ICH_AP0R<n>_EL2`.
    fn read_ap0r(&self, n: usize) -> u64;
    /// Writes `ICH_AP0R<n>_EL2`.
    fn write_ap0r(&mut self, n: usize, value: u64);
    /// Reads `ICH_AP1R<n>_EL2`.
    fn read_ap1r(&self, n: usize) -> u64;
    /// Writes `ICH_AP1R<n>_EL2`.
    fn write_ap1r(&mut self, n: usize, value: u64);
}
