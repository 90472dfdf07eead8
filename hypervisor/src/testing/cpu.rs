//! A physical CPU: its timers, what its GIC signals, and its list registers.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use std::sync::{Mutex, MutexGuard};

use arm_vcpu::TimerState;
use dtb_platform::layout;
use vm_contract::IntId;

use super::baton::Mood;
use super::board::FakeBoard;
use super::guest::Guest;
use super::ich::SharedIch;
use crate::cpu::{Cpu, Machine, PcpuId, PhysicalInterrupt};
use crate::telemetry::Watched;

/// What the hypervisor did to a CPU, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Deadline(Option<u64>),
    Activate(u32),
    Deactivate(u32),
    /// Dropped the translations of the VM that is loaded.
    Forget,
    Sleep,
}

/// The interrupts and timers of one CPU.
#[derive(Default)]
pub(crate) struct Wires {
    /// A kick is pending. Kicks merge, as SGIs do.
    pub(crate) kicked: bool,
    /// How often the CPU was kicked.
    pub(crate) kicks: usize,
    /// Other interrupts that are pending.
    pub(crate) raised: Vec<PhysicalInterrupt>,
    /// The hypervisor's timer.
    pub(crate) deadline: Option<u64>,
    /// The virtual timer of the guest that is loaded, and its counter offset.
    pub(crate) guest_timer: Option<(TimerState, u64)>,
    /// The virtual timer's interrupt is active.
    pub(crate) timer_active: bool,
    /// Acknowledged and not finished.
    unfinished: Vec<PhysicalInterrupt>,
    pub(crate) deeds: Vec<Deed>,
}

impl Wires {
    /// Returns when the next timer of this CPU will be due.
    pub(crate) fn next_timer(&self) -> Option<u64> {
        let guest = self
            .guest_timer
            .filter(|_| !self.timer_active)
            .and_then(|(timer, offset)| Some(timer.deadline()?.wrapping_add(offset)));
        guest.into_iter().chain(self.deadline).min()
    }

    /// Describes what may wake the CPU.
    pub(super) fn summary(&self) -> String {
        format!(
            "kicked {}, raised {:?}, unfinished {:?}, next timer {:?}, timer active {}",
            self.kicked,
            self.raised,
            self.unfinished,
            self.next_timer(),
            self.timer_active
        )
    }

    fn signalled(&self, now: u64, maintenance: bool) -> Option<PhysicalInterrupt> {
        let timer_fires = !self.timer_active
            && self
                .guest_timer
                .is_some_and(|(timer, offset)| timer.asserted_at(now.wrapping_sub(offset)));
        let candidates = [
            (PhysicalInterrupt::Kick, self.kicked),
            (
                PhysicalInterrupt::Deadline,
                self.deadline.is_some_and(|at| at <= now),
            ),
            (PhysicalInterrupt::VirtualTimer, timer_fires),
            (PhysicalInterrupt::Maintenance, maintenance),
        ];
        candidates
            .into_iter()
            .filter_map(|(interrupt, is_pending)| is_pending.then_some(interrupt))
            .chain(self.raised.iter().copied())
            .find(|interrupt| !self.unfinished.contains(interrupt))
    }
}

/// A CPU as the machine's other parts reach it.
pub(crate) struct CpuState {
    pub(crate) id: PcpuId,
    pub(crate) ich: SharedIch,
    wires: Mutex<Wires>,
}

impl CpuState {
    pub(super) fn new(id: PcpuId, lr_count: usize) -> Arc<Self> {
        Arc::new(Self {
            id,
            ich: SharedIch::new(lr_count),
            wires: Mutex::default(),
        })
    }

