//! Two VMs on the same two CPUs, in any order: whatever their guests do and
//! whichever CPU goes on next, interrupts arrive where and as often as they
//! were sent, and nobody is stopped by anybody else.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use std::sync::{Mutex, OnceLock};

use arm_vcpu::{RawExit, Syndrome, SystemRegister, fakes};
use proptest::prelude::*;
use smccc::psci::{
    PSCI_CPU_OFF, PSCI_CPU_ON_64, PSCI_CPU_SUSPEND_64, PSCI_SYSTEM_OFF, PSCI_VERSION,
};

use super::{ENTRY, SLICE_TICKS, turn_on_in};
use crate::frames::FramePool;
use crate::testing::{Inside, Mood, Plan, Rig, Script, frame_pool};

/// Each VM sends SGIs of its own, so that one that went astray is found out.
const SGIS_PER_VM: u32 = 8;
/// The shared interrupt that the guests of a VM make pending: 40 or 41.
const FIRST_SPI: u32 = 40;
const VIRTUAL_TIMER: u32 = 27;
const PHYSICAL_TIMER: u32 = 30;

const GICD_ISPENDR1: u64 = 0x0800_0204;
const GICR_SGI_BASE: u64 = 0x080b_0000;
const UART_DATA: u64 = 0x0900_0000;
const NOWHERE: u64 = 0x0b00_0000;

/// What a guest does.
#[derive(Clone, Copy, Debug)]
enum Action {
    Call,
    Sgi {
        number: u32,
        targets: u64,
    },
    Spi,
    Print,
    ReadPending,
    Abort,
    Undefined,
    Yield,
    /// Arms the virtual timer and waits for it or for something else.
    Wait {
        ticks: u64,
    },
    /// The same by PSCI.
    Suspend {
        ticks: u64,
    },
    PhysicalTimer {
        ticks: u64,
    },
    StopPhysicalTimer,
    /// vCPU 1 only: turns itself off.
    Off,
    /// Turns vCPU 1 on, which may be on already.
    On,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        1 => Just(Action::Call),
        4 => (0..SGIS_PER_VM, 1..4u64)
            .prop_map(|(number, targets)| Action::Sgi { number, targets }),
        2 => Just(Action::Spi),
        1 => Just(Action::Print),
        1 => Just(Action::ReadPending),
        1 => Just(Action::Abort),
        1 => Just(Action::Undefined),
        1 => Just(Action::Yield),
        2 => (0..SLICE_TICKS * 2).prop_map(|ticks| Action::Wait { ticks }),
        1 => (0..SLICE_TICKS * 2).prop_map(|ticks| Action::Suspend { ticks }),
        1 => (0..SLICE_TICKS * 2).prop_map(|ticks| Action::PhysicalTimer { ticks }),
        1 => Just(Action::StopPhysicalTimer),
        1 => Just(Action::Off),
        1 => Just(Action::On),
    ]
}

/// What happens next in the machine.
#[derive(Clone, Copy, Debug)]
enum Event {
    Step(usize),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (0..2usize).prop_map(Event::Step),
        1 => (1..SLICE_TICKS).prop_map(Event::Pass),
    ]
}

/// The interrupts of a VM that were sent and not yet taken.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ledger {
    /// Per vCPU, one bit per SGI. Those sent twice before they are taken merge.
    sgis: [u64; 2],
    spi: bool,
}

/// One vCPU as the test drives it.
#[derive(Clone)]
struct Driver {
    vm: u32,
    vcpu: usize,
    ledger: Arc<Mutex<Ledger>>,
}

