//! The conformance suite against the reference and against our vGIC, and both side
//! by side under random guests.

use std::collections::BTreeSet;

use arm_vgic_v3::conformance::{
    self, Failure, MachineConfig, ReferenceGic, Step, VgicMachine, fuzz, rule_table, rules,
};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

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
        ..MachineConfig::default()
    });
}

#[test]
fn vgic_keeps_all_rules_with_two_list_registers() {
    assert_conforms(MachineConfig {
        lr_count: 2,
        linked_ppi: Some(27),
        linked_spi: Some(34),
        ..MachineConfig::default()
    });
}

#[test]
fn vgic_keeps_all_rules_with_four_list_registers() {
    assert_conforms(MachineConfig::default());
}

#[test]
fn vgic_keeps_all_rules_with_sixteen_list_registers() {
    assert_conforms(MachineConfig {
        lr_count: 16,
        priority_bits: 7,
        ..MachineConfig::default()
    });
}

#[test]
fn vgic_keeps_all_rules_when_kicks_are_served_late() {
    assert_conforms(MachineConfig {
        lr_count: 3,
        priority_bits: 6,
        prompt: false,
        ..MachineConfig::default()
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
        return;
    }
    assert!(
        written == wanted,
        "RULES.md is out of date: run this test with ARMATURE_WRITE_RULES=1"
    );
}

/// Runs the guest that these numbers stand for.
fn run(number: u8, steps: &[u64]) -> Result<(), Failure> {
    let steps = steps.iter().copied().map(Step::decode);
    fuzz::run_guest(MachineConfig::numbered(number), steps)
}

/// Leaves steps out as long as the guest still fails.
fn shortest(number: u8, steps: &[u64]) -> (Vec<u64>, Failure) {
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
    let guests = (0..48_u8, prop::collection::vec(any::<u64>(), 200));
    let outcome = TestRunner::new(config).run(&guests, |(number, steps)| {
        run(number, &steps).map_err(|failure| TestCaseError::fail(failure.to_string()))
    });
    if let Err(TestError::Fail(_, (number, steps))) = &outcome {
        let (steps, failure) = shortest(*number, steps);
        let told: String = steps
            .iter()
            .map(|&step| format!("{step:#x}: {:x?}\n", Step::decode(step)))
            .collect();
        panic!("{:?}\n{told}{failure}", MachineConfig::numbered(*number));
    }
    outcome.expect("the runner works");
}

/// Runs every input of a corpus: one a line, in hexadecimal digits.
fn replay(corpus: &str, run: impl Fn(&[u8]) -> Result<(), Failure>) {
    for (n, line) in corpus.lines().enumerate() {
        let digits = line.as_bytes().chunks(2);
        let input: Vec<u8> = digits
            .map(|pair| {
                let pair = std::str::from_utf8(pair).expect("digits");
                u8::from_str_radix(pair, 16).expect("digits")
            })
            .collect();
        let outcome = run(&input).map_err(|failure| failure.to_string());
        assert_eq!(outcome, Ok(()), "line {}", n + 1);
    }
}

#[test]
fn corpus_of_hostile_guests_breaks_nothing() {
    replay(include_str!("corpus/hostile.txt"), fuzz::hostile);
}

#[test]
fn corpus_of_guests_sees_the_same_as_on_the_reference() {
    replay(include_str!("corpus/guests.txt"), fuzz::guests);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_guest_breaks_the_vgic(input in prop::collection::vec(any::<u8>(), 0..2400)) {
        if let Err(failure) = fuzz::hostile(&input) {
            return Err(TestCaseError::fail(failure.to_string()));
        }
    }
}
