//! Rings that hold anything and change at any time: the queue holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(finding) = virtio_devices::fakes::fuzz::rings(input) {
        panic!("{finding}");
    }
});
