//! A vCPU with what the hypervisor adds to it. Owned by the CPU it lives on.

use alloc::boxed::Box;
use alloc::sync::Arc;

use arm_vcpu::{
    Aarch64VCpu, AxArchVCpu, AxVCpuHal, CreateConfig, SetupConfig, TimerState, VcpuError,
};
use arm_vgic_core::{Folded, Kicks};
use arm_vgic_v3::SgiRegister;
use dtb_platform::layout;
use vm_contract::{IntId, VcpuId};

use crate::cpu::Cpu;
use crate::physical_timer::PhysicalTimer;
use crate::sched::Rest;
use crate::telemetry::{Moment, Recorder};
use crate::vm::Vm;
use crate::vm::bus::WindowHint;
use crate::vm::mailbox::VcpuMailbox;
use crate::vm::memory::Notice;
use crate::vm::power::Start;
use crate::vm::time;
use crate::vm::vgic::Vgic;

/// Tells whether a timer that is loaded asserts its interrupt.
const fn is_asserted(timer: TimerState) -> bool {
    const FIELDS: u64 = TimerState::ENABLE | TimerState::IMASK | TimerState::ISTATUS;
    timer.ctl & FIELDS == TimerState::ENABLE | TimerState::ISTATUS
}

/// Takes the interrupt of the virtual timer back if the guest has stopped or moved the
/// timer before it saw the interrupt: the wire is low again. Returns the physical
/// interrupt that is to be deactivated.
#[inline]
fn withdraw_timer<H: AxVCpuHal>(
    arch: &Aarch64VCpu<H>,
    vgic: &mut Vgic,
    id: VcpuId,
) -> Option<IntId> {
    let timer = layout::TIMER.virt;
    let is_low = vgic.is_linked_pending(id, timer) && !is_asserted(arch.virtual_timer());
    is_low.then(|| vgic.lower_linked(id, timer)).flatten()
}

/// Does what comes of a fold, once the interrupt controller is not locked any more.
#[inline(never)]
fn pass_on<C: Cpu>(vm: &Vm, cpu: &mut C, folded: Folded, withdrawn: Option<IntId>) {
    // If the vCPU itself has to be folded once more, it needs an interrupt like any
    // other: it has just looked, and would enter the guest first.
    vm.kick(None, folded.kicks);
    for physical in folded.deactivate().chain(withdrawn) {
        cpu.deactivate(physical);
    }
}

/// How the interrupts of a vCPU were when it left the CPU.
#[derive(Clone, Copy, Default)]
struct Left {
    /// One was there for the guest.
    deliverable: bool,
    /// That of the virtual timer was on its way.
    timer_in_flight: bool,
}

/// A vCPU.
pub struct Vcpu<H: AxVCpuHal> {
    /// Its registers and how it runs.
    pub arch: Aarch64VCpu<H>,
    /// Its EL1 physical timer.
    pub physical_timer: PhysicalTimer,
    /// The level of its interrupt line.
    physical_line: bool,
    /// When one of the VM's devices that this vCPU programmed wants to be looked
    /// at, in counter ticks.
    pub alarm: Option<u64>,
    pub(crate) vm: Arc<Vm>,
    mailbox: Arc<VcpuMailbox>,
    time: Arc<time::CpuTime>,
    /// The device that the guest used last.
    pub(crate) window: WindowHint,
    /// What is known about its exits.
    pub(crate) exits: Recorder,
    id: VcpuId,
    traps_wfi: bool,
    /// When others want the CPU.
    turn_end: Option<u64>,
    /// What it had waited for the CPU when it was started.
    stolen_before: u64,
    /// Where the guest reads for how long it had to wait.
    stolen_time: Notice,
    /// When it wants attention while it rests.
    wakes_at: Option<u64>,
    left: Left,
}

