//! VMs that come, go, halt and go on in any order, on CPUs that step in any
//! order: nothing is lost, nothing runs twice, and in the end all is given back.

use alloc::vec;

use proptest::prelude::*;
use smccc::psci::{PSCI_CPU_OFF, PSCI_CPU_ON_64, PSCI_SYSTEM_OFF, PSCI_SYSTEM_RESET};
use vm_contract::VmId;

use super::{ENTRY, SLICE_TICKS};
use crate::machine::Condition;
use crate::testing::{Mood, Plan, Rig};
use crate::vm::power::Phase;

const VMS: usize = 3;

/// What happens next in the machine.
#[derive(Clone, Copy, Debug)]
enum Event {
    Step(usize),
    Pass(u64),
    Restart(usize),
    Stop(usize),
    Pause(usize),
    Resume(usize),
    /// The guest does so, on the vCPU with this number.
    Reset(usize, usize),
    Off(usize, usize),
    TurnOn(usize),
    TurnOff(usize),
    Wait(usize, usize),
    Fault(usize, usize),
}

fn event() -> impl Strategy<Value = Event> {
    let vm = || 0..VMS;
    let vcpu = || (0..VMS, 0..2usize);
    prop_oneof![
        40 => (0..2usize).prop_map(Event::Step),
        4 => (1..SLICE_TICKS).prop_map(Event::Pass),
        2 => vm().prop_map(Event::Restart),
        1 => vm().prop_map(Event::Stop),
        2 => vm().prop_map(Event::Pause),
        2 => vm().prop_map(Event::Resume),
        1 => vcpu().prop_map(|(vm, vcpu)| Event::Reset(vm, vcpu)),
        1 => vcpu().prop_map(|(vm, vcpu)| Event::Off(vm, vcpu)),
        3 => vm().prop_map(Event::TurnOn),
        1 => vm().prop_map(Event::TurnOff),
        2 => vcpu().prop_map(|(vm, vcpu)| Event::Wait(vm, vcpu)),
        1 => vcpu().prop_map(|(vm, vcpu)| Event::Fault(vm, vcpu)),
    ]
}

fn apply(rig: &mut Rig, event: Event) {
    let id = |vm: usize| VmId::new(u16::try_from(vm).expect("few VMs"));
    let machine = rig.hypervisor.clone();
    match event {
        Event::Step(cpu) => {
            rig.step(cpu);
        }
        Event::Pass(ticks) => rig.advance_to(rig.now() + ticks),
        // What cannot be done just now is refused.
        Event::Restart(vm) => drop(machine.restart(id(vm))),
        Event::Stop(vm) => drop(machine.stop(id(vm))),
        Event::Pause(vm) => drop(machine.pause(id(vm))),
        Event::Resume(vm) => drop(machine.resume(id(vm))),
        Event::Reset(vm, vcpu) => {
            rig.script(vm, vcpu).call(PSCI_SYSTEM_RESET, [0; 3]);
        }
        Event::Off(vm, vcpu) => {
            rig.script(vm, vcpu).call(PSCI_SYSTEM_OFF, [0; 3]);
        }
        Event::TurnOn(vm) => {
            rig.script(vm, 0).call(PSCI_CPU_ON_64, [1, ENTRY, 0]);
        }
        Event::TurnOff(vm) => {
            rig.script(vm, 1).call(PSCI_CPU_OFF, [0; 3]);
        }
        Event::Wait(vm, vcpu) => {
            rig.script(vm, vcpu).wait();
        }
        Event::Fault(vm, vcpu) => {
            rig.script(vm, vcpu)
                .exit(arm_vcpu::RawExit::SError { esr: 0xbf00_0002 });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_all_is_given_back(
        floating in any::<bool>(),
        events in prop::collection::vec(event(), 0..400),
    ) {
        let mut rig = Rig::from_plan(&Plan {
            homes: &[&[0, 1], &[1, 0], &[0, 0]],
            floating,
            ..Plan::default()
        });
        let pool = rig.hypervisor.builder().pool.clone();
        let vmids = rig.hypervisor.builder().vmids.clone();
        for event in events {
            apply(&mut rig, event);
            rig.assert_nobody_runs_twice();
            if rig.hypervisor.is_over() {
                break;
            }
        }
        // Every VM that is not off comes to rest. One that was paused just now goes
        // on once its vCPUs have left the guest.
        for vm in 0..VMS {
            for vcpu in 0..2 {
                rig.script(vm, vcpu).clear();
            }
        }
        rig.settle();
        for vm in 0..VMS {
            apply(&mut rig, Event::Resume(vm));
        }
        if !rig.hypervisor.is_over() {
            rig.run_for(20 * SLICE_TICKS);
        }
        for slot in rig.hypervisor.slots() {
            let condition = slot.condition();
            let is_settled = matches!(
                condition,
                Condition::Present(Phase::Running) | Condition::Off | Condition::Failed
            );
            prop_assert!(is_settled, "{condition:?}");
            if let Some(vm) = slot.vm() {
                let on = vm.vcpus().any(|vcpu| vm.is_on(vcpu));
                prop_assert!(on, "a VM that runs has a vCPU that is on");
            }
        }
        for vm in 0..VMS {
            apply(&mut rig, Event::Stop(vm));
        }
        rig.run();
        prop_assert!((0..2).all(|cpu| rig.step(cpu) == Mood::Gone));
        prop_assert_eq!(pool.free_frames(), pool.total_frames());
        let mut vmids = vmids.lock();
        let count = core::iter::from_fn(|| vmids.allocate()).count();
        prop_assert_eq!(count, vmids.size().count() - 1, "all VMIDs are free");
    }
}
