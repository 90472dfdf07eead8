//! CPUs that run at the same time, and somebody who halts and restarts VMs from
//! a thread of their own: nobody waits for ever, and no vCPU is on two CPUs.
//!
//! Under Miri each seed is another order of the threads and of what they see of
//! each other's memory.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arm_vcpu::{RawExit, SystemRegister};
use smccc::psci::error::ALREADY_ON;
use smccc::psci::{PSCI_CPU_OFF, PSCI_CPU_ON_64, PSCI_SYSTEM_OFF, PSCI_SYSTEM_RESET};
use vm_contract::VmId;

use super::{ENTRY, SLICE_TICKS};
use crate::machine::Condition;
use crate::testing::{Inside, Plan, Rig};

const VIRTUAL_TIMER: u32 = 27;
/// SGIs that the two vCPUs of a VM send each other in a round.
const RALLY: usize = if cfg!(miri) { 1 } else { 8 };
/// Rounds after which a guest that resets its VM does so.
const ROUNDS_PER_LIFE: usize = if cfg!(miri) { 1 } else { 3 };

/// The registers by which a guest has Group 1 enabled and its private interrupts
/// in it: GICD_CTLR, then GICR_IGROUPR0 and GICR_ISENABLER0 of both vCPUs.
const SET_UP: [(u64, u64); 5] = [
    (0x0800_0000, 0b11),
    (0x080b_0080, 0xffff_ffff),
    (0x080b_0100, 0xffff_ffff),
    (0x080d_0080, 0xffff_ffff),
    (0x080d_0100, 0xffff_ffff),
];

/// What the two vCPUs of a VM show to who watches them. Relaxed: they have to find
/// each other by interrupts alone.
#[derive(Default)]
struct Board {
    /// Rounds that each vCPU has come to the end of, in all lives.
    rounds: [AtomicUsize; 2],
    lives: AtomicUsize,
    /// The VM is to turn itself off.
    is_over: AtomicBool,
}

impl Board {
    fn rounds(&self) -> [usize; 2] {
        [0, 1].map(|vcpu| self.rounds[vcpu].load(Ordering::Relaxed))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    SetUp(usize),
    /// CPU_ON has returned.
    TurnedOn,
    Rally,
    /// It waits for its timer.
    Sleep,
}

/// The program of one vCPU. In each round vCPU 0 turns the other on, they send each
/// other SGIs in turn, each waits for its timer, and vCPU 1 turns itself off.
struct Player {
    vcpu: usize,
    /// The SGI of this VM: one that went astray is found out.
    sgi: u32,
    resets: bool,
    board: Arc<Board>,
    stage: Stage,
    sent: usize,
    heard: usize,
    timer_rang: bool,
    rounds_in_life: usize,
    /// The counter when it was last looked at.
    count: u64,
}

impl Player {
    fn new(vm: u32, vcpu: usize, resets: bool, board: &Arc<Board>) -> Self {
        Self {
            vcpu,
            sgi: 3 + vm,
            resets,
            board: Arc::clone(board),
            stage: Stage::Rally,
            sent: 0,
            heard: 0,
            timer_rang: false,
            rounds_in_life: 0,
            count: 0,
        }
    }

    /// Forgets the life before, in which it may have been anywhere.
    fn begin(&mut self, inside: &mut Inside<'_>) {
        inside.frame.elr += 4;
        inside.open_interrupts();
        (self.sent, self.heard, self.count) = (0, 0, 0);
        self.rounds_in_life = 0;
        self.stage = Stage::Rally;
        if self.vcpu == 0 {
            self.board.lives.fetch_add(1, Ordering::Relaxed);
            self.stage = Stage::SetUp(0);
        }
    }

    fn take_interrupts(&mut self, inside: &mut Inside<'_>) {
        while let Some(intid) = inside.handle_interrupt() {
            if intid == VIRTUAL_TIMER {
                assert_eq!(self.stage, Stage::Sleep, "its timer is off");
                inside.stop_timer();
                self.timer_rang = true;
            } else {
                assert_eq!(intid, self.sgi);
                self.heard += 1;
            }
        }
    }

    /// Runs to the next exit.
    fn go_on(&mut self, inside: &mut Inside<'_>) -> Option<RawExit> {
        if inside.frame.elr == ENTRY {
            self.begin(inside);
        }
        assert!(self.count <= inside.count, "time runs backwards");
        self.count = inside.count;
        self.take_interrupts(inside);
        match self.stage {
            Stage::SetUp(done) => match SET_UP.get(done) {
                Some((address, value)) => {
                    self.stage = Stage::SetUp(done + 1);
                    Some(inside.store(*address, 2, *value))
                }
                None => self.turn_on(inside),
            },
            Stage::TurnedOn => match inside.frame.gpr(0) {
                0 => {
                    self.stage = Stage::Rally;
                    self.rally(inside)
                }
                // It is still on its way to being off.
                error if error.cast_signed() == ALREADY_ON.into() => self.turn_on(inside),
                error => panic!("CPU_ON: {error:#x}"),
            },
            Stage::Rally => self.rally(inside),
            Stage::Sleep if self.timer_rang => self.end_round(inside),
            Stage::Sleep => None,
        }
    }

    fn turn_on(&mut self, inside: &mut Inside<'_>) -> Option<RawExit> {
        self.stage = Stage::TurnedOn;
        Some(inside.call(PSCI_CPU_ON_64, [1, ENTRY, 0]))
    }

