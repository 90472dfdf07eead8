//! Random guests against the plainest GICv2 there is: the same registers, nothing
//! lost, nothing doubled, always the highest priority first, whatever the list
//! registers do.

use proptest::prelude::*;
use vm_contract::Width;

use crate::machine::{
    ICACTIVER, IPRIORITYR, ISACTIVER, ITARGETSR, Machine, SGIR, SPENDSGIR, id, vcpu,
};

const VCPUS: usize = 3;
/// SGIs, PPIs and 64 SPIs.
const IRQS: usize = 96;
const LINKED_PPI: usize = 27;
const SPURIOUS: u32 = 1023;
const WIDTHS: [Width; 3] = [Width::Byte, Width::Half, Width::Word];

/// One interrupt as a GIC without list registers keeps it.
#[derive(Clone, Copy, Debug, Default)]
struct Irq {
    group1: bool,
    enabled: bool,
    priority: u8,
    edge: bool,
    line: bool,
    latch: bool,
    targets: u8,
    /// Of an SGI: who has sent it.
    sources: u8,
    /// The linked physical interrupt fired and the guest has not taken it.
    fired: bool,
    /// The physical interrupt is active.
    physical: bool,
    active: bool,
}

impl Irq {
    fn is_pending(&self) -> bool {
        self.latch || self.fired || self.sources != 0 || self.line && !self.edge
    }
}

/// What a CPU is handling: the priority, and what GICC_IAR said.
type Running = (u8, u32);

struct Model {
    /// By vCPU and INTID; those of SPIs at vCPU 0.
    irqs: [[Irq; IRQS]; VCPUS],
    ctlr: u32,
    masks: [u8; VCPUS],
    enables: [u32; VCPUS],
    running: [Vec<Running>; VCPUS],
    /// Whose priority was dropped, but which are still active: EOImode.
    dropped: [Vec<u32>; VCPUS],
    split: bool,
}

impl Model {
    fn new(split: bool) -> Self {
        let mut irqs = [[Irq::default(); IRQS]; VCPUS];
        for (owner, irqs) in irqs.iter_mut().enumerate() {
            for (intid, irq) in irqs.iter_mut().enumerate() {
                irq.enabled = intid < 16;
                irq.edge = intid < 16;
                irq.targets = if intid < 32 { 1 << owner } else { 0 };
            }
        }
        Self {
            irqs,
            ctlr: 0,
            masks: [0xF8; VCPUS],
            enables: [3; VCPUS],
            running: Default::default(),
            dropped: Default::default(),
            split,
        }
    }

    fn irq(&mut self, asker: usize, intid: usize) -> &mut Irq {
        &mut self.irqs[if intid < 32 { asker } else { 0 }][intid]
    }

    /// Reads one byte of a register.
    fn read_byte(&mut self, asker: usize, offset: u64) -> u8 {
        let bits = |model: &mut Self, is_set: fn(&Irq) -> bool| {
            let first = (offset as usize & 0x7F) * 8;
            let intids = first..(first + 8).min(IRQS.max(first));
            intids.fold(0, |byte, intid| {
                byte | u8::from(is_set(model.irq(asker, intid))) << (intid - first)
            })
        };
        match offset {
            0x000 => self.ctlr as u8,
            0x004 => (VCPUS as u8 - 1) << 5 | 2,
            0x00A => 2,
            0x00B => 0x41,
            0x080..0x100 => bits(self, |irq| irq.group1),
            0x100..0x200 => bits(self, |irq| irq.enabled),
            0x200..0x300 => bits(self, Irq::is_pending),
            0x300..0x400 => bits(self, |irq| irq.active),
            0x400..0x460 => self.irq(asker, offset as usize - 0x400).priority,
            0x800..0x860 => self.irq(asker, offset as usize - 0x800).targets,
            0xC00..0xC18 => {
                let first = (offset as usize - 0xC00) * 4;
                (0..4).fold(0, |byte, n| {
                    byte | u8::from(self.irq(asker, first + n).edge) << (2 * n + 1)
                })
            }
            0xF10..0xF30 => self.irq(asker, offset as usize & 0xF).sources,
            0xFD0 => 0x04,
            0xFE0 => 0x90,
            0xFE4 => 0xB4,
            0xFE8 => 0x2B,
            0xFF0 => 0x0D,
            0xFF4 => 0xF0,
            0xFF8 => 0x05,
            0xFFC => 0xB1,
            _ => 0,
        }
    }

