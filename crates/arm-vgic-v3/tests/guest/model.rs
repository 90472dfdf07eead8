//! Random guests against the plainest GIC there is: nothing is lost, nothing
//! doubled, always the highest priority first, whatever the list registers do.

use std::collections::BTreeMap;

use arm_vgic_v3::{FakeIch, Group};
use proptest::prelude::*;
use vm_contract::VcpuId;

use crate::machine::{
    BOOT, ICENABLER, ICPENDR, IGROUPR, ISACTIVER, ISENABLER, ISPENDR, Machine, id,
};

const VCPUS: usize = 2;
/// SGIs, a wired PPI, a linked PPI, and SPIs.
const SGIS: [u32; 2] = [1, 2];
const WIRED_PPI: u32 = 20;
const LINKED_PPI: u32 = 27;
const SPIS: [u32; 5] = [32, 33, 34, 64, 95];
/// In Group 0; all others are in Group 1.
const GROUP0: [u32; 2] = [2, 64];

#[derive(Clone, Debug)]
enum Op {
    Line {
        irq: usize,
        vcpu: usize,
        asserted: bool,
    },
    Pulse {
        irq: usize,
    },
    Sgi {
        sender: usize,
        targets: u64,
        sgi: usize,
    },
    Fire {
        vcpu: usize,
    },
    Lower {
        vcpu: usize,
    },
    Enable {
        irq: usize,
        vcpu: usize,
        enabled: bool,
    },
    Priority {
        irq: usize,
        vcpu: usize,
        priority: u8,
    },
    Pend {
        irq: usize,
        vcpu: usize,
        pending: bool,
    },
    Inject {
        irq: usize,
        vcpu: usize,
    },
    Configure {
        irq: usize,
        edge: bool,
    },
    Route {
        irq: usize,
        vcpu: usize,
    },
    Forward {
        groups: u32,
    },
    Mask {
        vcpu: usize,
        mask: u8,
    },
    OpenGroup {
        vcpu: usize,
        group1: bool,
        enabled: bool,
    },
    Acknowledge {
        vcpu: usize,
    },
    End {
        vcpu: usize,
    },
    Deactivate {
        vcpu: usize,
        which: usize,
    },
    Rebind {
        vcpu: usize,
    },
    Refresh {
        vcpu: usize,
    },
    Inspect,
}

fn op() -> impl Strategy<Value = Op> {
    let vcpu = || 0..VCPUS;
    let irq = || 0..IRQS.len();
    prop_oneof![
        4 => (irq(), vcpu(), any::<bool>())
            .prop_map(|(irq, vcpu, asserted)| Op::Line { irq, vcpu, asserted }),
        2 => irq().prop_map(|irq| Op::Pulse { irq }),
        4 => (vcpu(), 0..4u64, 0..2usize)
            .prop_map(|(sender, targets, sgi)| Op::Sgi { sender, targets, sgi }),
        2 => vcpu().prop_map(|vcpu| Op::Fire { vcpu }),
        1 => vcpu().prop_map(|vcpu| Op::Lower { vcpu }),
        2 => (irq(), vcpu(), prop::bool::weighted(0.7))
            .prop_map(|(irq, vcpu, enabled)| Op::Enable { irq, vcpu, enabled }),
        2 => (irq(), vcpu(), 0..8u8)
            .prop_map(|(irq, vcpu, n)| Op::Priority { irq, vcpu, priority: n << 5 }),
        3 => (irq(), vcpu(), prop::bool::weighted(0.7))
            .prop_map(|(irq, vcpu, pending)| Op::Pend { irq, vcpu, pending }),
        2 => (irq(), vcpu()).prop_map(|(irq, vcpu)| Op::Inject { irq, vcpu }),
        1 => (irq(), any::<bool>()).prop_map(|(irq, edge)| Op::Configure { irq, edge }),
        2 => (irq(), vcpu()).prop_map(|(irq, vcpu)| Op::Route { irq, vcpu }),
        1 => prop_oneof![Just(3u32), Just(3), Just(2), Just(1), Just(0)]
            .prop_map(|groups| Op::Forward { groups }),
        1 => (vcpu(), prop_oneof![Just(0xFFu8), Just(0xFF), Just(0x60)])
            .prop_map(|(vcpu, mask)| Op::Mask { vcpu, mask }),
        1 => (vcpu(), any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(vcpu, group1, enabled)| Op::OpenGroup { vcpu, group1, enabled }),
        10 => vcpu().prop_map(|vcpu| Op::Acknowledge { vcpu }),
        8 => vcpu().prop_map(|vcpu| Op::End { vcpu }),
        6 => (vcpu(), 0..8usize).prop_map(|(vcpu, which)| Op::Deactivate { vcpu, which }),
        1 => vcpu().prop_map(|vcpu| Op::Rebind { vcpu }),
        1 => vcpu().prop_map(|vcpu| Op::Refresh { vcpu }),
        1 => Just(Op::Inspect),
    ]
}

