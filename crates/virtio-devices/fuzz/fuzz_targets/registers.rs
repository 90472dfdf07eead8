//! Any access to any register: the transport holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(finding) = virtio_devices::fakes::fuzz::registers(input) {
        panic!("{finding}");
    }
});
