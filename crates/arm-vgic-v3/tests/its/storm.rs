//! Random traffic of LPIs through an ITS, a vGIC and its CPUs, against a plain
//! model: what is pending where, and with which properties. Nothing is lost,
//! nothing comes twice, and the most urgent comes first.

use std::collections::{BTreeMap, BTreeSet};

use arm_vgic_v3::{Group, Kicks};
use proptest::prelude::*;
use vm_contract::{VcpuId, Width};

use crate::machine::{clear, int, inv, invall, movall, movi};
use crate::vm::{ENABLE_LPIS, GICR_CTLR, GICR_PENDBASER, GICR_WAKER, LPIS, Whole, pending_table};

/// What `Whole` sets up: event `n` is LPI 8192 + n.
const EVENTS: u32 = 32;
const IDLE: u8 = 0xFF;

#[derive(Clone, Copy, Debug)]
enum Step {
    Signal(u32),
    Interrupt(u32),
    Clear(u32),
    Move(u32, u16),
    MoveAll(u16),
    /// The guest writes a property, and may say so.
    Property(u32, u8, bool),
    InvalidateAll(u16),
    Acknowledge(usize),
    End(usize),
    /// GICR_CTLR.EnableLPIs changes.
    Toggle(u16),
    /// GICR_WAKER.ProcessorSleep changes.
    Sleep(u16, bool),
    /// The hypervisor looks at the list registers for its own reasons.
    Fold(usize),
    /// The vCPU moves to another CPU, or off one and on again.
    Reload(usize),
}

struct Model {
    collections: [u16; EVENTS as usize],
    /// Where each pending LPI is pending.
    pending: BTreeMap<u32, u16>,
    /// The properties as the guest wrote them, and as they are known.
    table: BTreeMap<u32, u8>,
    known: BTreeMap<u32, u8>,
    enabled: [bool; 2],
    awake: [bool; 2],
    /// What is in the pending table of a vCPU whose LPIs are disabled.
    saved: [BTreeSet<u32>; 2],
    /// What each vCPU handles, with its priority.
    handled: [Vec<(u32, u8)>; 2],
}

impl Model {
    fn new() -> Self {
        let properties: BTreeMap<_, _> = (8192..8192 + LPIS).map(|lpi| (lpi, 0xA1)).collect();
        Self {
            collections: std::array::from_fn(|event| (event % 2) as u16),
            pending: BTreeMap::new(),
            table: properties.clone(),
            known: properties,
            enabled: [true; 2],
            awake: [true; 2],
            saved: [BTreeSet::new(), BTreeSet::new()],
            handled: [Vec::new(), Vec::new()],
        }
    }

    fn pend(&mut self, event: u32) {
        let vcpu = self.collections[event as usize];
        if self.enabled[usize::from(vcpu)] {
            self.pending.insert(8192 + event, vcpu);
        }
    }

    fn shift(&mut self, lpi: u32, from: u16, to: u16) {
        if self.pending.get(&lpi) == Some(&from) && from != to {
            self.pending.remove(&lpi);
            if self.enabled[usize::from(to)] {
                self.pending.insert(lpi, to);
            }
        }
    }

    /// Returns the priority of the most urgent LPI that can be forwarded.
    fn best(&self, vcpu: usize) -> Option<u8> {
        let forwarded = self.enabled[vcpu] && self.awake[vcpu];
        let there = self
            .pending
            .iter()
            .filter(|(_, at)| usize::from(**at) == vcpu);
        let enabled = there.filter_map(|(lpi, _)| {
            let property = self.known[lpi];
            // Five bits of priority are implemented.
            (property & 1 != 0).then_some(property & 0xF8)
        });
        enabled.min().filter(|_| forwarded)
    }
}

