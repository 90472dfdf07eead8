//! A virtual CPU: its whole state, and the order in which it is used.

use vm_contract::{GuestPhysAddr, HostPhysAddr, IntId, VcpuId, VmId};

use crate::controls;
use crate::exit::{Taker, decode_for};
use crate::interrupt_set::InterruptSet;
use crate::{
    AxArchVCpu, AxVCpuExitReason, AxVCpuHal, GuestSystemRegisters, IdRegisters, LiveRegister,
    RawExit, TimerState, TrapFrame, VcpuError,
};

mod completion;
mod injection;
mod system_registers;

use completion::PendingPlan;

/// SPSR_EL2 for a vCPU out of reset: EL1 with its own stack pointer, and D, A,
/// I and F masked.
const SPSR_RESET: u64 = 0x3C5;

/// VTTBR_EL2.VMID starts here.
const VTTBR_VMID_SHIFT: u32 = 48;
/// VTTBR_EL2.BADDR, of which bit 0 is CnP.
const VTTBR_BADDR: u64 = (1 << VTTBR_VMID_SHIFT) - 2;

/// VMPIDR_EL2 bit 31, which is RES1.
const MPIDR_RES1: u64 = 1 << 31;

/// What creating an [`Aarch64VCpu`] takes.
#[derive(Clone, Debug)]
pub struct CreateConfig<H> {
    /// The CPU to run on.
    pub hal: H,
    /// The vCPU's affinity: what the guest reads as MPIDR_EL1. RES1 bits are
    /// added.
    pub mpidr: u64,
    /// The CPU model that the guest reads as MIDR_EL1.
    pub midr: u64,
}

/// What setting up an [`Aarch64VCpu`] takes.
#[derive(Clone, Debug)]
pub struct SetupConfig {
    /// The VMID with which the VM's translations are tagged.
    pub hw_vmid: u16,
    /// VTCR_EL2: the shape of the stage-2 tables.
    pub vtcr: u64,
    /// The physical count at which the VM's counters read zero.
    pub cntvoff: u64,
    /// Whether WFI ends a run, so that another vCPU can have the CPU.
    pub trap_wfi: bool,
    /// What the guest sees in the ID registers.
    pub id_registers: IdRegisters,
    /// X0 at the entry point.
    pub x0: u64,
}

/// How far a vCPU is.
#[derive(Debug)]
enum Phase {
    Created,
    Ready,
    Bound,
    /// Not bound, and within an access that has more than one part.
    Apart(PendingPlan),
    /// Bound, and within such an access.
    Midway(PendingPlan),
}

/// A virtual CPU of AArch64.
///
/// Whoever owns the value owns the vCPU: nothing of it is shared, and it may
/// move between CPUs whenever it is not bound.
#[derive(Debug)]
pub struct Aarch64VCpu<H> {
    frame: TrapFrame,
    /// The syndrome of the last synchronous exit.
    esr: u64,
    phase: Phase,
    interrupts: InterruptSet,
    hal: H,
    vm: VmId,
    id: VcpuId,
    ids: IdRegisters,
    /// `ids` shows the GIC's system registers.
    has_gic_registers: bool,
    registers: GuestSystemRegisters,
}

/// A vCPU in the hands of a run loop. Implementations want `#[inline(always)]` on all
/// methods.
pub trait Running {
    /// The hardware in which it runs.
    type Hal: AxVCpuHal;
    /// What is noted at an exit before its reason is known.
    type Noted: Copy;
    /// What becomes of the vCPU after an exit.
    type Outcome;

    /// Returns the vCPU.
    fn vcpu(&mut self) -> &mut Aarch64VCpu<Self::Hal>;

    /// Notes that the guest has stopped at `pc`.
    fn note(&mut self, pc: u64) -> Self::Noted;

    /// Answers an exit.
    fn answer(&mut self, noted: Self::Noted, reason: AxVCpuExitReason) -> Self::Outcome;
}

/// A vCPU whose owner gets the reasons.
struct Alone<'a, H>(&'a mut Aarch64VCpu<H>);

impl<H: AxVCpuHal> Running for Alone<'_, H> {
    type Hal = H;
    type Noted = ();
    type Outcome = AxVCpuExitReason;

    #[inline(always)]
    fn vcpu(&mut self) -> &mut Aarch64VCpu<H> {
        self.0
    }

    #[inline(always)]
    fn note(&mut self, _pc: u64) {}

    #[inline(always)]
    fn answer(&mut self, (): (), reason: AxVCpuExitReason) -> AxVCpuExitReason {
        reason
    }
}

