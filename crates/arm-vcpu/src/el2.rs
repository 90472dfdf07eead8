//! The hardware itself: system registers and the world switch at EL2.

#![expect(
    unsafe_code,
    reason = "the one module that touches system registers and enters guests"
)]

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    AFSR0_EL1, AFSR1_EL1, AMAIR_EL1, CNTHCTL_EL2, CNTKCTL_EL1, CNTV_CTL_EL0, CNTV_CVAL_EL0,
    CNTVOFF_EL2, CONTEXTIDR_EL1, CPACR_EL1, CPTR_EL2, CSSELR_EL1, ELR_EL1, ESR_EL1, ESR_EL2,
    FAR_EL1, FAR_EL2, HCR_EL2, HPFAR_EL2, ICC_SRE_EL2, MAIR_EL1, MDCR_EL2, MDSCR_EL1, OSLAR_EL1,
    PAR_EL1, Readable, SCTLR_EL1, SP_EL0, SP_EL1, SPSR_EL1, TCR_EL1, TPIDR_EL0, TPIDR_EL1,
    TPIDRRO_EL0, TTBR0_EL1, TTBR1_EL1, VBAR_EL1, VBAR_EL2, VMPIDR_EL2, VTCR_EL2, VTTBR_EL2,
    Writeable,
};

use crate::controls;
use crate::{
    AxPerCpuHal, AxVCpuHal, CpuFeatures, DebugRegisters, El2Register, GuestSystemRegisters,
    LiveRegister, PauthKey, PauthKeys, RawExit, Syndrome, TimerState, TrapFrame,
};

mod fp;
mod registers;
mod switch;

pub use registers::read_id_register;
pub use switch::VectorTable;
#[doc(hidden)]
pub use switch::{FRAME_ELR, SAVED_FRAME, SAVED_GUEST_X0, SAVED_RESUME, SAVED_SIZE};

/// The right to run guests on the CPUs of this machine.
///
/// It holds nothing: it stands for whichever CPU executes its methods.
#[derive(Clone, Copy, Debug)]
pub struct El2(());

impl El2 {
    /// Creates the capability.
    ///
    /// # Safety
    /// All of it is used at EL2 only, HCR_EL2.E2H zero, IRQ, FIQ and SError
    /// masked. Wherever a vCPU runs, [`Aarch64PerCpu`](crate::Aarch64PerCpu)
    /// is enabled with a table made by [`el2_vectors!`](crate::el2_vectors),
    /// and the stage-2 root and controls given to that vCPU confine the guest
    /// to memory which Rust knows nothing of. Nothing but a vCPU calls `enter`.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

impl AxVCpuHal for El2 {
    fn features(&self) -> CpuFeatures {
        CpuFeatures::detect(read_id_register)
    }

    fn load(&mut self, registers: &GuestSystemRegisters) {
        load_el1(registers);
        load_optional(registers);
        self.load_debug(&registers.debug);
        load_controls(registers);
        CNTV_CVAL_EL0.set(registers.timer.cval);
        CNTV_CTL_EL0.set(registers.timer.ctl);
        allow_walks(registers);
        let fp = &raw const registers.fp;
        // SAFETY: CPTR_EL2.TFP is zero on an enabled CPU (`El2::new`), and EL2
        // keeps nothing in the SIMD registers.
        unsafe { fp::load_fp(fp) };
    }

    fn save(&mut self, registers: &mut GuestSystemRegisters) {
        registers.timer = TimerState {
            ctl: CNTV_CTL_EL0.get() & (TimerState::ENABLE | TimerState::IMASK),
            cval: CNTV_CVAL_EL0.get(),
        };
        CNTV_CTL_EL0.set(0);
        // A virtual SError may have been taken since it was made pending.
        registers.controls.hcr = HCR_EL2.get();
        save_el1(registers);
        // Until the next load nothing fits together: stage 2 is off.
        stop_walks(registers);
        HCR_EL2.set(controls::HCR_HOST);
        save_optional(registers);
        let fp = &raw mut registers.fp;
        // SAFETY: CPTR_EL2.TFP is zero on an enabled CPU (`El2::new`); the
        // pointer comes from an exclusive reference.
        unsafe { fp::save_fp(fp) };
    }

