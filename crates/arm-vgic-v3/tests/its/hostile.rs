//! Guests that write anything anywhere.

use arm_vgic_v3::conformance::fuzz;
use proptest::prelude::*;

use crate::driver::drive;
use crate::machine::Machine;
use crate::vm::Whole;

/// Inputs that have something to say, for the replay.
const SEEDS: [&[u8]; 6] = [
    b"",
    b"\x01\x04\x0a\x05\x03\x02\x01\x00\x40\x00\x08\x05\x03",
    b"\x01\x06\x0f\x05\x00\x00\x00\x00\x00\x00\x05\x0e\x05\x00\x00\x01\x00\x00\x00\x02",
    b"\x00\x03\x00\x01\x00\x00\x00\x03\x01\x02\x00\x40\x01\x02\x01\x04\x08\x03\x04\x05\x06\x07",
    b"\x01\x07\x03\x00\xff\xff\xff\xff\xff\xff\xff\xff\x08\x05\x00\x09\x01\xff\xff\xff\xff\xff",
    b"\x01\x09\x02\x05\x00\x09\x02\x05\x00\x09\x02\x05\x01\x02\x00\x02\x01\x00\x88\x00\x03\xff",
];

/// Drives an ITS with plain redistributors, then a whole VM.
fn drive_both(input: &[u8]) {
    drop(drive::<Machine>(input));
    drop(drive::<Whole>(input));
}

#[test]
fn the_seeds_do_no_harm() {
    SEEDS.into_iter().for_each(drive_both);
}

/// What a fuzzer found to reach something new.
#[test]
fn the_corpus_does_no_harm() {
    let outcome = fuzz::replay(include_str!("../corpus/its.txt"), |input| {
        drive_both(input);
        Ok(())
    });
    assert_eq!(outcome, Ok(()));
}

#[test]
fn the_same_bytes_have_the_same_effect() {
    for seed in SEEDS {
        let (first, second) = (drive::<Machine>(seed), drive::<Machine>(seed));
        assert_eq!(first.pending(), second.pending());
        assert_eq!(first.its.rejected(), second.its.rejected());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_bytes_do_harm(data in prop::collection::vec(any::<u8>(), 0..2000)) {
        drive_both(&data);
    }
}
