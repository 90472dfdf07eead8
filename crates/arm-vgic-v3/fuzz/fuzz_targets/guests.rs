//! Guests beside the reference: they see the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(failure) = arm_vgic_v3::conformance::fuzz::guests(input) {
        panic!("{failure}");
    }
});