const IRQS: [u32; 9] = [1, 2, WIRED_PPI, LINKED_PPI, 32, 33, 34, 64, 95];

/// One interrupt as a GIC without list registers keeps it.
#[derive(Clone, Debug)]
struct Irq {
    enabled: bool,
    priority: u8,
    edge: bool,
    line: bool,
    latch: bool,
    /// The linked physical interrupt fired and the guest has not taken it.
    fired: bool,
    /// The physical interrupt is active.
    physical: bool,
    active_on: Option<usize>,
    route: usize,
}

impl Irq {
    fn pending(&self) -> bool {
        self.latch || self.fired || (self.line && !self.edge)
    }
}

struct Model {
    /// By vCPU (0 for SPIs) and INTID.
    irqs: BTreeMap<(usize, u32), Irq>,
    groups: u32,
    masks: [u8; VCPUS],
    open: [[bool; 2]; VCPUS],
    /// Priorities of what each vCPU is handling, with the INTIDs.
    running: [Vec<(u8, u32)>; VCPUS],
    split: bool,
}

fn group1(intid: u32) -> bool {
    !GROUP0.contains(&intid)
}

impl Model {
    fn new(split: bool) -> Self {
        let mut irqs = BTreeMap::new();
        for intid in IRQS {
            for vcpu in 0..if intid < 32 { VCPUS } else { 1 } {
                let irq = Irq {
                    enabled: true,
                    priority: 0xA0,
                    edge: intid < 16,
                    line: false,
                    latch: false,
                    fired: false,
                    physical: false,
                    active_on: None,
                    route: vcpu,
                };
                irqs.insert((vcpu, intid), irq);
            }
        }
        Self {
            irqs,
            groups: 3,
            masks: [0xFF; VCPUS],
            open: [[true; 2]; VCPUS],
            running: Default::default(),
            split,
        }
    }

    fn irq(&mut self, vcpu: usize, intid: u32) -> &mut Irq {
        let vcpu = if intid < 32 { vcpu } else { 0 };
        self.irqs
            .get_mut(&(vcpu, intid))
            .expect("one of the interrupts in play")
    }

    /// Returns the signalled interrupts: all of the best priority, or none.
    fn signalled(&self, vcpu: usize) -> Vec<u32> {
        let candidates = self.irqs.iter().filter(|((_, intid), irq)| {
            let group = usize::from(group1(*intid));
            irq.pending()
                && irq.enabled
                && irq.active_on.is_none()
                && irq.route == vcpu
                && self.groups >> group & 1 != 0
                && self.open[vcpu][group]
        });
        let candidates: Vec<_> = candidates.map(|((_, n), irq)| (irq.priority, *n)).collect();
        let Some(best) = candidates.iter().map(|(priority, _)| *priority).min() else {
            return Vec::new();
        };
        let running = self.running[vcpu]
            .last()
            .map_or(0x100, |(priority, _)| u16::from(*priority));
        if best >= self.masks[vcpu] || u16::from(best) >= running {
            return Vec::new();
        }
        candidates
            .iter()
            .filter(|(priority, _)| *priority == best)
            .map(|(_, n)| *n)
            .collect()
    }

    fn deactivate(&mut self, vcpu: usize, intid: u32) {
        let irq = self.irq(vcpu, intid);
        irq.active_on = None;
        if !irq.fired {
            irq.physical = false;
        }
    }
}

fn group_of(intid: u32) -> Group {
    if group1(intid) {
        Group::One
    } else {
        Group::Zero
    }
}

