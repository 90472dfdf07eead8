//! Drivers that do anything to a console, while somebody types: the console holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(finding) = virtio_devices::fakes::fuzz::console(input) {
        panic!("{finding}");
    }
});
