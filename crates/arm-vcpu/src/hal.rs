//! What a vCPU and a CPU's set-up ask of the hardware.

use crate::{CpuFeatures, DebugRegisters, GuestSystemRegisters, LiveRegister, RawExit, TrapFrame};

/// The CPU, as a vCPU sees it.
///
/// [`Aarch64VCpu`](crate::Aarch64VCpu) owns a value of this and keeps the
/// order: `load`, then any number of the others, then `save`, all on one CPU.
/// The real one is `El2`; a host test drives a vCPU with
/// `ScriptedGuest`.
pub trait AxVCpuHal {
    /// Returns the optional features of the CPUs of this machine.
    fn features(&self) -> CpuFeatures;

    /// Binds: puts the EL1 and EL0 state and the EL2 controls of a vCPU into
    /// the CPU, where no walk of stage 1 begins until that is done.
    fn load(&mut self, registers: &GuestSystemRegisters);

    /// Unbinds: takes back what the guest can have changed, and turns the
    /// guest's stage 2, the walks of stage 1 and the timer off.
    fn save(&mut self, registers: &mut GuestSystemRegisters);

    /// Runs the guest from the state in `frame` to its next exit. Moves the
    /// general registers, ELR_EL2 and SPSR_EL2, and nothing else.
    fn enter(&mut self, frame: &mut TrapFrame) -> RawExit;

    /// Reads one register of the bound vCPU.
    fn read(&self, register: LiveRegister) -> u64;

    /// Writes one register of the bound vCPU.
    fn write(&mut self, register: LiveRegister, value: u64);

    /// Puts changed debug registers of the bound vCPU into the CPU.
    fn load_debug(&mut self, debug: &DebugRegisters);
}

/// The registers of a CPU that [`Aarch64PerCpu`](crate::Aarch64PerCpu) sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum El2Register {
    /// VBAR_EL2.
    Vbar,
    /// HCR_EL2.
    Hcr,
    /// CPTR_EL2.
    Cptr,
    /// MDCR_EL2.
    Mdcr,
    /// CNTHCTL_EL2.
    Cnthctl,
    /// HSTR_EL2.
    Hstr,
    /// ICC_SRE_EL2.
    IccSre,
    /// ICC_SRE_EL1, which is set once for all guests.
    IccSreEl1,
    /// VSESR_EL2.
    Vsesr,
    /// HCRX_EL2.
    Hcrx,
    /// HFGRTR_EL2.
    Hfgrtr,
    /// HFGWTR_EL2.
    Hfgwtr,
    /// HFGITR_EL2.
    Hfgitr,
    /// HDFGRTR_EL2.
    Hdfgrtr,
    /// HDFGWTR_EL2.
    Hdfgwtr,
    /// HFGRTR2_EL2.
    Hfgrtr2,
    /// HFGWTR2_EL2.
    Hfgwtr2,
    /// HFGITR2_EL2.
    Hfgitr2,
    /// HDFGRTR2_EL2.
    Hdfgrtr2,
    /// HDFGWTR2_EL2.
    Hdfgwtr2,
    /// MPAM2_EL2.
    Mpam2,
    /// TCR_EL1, as long as no vCPU is loaded.
    TcrEl1,
    /// SCTLR_EL1, as long as no vCPU is loaded.
    SctlrEl1,
}

/// The CPU, as its set-up for virtualisation sees it.
pub trait AxPerCpuHal {
    /// Returns the optional features of this CPU.
    fn features(&self) -> CpuFeatures;

    /// Returns how many event counters the PMU has (PMCR_EL0.N). Called only
    /// with [`CpuFeatures::PMU`].
    fn event_counters(&self) -> u64;

    /// Reads an EL2 register which this CPU has.
    fn read_control(&self, register: El2Register) -> u64;

    /// Writes an EL2 register which this CPU has.
    fn write_control(&mut self, register: El2Register, value: u64);

    /// Makes all writes before it take effect for what follows.
    fn synchronize(&mut self);
}
