//! The conformance suite against the reference and against our vGIC, and both side
//! by side under random guests.

use std::collections::BTreeSet;

use arm_vgic_v3::conformance::{
    self, Failure, Limits, MachineConfig, ReferenceGic, Step, VgicMachine, compare, rule_table,
    rules,
};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

/// A machine that stands for many.
const USUAL: MachineConfig = MachineConfig {
    lr_count: 4,
    priority_bits: 5,
    dir_trap: true,
    prompt: true,
    linked_ppi: None,
    linked_spi: None,
};

fn assert_conforms(config: MachineConfig) {
    let report = conformance::run(&VgicMachine::factory(config));
    assert!(report.is_clean(), "{config:?}: {report}");
}

#[test]
fn reference_keeps_all_rules() {
    let report = conformance::run(&|shape| Box::new(ReferenceGic::new(shape)));
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.kept, rules().count());
}

#[test]
fn vgic_keeps_all_rules_with_one_list_register() {
    assert_conforms(MachineConfig {
        lr_count: 1,
        ..USUAL
    });
}

#[test]
fn vgic_keeps_all_rules_with_two_list_registers() {
    assert_conforms(MachineConfig {
        lr_count: 2,
        linked_ppi: Some(27),
        linked_spi: Some(34),
        ..USUAL
    });
}

#[test]
fn vgic_keeps_all_rules_with_four_list_registers() {
    assert_conforms(USUAL);
}

#[test]
fn vgic_keeps_all_rules_with_sixteen_list_registers() {
    assert_conforms(MachineConfig {
        lr_count: 16,
        priority_bits: 7,
        ..USUAL
    });
}

#[test]
fn vgic_keeps_all_rules_when_kicks_are_served_late() {
    assert_conforms(MachineConfig {
        lr_count: 3,
        priority_bits: 6,
        prompt: false,
        ..USUAL
    });
}

#[test]
fn rules_have_names_of_their_own() {
    let names: BTreeSet<&str> = rules().map(|rule| rule.name).collect();
    assert_eq!(names.len(), rules().count());
    assert!(names.len() > 80);
}

#[test]
fn table_of_rules_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/RULES.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    let head = written.split("| Arm IHI 0069").next().unwrap_or_default();
    let wanted = format!("{head}{}", rule_table());
    if std::env::var_os("ARMATURE_WRITE_RULES").is_some() {
        std::fs::write(path, &wanted).expect("the table can be written");
    }
    assert!(
        written == wanted,
        "RULES.md is out of date: run this test with ARMATURE_WRITE_RULES=1"
    );
}

/// Returns one of the machines that random guests run on, and what it is spared.
fn machine(number: u64) -> (MachineConfig, Limits) {
    let few = Limits {
        no_written_active: true,
        ..Limits::default()
    };
    let linked = |limits: Limits| Limits {
        linked: &[27, 33],
        ..limits
    };
    let (config, limits) = match number % 8 {
        0 => (
            MachineConfig {
                lr_count: 1,
                ..USUAL
            },
            few,
        ),
        1 => (
            MachineConfig {
                lr_count: 2,
                ..USUAL
            },
            linked(few),
        ),
        2 => (
            MachineConfig {
                lr_count: 3,
                ..USUAL
            },
            few,
        ),
        3 => (
            MachineConfig {
                lr_count: 4,
                ..USUAL
            },
            linked(few),
        ),
        4 => (
            MachineConfig {
                lr_count: 16,
                ..USUAL
            },
            Limits::default(),
        ),
        5 => (
            MachineConfig {
                lr_count: 16,
                ..USUAL
            },
            linked(Limits::default()),
        ),
        6 => (
            MachineConfig {
                lr_count: 16,
                dir_trap: false,
                ..USUAL
            },
            Limits::default(),
        ),
        _ => (
            MachineConfig {
                lr_count: 2,
                dir_trap: false,
                ..USUAL
            },
            Limits {
                no_separate_deactivation: true,
                ..few
            },
        ),
    };
    let config = MachineConfig {
        priority_bits: 5 + (number / 8 % 3) as u32,
        prompt: number < 24,
        linked_ppi: limits.linked.first().copied(),
        linked_spi: limits.linked.get(1).copied(),
        ..config
    };
    (config, limits)
}

/// Runs a guest on our vGIC and on the reference.
fn run(number: u64, steps: &[u64]) -> Result<(), Failure> {
    let (config, limits) = machine(number);
    let shape = conformance::shape();
    let mut vgic = VgicMachine::new(&shape, config);
    let model = ReferenceGic::new(&shape).with_priority_bits(config.priority_bits);
    compare(
        &mut vgic,
        model,
        limits,
        steps.iter().copied().map(Step::decode),
    )
}

/// Leaves steps out as long as the guest still fails.
fn shortest(number: u64, steps: &[u64]) -> (Vec<u64>, Failure) {
    let mut shortest = (steps.to_vec(), Failure::new(String::new()));
    let mut n = 0;
    while n < shortest.0.len() {
        let mut without = shortest.0.clone();
        without.remove(n);
        match run(number, &without) {
            Err(failure) => {
                shortest = (without, failure);
                n = 0;
            }
            Ok(()) => n += 1,
        }
    }
    shortest
}

/// `ARMATURE_CASES` says how many guests run, instead of 10,000.
#[test]
fn random_guests_see_the_same_as_on_the_reference() {
    let cases = std::env::var("ARMATURE_CASES").ok();
    let config = ProptestConfig {
        cases: cases.map_or(10_000, |cases| cases.parse().expect("a number")),
        failure_persistence: None,
        // Leaving steps out tells more than smaller numbers.
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    };
    let guests = (0..48_u64, prop::collection::vec(any::<u64>(), 200));
    let outcome = TestRunner::new(config).run(&guests, |(number, steps)| {
        run(number, &steps).map_err(|failure| TestCaseError::fail(failure.to_string()))
    });
    if let Err(TestError::Fail(_, (number, steps))) = &outcome {
        let (steps, failure) = shortest(*number, steps);
        let told: String = steps
            .iter()
            .map(|&step| format!("{step:#x}: {:x?}\n", Step::decode(step)))
            .collect();
        panic!("{:?}\n{told}{failure}", machine(*number));
    }
    outcome.expect("the runner works");
}
