//! placeholder
#![cfg_attr(target_os = "none", no_std, no_main)]
test_guests::guest!("registers", run);
#[cfg(target_os = "none")]
fn run() { test_guests::say!("hello"); }
