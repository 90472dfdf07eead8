//! The runtime of the test guests: what a program needs to run at EL1 on a
//! machine of the QEMU `virt` layout, with or without a hypervisor below it.
//!
//! A guest is a function that returns when every check has passed:
//!
//! ```ignore
//! test_guests::guest!("example", run);
//!
//! #[cfg(target_os = "none")]
//! fn run() {
//!     let model = test_guests::runtime::probe::read(0x0900_0FE0, 4);
//!     test_guests::check!(model.is_ok(), "the UART answers {model:?}");
//! }
//! ```
//!
//! Its last line on the console is `guest example: ok`, or
//! `guest example: FAILED:` and the reason; then the machine is turned off.
//! A failed check and a panic end it from any CPU.
#![no_std]

#[cfg(target_os = "none")]
pub mod runtime;

/// Makes a program a guest: `guest!("name", run)` calls `run` at EL1 on the
/// boot CPU with the MMU and the caches on, interrupts masked, the GIC as
/// reset left it.
#[cfg(target_os = "none")]
#[macro_export]
macro_rules! guest {
    ($name:literal, $run:path) => {
        #[doc = "Runs the guest and reports what came of it."]
        #[unsafe(no_mangle)]
        extern "Rust" fn guest_main() {
            $run();
        }

        #[doc = "Names the guest."]
        #[unsafe(no_mangle)]
        extern "Rust" fn guest_name() -> &'static str {
            $name
        }
    };
}

/// Makes a program a guest; on a host it only says where it would run.
#[cfg(not(target_os = "none"))]
#[macro_export]
macro_rules! guest {
    ($name:literal, $run:path) => {
        fn main() {
            std::println!(concat!(
                "guest ",
                $name,
                " runs at EL1: build it for aarch64-unknown-none-softfloat ",
                "and give the ELF to `cargo xtask qemu --kernel`"
            ));
        }
    };
}

/// Ends the guest with a verdict unless a condition holds.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            $crate::runtime::verdict::fail(format_args!($($why)+));
        }
    };
}

/// Ends the guest with a verdict unless two values are equal.
#[macro_export]
macro_rules! check_eq {
    ($left:expr, $right:expr, $($what:tt)+) => {
        match (&$left, &$right) {
            (left, right) => if left != right {
                $crate::runtime::verdict::fail(format_args!(
                    "{}: {left:#x?} instead of {right:#x?}",
                    format_args!($($what)+)
                ));
            }
        }
    };
}

/// Prints one line on the guest's console, undivided by other CPUs.
#[macro_export]
macro_rules! say {
    ($($text:tt)+) => {
        $crate::runtime::console::print_line(format_args!($($text)+))
    };
}
