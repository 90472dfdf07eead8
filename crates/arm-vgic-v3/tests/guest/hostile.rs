//! Guests that write anything anywhere.

use arm_vgic_v3::{Frame, SgiRegister, Vgic};
use proptest::prelude::*;
use vm_contract::{VcpuId, Width};

use crate::machine::{BOOT, Machine};

const WIDTHS: [Width; 4] = [Width::Byte, Width::Half, Width::Word, Width::Dword];

#[test]
fn every_offset_answers_at_every_width() {
    let mut machine = Machine::ready(2, 2);
    for (frame, size) in [
        (Frame::Distributor, 0x1_0010),
        (Frame::Redistributors, 0x4_0010),
    ] {
        for offset in 0..size {
            for width in WIDTHS {
                let read = machine.vgic.read(BOOT, frame, offset, width);
                if let Ok(value) = read {
                    assert_eq!(
                        width.truncate(value),
                        value,
                        "{frame:?} {offset:#x} {width:?}"
                    );
                }
                let written = machine.vgic.write(BOOT, frame, offset, width, u64::MAX);
                assert_eq!(
                    read.is_ok(),
                    written.is_ok(),
                    "{frame:?} {offset:#x} {width:?}"
                );
                if let Ok(kicks) = written {
                    machine.serve(kicks);
                }
            }
        }
    }
    machine.check_list_registers();
}

#[derive(Clone, Debug)]
enum Op {
    Access {
        frame: Frame,
        offset: u64,
        width: Width,
        value: u64,
    },
    Sgi {
        sender: u16,
        register: SgiRegister,
        value: u64,
    },
    Line {
        intid: u32,
        asserted: bool,
    },
    Fire {
        vcpu: u16,
    },
    Guest {
        vcpu: u16,
        group1: bool,
        intid: u32,
        what: u8,
    },
    Control {
        vcpu: u16,
        hcr: u64,
    },
    Rebind {
        vcpu: u16,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let offset = prop_oneof![
        4 => (0u64..0x104).prop_map(|word| word * 4),
        2 => (0x80u64..0x400).prop_map(|word| word * 4),
        1 => 0x6000u64..0x6200,
        4 => (0u64..0x400, 0u64..2).prop_map(|(word, cpu)| cpu * 0x2_0000 + 0x1_0000 + word * 4),
        1 => any::<u64>(),
    ];
    let value = prop_oneof![any::<u64>(), Just(u64::MAX), Just(0)];
    let frame = prop_oneof![Just(Frame::Distributor), Just(Frame::Redistributors)];
    let register = prop_oneof![
        Just(SgiRegister::Sgi1),
        Just(SgiRegister::Asgi1),
        Just(SgiRegister::Sgi0)
    ];
    prop_oneof![
        8 => (frame, offset, 0..6usize, value).prop_map(|(frame, offset, width, value)| {
            let width = WIDTHS.get(width).copied().unwrap_or(Width::Word);
            Op::Access { frame, offset, width, value }
        }),
        2 => (0..4u16, register, any::<u64>())
            .prop_map(|(sender, register, value)| Op::Sgi { sender, register, value }),
        2 => (0..1020u32, any::<bool>()).prop_map(|(intid, asserted)| Op::Line { intid, asserted }),
        2 => (0..3u16).prop_map(|vcpu| Op::Fire { vcpu }),
        8 => (0..2u16, any::<bool>(), 0..100u32, 0..4u8)
            .prop_map(|(vcpu, group1, intid, what)| Op::Guest { vcpu, group1, intid, what }),
        1 => (0..2u16, any::<u64>()).prop_map(|(vcpu, hcr)| Op::Control { vcpu, hcr }),
        1 => (0..2u16).prop_map(|vcpu| Op::Rebind { vcpu }),
    ]
}

fn step(machine: &mut Machine, op: &Op) {
    match *op {
        Op::Access {
            frame,
            offset,
            width,
            value,
        } => {
            if Vgic::needs_fold(frame, offset) {
                machine.refresh(BOOT);
            }
            let _ = machine.vgic.read(BOOT, frame, offset, width);
            if let Ok(kicks) = machine.vgic.write(BOOT, frame, offset, width, value) {
                machine.serve(kicks);
            }
        }
        Op::Sgi {
            sender,
            register,
            value,
        } => {
            let kicks = machine.vgic.send_sgi(VcpuId::new(sender), register, value);
            machine.serve(kicks);
        }
        Op::Line { intid, asserted } => machine.line(intid, asserted),
        Op::Fire { vcpu } => {
            let kicks = machine.vgic.raise_linked(
                VcpuId::new(vcpu),
                crate::machine::id(27),
                crate::machine::id(27),
            );
            machine.serve(kicks);
        }
        Op::Guest {
            vcpu,
            group1,
            intid,
            what,
        } => {
            use arm_vgic_v3::Group;
            let group = if group1 { Group::One } else { Group::Zero };
            let vcpu = VcpuId::new(vcpu);
            match what {
                0 => {
                    machine.ack_group(vcpu, group);
                }
                1 => machine.end_group(vcpu, group, intid),
                2 => machine.deactivate(vcpu, intid),
                _ => machine.cpus[vcpu.index()].set_eoi_mode(group1),
            }
        }
        Op::Control { vcpu, hcr } => {
            // The guest has set priority mask, groups and binary points anew.
            use arm_vgic_v3::IchRegs;
            machine.cpus[usize::from(vcpu)].write_vmcr(hcr & 0xFFFF_FFFF);
            machine.maintain(VcpuId::new(vcpu));
        }
        Op::Rebind { vcpu } => {
            machine.rebind(VcpuId::new(vcpu));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_guest_breaks_the_list_registers(
        lr_count in 1..5usize,
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let mut machine = Machine::ready(2, lr_count);
        for op in &ops {
            step(&mut machine, op);
            machine.check_list_registers();
        }
    }
}
