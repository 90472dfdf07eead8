//! Guests that do anything, foreseen or not: nothing breaks inside.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(failure) = arm_vgic_v3::conformance::fuzz::hostile(input) {
        panic!("{failure}");
    }
});