/// Does `op` on both sides and compares what the guest sees.
fn step(machine: &mut Machine, model: &mut Model, op: &Op) {
    let guest_runs = matches!(
        op,
        Op::OpenGroup { .. }
            | Op::Acknowledge { .. }
            | Op::End { .. }
            | Op::Deactivate { .. }
            | Op::Lower { .. }
            | Op::Rebind { .. }
    );
    if guest_runs {
        machine.attend();
    }
    match *op {
        Op::Line {
            irq,
            vcpu,
            asserted,
        } => {
            let intid = IRQS[irq];
            if intid == LINKED_PPI || intid < 16 {
                return;
            }
            let irq = model.irq(vcpu, intid);
            irq.latch |= irq.edge && asserted && !irq.line;
            irq.line = asserted;
            if intid < 32 {
                let vcpu = VcpuId::new(vcpu as u16);
                let kicks = machine.vgic.set_ppi_level(vcpu, id(intid), asserted);
                machine.serve(kicks);
            } else {
                machine.line(intid, asserted);
            }
        }
        Op::Pulse { irq } => {
            let intid = IRQS[irq];
            if intid < 32 {
                return;
            }
            let irq = model.irq(0, intid);
            irq.latch |= irq.edge && !irq.line;
            irq.line = false;
            machine.pulse(intid);
        }
        Op::Sgi {
            sender,
            targets,
            sgi,
        } => {
            for vcpu in (0..VCPUS).filter(|n| targets >> n & 1 != 0) {
                model.irq(vcpu, SGIS[sgi]).latch = true;
            }
            let value = u64::from(SGIS[sgi]) << 24 | targets;
            machine.sgi(VcpuId::new(sender as u16), value);
        }
        Op::Fire { vcpu } => {
            let irq = model.irq(vcpu, LINKED_PPI);
            if !irq.physical {
                irq.physical = true;
                irq.fired = true;
                machine.fire(VcpuId::new(vcpu as u16), LINKED_PPI);
            }
        }
        Op::Lower { vcpu } => lower(machine, model, vcpu),
        Op::Enable { irq, vcpu, enabled } => {
            model.irq(vcpu, IRQS[irq]).enabled = enabled;
            machine.set_bit(vcpu, if enabled { ISENABLER } else { ICENABLER }, IRQS[irq]);
        }
        Op::Priority {
            irq,
            vcpu,
            priority,
        } => {
            model.irq(vcpu, IRQS[irq]).priority = priority;
            machine.set_priority(vcpu, IRQS[irq], priority);
        }
        Op::Pend { irq, vcpu, pending } => {
            model.irq(vcpu, IRQS[irq]).latch = pending;
            machine.set_bit(vcpu, if pending { ISPENDR } else { ICPENDR }, IRQS[irq]);
        }
        Op::Inject { irq, vcpu } => {
            model.irq(vcpu, IRQS[irq]).latch = true;
            machine.inject(vcpu, IRQS[irq]);
        }
        Op::Configure { irq, edge } => {
            if IRQS[irq] >= 32 {
                model.irq(0, IRQS[irq]).edge = edge;
                machine.configure(IRQS[irq], edge);
            }
        }
        Op::Route { irq, vcpu } => {
            if IRQS[irq] >= 32 {
                model.irq(0, IRQS[irq]).route = vcpu;
                machine.route(IRQS[irq], vcpu as u64);
            }
        }
        Op::Forward { groups } => {
            model.groups = groups;
            machine.gicd(0, groups);
        }
        Op::Mask { vcpu, mask } => {
            model.masks[vcpu] = mask;
            machine.cpus[vcpu].set_priority_mask(mask);
        }
        Op::OpenGroup {
            vcpu,
            group1,
            enabled,
        } => {
            model.open[vcpu][usize::from(group1)] = enabled;
            let group = if group1 { Group::One } else { Group::Zero };
            machine.cpus[vcpu].set_group_enabled(group, enabled);
            machine.maintain(VcpuId::new(vcpu as u16));
        }
        Op::Acknowledge { vcpu } => acknowledge(machine, model, vcpu),
        Op::End { vcpu } => {
            if let Some((_, intid)) = model.running[vcpu].pop() {
                if !model.split {
                    model.deactivate(vcpu, intid);
                }
                machine.end_group(VcpuId::new(vcpu as u16), group_of(intid), intid);
            }
        }
        Op::Deactivate { vcpu, which } => {
            let dropped: Vec<u32> = model
                .irqs
                .iter()
                .filter(|((_, intid), irq)| {
                    let running = model.running[vcpu].iter().any(|(_, n)| n == intid);
                    irq.active_on == Some(vcpu) && !running
                })
                .map(|((_, intid), _)| *intid)
                .collect();
            if let Some(&intid) = dropped.get(which % dropped.len().max(1)) {
                model.deactivate(vcpu, intid);
                machine.deactivate(VcpuId::new(vcpu as u16), intid);
            }
        }
        Op::Rebind { vcpu } => {
            let deliverable = machine.rebind(VcpuId::new(vcpu as u16));
            assert_eq!(
                deliverable,
                !model.signalled(vcpu).is_empty(),
                "deliverable"
            );
        }
        Op::Refresh { vcpu } => machine.refresh(VcpuId::new(vcpu as u16)),
        Op::Inspect => inspect(machine, model),
    }
}

