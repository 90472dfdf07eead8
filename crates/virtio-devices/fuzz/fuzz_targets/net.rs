//! Drivers that do anything to a network card, whose cable is busy: the card holds.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Err(finding) = virtio_devices::fakes::fuzz::net(input) {
        panic!("{finding}");
    }
});