    /// Sends an SGI if it is this vCPU's turn, else waits for the other's.
    fn rally(&mut self, inside: &mut Inside<'_>) -> Option<RawExit> {
        let is_served = self.vcpu == 0 || self.heard > self.sent;
        if self.sent < RALLY && self.sent <= self.heard && is_served {
            self.sent += 1;
            let value = u64::from(self.sgi) << 24 | 1 << (1 - self.vcpu);
            Some(inside.write_register(SystemRegister::ICC_SGI1R_EL1, value))
        } else if self.sent.min(self.heard) < RALLY {
            None
        } else {
            self.stage = Stage::Sleep;
            self.timer_rang = false;
            inside.arm_timer(inside.count + SLICE_TICKS / 3);
            None
        }
    }

    fn end_round(&mut self, inside: &mut Inside<'_>) -> Option<RawExit> {
        (self.sent, self.heard) = (0, 0);
        self.rounds_in_life += 1;
        self.board.rounds[self.vcpu].fetch_add(1, Ordering::Relaxed);
        let call = if self.vcpu == 1 {
            PSCI_CPU_OFF
        } else if self.board.is_over.load(Ordering::Relaxed) {
            PSCI_SYSTEM_OFF
        } else if self.resets && self.rounds_in_life == ROUNDS_PER_LIFE {
            PSCI_SYSTEM_RESET
        } else {
            return self.turn_on(inside);
        };
        Some(inside.call(call, [0; 3]))
    }
}

/// Two VMs, the second of which resets itself now and then, and who turns both on
/// and off.
struct Match {
    rig: Rig,
    boards: [Arc<Board>; 2],
}

impl Match {
    fn begin(homes: &[&[u32]], floating: bool) -> Self {
        let rig = Rig::from_plan(&Plan {
            homes,
            floating,
            ..Plan::default()
        });
        let boards: [Arc<Board>; 2] = Default::default();
        for (vm, board) in (0..).zip(&boards) {
            for vcpu in 0..2 {
                let mut player = Player::new(vm, vcpu, vm == 1, board);
                rig.script(vm as usize, vcpu)
                    .run(move |inside| player.go_on(inside));
            }
        }
        rig.let_go();
        Self { rig, boards }
    }

    /// Waits until every vCPU of these VMs has got on: none waits for ever, and
    /// none is kept from running by the others.
    fn watch(&self, vms: &[usize]) {
        let before = [0, 1].map(|vm: usize| self.boards[vm].rounds());
        let Self { rig, boards } = self;
        rig.wait_until("does each vCPU get on", |_| {
            vms.iter().all(|vm| {
                let now = boards[*vm].rounds();
                (0..2).all(|vcpu| now[vcpu] > before[*vm][vcpu])
            })
        });
    }

    fn pause(&self, vm: u16) {
        self.rig.wait_until("can it be paused", |rig| {
            rig.hypervisor.pause(VmId::new(vm)).is_ok()
        });
    }

    fn resume(&self, vm: u16) {
        self.rig.wait_until("can it go on", |rig| {
            rig.hypervisor.resume(VmId::new(vm)).is_ok()
        });
    }

    fn restart(&self, vm: u16) {
        self.rig.wait_until("can it be restarted", |rig| {
            rig.hypervisor.restart(VmId::new(vm)).is_ok()
        });
    }

    fn stop(&self, vm: u16) {
        self.rig.wait_until("can it be stopped", |rig| {
            rig.hypervisor.stop(VmId::new(vm)).is_ok()
        });
        self.rig.wait_until("does it stop", |rig| {
            rig.hypervisor.slots()[usize::from(vm)].condition() == Condition::Off
        });
    }

    /// Has both VMs turn themselves off.
    fn end(self) {
        for board in &self.boards {
            board.is_over.store(true, Ordering::Relaxed);
        }
        self.rig.wait_until("do all CPUs end", Rig::is_over);
        assert!(!self.rig.hypervisor.any_fault());
        let pool = &self.rig.hypervisor.builder().pool;
        assert_eq!(pool.free_frames(), pool.total_frames());
    }
}

/// Halts, restarts and stops the VMs, and sees that all get on in between.
fn play(homes: &[&[u32]], floating: bool) {
    let game = Match::begin(homes, floating);
    game.watch(&[0, 1]);
    game.pause(0);
    game.resume(0);
    game.pause(1);
    game.watch(&[0]);
    // Paused, it is started anew.
    game.restart(1);
    game.watch(&[0, 1]);
    game.stop(1);
    game.restart(1);
    game.pause(0);
    game.watch(&[1]);
    game.resume(0);
    assert!(game.boards[1].lives.load(Ordering::Relaxed) >= 3);
    game.end();
}

/// How often a test plays; Miri has its seeds.
const GAMES: usize = if cfg!(miri) { 1 } else { 20 };

#[test]
#[cfg_attr(miri, ignore = "slow, and the next does all that this does and more")]
fn nobody_waits_for_ever_on_cpus_of_their_own() {
    for _ in 0..GAMES {
        play(&[&[0, 1], &[1, 0]], false);
    }
}

#[test]
fn nobody_waits_for_ever_while_vcpus_move() {
    for _ in 0..GAMES {
        play(&[&[0, 1], &[0, 0]], true);
    }
}