/// The source of the linked interrupt was found low.
fn lower(machine: &mut Machine, model: &mut Model, vcpu: usize) {
    let irq = model.irq(vcpu, LINKED_PPI);
    let expected = irq.fired && irq.active_on.is_none();
    if expected {
        irq.fired = false;
        irq.physical = false;
    }
    let vcpu_id = VcpuId::new(vcpu as u16);
    let ich = &mut machine.cpus[vcpu];
    let folded = machine.vgic.fold(vcpu_id, ich);
    assert_eq!(
        folded.deactivate().count(),
        0,
        "that would have asked for maintenance"
    );
    assert_eq!(
        machine.vgic.is_linked_pending(vcpu_id, id(LINKED_PPI)),
        expected
    );
    let physical = machine.vgic.lower_linked(vcpu_id, id(LINKED_PPI));
    assert_eq!(physical, expected.then_some(id(LINKED_PPI)));
    machine.vgic.flush(vcpu_id, ich);
    machine.serve(folded.kicks);
}

fn acknowledge(machine: &mut Machine, model: &mut Model, vcpu: usize) {
    let expected = model.signalled(vcpu);
    let signalled = machine.cpus[vcpu].signalled();
    assert_eq!(
        signalled.is_some(),
        !expected.is_empty(),
        "expected one of {expected:?}"
    );
    let Some(group) = signalled else { return };
    let taken = machine.ack_group(VcpuId::new(vcpu as u16), group);
    let intid = taken.expect("what is signalled can be acknowledged");
    assert!(
        expected.contains(&intid),
        "{intid} instead of one of {expected:?}"
    );
    assert_eq!(group, group_of(intid));
    let irq = model.irq(vcpu, intid);
    irq.latch = false;
    irq.fired = false;
    irq.active_on = Some(vcpu);
    let priority = irq.priority;
    model.running[vcpu].push((priority, intid));
}

fn inspect(machine: &mut Machine, model: &Model) {
    for ((vcpu, intid), irq) in &model.irqs {
        let pending = machine.bit(*vcpu, ISPENDR, *intid);
        assert_eq!(
            pending,
            irq.pending(),
            "{intid} of vCPU {vcpu} pending: {irq:?}"
        );
        let active = machine.bit(*vcpu, ISACTIVER, *intid);
        assert_eq!(
            active,
            irq.active_on.is_some(),
            "{intid} of vCPU {vcpu} active: {irq:?}"
        );
        if *intid == LINKED_PPI {
            let link = machine.vgic.link(VcpuId::new(*vcpu as u16), id(LINKED_PPI));
            assert_eq!(link.is_some(), irq.physical, "link of vCPU {vcpu}: {irq:?}");
        }
    }
}

fn run(lr_count: usize, split: bool, slow: bool, ops: &[Op]) {
    let mut machine = Machine::with_cpus(VCPUS as u64, &FakeIch::new(lr_count));
    machine.enable_all();
    for vcpu in 0..VCPUS {
        machine.gicr(vcpu, IGROUPR, !(1 << 2));
        machine.cpus[vcpu].set_eoi_mode(split);
    }
    machine.gicd(IGROUPR + 8, !1);
    machine.refresh(BOOT);
    machine.refresh(VcpuId::new(1));
    assert_eq!(SPIS.len() + SGIS.len() + 2, IRQS.len());
    let mut model = Model::new(split);
    machine.slow = slow;
    for op in ops {
        step(&mut machine, &mut model, op);
        machine.check_list_registers();
    }
    inspect(&mut machine, &model);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn guest_sees_the_interrupts_of_a_plain_gic(
        lr_count in prop_oneof![Just(1usize), Just(2), Just(3), Just(4), Just(16)],
        split in any::<bool>(),
        slow in any::<bool>(),
        ops in prop::collection::vec(op(), 1..250),
    ) {
        run(lr_count, split, slow, &ops);
    }
}
