//! What the examples share: nothing.
//!
//! Each program in `src/bin` stands alone and shows one idea on the host, with
//! the test doubles of the crates in the place of the machine. Its header says
//! what it prints; `tests/expected_output.rs` runs it and compares. Run one with
//! `cargo run -p examples --bin NAME`.

/// Compiles and runs the code in the repository's README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
