//! Guests that write anything anywhere and keep no rule.

use proptest::prelude::*;
use vm_contract::Width;

use crate::machine::{Machine, vcpu};

const WIDTHS: [Width; 4] = [Width::Byte, Width::Half, Width::Word, Width::Dword];

#[derive(Clone, Debug)]
enum Op {
    Access {
        asker: usize,
        offset: u64,
        width: usize,
        value: u64,
    },
    Line {
        intid: u32,
        asserted: bool,
    },
    Fire {
        asker: usize,
    },
    Acknowledge {
        asker: usize,
    },
    End {
        asker: usize,
        iar: u32,
    },
    Deactivate {
        asker: usize,
        value: u32,
    },
    Control {
        asker: usize,
        ctlr: u32,
        mask: u8,
    },
    Move {
        asker: usize,
        lr_count: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let asker = || 0..2usize;
    let offset = prop_oneof![8 => 0..0x1000u64, 2 => 0x80..0x400u64, 1 => any::<u64>()];
    let value = prop_oneof![any::<u64>(), Just(u64::MAX), Just(0)];
    prop_oneof![
        12 => (asker(), offset, 0..4usize, value)
            .prop_map(|(asker, offset, width, value)| Op::Access { asker, offset, width, value }),
        3 => (0..1020u32, any::<bool>()).prop_map(|(intid, asserted)| Op::Line { intid, asserted }),
        2 => asker().prop_map(|asker| Op::Fire { asker }),
        8 => asker().prop_map(|asker| Op::Acknowledge { asker }),
        4 => (asker(), 0..0x1FFFu32).prop_map(|(asker, iar)| Op::End { asker, iar }),
        4 => (asker(), any::<u32>()).prop_map(|(asker, value)| Op::Deactivate { asker, value }),
        2 => (asker(), any::<u32>(), any::<u8>())
            .prop_map(|(asker, ctlr, mask)| Op::Control { asker, ctlr, mask }),
        1 => (asker(), 1..6usize).prop_map(|(asker, lr_count)| Op::Move { asker, lr_count }),
    ]
}

fn step(machine: &mut Machine, op: &Op) {
    match *op {
        Op::Access {
            asker,
            offset,
            width,
            value,
        } => {
            let width = WIDTHS[width];
            machine.try_read(asker, offset, width);
            machine.try_write(asker, offset, width, value);
        }
        Op::Line { intid, asserted } => {
            if (16..32).contains(&intid) {
                machine.ppi_line(0, intid, asserted);
            } else {
                machine.line(intid, asserted);
            }
        }
        Op::Fire { asker } => machine.fire(asker, 27),
        Op::Acknowledge { asker } => {
            machine.acknowledge(asker);
        }
        Op::End { asker, iar } => machine.end(asker, iar),
        Op::Deactivate { asker, value } => {
            machine.gicv(asker).deactivate(value);
            machine.deactivate(asker, value);
        }
        Op::Control { asker, ctlr, mask } => {
            machine.gicv(asker).write_ctlr(ctlr);
            machine.gicv(asker).write_pmr(mask);
            machine.maintain(asker);
        }
        Op::Move { asker, lr_count } => {
            machine.move_to_cpu_with(asker, lr_count);
            let _ = machine.vgic.deliverable(vcpu(asker));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: crate::model::cases() / 10,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_guest_breaks_the_list_registers(
        lr_count in 1..5usize,
        ops in prop::collection::vec(op(), 0..400),
    ) {
        let mut machine = Machine::ready(2, lr_count);
        for op in &ops {
            step(&mut machine, op);
            machine.check_list_registers();
        }
    }
}
