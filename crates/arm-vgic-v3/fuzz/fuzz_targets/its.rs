//! An ITS driven by bytes: registers, commands, tables and devices in any order.
#![no_main]

#[path = "../../tests/its/driver.rs"]
mod driver;
#[path = "../../tests/its/machine.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod machine;
#[path = "../../tests/its/vm.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod vm;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    drop(driver::drive::<machine::Machine>(input));
    drop(driver::drive::<vm::Whole>(input));
});