fn apply(whole: &mut Whole, model: &mut Model, step: Step) {
    match step {
        Step::Signal(event) => {
            whole.signal(event);
            model.pend(event);
        }
        Step::Interrupt(event) => {
            whole.submit(&[int(5, event)]);
            model.pend(event);
        }
        Step::Clear(event) => {
            whole.submit(&[clear(5, event)]);
            let (lpi, vcpu) = (8192 + event, model.collections[event as usize]);
            if model.pending.get(&lpi) == Some(&vcpu) {
                model.pending.remove(&lpi);
            }
        }
        Step::Move(event, to) => {
            whole.submit(&[movi(5, event, to)]);
            let from = std::mem::replace(&mut model.collections[event as usize], to);
            model.shift(8192 + event, from, to);
        }
        Step::MoveAll(from) => {
            whole.submit(&[movall(from.into(), (1 - from).into())]);
            (8192..8192 + EVENTS).for_each(|lpi| model.shift(lpi, from, 1 - from));
        }
        Step::Property(event, byte, say) => {
            let lpi = 8192 + event;
            whole.set_property(lpi, byte);
            model.table.insert(lpi, byte);
            if say {
                whole.submit(&[inv(5, event)]);
                let vcpu = model.collections[event as usize];
                if model.enabled[usize::from(vcpu)] {
                    model.known.insert(lpi, byte);
                }
            }
        }
        Step::InvalidateAll(collection) => {
            whole.submit(&[invall(collection)]);
            if model.enabled[usize::from(collection)] {
                model.known = model.table.clone();
            }
        }
        Step::Acknowledge(vcpu) => {
            let running = model.handled[vcpu].last().map_or(IDLE, |last| last.1);
            let best = model.best(vcpu).filter(|best| *best < running);
            let taken = whole.cpus[vcpu].acknowledge(Group::One);
            whole.maintain(vcpu);
            assert_eq!(taken.is_some(), best.is_some(), "{taken:?}");
            if let (Some(lpi), Some(best)) = (taken, best) {
                assert_eq!(model.known[&lpi] & 0xF8, best, "{lpi} is not its turn");
                assert_eq!(model.pending.remove(&lpi), Some(vcpu as u16));
                model.handled[vcpu].push((lpi, best));
            }
        }
        Step::End(vcpu) => {
            if let Some((lpi, _)) = model.handled[vcpu].pop() {
                whole.cpus[vcpu].end(Group::One, lpi);
                whole.maintain(vcpu);
            }
        }
        Step::Toggle(vcpu) => toggle(whole, model, vcpu),
        Step::Sleep(vcpu, asleep) => {
            let value = u64::from(asleep) << 1;
            whole.gicr(vcpu, GICR_WAKER, Width::Word, value);
            model.awake[usize::from(vcpu)] = !asleep;
        }
        Step::Fold(vcpu) => {
            let id = VcpuId::new(vcpu as u16);
            let folded = whole.vgic.fold(id, &whole.cpus[vcpu]);
            whole.vgic.flush(id, &mut whole.cpus[vcpu]);
            whole.serve(folded.kicks);
        }
        Step::Reload(vcpu) => {
            let id = VcpuId::new(vcpu as u16);
            let folded = whole.vgic.save(id, &mut whole.cpus[vcpu]);
            let waits = whole.vgic.deliverable(id);
            let running = model.handled[vcpu].last().map_or(IDLE, |last| last.1);
            assert_eq!(waits, model.best(vcpu).is_some_and(|best| best < running));
            whole.vgic.load(id, &mut whole.cpus[vcpu]);
            whole.serve(folded.kicks);
        }
    }
}

fn toggle(whole: &mut Whole, model: &mut Model, vcpu: u16) {
    let n = usize::from(vcpu);
    if model.enabled[n] {
        whole.gicr(vcpu, GICR_CTLR, Width::Word, 0);
        let there = model.pending.iter().filter(|(_, at)| **at == vcpu);
        model.saved[n] = there.map(|(lpi, _)| *lpi).collect();
        model.pending.retain(|_, at| *at != vcpu);
    } else {
        let table = pending_table(vcpu);
        whole.gicr(vcpu, GICR_PENDBASER, Width::Dword, table);
        whole.gicr(vcpu, GICR_CTLR, Width::Word, ENABLE_LPIS);
        let back = std::mem::take(&mut model.saved[n]);
        model
            .pending
            .extend(back.into_iter().map(|lpi| (lpi, vcpu)));
        model.known = model.table.clone();
    }
    model.enabled[n] = !model.enabled[n];
    assert!(!whole.vgic.has_table_request());
}

/// Lets both vCPUs take everything there is.
fn drain(whole: &mut Whole, model: &mut Model) {
    for vcpu in 0..2 {
        if !model.enabled[vcpu] {
            toggle(whole, model, vcpu as u16);
        }
        apply(whole, model, Step::Sleep(vcpu as u16, false));
    }
    for lpi in 0..EVENTS {
        apply(whole, model, Step::Property(lpi, 0xA1, true));
    }
    for vcpu in 0..2 {
        while !model.handled[vcpu].is_empty() {
            apply(whole, model, Step::End(vcpu));
        }
        for _ in 0..2 * EVENTS {
            apply(whole, model, Step::Acknowledge(vcpu));
            apply(whole, model, Step::End(vcpu));
        }
        let mut kicks = Kicks::NONE;
        kicks.insert(VcpuId::new(vcpu as u16));
        whole.serve(kicks);
        let lrs = whole.cpus[vcpu].list_registers();
        assert!(lrs.iter().all(|lr| lr.is_inactive()));
    }
    assert!(model.pending.is_empty());
}

fn steps() -> impl Strategy<Value = Step> {
    let event = || 0..EVENTS;
    let vcpu = || 0..2usize;
    let property = prop_oneof![3 => any::<u8>().prop_map(|byte| byte | 1), 1 => any::<u8>()];
    prop_oneof![
        12 => event().prop_map(Step::Signal),
        2 => event().prop_map(Step::Interrupt),
        2 => event().prop_map(Step::Clear),
        3 => (event(), 0..2u16).prop_map(|(event, to)| Step::Move(event, to)),
        1 => (0..2u16).prop_map(Step::MoveAll),
        4 => (event(), property, any::<bool>())
            .prop_map(|(event, byte, say)| Step::Property(event, byte, say)),
        1 => (0..2u16).prop_map(Step::InvalidateAll),
        10 => vcpu().prop_map(Step::Acknowledge),
        8 => vcpu().prop_map(Step::End),
        1 => (0..2u16).prop_map(Step::Toggle),
        1 => (0..2u16, any::<bool>()).prop_map(|(vcpu, asleep)| Step::Sleep(vcpu, asleep)),
        2 => vcpu().prop_map(Step::Fold),
        2 => vcpu().prop_map(Step::Reload),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_lpi_is_lost_or_doubled(steps in prop::collection::vec(steps(), 1..200)) {
        let mut whole = Whole::ready();
        let mut model = Model::new();
        for step in steps {
            apply(&mut whole, &mut model, step);
        }
        drain(&mut whole, &mut model);
    }
}