impl<H: AxVCpuHal> Vcpu<H> {
    /// Creates vCPU `id` of `vm`, which is off. Its exits are recorded by `exits`.
    ///
    /// # Errors
    /// [`VcpuError`] if the CPU cannot run it.
    ///
    /// # Panics
    /// If the VM has no such vCPU.
    #[expect(clippy::expect_used, reason = "a mistake of the caller")]
    pub fn new(vm: Arc<Vm>, id: VcpuId, hal: H, exits: Recorder) -> Result<Box<Self>, VcpuError> {
        let mailbox = vm.mailbox(id).cloned().expect("a vCPU of this VM");
        let time = vm.time(id).cloned().expect("a vCPU of this VM");
        let facts = vm.vcpu_facts();
        let mpidr = vm
            .affinities()
            .find(|(vcpu, _)| *vcpu == id)
            .map_or(0, |(_, mpidr)| mpidr);
        let create = CreateConfig {
            hal,
            mpidr,
            midr: facts.midr,
        };
        let mut arch = Aarch64VCpu::new(vm.id(), id, create)?;
        arch.set_ept_root(facts.stage2_root)?;
        arch.setup(SetupConfig {
            hw_vmid: facts.hw_vmid,
            vtcr: facts.vtcr,
            cntvoff: vm.counter_offset(),
            trap_wfi: true,
            id_registers: (*facts.id_registers).clone(),
            x0: 0,
        })?;
        let stolen_time = time::stolen_time(vm.ram(), id).expect("every vCPU has a structure");
        Ok(Box::new(Self {
            arch,
            physical_timer: PhysicalTimer::default(),
            physical_line: false,
            alarm: None,
            window: WindowHint::default(),
            exits,
            vm,
            mailbox,
            time,
            id,
            traps_wfi: true,
            turn_end: None,
            stolen_before: 0,
            stolen_time,
            wakes_at: None,
            left: Left::default(),
        }))
    }

    /// Returns the VM.
    #[inline]
    #[must_use]
    pub fn vm(&self) -> &Arc<Vm> {
        &self.vm
    }

    /// Returns which vCPU of its VM this is.
    #[inline]
    #[must_use]
    pub const fn id(&self) -> VcpuId {
        self.id
    }

    /// Returns the mailbox through which others reach this vCPU.
    #[inline]
    #[must_use]
    pub fn mailbox(&self) -> &VcpuMailbox {
        &self.mailbox
    }

    /// Puts the vCPU at its start, as PSCI wants a CPU to come up.
    pub fn start(&mut self, start: Start) {
        self.arch.reset(start.entry, start.context);
        self.physical_timer = PhysicalTimer::default();
        self.physical_line = false;
        self.alarm = None;
        self.stolen_before = self.time().usage(0).stolen;
        self.publish_stolen(self.stolen_before);
        self.vm.with_vgic(None, |vgic| {
            vgic.reset_cpu_interface(self.id);
            // As firmware does before it hands a CPU over.
            let mut kicks = vgic.set_awake(self.id, true);
            // Both timers are off. What the virtual one has raised is active in no
            // CPU: the vCPU is not loaded.
            let _ = vgic.lower_linked(self.id, layout::TIMER.virt);
            kicks.extend(vgic.set_ppi_level(self.id, layout::TIMER.phys, false));
            ((), kicks)
        });
    }

    /// Loads the vCPU into the CPU.
    ///
    /// # Errors
    /// [`VcpuError`] if it is loaded already.
    pub fn load<C: Cpu<Hal = H>>(&mut self, cpu: &mut C) -> Result<(), VcpuError> {
        self.arch.bind()?;
        cpu.ich().trace().clear();
        let id = self.id;
        let timer_in_flight = self.vm.with_vgic(Some(id), |vgic| {
            let has_linked = vgic.load(id, cpu.ich());
            let timer = layout::TIMER.virt;
            let in_flight = has_linked.then(|| vgic.link(id, timer)).flatten();
            (in_flight, Kicks::NONE)
        });
        // While the guest has the interrupt in hand, the CPU must not signal it.
        if let Some(physical) = timer_in_flight {
            cpu.activate(physical);
        }
        if self.exits.is_traced() {
            let (cpu_id, now) = (cpu.id(), cpu.now_ticks());
            self.exits.trace_load(cpu_id, cpu.ich().trace(), now);
        }
        Ok(())
    }

