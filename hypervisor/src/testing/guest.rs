//! A guest that plays a script, on a CPU that interrupts it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use arm_vcpu::fakes::{self, ScriptedGuest};
use arm_vcpu::{
    AxVCpuHal, CpuFeatures, DebugRegisters, GuestSystemRegisters, LiveRegister, RawExit,
    SystemRegister, TimerState, TrapFrame,
};
use arm_vgic_core::{FakeIch, Group};

use super::baton::Mood;
use super::board::FakeBoard;
use super::cpu::CpuState;
use crate::cpu::{Machine, PcpuId};

/// HCR_EL2.TWI: WFI traps.
const HCR_TWI: u64 = 1 << 13;

/// What a guest can look at and change while it runs.
pub(crate) struct Inside<'a> {
    pub(crate) frame: &'a mut TrapFrame,
    pub(crate) registers: &'a mut GuestSystemRegisters,
    pub(crate) ich: &'a mut FakeIch,
    /// The guest's own counter.
    pub(crate) count: u64,
}

impl Inside<'_> {
    /// Opens the CPU interface, as every guest does first.
    pub(crate) fn open_interrupts(&mut self) {
        self.ich.open();
    }

    /// Acknowledges an interrupt and ends it; returns which it was.
    pub(crate) fn handle_interrupt(&mut self) -> Option<u32> {
        let group = self.ich.signalled()?;
        let intid = self.ich.acknowledge(group)?;
        self.ich.end(group, intid);
        Some(intid)
    }

    /// Acknowledges an interrupt of Group 1.
    pub(crate) fn acknowledge(&mut self) -> Option<u32> {
        self.ich.acknowledge(Group::One)
    }

    /// Programs the virtual timer for a value of the guest's own counter.
    pub(crate) fn arm_timer(&mut self, compare: u64) {
        self.registers.timer = TimerState {
            ctl: TimerState::ENABLE,
            cval: compare,
        };
    }

    /// Stops the virtual timer.
    pub(crate) fn stop_timer(&mut self) {
        self.registers.timer.ctl = 0;
    }

    /// Makes an HVC with these values in X0 to X3.
    pub(crate) fn call(&mut self, function: u32, arguments: [u64; 3]) -> RawExit {
        self.prepare_call(function, arguments);
        // The hardware has stepped over HVC.
        self.frame.elr += 4;
        fakes::hypercall(0)
    }

    /// Puts a call into X0 to X3.
    pub(crate) fn prepare_call(&mut self, function: u32, arguments: [u64; 3]) {
        self.frame.set_gpr(0, function.into());
        for (n, value) in (1..).zip(arguments) {
            self.frame.set_gpr(n, value);
        }
    }

    /// Stores `value`, in X9, of `1 << size_log2` bytes at `address`.
    pub(crate) fn store(&mut self, address: u64, size_log2: u8, value: u64) -> RawExit {
        self.frame.set_gpr(9, value);
        fakes::store(address, size_log2, 9)
    }

    /// Writes `value`, in X9, to a system register that traps.
    pub(crate) fn write_register(&mut self, register: SystemRegister, value: u64) -> RawExit {
        self.frame.set_gpr(9, value);
        fakes::system_register(register, 9, false)
    }
}