    #[inline]
    fn enter(&mut self, frame: &mut TrapFrame) -> RawExit {
        // SAFETY: the frame is borrowed exclusively; `Aarch64VCpu` lets SPSR
        // select EL1 or EL0 only; the rest is promised to `El2::new`.
        let kind = unsafe { switch::enter_guest(frame) };
        if kind == switch::EXIT_SYNCHRONOUS {
            RawExit::Synchronous(Syndrome {
                esr: ESR_EL2.get(),
                far: FAR_EL2.get(),
                hpfar: HPFAR_EL2.get(),
            })
        } else {
            asynchronous_exit(kind)
        }
    }

    #[inline]
    fn read(&self, register: LiveRegister) -> u64 {
        match register {
            LiveRegister::SpEl0 => SP_EL0.get(),
            LiveRegister::SpEl1 => SP_EL1.get(),
            LiveRegister::ElrEl1 => ELR_EL1.get(),
            LiveRegister::SpsrEl1 => SPSR_EL1.get(),
            LiveRegister::EsrEl1 => ESR_EL1.get(),
            LiveRegister::FarEl1 => FAR_EL1.get(),
            LiveRegister::VbarEl1 => VBAR_EL1.get(),
            LiveRegister::SctlrEl1 => SCTLR_EL1.get(),
            LiveRegister::TcrEl1 => TCR_EL1.get(),
            LiveRegister::Ttbr0El1 => TTBR0_EL1.get(),
            LiveRegister::Ttbr1El1 => TTBR1_EL1.get(),
            LiveRegister::CntvCtl => CNTV_CTL_EL0.get(),
            LiveRegister::CntvCval => CNTV_CVAL_EL0.get(),
            LiveRegister::Hcr => HCR_EL2.get(),
        }
    }

    #[inline]
    fn write(&mut self, register: LiveRegister, value: u64) {
        match register {
            LiveRegister::SpEl0 => SP_EL0.set(value),
            LiveRegister::SpEl1 => SP_EL1.set(value),
            LiveRegister::ElrEl1 => ELR_EL1.set(value),
            LiveRegister::SpsrEl1 => SPSR_EL1.set(value),
            LiveRegister::EsrEl1 => ESR_EL1.set(value),
            LiveRegister::FarEl1 => FAR_EL1.set(value),
            LiveRegister::VbarEl1 => VBAR_EL1.set(value),
            LiveRegister::SctlrEl1 => SCTLR_EL1.set(value),
            LiveRegister::TcrEl1 => TCR_EL1.set(value),
            LiveRegister::Ttbr0El1 => TTBR0_EL1.set(value),
            LiveRegister::Ttbr1El1 => TTBR1_EL1.set(value),
            LiveRegister::CntvCtl => CNTV_CTL_EL0.set(value),
            LiveRegister::CntvCval => CNTV_CVAL_EL0.set(value),
            LiveRegister::Hcr => HCR_EL2.set(value),
        }
    }

