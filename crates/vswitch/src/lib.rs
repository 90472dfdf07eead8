#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod checksum;
mod config;
mod counters;
mod endpoint;
#[cfg(feature = "fakes")]
pub mod fakes;
mod frame;
mod ingress;
mod mac;
mod pool;
mod port;
mod queue;
mod switch;
mod table;
mod vlan;

pub use checksum::{BadChecksum, Offload, complete_checksum};
pub use config::{ConfigError, Limits, PortConfig, PortMode};
pub use counters::{DropReason, Statistics};
pub use endpoint::Endpoint;
pub use frame::{Frame, FrameBuf, FrameBytes};
pub use mac::MacAddress;
pub use pool::FramePool;
pub use port::{PortId, PortSet};
pub use switch::{PinError, Switch};
pub use vlan::{Tag, VlanId, VlanSet};
