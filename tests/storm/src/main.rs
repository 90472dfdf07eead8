//! Makes a storm of interrupts in a Linux guest: `storm SECONDS CPUS`.
//!
//! On each CPU one process waits for a timer of 1 kHz, and one plays ping-pong
//! through pipes with one other CPU after the other, all pairs in turn: the one
//! sleeps while the other plays, so each stroke is an interrupt. One more process
//! talks on the console. Each CPU's ticks and strokes are told once a minute and in
//! the end; the status is 0 if all processes came to their end.
//!
//! It is built for the hypervisor's target, which has no C library: hence the
//! system calls.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod linux;
#[cfg(target_os = "none")]
mod start;
#[cfg(target_os = "none")]
mod storm;

#[cfg(not(target_os = "none"))]
fn main() {
    println!("storm runs in a Linux guest: build it for aarch64-unknown-none-softfloat");
}
