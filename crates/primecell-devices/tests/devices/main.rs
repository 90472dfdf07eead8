//! The devices as a bus and a guest's drivers see them.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod bench;
mod drivers;
mod pl011;
mod pl031;