    #[inline]
    fn load_debug(&mut self, debug: &DebugRegisters) {
        if debug.armed() {
            load_debug_points(debug);
        }
        MDSCR_EL1.set(debug.mdscr());
        OSLAR_EL1.set(u64::from(debug.os_locked()));
    }
}

#[cold]
#[inline(never)]
fn load_debug_points(debug: &DebugRegisters) {
    for (index, point) in debug.breakpoints().iter().enumerate() {
        registers::set_breakpoint(index, point.value, point.control);
    }
    for (index, point) in debug.watchpoints().iter().enumerate() {
        registers::set_watchpoint(index, point.value, point.control);
    }
}

/// Returns the exit by an interrupt, which reports no syndrome, or an SError.
#[cold]
fn asynchronous_exit(kind: u64) -> RawExit {
    match kind {
        switch::EXIT_IRQ => RawExit::Irq,
        switch::EXIT_FIQ => RawExit::Fiq,
        _ => RawExit::SError { esr: ESR_EL2.get() },
    }
}

/// Keeps the CPU from translating for EL1 while registers of different guests
/// meet: stage 1 is on and each of its walks is refused.
///
/// The CPU may translate on speculation at any time. Cortex-A57, A72 and A76 do
/// so for EL1 even while they run EL2 (errata 1319537, 1319367 and 1165522), and
/// would keep what comes of it for the VMID that VTTBR_EL2 names meanwhile. The
/// walks have to be off before stage 1 is on. So they stay until the next vCPU has
/// been loaded; [`Aarch64PerCpu`](crate::Aarch64PerCpu) does it for the first.
fn stop_walks(registers: &GuestSystemRegisters) {
    TCR_EL1.set(registers.tcr_el1 | controls::TCR_NO_WALKS);
    barrier::isb(barrier::SY);
    SCTLR_EL1.set(registers.sctlr_el1 | controls::SCTLR_M);
    barrier::isb(barrier::SY);
}

/// Ends what [`stop_walks`] began, in the opposite order, once both stages
/// belong to the guest. The return to it is a context synchronisation.
fn allow_walks(registers: &GuestSystemRegisters) {
    barrier::isb(barrier::SY);
    SCTLR_EL1.set(registers.sctlr_el1);
    barrier::isb(barrier::SY);
    TCR_EL1.set(registers.tcr_el1);
}

fn load_controls(registers: &GuestSystemRegisters) {
    let controls = &registers.controls;
    let (vmpidr, vpidr) = (controls.vmpidr, controls.vpidr);
    VMPIDR_EL2.set(vmpidr);
    registers::vpidr_el2::set(vpidr);
    CNTVOFF_EL2.set(controls.cntvoff);
    let (vtcr, vttbr) = (controls.vtcr, controls.vttbr);
    VTCR_EL2.set(vtcr);
    VTTBR_EL2.set(vttbr);
    if registers.features.contains(CpuFeatures::HCRX) {
        registers::hcrx_el2::set(controls.hcrx);
    }
    HCR_EL2.set(controls.hcr);
}

/// Passes to `$do` the registers that both ways treat alike, two neighbours at a
/// time: one instruction moves two of them between registers and memory.
macro_rules! el1_pairs {
    ($do:ident, $registers:ident) => {
        $do!($registers, sp_el0 SP_EL0, sp_el1 SP_EL1);
        $do!($registers, elr_el1 ELR_EL1, spsr_el1 SPSR_EL1);
        $do!($registers, ttbr0_el1 TTBR0_EL1, ttbr1_el1 TTBR1_EL1);
        $do!($registers, esr_el1 ESR_EL1, far_el1 FAR_EL1);
        $do!($registers, afsr0_el1 AFSR0_EL1, afsr1_el1 AFSR1_EL1);
        $do!($registers, mair_el1 MAIR_EL1, amair_el1 AMAIR_EL1);
        $do!($registers, vbar_el1 VBAR_EL1, contextidr_el1 CONTEXTIDR_EL1);
        $do!($registers, tpidr_el0 TPIDR_EL0, tpidrro_el0 TPIDRRO_EL0);
        $do!($registers, tpidr_el1 TPIDR_EL1, par_el1 PAR_EL1);
        $do!($registers, csselr_el1 CSSELR_EL1, cntkctl_el1 CNTKCTL_EL1);
    };
}

macro_rules! load_pair {
    ($from:ident, $one:ident $ONE:ident, $other:ident $OTHER:ident) => {
        let (one, other) = ($from.$one, $from.$other);
        $ONE.set(one);
        $OTHER.set(other);
    };
}

macro_rules! save_pair {
    ($to:ident, $one:ident $ONE:ident, $other:ident $OTHER:ident) => {
        let (one, other) = ($ONE.get(), $OTHER.get());
        ($to.$one, $to.$other) = (one, other);
    };
}

/// Loads all but SCTLR_EL1 and TCR_EL1, which [`allow_walks`] loads.
fn load_el1(registers: &GuestSystemRegisters) {
    el1_pairs!(load_pair, registers);
    CPACR_EL1.set(registers.cpacr_el1);
}

fn save_el1(registers: &mut GuestSystemRegisters) {
    el1_pairs!(save_pair, registers);
    save_pair!(registers, sctlr_el1 SCTLR_EL1, cpacr_el1 CPACR_EL1);
    registers.tcr_el1 = TCR_EL1.get();
}

fn load_optional(registers: &GuestSystemRegisters) {
    let features = registers.features;
    if features.contains(CpuFeatures::SCXTNUM) {
        registers::scxtnum_el0::set(registers.scxtnum_el0);
        registers::scxtnum_el1::set(registers.scxtnum_el1);
    }
    if features.contains(CpuFeatures::SME) {
        registers::tpidr2_el0::set(registers.tpidr2_el0);
    }
    if features.contains(CpuFeatures::RAS) {
        registers::vdisr_el2::set(registers.vdisr_el2);
    }
    if features.contains(CpuFeatures::PAUTH) {
        load_pauth(&registers.pauth);
    }
}

fn save_optional(registers: &mut GuestSystemRegisters) {
    let features = registers.features;
    if features.contains(CpuFeatures::SCXTNUM) {
        let (el0, el1) = (registers::scxtnum_el0::get(), registers::scxtnum_el1::get());
        (registers.scxtnum_el0, registers.scxtnum_el1) = (el0, el1);
    }
    if features.contains(CpuFeatures::SME) {
        registers.tpidr2_el0 = registers::tpidr2_el0::get();
    }
    if features.contains(CpuFeatures::RAS) {
        registers.vdisr_el2 = registers::vdisr_el2::get();
    }
    if features.contains(CpuFeatures::PAUTH) {
        save_pauth(&mut registers.pauth);
    }
}

fn load_pauth(keys: &PauthKeys) {
    registers::apiakeylo_el1::set(keys.apia.low);
    registers::apiakeyhi_el1::set(keys.apia.high);
    registers::apibkeylo_el1::set(keys.apib.low);
    registers::apibkeyhi_el1::set(keys.apib.high);
    registers::apdakeylo_el1::set(keys.apda.low);
    registers::apdakeyhi_el1::set(keys.apda.high);
    registers::apdbkeylo_el1::set(keys.apdb.low);
    registers::apdbkeyhi_el1::set(keys.apdb.high);
    registers::apgakeylo_el1::set(keys.apga.low);
    registers::apgakeyhi_el1::set(keys.apga.high);
}

fn save_pauth(keys: &mut PauthKeys) {
    let (low, high) = (
        registers::apiakeylo_el1::get(),
        registers::apiakeyhi_el1::get(),
    );
    keys.apia = PauthKey { low, high };
    let (low, high) = (
        registers::apibkeylo_el1::get(),
        registers::apibkeyhi_el1::get(),
    );
    keys.apib = PauthKey { low, high };
    let (low, high) = (
        registers::apdakeylo_el1::get(),
        registers::apdakeyhi_el1::get(),
    );
    keys.apda = PauthKey { low, high };
    let (low, high) = (
        registers::apdbkeylo_el1::get(),
        registers::apdbkeyhi_el1::get(),
    );
    keys.apdb = PauthKey { low, high };
    let (low, high) = (
        registers::apgakeylo_el1::get(),
        registers::apgakeyhi_el1::get(),
    );
    keys.apga = PauthKey { low, high };
}

impl AxPerCpuHal for El2 {
    fn features(&self) -> CpuFeatures {
        CpuFeatures::detect(read_id_register)
    }

