//! Frames of any kind at a switch whose ports come and go: it does as the model.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(failure) = vswitch::fakes::compare(input) {
        panic!("{failure}");
    }
});