    /// Writes one byte of a register.
    fn write_byte(&mut self, asker: usize, offset: u64, value: u8) {
        let first = (offset as usize & 0x7F) * 8;
        let each = |model: &mut Self, change: fn(&mut Irq, bool), from: usize| {
            for n in 0..8 {
                let (intid, bit) = (first + n, value >> n & 1 != 0);
                if intid < IRQS && intid >= from {
                    change(model.irq(asker, intid), bit);
                }
            }
        };
        match offset {
            0x000 => self.ctlr = u32::from(value) & 3,
            0x080..0x100 => each(self, |irq, bit| irq.group1 = bit, 0),
            0x100..0x180 => each(self, |irq, bit| irq.enabled |= bit, 16),
            0x180..0x200 => each(self, |irq, bit| irq.enabled &= !bit, 16),
            0x200..0x280 => each(self, |irq, bit| irq.latch |= bit, 16),
            0x280..0x300 => each(self, |irq, bit| irq.latch &= !bit, 16),
            0x300..0x380 => each(self, |irq, bit| irq.active |= bit, 0),
            0x380..0x400 => each(
                self,
                |irq, bit| {
                    irq.active &= !bit;
                    // Nobody has looked at the source of a linked one yet.
                    irq.fired |= bit && irq.physical;
                },
                0,
            ),
            0x400..0x460 => self.irq(asker, offset as usize - 0x400).priority = value & 0xF8,
            0x820..0x860 => {
                self.irq(0, offset as usize - 0x800).targets = value & ((1 << VCPUS) - 1);
            }
            0xC04..0xC18 => {
                for n in 0..4 {
                    let intid = (offset as usize - 0xC00) * 4 + n;
                    self.irq(asker, intid).edge = value >> (2 * n + 1) & 1 != 0;
                }
            }
            0xF10..0xF20 => self.irq(asker, offset as usize & 0xF).sources &= !value,
            0xF20..0xF30 => {
                self.irq(asker, offset as usize & 0xF).sources |= value & ((1 << VCPUS) - 1);
            }
            _ => {}
        }
    }

    fn write(&mut self, asker: usize, offset: u64, width: Width, value: u32) {
        if offset == SGIR {
            let targets = match value >> 24 & 3 {
                0 => value >> 16,
                1 => !(1 << asker),
                2 => 1 << asker,
                _ => 0,
            };
            for target in (0..VCPUS).filter(|n| targets >> n & 1 != 0) {
                self.irq(target, value as usize & 0xF).sources |= 1 << asker;
            }
            return;
        }
        let bytes = value.to_le_bytes();
        for (n, byte) in (0..width.bytes()).zip(bytes) {
            self.write_byte(asker, offset + n, byte);
        }
    }

    /// Returns what GICC_IAR may say: one of these, or 1023 if there are none.
    fn signalled(&mut self, asker: usize) -> Vec<(u8, u32)> {
        let mut candidates = Vec::new();
        for intid in 0..IRQS {
            let irq = *self.irq(asker, intid);
            let group = if irq.group1 { 2 } else { 1 };
            let mine = irq.targets != 0 && irq.targets.trailing_zeros() as usize == asker;
            let forwarded =
                irq.enabled && self.ctlr & group != 0 && self.enables[asker] & group != 0;
            if irq.is_pending() && !irq.active && mine && forwarded {
                if irq.sources == 0 {
                    candidates.push((irq.priority, intid as u32));
                }
                let sources = (0..8).filter(|source| irq.sources >> source & 1 != 0);
                candidates.extend(sources.map(|n| (irq.priority, n << 10 | intid as u32)));
            }
        }
        let best = candidates.iter().map(|(priority, _)| *priority).min();
        let running = self.running[asker]
            .last()
            .map_or(0x100, |(priority, _)| (*priority).into());
        candidates.retain(|(priority, _)| {
            Some(*priority) == best
                && *priority < self.masks[asker]
                && u16::from(*priority) < running
        });
        candidates
    }

