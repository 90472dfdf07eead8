//! Keeps a disk busy with requests of one kind, and says how long that took.
//!
//! ```text
//! disk-load DEVICE read|write sequential|random BYTES DEPTH COUNT
//! ```
//!
//! It does `COUNT` requests of `BYTES` each, past the page cache, and has `DEPTH` of
//! them under way: whenever half of these are done, as many follow in one go. The
//! last line that it prints is `disk-load: N ns`, or `disk-load: FAILED: what`.
//!
//! It is a static program for AArch64 Linux that needs no library, so that a guest's
//! RAM disk needs none either. On a host it does nothing.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod linux;
#[cfg(target_os = "none")]
mod load;

#[cfg(not(target_os = "none"))]
fn main() {}
