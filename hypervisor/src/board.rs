//! The machine's hardware behind the library's traits. No constant of any board
//! is here: addresses and interrupt numbers come from the device tree.

pub(crate) mod cache;
pub(crate) mod crash;
pub(crate) mod el2_cpu;
pub(crate) mod entropy;
pub(crate) mod firmware;
pub(crate) mod gic;
pub(crate) mod heap;
pub(crate) mod host;
pub(crate) mod logger;
pub(crate) mod rtc;
pub(crate) mod tables;
pub(crate) mod uart;
pub(crate) mod virtio;
