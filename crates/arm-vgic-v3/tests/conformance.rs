//! The conformance suite against the reference and against our vGIC, and both side
//! by side under random guests.

use std::collections::BTreeSet;

use arm_vgic_v3::Frame;
use arm_vgic_v3::conformance::{
    self, Failure, GicUnderTest, IccRegister, MachineConfig, ReferenceGic, Signals, Step,
    VgicMachine, fuzz, rule_table, rules,
};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use vm_contract::{AccessError, Width};

fn assert_conforms(config: MachineConfig) {
    let report = conformance::run(&VgicMachine::factory(config));
    assert!(report.is_clean(), "{config:?}: {report}");
    assert_eq!(report.skipped, 0, "{config:?}");
}

#[test]
fn reference_keeps_all_rules() {
    let report = conformance::run(&|shape| Box::new(ReferenceGic::new(shape)));
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.skipped, 0);
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

/// A GIC that says that it takes no messages.
struct WithoutMessages(ReferenceGic);

impl GicUnderTest for WithoutMessages {
    fn read(
        &mut self,
        vcpu: usize,
        frame: Frame,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        let value = self.0.read(vcpu, frame, offset, width)?;
        let is_type = frame == Frame::Distributor && offset == 4;
        Ok(if is_type { value & !(1 << 16) } else { value })
    }

    fn write(
        &mut self,
        vcpu: usize,
        frame: Frame,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<(), AccessError> {
        self.0.write(vcpu, frame, offset, width, value)
    }

    fn read_icc(&mut self, vcpu: usize, register: IccRegister) -> u64 {
        self.0.read_icc(vcpu, register)
    }

    fn write_icc(&mut self, vcpu: usize, register: IccRegister, value: u64) {
        self.0.write_icc(vcpu, register, value);
    }

    fn set_spi(&mut self, intid: u32, asserted: bool) {
        self.0.set_spi(intid, asserted);
    }

    fn set_ppi(&mut self, vcpu: usize, intid: u32, asserted: bool) {
        self.0.set_ppi(vcpu, intid, asserted);
    }

    fn signals(&mut self, vcpu: usize) -> Signals {
        self.0.signals(vcpu)
    }
}

#[test]
fn rules_about_what_a_gic_does_not_have_are_skipped() {
    let report = conformance::run(&|shape| Box::new(WithoutMessages(ReferenceGic::new(shape))));
    let about_messages = rules().filter(|rule| rule.clause.contains("SPI_NSR"));
    assert_eq!(report.skipped, about_messages.count());
    // It says what is not true.
    let broken: Vec<_> = report.broken.iter().map(|(rule, _)| rule.clause).collect();
    assert_eq!(broken, ["GICD_TYPER"]);
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

#[test]
fn corpus_of_hostile_guests_breaks_nothing() {
    let outcome = fuzz::replay(include_str!("corpus/hostile.txt"), fuzz::hostile);
    assert_eq!(outcome, Ok(()));
}

#[test]
fn corpus_of_guests_sees_the_same_as_on_the_reference() {
    let outcome = fuzz::replay(include_str!("corpus/guests.txt"), fuzz::guests);
    assert_eq!(outcome, Ok(()));
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
