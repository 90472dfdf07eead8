//! What hardware reports and what stops a VM.

use arm_vcpu::{RawExit, Syndrome};

use super::{
    DATA_ABORT, ENTRY, EXTERNAL, VECTORS, assert_abort, assert_undefined, one_guest,
    run_to_the_end, syndrome,
};
use crate::machine::Condition;
use crate::testing::{Inside, Rig};

const DATA_ABORT_LOWER: u64 = 0x24;
const FAULTING: u64 = 0x4000_1238;

/// Leaves by a data abort with this ISS.
fn data_abort(inside: &mut Inside<'_>, iss: u64) -> RawExit {
    inside.registers.vbar_el1 = VECTORS;
    RawExit::Synchronous(Syndrome {
        esr: syndrome(DATA_ABORT_LOWER, iss),
        far: FAULTING,
        hpfar: 0,
    })
}

#[test]
fn an_external_abort_of_the_machine_is_passed_on() {
    let mut rig = one_guest();
    rig.script(0, 0)
        .leave(|inside| data_abort(inside, EXTERNAL))
        .look(|inside| {
            assert_abort(inside, DATA_ABORT, FAULTING, ENTRY);
        });
    run_to_the_end(&mut rig);
}

#[test]
fn tables_of_the_guest_outside_its_memory_abort_the_access() {
    const S1PTW: u64 = 1 << 7;
    const TRANSLATION_LEVEL_2: u64 = 0x06;
    let mut rig = one_guest();
    rig.script(0, 0)
        .leave(|inside| data_abort(inside, S1PTW | TRANSLATION_LEVEL_2))
        .look(|inside| {
            assert_abort(inside, DATA_ABORT, FAULTING, ENTRY);
        });
    run_to_the_end(&mut rig);
}

#[test]
fn cache_maintenance_where_nothing_is_mapped_does_nothing() {
    const CM_WRITE: u64 = 1 << 8 | 1 << 6;
    const TRANSLATION_LEVEL_3: u64 = 0x07;
    let mut rig = one_guest();
    rig.script(0, 0)
        .leave(|inside| data_abort(inside, CM_WRITE | TRANSLATION_LEVEL_3))
        .look(|inside| assert_eq!(inside.frame.elr, ENTRY + 4));
    run_to_the_end(&mut rig);
}

#[test]
fn an_unknown_class_of_exception_is_an_undefined_instruction() {
    let mut rig = one_guest();
    for class in [0x00, 0x07, 0x19, 0x1d, 0x3f] {
        rig.script(0, 0)
            .leave(move |inside| {
                inside.registers.vbar_el1 = VECTORS;
                inside.frame.elr = ENTRY;
                inside.frame.spsr = 0x3c5;
                RawExit::Synchronous(Syndrome {
                    esr: syndrome(class, 0x1ff_ffff),
                    far: 0,
                    hpfar: 0,
                })
            })
            .look(|inside| {
                assert_undefined(inside);
            });
    }
    run_to_the_end(&mut rig);
}

#[test]
fn an_serror_stops_its_vm_and_no_other() {
    let mut rig = Rig::new(&[&[0, 1], &[1]]);
    rig.script(0, 0).exit(RawExit::SError { esr: 0xbf00_0002 });
    rig.settle();
    assert!(rig.hypervisor.any_fault());
    assert!(!rig.hypervisor.is_over(), "the other VM goes on");
    assert!(rig.hypervisor.slots()[0].vm().is_none(), "it has stopped");
    rig.script(1, 0).call(smccc::psci::PSCI_SYSTEM_OFF, [0; 3]);
    rig.run();
    assert!(rig.hypervisor.any_fault());
}

#[test]
fn an_serror_on_one_vcpu_takes_the_others_off_their_cpus() {
    let mut rig = Rig::new(&[&[0, 1, 2]]);
    for target in [1, 2] {
        rig.script(0, 0)
            .call(smccc::psci::PSCI_CPU_ON_64, [target, ENTRY, 0]);
    }
    rig.settle();
    rig.script(0, 2).exit(RawExit::SError { esr: 0xbf00_0002 });
    rig.run();
    assert!(rig.hypervisor.any_fault());
    assert!(rig.is_over());
}

/// What a fetch from where nothing is causes.
fn fetch_from(inside: &mut Inside<'_>, address: u64) -> RawExit {
    const INSTRUCTION_ABORT_LOWER: u64 = 0x20;
    const TRANSLATION_LEVEL_3: u64 = 0x07;
    inside.frame.elr = address;
    RawExit::Synchronous(Syndrome {
        esr: syndrome(INSTRUCTION_ABORT_LOWER, TRANSLATION_LEVEL_3),
        far: address,
        hpfar: address >> 8,
    })
}

#[test]
fn a_guest_without_vectors_is_stopped_when_it_takes_an_exception() {
    const NOWHERE: u64 = 0x0b00_0000;
    const VECTOR: u64 = NOWHERE + 0x200;
    let mut rig = Rig::new(&[&[0], &[1]]);
    rig.script(0, 0)
        .leave(|inside| {
            inside.registers.vbar_el1 = NOWHERE;
            fetch_from(inside, NOWHERE + 0x1000)
        })
        .leave(|inside| {
            assert_eq!(inside.frame.elr, VECTOR, "it takes the abort");
            fetch_from(inside, VECTOR)
        })
        .look(|_| panic!("it never gets any further"));
    rig.settle();
    assert_eq!(rig.hypervisor.slots()[0].condition(), Condition::Failed);
    rig.script(0, 0).clear();
    rig.script(1, 0).call(smccc::psci::PSCI_SYSTEM_OFF, [0; 3]);
    rig.run();
}