    /// Takes the vCPU off the CPU.
    ///
    /// # Errors
    /// [`VcpuError`] if it is not loaded.
    pub fn unload<C: Cpu<Hal = H>>(&mut self, cpu: &mut C) -> Result<(), VcpuError> {
        let Self { arch, vm, id, .. } = self;
        let id = *id;
        let mut vgic = vm.vgic();
        let mut in_flight = None;
        if let Some(deliverable) = vgic.save_settled(id, cpu.ich()) {
            drop(vgic);
            self.left = Left {
                deliverable,
                timer_in_flight: false,
            };
        } else {
            let folded = vgic.save(id, cpu.ich());
            let withdrawn = withdraw_timer(arch, &mut vgic, id);
            in_flight = vgic.link(id, layout::TIMER.virt);
            self.left = Left {
                deliverable: vgic.deliverable(id),
                timer_in_flight: in_flight.is_some(),
            };
            drop(vgic);
            pass_on(vm, cpu, folded, withdrawn);
        }
        self.arch.unbind()?;
        // The next vCPU's timer must be able to signal.
        if let Some(physical) = in_flight {
            cpu.deactivate(physical);
        }
        if self.exits.is_traced() {
            let (cpu_id, now) = (cpu.id(), cpu.now_ticks());
            self.exits.trace_unload(cpu_id, cpu.ich().trace(), now);
        }
        Ok(())
    }

    /// Records an exit that is answered.
    #[inline(always)]
    pub(crate) fn end_exit<C: Cpu<Hal = H>>(&mut self, cpu: &mut C, began: Moment) {
        let now = cpu.glance_at_ticks();
        if self.exits.record(began, now) {
            self.exits.prepare(cpu.id(), cpu.ich().trace());
            self.trace_exit(cpu, began, now);
        }
    }

    #[cold]
    #[inline(never)]
    fn trace_exit<C: Cpu<Hal = H>>(&self, cpu: &mut C, began: Moment, now: u64) {
        self.exits.trace_exit(cpu.ich().trace(), began, now);
    }

    /// Brings list registers and interrupt controller in step: what the guest
    /// has done is taken back, what it has to see is put in, also what
    /// [`inject_interrupt`](AxArchVCpu::inject_interrupt) asked for.
    #[inline]
    pub fn refresh_interrupts<C: Cpu<Hal = H>>(&mut self, cpu: &mut C) {
        let Self { arch, vm, id, .. } = self;
        let id = *id;
        for intid in arch.take_injected_interrupts() {
            vm.with_vgic(Some(id), |vgic| {
                let mut kicks = vgic.set_pending(id, intid);
                kicks.remove(id);
                ((), kicks)
            });
        }
        let mut vgic = vm.vgic();
        let withdrawn = withdraw_timer(arch, &mut vgic, id);
        let folded = vgic.refresh(id, cpu.ich());
        drop(vgic);
        if withdrawn.is_some() || !folded.is_quiet() {
            pass_on(vm, cpu, folded, withdrawn);
        }
    }

    /// Takes the list registers back into the interrupt controller, before the
    /// vCPU looks at its own state there. They are filled again before it goes on.
    #[inline]
    pub fn fold_interrupts<C: Cpu<Hal = H>>(&mut self, cpu: &mut C) {
        let Self { arch, vm, id, .. } = self;
        let id = *id;
        let mut vgic = vm.vgic();
        let folded = vgic.fold(id, cpu.ich());
        let high = is_asserted(arch.virtual_timer());
        vgic.show_linked_source(id, layout::TIMER.virt, high);
        let withdrawn = withdraw_timer(arch, &mut vgic, id);
        drop(vgic);
        pass_on(vm, cpu, folded, withdrawn);
        // To be taken by this CPU, which need not be told.
        let _ = self.mailbox().call();
    }