type Play<R> = Box<dyn FnOnce(&mut Inside<'_>) -> R + Send>;

enum Step {
    /// The guest looks at or changes what is its own.
    Look(Play<()>),
    /// The guest leaves.
    Leave(Play<RawExit>),
    /// WFI: traps if EL2 says so, waits otherwise.
    Wait,
    /// The guest goes on as the program says, again and again.
    Run(Program),
}

type Program = Box<dyn FnMut(&mut Inside<'_>) -> Option<RawExit> + Send>;

/// What a guest does, step by step. When it has come to its end, the guest
/// spins.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Part>);

/// What one vCPU plays, whichever life of its VM it is in.
#[derive(Default)]
struct Part {
    steps: Mutex<VecDeque<Step>>,
    /// It is on a CPU.
    is_played: AtomicBool,
}

impl Script {
    fn steps(&self) -> MutexGuard<'_, VecDeque<Step>> {
        self.0
            .steps
            .lock()
            .expect("no test panics while it holds this")
    }

    fn push(&self, step: Step) -> &Self {
        self.steps().push_back(step);
        self
    }

    /// Runs `play` in the guest.
    pub(crate) fn look(&self, play: impl FnOnce(&mut Inside<'_>) + Send + 'static) -> &Self {
        self.push(Step::Look(Box::new(play)))
    }

    /// Runs `play` in the guest, which then leaves as it says.
    pub(crate) fn leave(
        &self,
        play: impl FnOnce(&mut Inside<'_>) -> RawExit + Send + 'static,
    ) -> &Self {
        self.push(Step::Leave(Box::new(play)))
    }

    /// Leaves by `exit`.
    pub(crate) fn exit(&self, exit: RawExit) -> &Self {
        self.leave(move |_| exit)
    }

    /// Makes a call by HVC.
    pub(crate) fn call(&self, function: u32, arguments: [u64; 3]) -> &Self {
        self.leave(move |inside| inside.call(function, arguments))
    }

    /// Executes WFI.
    pub(crate) fn wait(&self) -> &Self {
        self.push(Step::Wait)
    }

    /// Runs `program` again and again, for ever: the guest leaves as it says, and
    /// executes WFI where it says nothing.
    pub(crate) fn run(
        &self,
        program: impl FnMut(&mut Inside<'_>) -> Option<RawExit> + Send + 'static,
    ) -> &Self {
        self.push(Step::Run(Box::new(program)))
    }

    /// Tells whether nothing is left to do.
    pub(crate) fn is_done(&self) -> bool {
        self.steps().is_empty()
    }

    /// Forgets what is left to do.
    pub(crate) fn clear(&self) {
        self.steps().clear();
    }
}

/// The world switch of one vCPU.
pub(crate) struct Guest {
    script: Script,
    inner: ScriptedGuest,
    board: &'static FakeBoard,
}

std::thread_local! {
    /// Which CPU this thread is.
    static HERE: Cell<PcpuId> = const { Cell::new(PcpuId::new(0)) };
}

/// Makes this thread a CPU.
pub(super) fn become_cpu(id: PcpuId) {
    HERE.set(id);
}

impl Guest {
    pub(super) fn new(script: Script, board: &'static FakeBoard) -> Self {
        Self {
            script,
            inner: ScriptedGuest::new(),
            board,
        }
    }

    /// Returns the CPU on which the guest is.
    fn cpu(&self) -> &'static CpuState {
        let board: &'static FakeBoard = self.board;
        &board.cpus()[HERE.get().index()]
    }

    fn now(&self) -> u64 {
        self.board.now_ticks()
    }

    /// Runs `play` with the guest's registers; `None` leaves the guest inside.
    fn play(&mut self, frame: &mut TrapFrame, play: Play<RawExit>) -> RawExit {
        let (cpu, mut play) = (self.cpu(), Some(play));
        let now = self.now();
        self.inner = core::mem::take(&mut self.inner).then(move |frame, registers| {
            let play = play.take().expect("a step is played once");
            let registers_offset = registers.controls.cntvoff;
            let exit = play(&mut Inside {
                frame,
                registers,
                ich: &mut cpu.ich.lock(),
                count: now.wrapping_sub(registers_offset),
            });
            if let Some((timer, _)) = &mut cpu.wires().guest_timer {
                *timer = registers.timer;
            }
            exit
        });
        let exit = self.inner.enter(frame);
        self.cpu().settle_guest();
        exit
    }

    /// Runs one step of `program`, which is the next again afterwards.
    fn run(&mut self, frame: &mut TrapFrame, mut program: Program) -> Option<RawExit> {
        let script = self.script.clone();
        let exit = self.play(
            frame,
            Box::new(move |inside| {
                let exit = program(inside);
                script.steps().push_front(Step::Run(program));
                exit.unwrap_or(RawExit::Irq)
            }),
        );
        (exit != RawExit::Irq).then_some(exit)
    }

    /// Executes WFI: leaves if it traps.
    fn wait(&self, frame: &mut TrapFrame) -> Option<RawExit> {
        if self.read(LiveRegister::Hcr) & HCR_TWI != 0 {
            return Some(fakes::wait_for_interrupt());
        }
        self.wait_while(|cpu| cpu.ich.lock().signalled().is_none());
        frame.elr += 4;
        None
    }

    fn wait_while(&self, condition: impl Fn(&CpuState) -> bool) {
        while self.cpu().signalled(self.now()).is_none() && condition(self.cpu()) {
            self.board.pass(self.cpu().id, Mood::Asleep);
        }
    }
}

impl AxVCpuHal for Guest {
    fn features(&self) -> CpuFeatures {
        self.inner.features()
    }

    fn load(&mut self, registers: &GuestSystemRegisters) {
        self.board.pass(self.cpu().id, Mood::Awake);
        self.inner.load(registers);
        let timer = (registers.timer, registers.controls.cntvoff);
        let before = self.cpu().wires().guest_timer.replace(timer);
        assert_eq!(before, None, "two vCPUs are loaded");
        let elsewhere = self.script.0.is_played.swap(true, Ordering::Relaxed);
        assert!(!elsewhere, "one vCPU is on two CPUs");
    }

    fn save(&mut self, registers: &mut GuestSystemRegisters) {
        self.inner.save(registers);
        let before = self.cpu().wires().guest_timer.take();
        assert!(before.is_some(), "no vCPU is loaded");
        self.script.0.is_played.store(false, Ordering::Relaxed);
        self.board.pass(self.cpu().id, Mood::Awake);
    }

    fn enter(&mut self, frame: &mut TrapFrame) -> RawExit {
        self.board.pass(self.cpu().id, Mood::Awake);
        self.cpu().check_entry();
        loop {
            if self.cpu().signalled(self.now()).is_some() {
                return RawExit::Irq;
            }
            let step = self.script.steps().pop_front();
            match step {
                Some(Step::Look(play)) => {
                    self.play(
                        frame,
                        Box::new(|inside| {
                            play(inside);
                            RawExit::Irq
                        }),
                    );
                }
                Some(Step::Leave(play)) => return self.play(frame, play),
                Some(Step::Run(program)) => {
                    let exit = self.run(frame, program);
                    if let Some(exit) = exit.or_else(|| self.wait(frame)) {
                        return exit;
                    }
                }
                Some(Step::Wait) => {
                    if let Some(exit) = self.wait(frame) {
                        return exit;
                    }
                }
                None => {
                    let script = self.script.clone();
                    self.wait_while(|_| script.is_done());
                }
            }
        }
    }

    fn read(&self, register: LiveRegister) -> u64 {
        let value = self.inner.read(register);
        if register != LiveRegister::CntvCtl {
            return value;
        }
        let wires = self.cpu().wires();
        let (timer, offset) = wires.guest_timer.expect("a vCPU is loaded");
        let unmasked = TimerState {
            ctl: value & TimerState::ENABLE,
            ..timer
        };
        let expired = unmasked.asserted_at(self.now().wrapping_sub(offset));
        value & !TimerState::ISTATUS | if expired { TimerState::ISTATUS } else { 0 }
    }

    fn write(&mut self, register: LiveRegister, value: u64) {
        self.inner.write(register, value);
        if let Some((timer, _)) = &mut self.cpu().wires().guest_timer {
            match register {
                LiveRegister::CntvCtl => timer.ctl = value,
                LiveRegister::CntvCval => timer.cval = value,
                _ => {}
            }
        }
    }

    fn load_debug(&mut self, debug: &DebugRegisters) {
        self.inner.load_debug(debug);
    }
}