impl Driver {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("one guest at a time")
    }

    fn spi(&self) -> u32 {
        FIRST_SPI + self.vm
    }

    /// Takes all interrupts that are signalled, and checks each.
    fn take_interrupts(&self, inside: &mut Inside<'_>) {
        inside.open_interrupts();
        while let Some(intid) = inside.acknowledge() {
            match intid {
                VIRTUAL_TIMER => inside.stop_timer(),
                // Still high when it ends: it comes again after the next exit.
                PHYSICAL_TIMER => {}
                spi if spi == self.spi() => {
                    assert_eq!(self.vcpu, 0, "it is routed to vCPU 0");
                    assert!(core::mem::take(&mut self.ledger().spi), "it was not sent");
                }
                sgi => {
                    let first = self.vm * SGIS_PER_VM;
                    assert!((first..first + SGIS_PER_VM).contains(&sgi), "INTID {sgi}");
                    let sent = &mut self.ledger().sgis[self.vcpu];
                    assert!(*sent & 1 << sgi != 0, "SGI {sgi} was not sent");
                    *sent &= !(1 << sgi);
                }
            }
            inside.ich.end(arm_vgic_core::Group::One, intid);
        }
    }

    /// Writes `action` into the guest's script.
    fn write(&self, script: &Script, action: Action) {
        let driver = self.clone();
        script.look(move |inside| driver.take_interrupts(inside));
        let driver = self.clone();
        match action {
            Action::Call => {
                script
                    .call(PSCI_VERSION, [0; 3])
                    .look(|inside| assert_eq!(inside.frame.gpr(0), 0x1_0001));
            }
            Action::Sgi { number, targets } => {
                script.leave(move |inside| {
                    let sgi = u64::from(driver.vm * SGIS_PER_VM + number);
                    for target in (0..2).filter(|target| targets >> target & 1 != 0) {
                        driver.ledger().sgis[target] |= 1 << sgi;
                    }
                    inside.write_register(SystemRegister::ICC_SGI1R_EL1, sgi << 24 | targets)
                });
            }
            Action::Spi => {
                script.leave(move |inside| {
                    driver.ledger().spi = true;
                    inside.store(GICD_ISPENDR1, 2, 1 << (driver.spi() - 32))
                });
            }
            Action::Print => {
                script.leave(|inside| inside.store(UART_DATA, 0, b'.'.into()));
            }
            Action::ReadPending => {
                let own = GICR_SGI_BASE + self.vcpu as u64 * 0x2_0000;
                script.exit(fakes::load(own + 0x200, 2, 4));
                let driver = self.clone();
                script.look(move |inside| {
                    let pending = inside.frame.gpr(4) & 0xffff;
                    let sent = driver.ledger().sgis[driver.vcpu];
                    assert_eq!(pending & !sent, 0, "pending and not sent");
                });
            }
            Action::Abort => {
                script.exit(fakes::load(NOWHERE, 2, 4));
            }
            Action::Undefined => {
                let nobodys = SystemRegister::new(3, 0, 15, 0, 0);
                script.exit(fakes::system_register(nobodys, 4, true));
            }
            Action::Yield => {
                // A trapped WFE.
                let esr = 0x01 << 26 | 1 << 25 | 1;
                script.exit(RawExit::Synchronous(Syndrome {
                    esr,
                    far: 0,
                    hpfar: 0,
                }));
            }
            Action::Wait { ticks } => {
                script
                    .look(move |inside| inside.arm_timer(inside.count + ticks))
                    .wait();
            }
            Action::Suspend { ticks } => {
                script
                    .look(move |inside| inside.arm_timer(inside.count + ticks))
                    .call(PSCI_CPU_SUSPEND_64, [0; 3]);
            }
            Action::PhysicalTimer { ticks } => {
                script
                    .leave(move |inside| {
                        inside.write_register(SystemRegister::CNTP_TVAL_EL0, ticks)
                    })
                    .leave(|inside| inside.write_register(SystemRegister::CNTP_CTL_EL0, 1));
            }
            Action::StopPhysicalTimer => {
                script.leave(|inside| inside.write_register(SystemRegister::CNTP_CTL_EL0, 0));
            }
            Action::Off if self.vcpu == 1 => {
                // Its interrupt controller keeps what its timers have raised.
                script
                    .look(|inside| inside.stop_timer())
                    .call(PSCI_CPU_OFF, [0; 3]);
            }
            Action::Off => {}
            Action::On => {
                script.call(PSCI_CPU_ON_64, [1, ENTRY, 0]);
            }
        }
    }
}

fn pool() -> Arc<FramePool> {
    static POOL: OnceLock<Arc<FramePool>> = OnceLock::new();
    Arc::clone(POOL.get_or_init(|| frame_pool(64 << 20)))
}

/// Runs the machine until the scripts of all vCPUs have come to their end.
fn finish_scripts(rig: &mut Rig) {
    for _ in 0..200 {
        rig.run_for(SLICE_TICKS);
        rig.assert_nobody_runs_twice();
        let done = |vm, vcpu| rig.script(vm, vcpu).is_done();
        let open: Vec<_> = (0..2).filter(|vm| done(*vm, 0) && !done(*vm, 1)).collect();
        if (0..2).all(|vm| done(vm, 0) && done(vm, 1)) {
            return;
        }
        for vm in open {
            // It may have turned itself off.
            rig.script(vm, 0).call(PSCI_CPU_ON_64, [1, ENTRY, 0]);
        }
    }
    panic!("some guest does not get on");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn interrupts_arrive_where_and_as_often_as_they_were_sent(
        lr_count in 1..5usize,
        floating in any::<bool>(),
        actions in prop::array::uniform4(prop::collection::vec(action(), 0..40)),
        events in prop::collection::vec(event(), 0..400),
        last in prop::array::uniform2(0..2usize),
    ) {
        let homes: &[&[u32]] = &[&[0, 1], &[1, 0]];
        let plan = Plan { homes, floating, lr_count, pool: Some(pool()), ..Plan::default() };
        let mut rig = Rig::from_plan(&plan);
        let ledgers: [Arc<Mutex<Ledger>>; 2] = Default::default();
        let drivers: Vec<_> = (0..2u32)
            .flat_map(|vm| (0..2).map(move |vcpu| (vm, vcpu)))
            .map(|(vm, vcpu)| Driver { vm, vcpu, ledger: Arc::clone(&ledgers[vm as usize]) })
            .collect();
        for vm in 0..2 {
            rig.enable_interrupts(vm);
            turn_on_in(&rig, vm, 1, 0);
        }
        for (driver, actions) in drivers.iter().zip(&actions) {
            for action in actions {
                driver.write(rig.script(driver.vm as usize, driver.vcpu), *action);
            }
        }

        for event in events {
            match event {
                Event::Step(cpu) => prop_assert_ne!(rig.step(cpu), Mood::Gone),
                Event::Pass(ticks) => rig.advance_to(rig.now() + ticks),
            }
            rig.assert_nobody_runs_twice();
        }

        // Everybody who is off comes back, and takes what waits for it.
        finish_scripts(&mut rig);
        for _ in 0..4 {
            for driver in &drivers {
                let script = rig.script(driver.vm as usize, driver.vcpu);
                driver.write(script, Action::StopPhysicalTimer);
                driver.write(script, Action::Call);
                if driver.vcpu == 0 {
                    driver.write(script, Action::On);
                }
            }
            finish_scripts(&mut rig);
        }
        for ledger in &ledgers {
            prop_assert_eq!(&*ledger.lock().expect("all rest"), &Ledger::default());
        }

        for (vm, vcpu) in (0..2).zip(last) {
            rig.script(vm, vcpu).call(PSCI_SYSTEM_OFF, [0; 3]);
        }
        rig.run();
        prop_assert!(rig.is_over() && !rig.hypervisor.any_fault());
    }
}