    /// Sends an SGI as a write of `value` to `register` asks for.
    #[inline(always)]
    pub fn send_sgi<C: Cpu<Hal = H>>(&self, cpu: &mut C, register: SgiRegister, value: u64) {
        let id = self.id;
        let mut vgic = self.vm.vgic();
        if vgic.send_sgi_again(id, register, value, cpu.ich()) {
            return;
        }
        let kicks = vgic.send_sgi(id, register, value);
        drop(vgic);
        self.vm.kick(Some(id), kicks);
    }

    /// Ends an interrupt at the guest's explicit request, a trapped write to
    /// ICC_DIR_EL1 or GICC_DIR: `deactivate` does that.
    pub fn deactivate_interrupt<C: Cpu<Hal = H>>(
        &mut self,
        cpu: &mut C,
        deactivate: impl FnOnce(&mut Vgic, VcpuId) -> Folded,
    ) {
        self.fold_interrupts(cpu);
        let id = self.id;
        let folded = self.vm.with_vgic(Some(id), |vgic| {
            let folded = deactivate(vgic, id);
            let kicks = folded.kicks;
            (folded, kicks)
        });
        for physical in folded.deactivate() {
            cpu.deactivate(physical);
        }
    }

    /// Passes the interrupt of the virtual timer on, whose physical one was taken
    /// while the vCPU was loaded.
    #[inline(always)]
    pub fn take_virtual_timer<C: Cpu<Hal = H>>(&self, cpu: &mut C) {
        let (id, physical) = (self.id, self.vm.vcpu_facts().virtual_timer);
        let vgic = self.vm.vgic();
        if !vgic.raise_linked_again(id, layout::TIMER.virt, physical, cpu.ich()) {
            drop(vgic);
            self.virtual_timer_fired();
        }
    }

    /// Records that the virtual timer has expired: its physical interrupt was
    /// taken, or would have been, had the vCPU been loaded.
    pub fn virtual_timer_fired(&self) {
        let (id, physical) = (self.id, self.vm.vcpu_facts().virtual_timer);
        self.vm.with_vgic(Some(id), |vgic| {
            ((), vgic.raise_linked(id, layout::TIMER.virt, physical))
        });
    }

    /// Drives the physical timer's interrupt line to its present level.
    #[inline]
    pub fn update_physical_timer(&mut self, now: u64) {
        let asserted = self.physical_timer.is_asserted(now);
        if asserted != self.physical_line {
            self.drive_physical_timer(asserted);
        }
    }

    #[inline(never)]
    fn drive_physical_timer(&mut self, asserted: bool) {
        self.physical_line = asserted;
        let id = self.id;
        self.vm.with_vgic(Some(id), |vgic| {
            ((), vgic.set_ppi_level(id, layout::TIMER.phys, asserted))
        });
    }

    /// Begins a turn at `now`, after the vCPU has been ready for `waited` ticks.
    /// WFI is not trapped if it is `alone` on the CPU.
    #[inline]
    pub fn begin_turn(&mut self, now: u64, waited: u64, alone: bool) {
        let stolen = self.time().begin_turn(now, waited);
        if waited > 0 {
            self.publish_stolen(stolen);
        }
        if self.traps_wfi == alone {
            self.traps_wfi = !alone;
            self.arch.set_trap_wfi(!alone);
        }
        self.arch.set_counter_offset(self.vm.counter_offset());
    }

    /// Sets when others want the CPU at the latest.
    pub const fn set_turn_end(&mut self, end: Option<u64>) {
        self.turn_end = end;
    }

    /// Tells whether others want the CPU.
    #[must_use]
    pub fn is_turn_over(&self, now: u64) -> bool {
        self.turn_end.is_some_and(|end| end <= now)
    }

    /// Returns the account of its time.
    #[inline]
    #[must_use]
    pub fn time(&self) -> &time::CpuTime {
        &self.time
    }

    fn publish_stolen(&self, stolen: u64) {
        let ticks = stolen.saturating_sub(self.stolen_before);
        let nanos = self.vm.tick_length().nanos(ticks);
        self.vm.ram().publish(self.stolen_time, nanos);
    }

