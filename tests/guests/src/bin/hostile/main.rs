//! Does everything that a guest may try and should not get: it must stop
//! nothing but itself, and see nothing but its own machine.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod addresses;
#[cfg(target_os = "none")]
mod calls;
#[cfg(target_os = "none")]
mod everyone;
#[cfg(target_os = "none")]
mod instructions;
#[cfg(target_os = "none")]
mod interrupts;
#[cfg(target_os = "none")]
mod registers;
#[cfg(target_os = "none")]
mod tables;
#[cfg(target_os = "none")]
mod virtio;

test_guests::guest!("hostile", run);

#[cfg(target_os = "none")]
fn run() {
    use test_guests::runtime::{machine, smccc};
    use test_guests::say;

    if machine::has_boot_word("virtio") {
        virtio::check_for_ever();
    }
    let virtualised = smccc::smc_answers();
    say!(
        "SMC {}",
        if virtualised {
            "answers"
        } else {
            "is undefined: a bare machine"
        }
    );
    interrupts::recover("the start");
    calls::check_all(virtualised);
    registers::check_all();
    instructions::check_all();
    tables::check_all();
    interrupts::fuzz();
    addresses::check_all();
    virtio::check_all();
    everyone::check_all(virtualised);
    interrupts::recover("everything");
}
