#![doc = include_str!("../README.md")]
#![no_std]

#[cfg(any(test, feature = "fakes"))]
extern crate alloc;

mod attributes;
mod config;
mod debt;
mod descriptor;
#[cfg(target_os = "none")]
mod el2;
mod error;
#[cfg(any(test, feature = "fakes"))]
pub mod fakes;
mod leaves;
mod level;
mod map;
mod protect;
mod split;
mod table;
mod table_mem;
mod tlb;
mod unmap;
mod vmid;
#[cfg(any(test, feature = "fakes"))]
pub mod walker;

pub use attributes::{Attributes, MemoryKind, OwnerBits, Permissions};
pub use config::Stage2Config;
pub use debt::FlushDebt;
#[cfg(target_os = "none")]
pub use el2::El2Tlb;
pub use error::MapError;
pub use leaves::{Leaf, Leaves, Usage};
pub use level::{LeafSize, PAGE_BYTES};
pub use table::{Stage2, Translation};
pub use table_mem::TableMem;
pub use tlb::Stage2Tlb;
pub use vmid::{HwVmid, VmidAllocator, VmidSize};
