//! A vCPU leaves its CPU by the short way, and its twin by the long one: nobody sees a
//! difference, whatever they have been through.

#![expect(clippy::indexing_slicing, reason = "a test that fails says where")]

use std::cell::Cell;
use std::fmt::Debug;

use arm_vgic_core::{Controller, FakeIch, Folded, Group, IrqRegister, Kicks, SgiFilter, prepare};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vm_contract::{IntId, VcpuId, Width};

const VCPU: VcpuId = VcpuId::new(0);
const SPIS: u16 = 32;

/// The linked PPI, and the physical interrupts that can be behind it.
const TIMER: u32 = 27;
const PHYSICAL: [u32; 2] = [27, 30];

/// Where the registers with a bit per interrupt begin: groups; enabled, pending and
/// active, to set and to clear.
const BITS: [u64; 7] = [0x080, 0x100, 0x180, 0x200, 0x280, 0x300, 0x380];
const PRIORITIES: u64 = 0x400;

#[derive(Clone, Copy, Debug)]
enum Step {
    Sgi(u32),
    Level(u32, bool),
    /// The physical interrupt behind the timer is taken, if it can be.
    Fire(usize),
    /// The timer is withdrawn.
    Lower,
    Write(u64, Width, u64),
    Acknowledge,
    End,
    /// Ends all that the guest has in hand.
    Finish,
    Refresh,
    Leave,
    Return,
}

fn step() -> impl Strategy<Value = Step> {
    let bit = (0..BITS.len(), 0..2_u64, 0..28_u32);
    let bit = bit.prop_map(|(n, bank, bit)| Step::Write(BITS[n] + 4 * bank, Width::Word, 1 << bit));
    let priority = (0..64_u64, any::<u8>());
    let priority = priority
        .prop_map(|(intid, value)| Step::Write(PRIORITIES + intid, Width::Byte, value.into()));
    prop_oneof![
        6 => (0..4_u32).prop_map(Step::Sgi),
        2 => (20..24_u32, any::<bool>()).prop_map(|(ppi, high)| Step::Level(ppi, high)),
        5 => (0..PHYSICAL.len()).prop_map(Step::Fire),
        1 => Just(Step::Lower),
        2 => bit,
        1 => priority,
        6 => Just(Step::Acknowledge),
        4 => Just(Step::End),
        5 => Just(Step::Finish),
        3 => Just(Step::Refresh),
        8 => Just(Step::Leave),
        10 => Just(Step::Return),
    ]
}

fn id(intid: u32) -> IntId {
    IntId::new(intid).expect("an INTID")
}

struct Twin {
    controller: Controller,
    ich: FakeIch,
    is_loaded: bool,
    in_hand: Vec<u32>,
    /// The physical interrupt that is active.
    physical: Option<u32>,
}

/// What the outside sees of a step.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    kicked: bool,
    taken: Option<u32>,
    deactivated: Vec<u32>,
}

impl Seen {
    fn folded(&mut self, folded: Folded) {
        self.kicked |= folded.kicks.contains(VCPU);
        self.deactivated.extend(folded.deactivate().map(IntId::raw));
    }
}

impl Twin {
    fn new(lr_count: usize) -> Self {
        let mut ich = FakeIch::new(lr_count).after_reset();
        prepare(&mut ich);
        let controller = Controller::new(1, SPIS).expect("a good shape");
        let mut twin = Self {
            controller,
            ich,
            is_loaded: false,
            in_hand: Vec::new(),
            physical: None,
        };
        let _ = twin.controller.enable_groups(false, true);
        for offset in [0x080, 0x084, 0x100, 0x104] {
            let _ = twin.write(offset, Width::Word, u32::MAX.into());
        }
        let _ = twin.step(Step::Return, None);
        twin.ich.open();
        twin
    }

    fn write(&mut self, offset: u64, width: Width, value: u64) -> Kicks {
        let register = IrqRegister::decode(offset).expect("a register");
        self.controller.write_register(VCPU, register, width, value)
    }

    fn end(&mut self) -> bool {
        let last = self.in_hand.pop();
        if let Some(intid) = last {
            self.ich.end(Group::One, intid);
        }
        last.is_some()
    }

