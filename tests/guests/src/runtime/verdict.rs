//! The last line of a guest.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use super::{console, mmu, smccc};
use crate::say;

#[expect(unsafe_code, reason = "`guest!` defines the function")]
mod name {
    unsafe extern "Rust" {
        pub(super) safe fn guest_name() -> &'static str;
    }
}

/// Reports that all checks passed and turns the machine off.
pub fn pass() -> ! {
    say!("guest {}: ok", name::guest_name());
    power_off()
}

/// Reports the line that [`pass`] prints, for a guest that ends in its own way.
pub fn announce_pass() {
    say!("guest {}: ok", name::guest_name());
    console::drain();
}

/// Reports what failed and turns the machine off, from any CPU. Only the first
/// failure is reported.
pub fn fail(what: fmt::Arguments<'_>) -> ! {
    static FAILED: AtomicBool = AtomicBool::new(false);
    // Without the MMU there is one CPU, and no read-modify-write.
    if mmu::is_enabled() && FAILED.swap(true, Ordering::Relaxed) {
        loop {
            core::hint::spin_loop();
        }
    }
    console::recover();
    say!("guest {}: FAILED: {what}", name::guest_name());
    power_off()
}

fn power_off() -> ! {
    console::drain();
    smccc::psci(smccc::SYSTEM_OFF, [0; 3]);
    say!("SYSTEM_OFF returned");
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(format_args!("{info}"))
}
