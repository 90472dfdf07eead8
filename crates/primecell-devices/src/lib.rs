#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

mod output;
pub mod pl011;
pub mod pl031;
mod primecell;

pub use pl011::{Full, Pl011, SerialBackend};
pub use pl031::{Clock, Pl031};