/// Injects what the guest does not have, and passes the rest on.
struct Answerer<'a, R: Running> {
    running: &'a mut R,
    noted: R::Noted,
}

impl<R: Running> Taker for Answerer<'_, R> {
    type Outcome = R::Outcome;

    #[inline(always)]
    fn gpr(&mut self, index: usize) -> u64 {
        self.running.vcpu().gpr(index)
    }

    #[inline(always)]
    fn take(&mut self, reason: AxVCpuExitReason) -> R::Outcome {
        if let AxVCpuExitReason::Injected(exception) = reason {
            self.running.vcpu().inject(exception);
        }
        self.running.answer(self.noted, reason)
    }
}

impl<H: AxVCpuHal> AxArchVCpu for Aarch64VCpu<H> {
    type CreateConfig = CreateConfig<H>;
    type SetupConfig = SetupConfig;

    fn new(vm: VmId, vcpu: VcpuId, config: CreateConfig<H>) -> Result<Self, VcpuError> {
        let ids = IdRegisters::default();
        let mut registers = GuestSystemRegisters::new(config.hal.features(), &ids);
        registers.controls.vmpidr = config.mpidr | MPIDR_RES1;
        registers.controls.vpidr = config.midr;
        Ok(Self {
            frame: TrapFrame::default(),
            esr: 0,
            phase: Phase::Created,
            interrupts: InterruptSet::default(),
            hal: config.hal,
            vm,
            id: vcpu,
            has_gic_registers: controls::shows_gic_registers(&ids),
            ids,
            registers,
        })
    }

    fn set_entry(&mut self, entry: GuestPhysAddr) -> Result<(), VcpuError> {
        self.require_unbound()?;
        self.frame.elr = usize::from(entry) as u64;
        Ok(())
    }

    fn set_ept_root(&mut self, root: HostPhysAddr) -> Result<(), VcpuError> {
        self.require_unbound()?;
        let root = usize::from(root) as u64;
        if root & !VTTBR_BADDR != 0 {
            return Err(VcpuError::InvalidAddress);
        }
        let vttbr = &mut self.registers.controls.vttbr;
        *vttbr = *vttbr & !VTTBR_BADDR | root;
        Ok(())
    }

    fn setup(&mut self, config: SetupConfig) -> Result<(), VcpuError> {
        self.require_unbound()?;
        let kept = self.registers.controls;
        self.ids = config.id_registers;
        self.has_gic_registers = controls::shows_gic_registers(&self.ids);
        self.registers = GuestSystemRegisters::new(self.hal.features(), &self.ids);
        let controls = &mut self.registers.controls;
        controls.vmpidr = kept.vmpidr;
        controls.vpidr = kept.vpidr;
        controls.vttbr = kept.vttbr & VTTBR_BADDR | u64::from(config.hw_vmid) << VTTBR_VMID_SHIFT;
        controls.vtcr = config.vtcr;
        controls.cntvoff = config.cntvoff;
        if config.trap_wfi {
            controls.hcr |= controls::HCR_TWI;
        }
        self.phase = Phase::Ready;
        self.restart(self.frame.elr, config.x0);
        Ok(())
    }

    #[inline]
    fn run(&mut self) -> Result<AxVCpuExitReason, VcpuError> {
        if !self.is_bound() {
            return Err(VcpuError::NotBound);
        }
        Ok(Self::run_for(&mut Alone(self)))
    }

    fn bind(&mut self) -> Result<(), VcpuError> {
        match self.phase {
            Phase::Created => Err(VcpuError::NotSetUp),
            Phase::Bound | Phase::Midway(_) => Err(VcpuError::Bound),
            Phase::Ready | Phase::Apart(_) => {
                self.hal.load(&self.registers);
                self.move_on(Phase::Bound, Phase::Midway);
                Ok(())
            }
        }
    }

    fn unbind(&mut self) -> Result<(), VcpuError> {
        if !self.is_bound() {
            return Err(VcpuError::NotBound);
        }
        self.hal.save(&mut self.registers);
        self.move_on(Phase::Ready, Phase::Apart);
        Ok(())
    }

