//! Armature's EL2 image.
//!
//! [`boot`] brings a CPU from the boot loader's hands to Rust, [`board`] is the
//! hardware behind the library's traits; everything else is in the library and
//! is tested on a host.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod board;
#[cfg(target_os = "none")]
mod boot;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is an EL2 image; run it with: cargo xtask qemu --linux-smp");
}
