//! Drivers that do anything: random ones, and those that a fuzzer found
//! interesting.

use proptest::prelude::*;
use virtio_devices::fakes::fuzz;

#[test]
fn corpus_of_register_accesses_breaks_nothing() {
    let outcome = fuzz::replay(include_str!("corpus/registers.txt"), fuzz::registers);
    assert_eq!(outcome, Ok(()));
}

#[test]
fn corpus_of_rings_breaks_nothing() {
    let outcome = fuzz::replay(include_str!("corpus/rings.txt"), fuzz::rings);
    assert_eq!(outcome, Ok(()));
}

#[test]
fn corpus_of_block_requests_breaks_nothing() {
    let outcome = fuzz::replay(include_str!("corpus/block.txt"), fuzz::block);
    assert_eq!(outcome, Ok(()));
}

#[test]
fn corpus_of_network_drivers_breaks_nothing() {
    let outcome = fuzz::replay(include_str!("corpus/net.txt"), fuzz::net);
    assert_eq!(outcome, Ok(()));
}

#[test]
fn corpus_of_console_drivers_breaks_nothing() {
    let outcome = fuzz::replay(include_str!("corpus/console.txt"), fuzz::console);
    assert_eq!(outcome, Ok(()));
}

#[test]
fn a_corpus_that_is_none_is_refused() {
    assert!(fuzz::replay("0g", fuzz::rings).is_err());
    assert!(fuzz::replay("000", fuzz::rings).is_err());
    let finding = fuzz::replay("00\n11", |input| {
        if input == [0x11] {
            Err("found")
        } else {
            Ok(())
        }
    });
    assert_eq!(finding, Err("line 2: found".to_owned()));
}

fn check(finding: Result<(), fuzz::Finding>) -> Result<(), TestCaseError> {
    finding.map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_register_access_breaks_the_transport(input in prop::collection::vec(any::<u8>(), 0..600)) {
        check(fuzz::registers(&input))?;
    }

    #[test]
    fn no_ring_breaks_a_queue(input in prop::collection::vec(any::<u8>(), 0..600)) {
        check(fuzz::rings(&input))?;
    }

    #[test]
    fn no_request_breaks_the_block_device(input in prop::collection::vec(any::<u8>(), 0..600)) {
        check(fuzz::block(&input))?;
    }

    #[test]
    fn no_driver_breaks_the_network_card(input in prop::collection::vec(any::<u8>(), 0..600)) {
        check(fuzz::net(&input))?;
    }

    #[test]
    fn no_driver_breaks_the_console(input in prop::collection::vec(any::<u8>(), 0..600)) {
        check(fuzz::console(&input))?;
    }
}