    #[inline]
    fn set_gpr(&mut self, reg: usize, val: usize) {
        self.frame.set_gpr(reg, val as u64);
    }

    fn inject_interrupt(&mut self, vector: usize) -> Result<(), VcpuError> {
        if self.interrupts.insert(vector) {
            Ok(())
        } else {
            Err(VcpuError::NoSuchInterrupt)
        }
    }

    #[inline]
    fn set_return_value(&mut self, val: usize) {
        self.set_gpr(0, val);
    }
}

impl<H: AxVCpuHal> Aarch64VCpu<H> {
    /// Runs the guest of `running` to its next exit and has that answered. This is
    /// [`run`](AxArchVCpu::run) for the loop of a hypervisor: the answer, a match of the
    /// reason, is inlined at each of the frequent ones, where the reason is known.
    ///
    /// # Panics
    /// If the vCPU is not bound.
    #[inline(always)]
    pub fn run_for<R: Running<Hal = H>>(running: &mut R) -> R::Outcome {
        let this = running.vcpu();
        if !matches!(this.phase, Phase::Bound) {
            let (pc, part) = (this.pc(), this.next_part());
            let noted = running.note(pc);
            return running.answer(noted, part);
        }
        let exit = this.hal.enter(&mut this.frame);
        if let RawExit::Synchronous(syndrome) = &exit {
            this.esr = syndrome.esr;
        }
        let pc = this.pc();
        let noted = running.note(pc);
        decode_for(&mut Answerer { running, noted }, &exit)
    }

    /// Returns the next part of the access that the guest is in.
    ///
    /// # Panics
    /// If the vCPU is not bound.
    #[cold]
    #[inline(never)]
    #[expect(clippy::panic, reason = "a mistake of the caller, and no guest's")]
    fn next_part(&self) -> AxVCpuExitReason {
        match &self.phase {
            Phase::Midway(plan) => plan.next_access(),
            _ => panic!("only a bound vCPU runs"),
        }
    }

    /// Tells whether the guest is within an access of several parts.
    #[inline(always)]
    const fn has_plan(&self) -> bool {
        matches!(self.phase, Phase::Midway(_) | Phase::Apart(_))
    }

    /// Goes on to `phase`, or to `within` with what is left of an access.
    #[inline]
    fn move_on(&mut self, phase: Phase, within: impl FnOnce(PendingPlan) -> Phase) {
        if self.has_plan() {
            self.phase = self.take_plan().map_or(phase, within);
        } else {
            self.phase = phase;
        }
    }

    /// Takes what is left of an access of several parts, which is over by that.
    #[cold]
    #[inline(never)]
    fn take_plan(&mut self) -> Option<PendingPlan> {
        let after = match self.phase {
            Phase::Midway(_) => Phase::Bound,
            Phase::Apart(_) => Phase::Ready,
            _ => return None,
        };
        match core::mem::replace(&mut self.phase, after) {
            Phase::Midway(plan) | Phase::Apart(plan) => Some(plan),
            _ => None,
        }
    }

    /// Has the parts of `plan` done before the guest goes on.
    fn put_plan(&mut self, plan: PendingPlan) {
        self.phase = match self.phase {
            Phase::Bound | Phase::Midway(_) => Phase::Midway(plan),
            _ => Phase::Apart(plan),
        };
    }

    /// Has nothing more of an access to do.
    #[inline]
    fn drop_plan(&mut self) {
        if self.has_plan() {
            let _ = self.take_plan();
        }
    }

    /// Returns which vCPU of its VM this is.
    #[inline]
    #[must_use]
    pub const fn id(&self) -> VcpuId {
        self.id
    }

    /// Returns the VM to which this vCPU belongs.
    #[inline]
    #[must_use]
    pub const fn vm(&self) -> VmId {
        self.vm
    }

    /// Tells whether the vCPU's state is in a CPU.
    #[inline]
    #[must_use]
    pub fn is_bound(&self) -> bool {
        matches!(self.phase, Phase::Bound | Phase::Midway(_))
    }

    /// Returns what the guest reads as MPIDR_EL1.
    #[inline]
    #[must_use]
    pub const fn mpidr(&self) -> u64 {
        self.registers.controls.vmpidr
    }