    fn deactivate(&mut self, asker: usize, iar: u32) {
        let irq = self.irq(asker, iar as usize & 0x3FF);
        irq.active = false;
        irq.physical &= irq.fired;
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write {
        asker: usize,
        offset: u64,
        width: Width,
        value: u32,
    },
    Read {
        asker: usize,
        offset: u64,
        width: Width,
    },
    Line {
        asker: usize,
        intid: usize,
        asserted: bool,
    },
    Fire {
        asker: usize,
    },
    Lower {
        asker: usize,
    },
    Mask {
        asker: usize,
        mask: u8,
    },
    Enables {
        asker: usize,
        groups: u32,
    },
    Acknowledge {
        asker: usize,
    },
    End {
        asker: usize,
    },
    Deactivate {
        asker: usize,
        which: usize,
    },
    Move {
        asker: usize,
        lr_count: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let asker = || 0..VCPUS;
    // Registers that describe interrupts, those few that do not, and anything.
    let offset = prop_oneof![
        // Fewer active ones by register: they only wait.
        8 => (prop_oneof![Just(0x80u64), Just(0x100), Just(0x180), Just(0x200), Just(0x280),
            Just(0x200), Just(ICACTIVER), Just(ICACTIVER)], 0..3u64)
            .prop_map(|(base, n)| base + 4 * n),
        1 => (0..3u64).prop_map(|n| ISACTIVER + 4 * n),
        6 => (prop_oneof![Just(IPRIORITYR), Just(ITARGETSR), Just(ITARGETSR)], 0..0x60u64)
            .prop_map(|(base, n)| base + n),
        1 => 0xC00..0xC20u64,
        3 => Just(SGIR),
        2 => 0xF10..0xF30u64,
        1 => Just(0u64),
        1 => 0..0x1000u64,
    ];
    let value = prop_oneof![
        4 => any::<u32>(),
        2 => (0..32u32).prop_map(|n| 1 << n),
        2 => Just(0x0101_0101u32),
        1 => Just(u32::MAX),
    ];
    let width = || prop_oneof![4 => Just(2usize), 1 => Just(1), 2 => Just(0)];
    prop_oneof![
        20 => (asker(), offset.clone(), width(), value).prop_map(|(asker, offset, width, value)| {
            Op::Write { asker, offset, width: WIDTHS[width], value }
        }),
        6 => (asker(), offset, width())
            .prop_map(|(asker, offset, width)| Op::Read { asker, offset, width: WIDTHS[width] }),
        8 => (asker(), 16..IRQS, any::<bool>())
            .prop_map(|(asker, intid, asserted)| Op::Line { asker, intid, asserted }),
        2 => asker().prop_map(|asker| Op::Fire { asker }),
        1 => asker().prop_map(|asker| Op::Lower { asker }),
        1 => (asker(), prop_oneof![Just(0xF8u8), Just(0xF8), Just(0x60)])
            .prop_map(|(asker, mask)| Op::Mask { asker, mask }),
        1 => (asker(), prop_oneof![Just(3u32), Just(3), Just(2), Just(1)])
            .prop_map(|(asker, groups)| Op::Enables { asker, groups }),
        14 => asker().prop_map(|asker| Op::Acknowledge { asker }),
        10 => asker().prop_map(|asker| Op::End { asker }),
        8 => (asker(), 0..8usize).prop_map(|(asker, which)| Op::Deactivate { asker, which }),
        1 => (asker(), 1..5usize).prop_map(|(asker, lr_count)| Op::Move { asker, lr_count }),
    ]
}

/// Does `op` on both sides and compares what the guest sees.
fn step(machine: &mut Machine, model: &mut Model, op: &Op) {
    match *op {
        Op::Write {
            asker,
            offset,
            width,
            value,
        } => {
            let value = permitted(model, asker, offset, value);
            if machine.try_write(asker, offset, width, value.into()) {
                model.write(asker, offset, width, value);
            }
        }
        Op::Read {
            asker,
            offset,
            width,
        } => compare(machine, model, asker, offset, width),
        Op::Line {
            asker,
            intid,
            asserted,
        } => {
            if intid == LINKED_PPI {
                return;
            }
            let irq = model.irq(asker, intid);
            irq.latch |= irq.edge && asserted && !irq.line;
            irq.line = asserted;
            if intid < 32 {
                machine.ppi_line(asker, intid as u32, asserted);
            } else {
                machine.line(intid as u32, asserted);
            }
        }
        Op::Fire { asker } => {
            let irq = model.irq(asker, LINKED_PPI);
            if !irq.physical {
                (irq.physical, irq.fired) = (true, true);
                machine.fire(asker, LINKED_PPI as u32);
            }
        }
        Op::Lower { asker } => {
            // Folds what the list registers hold.
            machine.try_read(asker, ISACTIVER, Width::Word);
            machine.move_to_cpu_with(asker, 4);
            let irq = model.irq(asker, LINKED_PPI);
            let lowered = machine
                .vgic
                .is_linked_pending(vcpu(asker), id(LINKED_PPI as u32));
            if lowered {
                assert!(irq.fired && !irq.active);
                (irq.fired, irq.physical) = (false, false);
                let physical = machine
                    .vgic
                    .lower_linked(vcpu(asker), id(LINKED_PPI as u32));
                assert_eq!(physical, Some(id(LINKED_PPI as u32)));
            }
        }
        Op::Mask { asker, mask } => {
            model.masks[asker] = mask;
            machine.gicv(asker).write_pmr(mask);
        }
        Op::Enables { asker, groups } => {
            model.enables[asker] = groups;
            let split = if model.split { 0x200 } else { 0 };
            machine.gicv(asker).write_ctlr(split | 0x4 | groups);
            machine.maintain(asker);
        }
        Op::Acknowledge { asker } => {
            let expected = model.signalled(asker);
            let iar = machine.acknowledge(asker);
            let Some((priority, _)) = expected.iter().find(|(_, expected)| *expected == iar) else {
                assert!(
                    iar == SPURIOUS && expected.is_empty(),
                    "{iar:#x} instead of one of {expected:#x?}"
                );
                return;
            };
            let irq = model.irq(asker, iar as usize & 0x3FF);
            (irq.latch, irq.fired, irq.active) = (false, false, true);
            irq.sources &= !(1 << (iar >> 10));
            model.running[asker].push((*priority, iar));
        }
        Op::End { asker } => {
            if let Some((_, iar)) = model.running[asker].pop() {
                machine.end(asker, iar);
                if model.split {
                    model.dropped[asker].push(iar);
                } else {
                    model.deactivate(asker, iar);
                }
            }
        }
        Op::Deactivate { asker, which } => {
            let count = model.dropped[asker].len();
            if count != 0 {
                let iar = model.dropped[asker].remove(which % count);
                // Whoever writes GICC_DIR: an SPI has one state.
                let shared = iar & 0x3FF >= 32;
                machine.deactivate(if shared { which % VCPUS } else { asker }, iar);
                model.deactivate(asker, iar);
            }
        }
        Op::Move { asker, lr_count } => {
            let deliverable = machine.move_to_cpu_with(asker, lr_count);
            assert_eq!(
                deliverable,
                !model.signalled(asker).is_empty(),
                "deliverable"
            );
        }
    }
}

/// Takes out of a write what no guest in its senses does: deactivating an interrupt by
/// register before its priority is dropped. Others who had it in hand forget it.
fn permitted(model: &mut Model, asker: usize, offset: u64, value: u32) -> u32 {
    if !(ICACTIVER..IPRIORITYR).contains(&offset) {
        return value;
    }
    let first = (offset as usize & 0x7C) * 8;
    let named = |iar: &u32| iar & 0x3FF;
    let mut value = value;
    for n in (0..32).filter(|n| value >> n & 1 != 0).collect::<Vec<_>>() {
        let intid = first as u32 + n;
        let askers = if intid < 32 {
            asker..asker + 1
        } else {
            0..VCPUS
        };
        for asker in askers {
            if model.running[asker]
                .iter()
                .any(|(_, iar)| named(iar) == intid)
            {
                value &= !(1 << n);
            } else if offset.is_multiple_of(4) {
                model.dropped[asker].retain(|iar| named(iar) != intid);
            }
        }
    }
    value
}

fn compare(machine: &mut Machine, model: &mut Model, asker: usize, offset: u64, width: Width) {
    if let Some(value) = machine.try_read(asker, offset, width) {
        let bytes = (0..width.bytes()).map(|n| model.read_byte(asker, offset + n));
        let expected = bytes
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(byte));
        assert_eq!(
            value, expected,
            "{offset:#x} {width:?} as vCPU {asker} reads it"
        );
    }
}

fn run(lr_count: usize, split: bool, ops: &[Op]) {
    let mut machine = Machine::new(VCPUS, lr_count);
    let mut model = Model::new(split);
    // Something is on from the beginning, or little happens.
    for (offset, value) in [(0, 3), (0x104, u32::MAX), (0x108, 0xFFFF)] {
        step(&mut machine, &mut model, &write(0, offset, value));
    }
    for asker in 0..VCPUS {
        step(&mut machine, &mut model, &Op::Enables { asker, groups: 3 });
        step(&mut machine, &mut model, &write(asker, 0x100, u32::MAX));
        for n in 0..24 {
            let priorities = 0xA0_60_C0_80_u32.rotate_left(8 * n as u32 % 32);
            step(
                &mut machine,
                &mut model,
                &write(asker, IPRIORITYR + 4 * n, priorities),
            );
            step(
                &mut machine,
                &mut model,
                &write(asker, ITARGETSR + 4 * n, 0x0402_0107),
            );
        }
    }
    for op in ops {
        step(&mut machine, &mut model, op);
        machine.check_list_registers();
    }
    for asker in 0..VCPUS {
        for offset in (0..0x1000)
            .step_by(4)
            .filter(|offset| *offset != SPENDSGIR - 0x30)
        {
            compare(&mut machine, &mut model, asker, offset, Width::Word);
        }
    }
}

fn write(asker: usize, offset: u64, value: u32) -> Op {
    Op::Write {
        asker,
        offset,
        width: Width::Word,
        value,
    }
}

/// Returns how many random guests to run: 10,000, or as `ARMATURE_CASES` says.
pub(crate) fn cases() -> u32 {
    std::env::var("ARMATURE_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(10_000)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn guest_sees_a_plain_gic(
        lr_count in 1..5usize,
        split in any::<bool>(),
        ops in prop::collection::vec(op(), 200..=220),
    ) {
        run(lr_count, split, &ops);
    }
}