    /// Leaves the CPU: by the short way, where that is open, if there is somebody who
    /// counts how often.
    fn leave(&mut self, count: Option<&Cell<usize>>, seen: &mut Seen) {
        let settled = count.and_then(|count| {
            let settled = self.controller.save_settled(VCPU, &mut self.ich)?;
            count.set(count.get() + 1);
            Some(settled)
        });
        if settled.is_none() {
            seen.folded(self.controller.save(VCPU, &mut self.ich));
        }
        let deliverable = self.controller.deliverable(VCPU);
        assert!(settled.is_none_or(|settled| settled == deliverable));
        let link = self.controller.link(VCPU, id(TIMER));
        assert!(
            settled.is_none() || link.is_none(),
            "nothing is linked then"
        );
        let lrs = self.ich.list_registers();
        assert!(lrs.iter().all(|lr| lr.is_inactive()), "{lrs:?}");
        assert_eq!(self.ich.signalled(), None, "the interface is off");
    }

    fn step(&mut self, step: Step, short: Option<&Cell<usize>>) -> Seen {
        let mut seen = Seen::default();
        let mut kicks = Kicks::NONE;
        match (step, self.is_loaded) {
            (Step::Sgi(sgi), _) => {
                let filter = SgiFilter::AnyGroup;
                self.controller.send_sgi(VCPU, sgi, filter, &mut kicks);
            }
            (Step::Level(ppi, high), _) => {
                kicks = self.controller.set_ppi_level(VCPU, id(ppi), high);
            }
            (Step::Fire(n), _) if self.physical.is_none() => {
                self.physical = Some(PHYSICAL[n]);
                let physical = id(PHYSICAL[n]);
                kicks = self.controller.raise_linked(VCPU, id(TIMER), physical);
            }
            (Step::Lower, false) => {
                let withdrawn = self.controller.lower_linked(VCPU, id(TIMER));
                seen.deactivated.extend(withdrawn.map(IntId::raw));
            }
            (Step::Write(offset, width, value), true) => {
                seen.folded(self.controller.fold(VCPU, &self.ich));
                kicks = self.write(offset, width, value);
                self.controller.flush(VCPU, &mut self.ich);
            }
            (Step::Write(offset, width, value), false) => {
                kicks = self.write(offset, width, value);
            }
            (Step::Acknowledge, true) => {
                seen.taken = self.ich.acknowledge(Group::One);
                self.in_hand.extend(seen.taken);
            }
            (Step::End, true) => {
                self.end();
            }
            (Step::Finish, true) => while self.end() {},
            (Step::Refresh, true) => kicks.insert(VCPU),
            (Step::Leave, true) => {
                self.is_loaded = false;
                self.leave(short, &mut seen);
            }
            (Step::Return, false) => {
                self.is_loaded = true;
                self.controller.load(VCPU, &mut self.ich);
            }
            _ => {}
        }
        seen.kicked |= kicks.contains(VCPU);
        if seen.kicked && self.is_loaded {
            seen.folded(self.controller.refresh(VCPU, &mut self.ich));
        }
        let by_hardware = self.ich.take_deactivated();
        seen.deactivated
            .extend(by_hardware.into_iter().map(u32::from));
        seen.deactivated.sort_unstable();
        self.physical = self
            .physical
            .filter(|physical| !seen.deactivated.contains(physical));
        seen
    }

    /// Returns all that can be looked at. What a loaded vCPU's list registers hold is
    /// known after a fold only.
    fn looks(&self) -> impl PartialEq + Debug + use<> {
        let at_rest = (!self.is_loaded).then(|| {
            let views: Vec<_> = (0..64)
                .map(|intid| self.controller.inspect(VCPU, id(intid)))
                .collect();
            let link = self.controller.link(VCPU, id(TIMER));
            (views, link, self.controller.deliverable(VCPU))
        });
        (at_rest, self.ich.signalled().is_some())
    }
}

#[test]
fn the_short_way_out_leaves_what_the_long_one_leaves() {
    let taken = Cell::new(0);
    let mut runner = TestRunner::new(Config::with_cases(2000));
    let strategy = (1..5_usize, prop::collection::vec(step(), 1..120));
    let result = runner.run(&strategy, |(lr_count, steps)| {
        let (mut short, mut long) = (Twin::new(lr_count), Twin::new(lr_count));
        for step in steps {
            let seen = [short.step(step, Some(&taken)), long.step(step, None)];
            prop_assert_eq!(&seen[0], &seen[1], "{:?}", step);
            prop_assert_eq!(short.looks(), long.looks(), "{:?}", step);
        }
        Ok(())
    });
    result.expect("the twins are alike");
    assert!(taken.get() > 1000, "{} times only", taken.get());
}
