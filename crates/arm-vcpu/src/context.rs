//! What a vCPU owns besides its [`TrapFrame`](crate::TrapFrame): the state that
//! moves only when the vCPU is bound to, or unbound from, a CPU.

use crate::{CpuFeatures, DebugRegisters, IdRegisters};

use crate::controls;

/// SCTLR_EL1 out of reset: MMU and caches off, little-endian, and the bits
/// that are RES1 where the feature which gave them a meaning is absent
/// (LSMAOE, nTLSMD, SPAN, EIS, TSCXT, EOS).
pub const SCTLR_EL1_RESET: u64 = 0x30D0_0800;

/// Holds the SIMD and floating-point registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct FpRegisters {
    /// V0 to V31.
    pub v: [u128; 32],
    /// Floating-point status: sticky exception flags.
    pub fpsr: u64,
    /// Floating-point control: rounding and traps.
    pub fpcr: u64,
}

/// Holds one pointer-authentication key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PauthKey {
    /// Bits 63:0.
    pub low: u64,
    /// Bits 127:64.
    pub high: u64,
}

/// Holds the five pointer-authentication keys of EL1 and EL0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PauthKeys {
    /// Instruction key A.
    pub apia: PauthKey,
    /// Instruction key B.
    pub apib: PauthKey,
    /// Data key A.
    pub apda: PauthKey,
    /// Data key B.
    pub apdb: PauthKey,
    /// Generic key.
    pub apga: PauthKey,
}

/// Holds a vCPU's virtual timer: CNTV_CTL_EL0 and CNTV_CVAL_EL0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerState {
    /// The control register; see the constants here for its bits.
    pub ctl: u64,
    /// The compare value, on the VM's own time line (CNTVCT = CNTPCT - CNTVOFF).
    pub cval: u64,
}

impl TimerState {
    /// ENABLE: the timer counts.
    pub const ENABLE: u64 = 1 << 0;
    /// IMASK: the timer's output is masked.
    pub const IMASK: u64 = 1 << 1;
    /// ISTATUS: the compare value has been reached. Read-only.
    pub const ISTATUS: u64 = 1 << 2;

    /// Returns the compare value if reaching it raises the timer interrupt:
    /// the timer is enabled and not masked.
    #[inline]
    #[must_use]
    pub const fn deadline(self) -> Option<u64> {
        if self.ctl & (Self::ENABLE | Self::IMASK) == Self::ENABLE {
            Some(self.cval)
        } else {
            None
        }
    }

    /// Tells whether the timer's output is asserted when the VM's counter
    /// reads `now`.
    #[inline]
    #[must_use]
    pub const fn asserted_at(self, now: u64) -> bool {
        match self.deadline() {
            Some(deadline) => now >= deadline,
            None => false,
        }
    }
}

/// Holds the EL2 controls that belong to one vCPU. The guest neither sees nor
/// changes them, and a reset keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuControls {
    /// HCR_EL2: what is trapped, routed and enabled.
    pub hcr: u64,
    /// HCRX_EL2, where the CPU has it.
    pub hcrx: u64,
    /// VTTBR_EL2: the VMID and the root of stage 2.
    pub vttbr: u64,
    /// VTCR_EL2: the shape of stage 2.
    pub vtcr: u64,
    /// VMPIDR_EL2: what the guest reads as MPIDR_EL1.
    pub vmpidr: u64,
    /// VPIDR_EL2: what the guest reads as MIDR_EL1.
    pub vpidr: u64,
    /// CNTVOFF_EL2: the physical count at which the VM's counter reads zero.
    pub cntvoff: u64,
}

/// Names the registers that are read or changed one by one while a vCPU may be
/// either bound (the CPU holds them) or not (its
/// [`GuestSystemRegisters`] do).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiveRegister {
    /// SP_EL0.
    SpEl0,
    /// SP_EL1.
    SpEl1,
    /// ELR_EL1.
    ElrEl1,
    /// SPSR_EL1.
    SpsrEl1,
    /// ESR_EL1.
    EsrEl1,
    /// FAR_EL1.
    FarEl1,
    /// VBAR_EL1.
    VbarEl1,
    /// SCTLR_EL1.
    SctlrEl1,
    /// TCR_EL1.
    TcrEl1,
    /// TTBR0_EL1.
    Ttbr0El1,
    /// TTBR1_EL1.
    Ttbr1El1,
    /// CNTV_CTL_EL0.
    CntvCtl,
    /// CNTV_CVAL_EL0.
    CntvCval,
    /// HCR_EL2.
    Hcr,
}