    pub(crate) fn wires(&self) -> MutexGuard<'_, Wires> {
        self.wires
            .lock()
            .expect("no test panics while it holds this")
    }

    /// Returns the interrupt that the CPU would be given at `now`.
    pub(super) fn signalled(&self, now: u64) -> Option<PhysicalInterrupt> {
        let maintenance = self.ich.lock().maintenance();
        self.wires().signalled(now, maintenance)
    }

    /// Checks what must hold whenever a guest is entered.
    pub(super) fn check_entry(&self) {
        let wires = self.wires();
        assert!(
            wires.unfinished.is_empty(),
            "left active: {:?}",
            wires.unfinished
        );
        let ich = self.ich.lock();
        let held = || ich.list_registers().iter().filter(|lr| !lr.is_inactive());
        for (n, lr) in held().enumerate() {
            let twins = held().skip(n + 1).any(|other| other.intid() == lr.intid());
            assert!(!twins, "interrupt {} is in two list registers", lr.intid());
            assert!(
                !lr.is_linked() || wires.timer_active,
                "a list register is linked to an interrupt that is not active"
            );
        }
    }

    /// Does what the guest's own deactivations do to the physical GIC.
    pub(super) fn settle_guest(&self) {
        for physical in self.ich.lock().take_deactivated() {
            assert_eq!(
                u32::from(physical),
                layout::TIMER.virt.raw(),
                "nothing else is linked"
            );
            let was_active = core::mem::take(&mut self.wires().timer_active);
            assert!(was_active, "the guest deactivated what was not active");
        }
    }
}

/// The CPU that its main loop owns.
pub(crate) struct FakeCpu {
    state: Arc<CpuState>,
    ich: Watched<SharedIch>,
    board: &'static FakeBoard,
}

impl FakeCpu {
    pub(super) fn new(id: PcpuId, board: &'static FakeBoard) -> Self {
        let state = board.cpu(id);
        Self {
            ich: Watched::new(state.ich.clone()),
            state,
            board,
        }
    }
}

impl Cpu for FakeCpu {
    type Hal = Guest;
    type Ich = SharedIch;

    fn id(&self) -> PcpuId {
        self.state.id
    }

    fn ich(&mut self) -> &mut Watched<SharedIch> {
        &mut self.ich
    }

    fn now_ticks(&self) -> u64 {
        self.board.now_ticks()
    }

    fn set_deadline(&mut self, deadline_ticks: Option<u64>) {
        let mut wires = self.state.wires();
        if wires.deadline != deadline_ticks {
            wires.deadline = deadline_ticks;
            wires.deeds.push(Deed::Deadline(deadline_ticks));
        }
    }

    fn acknowledge(&mut self) -> Option<PhysicalInterrupt> {
        let interrupt = self.state.signalled(self.now_ticks())?;
        let mut wires = self.state.wires();
        match interrupt {
            PhysicalInterrupt::Kick => wires.kicked = false,
            PhysicalInterrupt::Deadline => wires.deadline = None,
            PhysicalInterrupt::VirtualTimer => {
                wires.timer_active = true;
                return Some(interrupt);
            }
            other => wires.raised.retain(|raised| *raised != other),
        }
        wires.unfinished.push(interrupt);
        Some(interrupt)
    }

    fn finish(&mut self, interrupt: PhysicalInterrupt) {
        let unfinished = &mut self.state.wires().unfinished;
        let at = unfinished.iter().position(|other| *other == interrupt);
        unfinished.remove(at.expect("only what was acknowledged is finished"));
    }

    fn deactivate(&mut self, physical: IntId) {
        let mut wires = self.state.wires();
        assert_eq!(
            physical,
            layout::TIMER.virt,
            "nothing else is passed to guests"
        );
        assert!(wires.timer_active, "deactivated what was not active");
        wires.timer_active = false;
        wires.deeds.push(Deed::Deactivate(physical.raw()));
    }

    fn activate(&mut self, physical: IntId) {
        let mut wires = self.state.wires();
        wires.timer_active = true;
        wires.deeds.push(Deed::Activate(physical.raw()));
    }

    fn forget_translations(&mut self) {
        self.state.wires().deeds.push(Deed::Forget);
    }

    fn wait_for_interrupt(&mut self) {
        self.state.wires().deeds.push(Deed::Sleep);
        while self.state.signalled(self.now_ticks()).is_none() {
            self.board.pass(self.id(), Mood::Asleep);
        }
        self.board.pass(self.id(), Mood::Awake);
    }
}