    /// Returns when the hypervisor must act although this vCPU is loaded: at the
    /// end of its turn, for its physical timer, or for a device.
    #[must_use]
    pub fn deadline(&self, now: u64) -> Option<u64> {
        let devices = earliest(self.physical_timer.deadline(now), self.alarm);
        earliest(devices, self.turn_end)
    }

    /// Notes when the vCPU, which rests, wants attention even if nobody calls it:
    /// nothing that this depends on changes without a call.
    pub fn note_wake_up(&mut self, rest: Rest, now: u64) {
        let in_flight = self.virtual_timer_in_flight();
        self.wakes_at = self.deadline_resting(rest, now, in_flight);
    }

    /// Does the same when the vCPU, which has just left the CPU, goes to rest.
    /// Returns when it wants attention.
    #[inline]
    pub fn begin_rest(&mut self, rest: Rest, now: u64) -> Option<u64> {
        self.wakes_at = self.deadline_resting(rest, now, self.left.timer_in_flight);
        self.wakes_at
    }

    /// Returns when the vCPU, which rests, wants attention.
    #[inline]
    #[must_use]
    pub const fn wakes_at(&self) -> Option<u64> {
        self.wakes_at
    }

    /// One that is blocked is woken by its timers; one that is off may still have
    /// given a device an alarm. For a paused VM time stands still.
    #[inline]
    fn deadline_resting(&self, rest: Rest, now: u64, in_flight: bool) -> Option<u64> {
        if self.vm.is_paused() {
            return None;
        }
        if rest == Rest::Off {
            return self.alarm;
        }
        let timers = earliest(
            self.virtual_deadline(in_flight),
            self.physical_timer.deadline(now),
        );
        earliest(timers, self.alarm)
    }

    /// Acts on what is due; an interrupt that this raises calls the vCPU's
    /// attention.
    pub fn expire_resting(&mut self, rest: Rest, now: u64) {
        if rest == Rest::Blocked {
            let in_flight = self.virtual_timer_in_flight();
            if self.virtual_deadline(in_flight).is_some_and(|at| at <= now) {
                self.virtual_timer_fired();
            }
            self.update_physical_timer(now);
        }
        self.expire_alarm(now);
    }

    /// Acts on the deadlines of [`deadline`](Self::deadline).
    pub fn expire(&mut self, now: u64) {
        self.update_physical_timer(now);
        self.expire_alarm(now);
    }

    fn expire_alarm(&mut self, now: u64) {
        if self.alarm.is_some_and(|alarm| alarm <= now) {
            self.alarm = self.vm.poll_rtc(Some(self.id));
        }
    }

    /// Returns when the virtual timer of a vCPU that is not loaded expires,
    /// unless its interrupt is on its way already.
    #[inline]
    fn virtual_deadline(&self, in_flight: bool) -> Option<u64> {
        let TimerState { ctl, cval } = self.arch.virtual_timer();
        let runs = ctl & (TimerState::ENABLE | TimerState::IMASK) == TimerState::ENABLE;
        runs.then(|| cval.checked_add(self.vm.counter_offset()))
            .flatten()
            .filter(|_| !in_flight)
    }

    /// Tells whether an interrupt was there for the guest when the vCPU left the CPU;
    /// for what has come since it has been called.
    #[inline]
    #[must_use]
    pub const fn left_with_interrupt(&self) -> bool {
        self.left.deliverable
    }

    /// Tells whether an interrupt waits that would be signalled to the guest.
    #[must_use]
    pub fn is_deliverable(&self) -> bool {
        let id = self.id;
        self.vm
            .with_vgic(Some(id), |vgic| (vgic.deliverable(id), Kicks::NONE))
    }

    fn virtual_timer_in_flight(&self) -> bool {
        let id = self.id;
        self.vm
            .with_vgic(Some(id), |vgic| {
                (vgic.link(id, layout::TIMER.virt), Kicks::NONE)
            })
            .is_some()
    }
}

/// Returns the earlier of two deadlines.
#[inline]
#[must_use]
pub fn earliest(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