    /// Returns what the guest sees in the ID registers.
    #[must_use]
    pub const fn id_registers(&self) -> &IdRegisters {
        &self.ids
    }

    /// Returns general register `index`; 31 and above read as XZR.
    #[inline]
    #[must_use]
    pub fn gpr(&self, index: usize) -> u64 {
        self.frame.gpr(index)
    }

    /// Returns the address of the instruction at which the guest goes on.
    #[inline]
    #[must_use]
    pub const fn pc(&self) -> u64 {
        self.frame.elr
    }

    /// Returns the guest's PSTATE, in the form of SPSR_EL2.
    #[inline]
    #[must_use]
    pub const fn spsr(&self) -> u64 {
        self.frame.spsr
    }

    /// Returns the general registers, PC and PSTATE, for a report.
    #[must_use]
    pub const fn frame(&self) -> &TrapFrame {
        &self.frame
    }

    /// Returns the hardware in which the vCPU runs.
    #[must_use]
    pub const fn hal(&self) -> &H {
        &self.hal
    }

    /// Puts the vCPU into its state out of reset, to begin at `entry` with `x0`:
    /// EL1 with its MMU off, everything masked, and no trace of what ran
    /// before. A half-done access and interrupts asked for are dropped; the
    /// EL2 controls stay.
    pub fn reset(&mut self, entry: GuestPhysAddr, x0: u64) {
        self.restart(usize::from(entry) as u64, x0);
        if self.is_bound() {
            self.hal.load(&self.registers);
        }
    }

    fn restart(&mut self, entry: u64, x0: u64) {
        self.frame = TrapFrame {
            elr: entry,
            spsr: SPSR_RESET,
            ..TrapFrame::default()
        };
        self.frame.set_gpr(0, x0);
        self.drop_plan();
        self.interrupts = InterruptSet::default();
        self.keep_live_controls();
        self.registers.reset();
    }

    /// Takes the interrupts that `inject_interrupt` was asked for, each once,
    /// for the VM's interrupt controller to make pending.
    #[inline]
    pub fn take_injected_interrupts(&mut self) -> impl Iterator<Item = IntId> + '_ {
        core::iter::from_fn(|| self.interrupts.pop())
    }

    /// Returns the virtual timer.
    #[inline]
    #[must_use]
    pub fn virtual_timer(&self) -> TimerState {
        TimerState {
            ctl: self.read(LiveRegister::CntvCtl),
            cval: self.read(LiveRegister::CntvCval),
        }
    }

    /// Sets the virtual timer.
    #[inline]
    pub fn set_virtual_timer(&mut self, timer: TimerState) {
        self.write(LiveRegister::CntvCval, timer.cval);
        self.write(LiveRegister::CntvCtl, timer.ctl);
    }

    /// Returns the physical count at which the VM's counters read zero.
    #[inline]
    #[must_use]
    pub const fn counter_offset(&self) -> u64 {
        self.registers.controls.cntvoff
    }

    /// Sets the physical count at which the VM's counters read zero, from the next
    /// [`bind`](AxArchVCpu::bind) on.
    pub const fn set_counter_offset(&mut self, count: u64) {
        self.registers.controls.cntvoff = count;
    }

    /// Chooses whether WFI ends a run.
    pub fn set_trap_wfi(&mut self, trap: bool) {
        let hcr = self.read(LiveRegister::Hcr);
        let wanted = if trap {
            hcr | controls::HCR_TWI
        } else {
            hcr & !controls::HCR_TWI
        };
        self.write(LiveRegister::Hcr, wanted);
    }

    /// Fetches the EL2 controls that change while bound into `registers`.
    fn keep_live_controls(&mut self) {
        if self.is_bound() {
            self.registers.controls.hcr = self.hal.read(LiveRegister::Hcr);
        }
    }

    #[inline]
    fn read(&self, register: LiveRegister) -> u64 {
        if self.is_bound() {
            self.hal.read(register)
        } else {
            self.registers.get(register)
        }
    }

    #[inline]
    fn write(&mut self, register: LiveRegister, value: u64) {
        if self.is_bound() {
            self.hal.write(register, value);
        } else {
            self.registers.set(register, value);
        }
    }

    fn require_unbound(&self) -> Result<(), VcpuError> {
        if self.is_bound() {
            Err(VcpuError::Bound)
        } else {
            Ok(())
        }
    }
}