/// Holds the EL1 and EL0 state of a vCPU while no CPU holds it.
///
/// EL1 always runs in AArch64 state (HCR_EL2.RW is set), so the registers that
/// exist for an AArch32 EL1 only (DACR, IFSR, FPEXC and the banked SPSRs) are
/// out of every guest's reach and have no place here. ACTLR_EL1 has none
/// because it is trapped and reads as zero.
// What every switch moves comes first, within reach of instructions that move pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GuestSystemRegisters {
    /// What the CPU has: decides which of the fields below exist in hardware.
    pub features: CpuFeatures,
    /// The EL2 controls of this vCPU.
    pub controls: VcpuControls,
    /// SP_EL0.
    pub sp_el0: u64,
    /// SP_EL1.
    pub sp_el1: u64,
    /// ELR_EL1.
    pub elr_el1: u64,
    /// SPSR_EL1.
    pub spsr_el1: u64,
    /// SCTLR_EL1.
    pub sctlr_el1: u64,
    /// CPACR_EL1.
    pub cpacr_el1: u64,
    /// TTBR0_EL1.
    pub ttbr0_el1: u64,
    /// TTBR1_EL1.
    pub ttbr1_el1: u64,
    /// TCR_EL1.
    pub tcr_el1: u64,
    /// ESR_EL1.
    pub esr_el1: u64,
    /// FAR_EL1.
    pub far_el1: u64,
    /// AFSR0_EL1.
    pub afsr0_el1: u64,
    /// AFSR1_EL1.
    pub afsr1_el1: u64,
    /// MAIR_EL1.
    pub mair_el1: u64,
    /// AMAIR_EL1.
    pub amair_el1: u64,
    /// VBAR_EL1.
    pub vbar_el1: u64,
    /// CONTEXTIDR_EL1.
    pub contextidr_el1: u64,
    /// TPIDR_EL0.
    pub tpidr_el0: u64,
    /// TPIDRRO_EL0.
    pub tpidrro_el0: u64,
    /// TPIDR_EL1.
    pub tpidr_el1: u64,
    /// PAR_EL1.
    pub par_el1: u64,
    /// CSSELR_EL1.
    pub csselr_el1: u64,
    /// CNTKCTL_EL1.
    pub cntkctl_el1: u64,
    /// The virtual timer.
    pub timer: TimerState,
    /// SCXTNUM_EL0, with [`CpuFeatures::SCXTNUM`].
    pub scxtnum_el0: u64,
    /// SCXTNUM_EL1, with [`CpuFeatures::SCXTNUM`].
    pub scxtnum_el1: u64,
    /// TPIDR2_EL0, with [`CpuFeatures::SME`]: SME is hidden, but this register
    /// of it cannot be trapped everywhere, so it must not leak.
    pub tpidr2_el0: u64,
    /// VDISR_EL2, which the guest reaches as DISR_EL1, with [`CpuFeatures::RAS`].
    pub vdisr_el2: u64,
    /// The pointer-authentication keys, with [`CpuFeatures::PAUTH`].
    pub pauth: PauthKeys,
    /// The debug registers.
    pub debug: DebugRegisters,
    /// The SIMD and floating-point registers.
    pub fp: FpRegisters,
}

impl GuestSystemRegisters {
    /// Creates the registers of a vCPU as they are out of reset.
    ///
    /// `ids` tells what the guest is shown; `features` what the CPU has. The
    /// stage-2 root, the affinity and the counter offset are left zero for the
    /// owner to fill in.
    #[must_use]
    pub fn new(features: CpuFeatures, ids: &IdRegisters) -> Self {
        Self {
            controls: VcpuControls {
                hcr: controls::hcr(features, ids),
                hcrx: controls::hcrx(features, ids),
                ..VcpuControls::default()
            },
            debug: DebugRegisters::new(ids),
            features,
            sctlr_el1: SCTLR_EL1_RESET,
            ..Self::default()
        }
    }

    /// Puts everything the guest can reach back to its reset value: registers
    /// whose reset value is architecturally unknown become zero, so nothing of
    /// an earlier life shows. The EL2 controls stay, except that a virtual
    /// SError is no longer pending.
    pub fn reset(&mut self) {
        let mut controls = self.controls;
        controls.hcr &= !controls::HCR_VSE;
        *self = Self {
            controls,
            features: self.features,
            debug: self.debug.after_reset(),
            sctlr_el1: SCTLR_EL1_RESET,
            ..Self::default()
        };
    }

    /// Returns the saved value of `register`.
    #[inline]
    #[must_use]
    pub const fn get(&self, register: LiveRegister) -> u64 {
        match register {
            LiveRegister::SpEl0 => self.sp_el0,
            LiveRegister::SpEl1 => self.sp_el1,
            LiveRegister::ElrEl1 => self.elr_el1,
            LiveRegister::SpsrEl1 => self.spsr_el1,
            LiveRegister::EsrEl1 => self.esr_el1,
            LiveRegister::FarEl1 => self.far_el1,
            LiveRegister::VbarEl1 => self.vbar_el1,
            LiveRegister::SctlrEl1 => self.sctlr_el1,
            LiveRegister::TcrEl1 => self.tcr_el1,
            LiveRegister::Ttbr0El1 => self.ttbr0_el1,
            LiveRegister::Ttbr1El1 => self.ttbr1_el1,
            LiveRegister::CntvCtl => self.timer.ctl,
            LiveRegister::CntvCval => self.timer.cval,
            LiveRegister::Hcr => self.controls.hcr,
        }
    }

    /// Writes the saved value of `register`.
    #[inline]
    pub const fn set(&mut self, register: LiveRegister, value: u64) {
        *match register {
            LiveRegister::SpEl0 => &mut self.sp_el0,
            LiveRegister::SpEl1 => &mut self.sp_el1,
            LiveRegister::ElrEl1 => &mut self.elr_el1,
            LiveRegister::SpsrEl1 => &mut self.spsr_el1,
            LiveRegister::EsrEl1 => &mut self.esr_el1,
            LiveRegister::FarEl1 => &mut self.far_el1,
            LiveRegister::VbarEl1 => &mut self.vbar_el1,
            LiveRegister::SctlrEl1 => &mut self.sctlr_el1,
            LiveRegister::TcrEl1 => &mut self.tcr_el1,
            LiveRegister::Ttbr0El1 => &mut self.ttbr0_el1,
            LiveRegister::Ttbr1El1 => &mut self.ttbr1_el1,
            LiveRegister::CntvCtl => &mut self.timer.ctl,
            LiveRegister::CntvCval => &mut self.timer.cval,
            LiveRegister::Hcr => &mut self.controls.hcr,
        } = value;
    }
}
