//! The switch does as its model, whatever happens.

use proptest::prelude::*;
use vswitch::fakes::{compare, replay};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 2_000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_steps_do_the_same_as_in_the_model(
        first: u8,
        steps in prop::collection::vec(any::<u64>(), 0..if cfg!(miri) { 20 } else { 200 }),
    ) {
        let steps = steps.into_iter().flat_map(u64::to_le_bytes);
        let input: Vec<u8> = core::iter::once(first).chain(steps).collect();
        let outcome = compare(&input);
        prop_assert!(outcome.is_ok(), "{:?}", outcome);
    }
}

#[cfg_attr(miri, ignore = "long, and without unsafe code of its own")]
#[test]
fn corpus_does_the_same_as_in_the_model() {
    let outcome = replay(include_str!("corpus/frames.txt"));
    assert_eq!(outcome, Ok(()));
}
