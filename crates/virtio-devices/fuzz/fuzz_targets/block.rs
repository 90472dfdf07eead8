//! Requests that ask for anything: the block device holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(finding) = virtio_devices::fakes::fuzz::block(input) {
        panic!("{finding}");
    }
});
