//! Trees of several machines, read and written through the public API.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that meets what it does not expect has to stop"
)]

mod devices;
mod domains;
mod guest;
mod machines;
mod malformed;
mod platform;
mod refusals;
