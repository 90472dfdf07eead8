//! Fields of the registers that switch the virtual CPU interface; no behaviour.

/// Fields of ICH_VMCR_EL2, the guest's view of its CPU interface.
pub(crate) mod vmcr {
    pub(crate) const VENG0: u64 = 1 << 0;
    pub(crate) const VENG1: u64 = 1 << 1;
    /// Group 0 is signalled as FIQ: always, where the CPU interface consists of
    /// system registers.
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