    fn event_counters(&self) -> u64 {
        registers::pmcr_el0::get() >> 11 & 0x1F
    }

    fn read_control(&self, register: El2Register) -> u64 {
        match register {
            El2Register::Vbar => VBAR_EL2.get(),
            El2Register::Hcr => HCR_EL2.get(),
            El2Register::Cptr => CPTR_EL2.get(),
            El2Register::Mdcr => MDCR_EL2.get(),
            El2Register::Cnthctl => CNTHCTL_EL2.get(),
            El2Register::Hstr => registers::hstr_el2::get(),
            El2Register::IccSre => ICC_SRE_EL2.get(),
            El2Register::IccSreEl1 => registers::icc_sre_el1::get(),
            El2Register::Vsesr => registers::vsesr_el2::get(),
            El2Register::Hcrx => registers::hcrx_el2::get(),
            El2Register::Hfgrtr => registers::hfgrtr_el2::get(),
            El2Register::Hfgwtr => registers::hfgwtr_el2::get(),
            El2Register::Hfgitr => registers::hfgitr_el2::get(),
            El2Register::Hdfgrtr => registers::hdfgrtr_el2::get(),
            El2Register::Hdfgwtr => registers::hdfgwtr_el2::get(),
            El2Register::Hfgrtr2 => registers::hfgrtr2_el2::get(),
            El2Register::Hfgwtr2 => registers::hfgwtr2_el2::get(),
            El2Register::Hfgitr2 => registers::hfgitr2_el2::get(),
            El2Register::Hdfgrtr2 => registers::hdfgrtr2_el2::get(),
            El2Register::Hdfgwtr2 => registers::hdfgwtr2_el2::get(),
            El2Register::Mpam2 => registers::mpam2_el2::get(),
            El2Register::TcrEl1 => TCR_EL1.get(),
            El2Register::SctlrEl1 => SCTLR_EL1.get(),
        }
    }

