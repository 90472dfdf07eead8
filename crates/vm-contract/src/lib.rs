//! The vocabulary that the crates of a hypervisor share.
//!
//! An item is admitted only if two sibling crates must name it and neither
//! calls the other: guest and host physical addresses, interrupt, VM and vCPU
//! identities, the shape of a bus access, and the three traits at the seams
//! between a device and its machine. Every other trait lives in the crate that
//! calls it.
//!
//! ```
//! use vm_contract::{GuestPhysAddr, IntId, Width};
//!
//! let flag_register = GuestPhysAddr::from(0x0900_0018);
//! assert_eq!(usize::from(flag_register), 0x0900_0018);
//! assert_eq!(Width::Word.bytes(), 4);
//! assert_eq!(Width::Half.truncate(0x1_2345), 0x2345);
//! assert!(IntId::new(33).is_some_and(IntId::is_spi));
//! assert!(IntId::new(1020).is_none(), "1020-1023 are special");
//! ```
#![no_std]
#![forbid(unsafe_code)]

mod access;
mod addr;
mod device;
mod ids;

pub use access::{Access, AccessError, Width};
pub use addr::{GuestPhysAddr, GuestPhysAddrRange, HostPhysAddr, HostPhysAddrRange};
pub use device::{BaseDeviceOps, DeviceContext, DeviceKind, GuestMemory, IrqLine};
pub use ids::{IntId, VcpuId, VmId};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
