//! Trees of several machines, read and written through the public API.

mod domains;
mod guest;
mod machines;
mod malformed;
mod platform;