    fn write_control(&mut self, register: El2Register, value: u64) {
        match register {
            El2Register::Vbar => VBAR_EL2.set(value),
            El2Register::Hcr => HCR_EL2.set(value),
            El2Register::Cptr => CPTR_EL2.set(value),
            El2Register::Mdcr => MDCR_EL2.set(value),
            El2Register::Cnthctl => CNTHCTL_EL2.set(value),
            El2Register::Hstr => registers::hstr_el2::set(value),
            El2Register::IccSre => ICC_SRE_EL2.set(value),
            El2Register::IccSreEl1 => registers::icc_sre_el1::set(value),
            El2Register::Vsesr => registers::vsesr_el2::set(value),
            El2Register::Hcrx => registers::hcrx_el2::set(value),
            El2Register::Hfgrtr => registers::hfgrtr_el2::set(value),
            El2Register::Hfgwtr => registers::hfgwtr_el2::set(value),
            El2Register::Hfgitr => registers::hfgitr_el2::set(value),
            El2Register::Hdfgrtr => registers::hdfgrtr_el2::set(value),
            El2Register::Hdfgwtr => registers::hdfgwtr_el2::set(value),
            El2Register::Hfgrtr2 => registers::hfgrtr2_el2::set(value),
            El2Register::Hfgwtr2 => registers::hfgwtr2_el2::set(value),
            El2Register::Hfgitr2 => registers::hfgitr2_el2::set(value),
            El2Register::Hdfgrtr2 => registers::hdfgrtr2_el2::set(value),
            El2Register::Hdfgwtr2 => registers::hdfgwtr2_el2::set(value),
            El2Register::Mpam2 => registers::mpam2_el2::set(value),
            El2Register::TcrEl1 => TCR_EL1.set(value),
            El2Register::SctlrEl1 => SCTLR_EL1.set(value),
        }
    }

    fn synchronize(&mut self) {
        barrier::isb(barrier::SY);
    }
}
