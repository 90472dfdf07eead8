//! A CPU's own set-up for running guests, and its undoing.

use crate::controls;
use crate::{AxPerCpuHal, CpuFeatures, El2Register, VcpuError};

/// Every register that is set, in the order in which it is set; the features
/// without which it does not exist.
const REGISTERS: [(El2Register, CpuFeatures); 23] = [
    (El2Register::Vbar, CpuFeatures::empty()),
    (El2Register::Hcr, CpuFeatures::empty()),
    (El2Register::Cptr, CpuFeatures::empty()),
    (El2Register::Mdcr, CpuFeatures::empty()),
    (El2Register::Cnthctl, CpuFeatures::empty()),
    (El2Register::Hstr, CpuFeatures::empty()),
    (El2Register::IccSre, CpuFeatures::GIC_SYSTEM_REGISTERS),
    (El2Register::IccSreEl1, CpuFeatures::GIC_SYSTEM_REGISTERS),
    (El2Register::Vsesr, CpuFeatures::RAS),
    (El2Register::Hcrx, CpuFeatures::HCRX),
    (El2Register::Hfgrtr, CpuFeatures::FINE_GRAINED_TRAPS),
    (El2Register::Hfgwtr, CpuFeatures::FINE_GRAINED_TRAPS),
    (El2Register::Hfgitr, CpuFeatures::FINE_GRAINED_TRAPS),
    (El2Register::Hdfgrtr, CpuFeatures::FINE_GRAINED_TRAPS),
    (El2Register::Hdfgwtr, CpuFeatures::FINE_GRAINED_TRAPS),
    (El2Register::Hfgrtr2, CpuFeatures::FINE_GRAINED_TRAPS_2),
    (El2Register::Hfgwtr2, CpuFeatures::FINE_GRAINED_TRAPS_2),
    (El2Register::Hfgitr2, CpuFeatures::FINE_GRAINED_TRAPS_2),
    (El2Register::Hdfgrtr2, CpuFeatures::FINE_GRAINED_TRAPS_2),
    (El2Register::Hdfgwtr2, CpuFeatures::FINE_GRAINED_TRAPS_2),
    (El2Register::Mpam2, CpuFeatures::MPAM),
    // The walks of stage 1 are off before it is on.
    (El2Register::TcrEl1, CpuFeatures::empty()),
    (El2Register::SctlrEl1, CpuFeatures::empty()),
];

/// Prepares one CPU for running guests, and gives it back as it was.
///
/// A value belongs to the CPU on which it is enabled. The controls that differ
/// between guests (HCR_EL2, stage 2, identity) come with each vCPU; here are
/// those that do not.
#[derive(Debug)]
pub struct Aarch64PerCpu<H> {
    hal: H,
    vectors: usize,
    previous: Option<[u64; REGISTERS.len()]>,
}

impl<H: AxPerCpuHal> Aarch64PerCpu<H> {
    /// Creates the set-up of a CPU whose exception vectors shall be the table
    /// at `vectors`; see `el2_vectors!` for how a table comes to be.
    #[must_use]
    pub const fn new(hal: H, vectors: usize) -> Self {
        Self {
            hal,
            vectors,
            previous: None,
        }
    }

    /// Tells whether this CPU is enabled.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.previous.is_some()
    }

    /// Sets the CPU's EL2 controls, remembering what they were.
    ///
    /// # Errors
    /// [`VcpuError::AlreadyEnabled`], and [`VcpuError::MisalignedVectors`]
    /// unless the table lies at a multiple of 2 KiB: the caller's mistakes.
    pub fn hardware_enable(&mut self) -> Result<(), VcpuError> {
        if self.previous.is_some() {
            return Err(VcpuError::AlreadyEnabled);
        }
        if self.vectors & 0x7FF != 0 {
            return Err(VcpuError::MisalignedVectors);
        }
        let features = self.hal.features();
        let mut previous = [0; REGISTERS.len()];
        for ((register, needs), previous) in REGISTERS.iter().zip(&mut previous) {
            if features.contains(*needs) {
                *previous = self.hal.read_control(*register);
                let value = self.value(features, *register);
                self.hal.write_control(*register, value);
            }
            // Until SRE is in effect ICC_SRE_EL1 ignores writes, and the rest of
            // the GIC's registers do not exist.
            if matches!(register, El2Register::IccSre | El2Register::TcrEl1) {
                self.hal.synchronize();
            }
        }
        self.hal.synchronize();
        self.previous = Some(previous);
        Ok(())
    }

    /// Puts back what [`hardware_enable`](Self::hardware_enable) found, the
    /// previous vector table included.
    ///
    /// # Errors
    /// [`VcpuError::NotEnabled`]: the caller's mistake.
    pub fn hardware_disable(&mut self) -> Result<(), VcpuError> {
        let previous = self.previous.take().ok_or(VcpuError::NotEnabled)?;
        let features = self.hal.features();
        for ((register, needs), previous) in REGISTERS.iter().zip(previous).rev() {
            if features.contains(*needs) {
                self.hal.write_control(*register, previous);
            }
        }
        self.hal.synchronize();
        Ok(())
    }

    fn value(&self, features: CpuFeatures, register: El2Register) -> u64 {
        match register {
            El2Register::Vbar => self.vectors as u64,
            El2Register::Hcr => controls::HCR_HOST,
            El2Register::Cptr => controls::cptr(features),
            El2Register::Mdcr => {
                let counters = if features.contains(CpuFeatures::PMU) {
                    self.hal.event_counters()
                } else {
                    0
                };
                controls::mdcr(features, counters)
            }
            El2Register::Cnthctl => controls::CNTHCTL,
            El2Register::IccSre => controls::ICC_SRE,
            El2Register::IccSreEl1 => controls::ICC_SRE_EL1,
            El2Register::Vsesr => controls::VSESR,
            El2Register::Mpam2 => controls::MPAM2,
            // No guest's stage 1 is walked until one is loaded.
            El2Register::TcrEl1 => controls::TCR_NO_WALKS,
            El2Register::SctlrEl1 => controls::SCTLR_M,
            // In the fine-grained traps, zero traps the features which guests
            // are not shown (the fields named n…) and nothing else.
            El2Register::Hstr
            | El2Register::Hcrx
            | El2Register::Hfgrtr
            | El2Register::Hfgwtr
            | El2Register::Hfgitr
            | El2Register::Hdfgrtr
            | El2Register::Hdfgwtr
            | El2Register::Hfgrtr2
            | El2Register::Hfgwtr2
            | El2Register::Hfgitr2
            | El2Register::Hdfgrtr2
            | El2Register::Hdfgwtr2 => 0,
        }
    }
}
