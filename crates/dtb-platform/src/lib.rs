//! Device trees on both sides of a hypervisor.
//!
//! - [`Platform::from_fdt`] turns the machine's own tree into a plain
//!   description of the machine.
//! - [`vm_configs`] reads which VMs that tree asks for, and [`add_domains`]
//!   writes it; [`uplink()`] and [`add_uplink`] do so for the network card that
//!   their switch is joined to.
//! - [`GuestTree`] is the description of a guest's machine, and writes the tree
//!   that the guest is given; [`layout`] holds its address map.
//!
//! The format and the standard nodes are those of the Devicetree Specification
//! v0.4; the other nodes are those of the bindings in the Linux kernel.
//!
//! ```
//! use dtb_platform::{GuestGic, GuestTree, Platform, layout};
//! use vm_contract::{GuestPhysAddr, GuestPhysAddrRange};
//!
//! let affinities: Vec<u64> = (0..4).map(layout::affinity).collect();
//! let ram = GuestPhysAddrRange::from_start_size(layout::RAM.start, 512 << 20);
//! let blob = GuestTree {
//!     bootargs: Some("console=ttyAMA0"),
//!     ..GuestTree::virt(
//!         &affinities,
//!         &[ram],
//!         GuestGic::V3 {
//!             distributor: layout::GIC_DISTRIBUTOR,
//!             redistributors: &layout::redistributor_regions(4),
//!             its: None,
//!         },
//!     )
//! }
//! .to_blob()?;
//!
//! // A guest's machine is a machine like any other.
//! let platform = Platform::from_fdt(&blob)?;
//! assert_eq!(platform.cpus.len(), 4);
//! assert_eq!(platform.memory[0].size(), 512 << 20);
//! assert_eq!(platform.timer, layout::TIMER);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod blob;
mod cells;
mod cpu;
mod domains;
mod error;
mod gic;
mod guest;
mod host_options;
mod interrupts;
pub mod layout;
mod machine_facts;
mod placement;
mod platform;
mod tree;
mod uplink;
mod vm_config;

pub use blob::blob_bytes;
pub use cpu::{Cpu, CpuStatus, EnableMethod};
pub use domains::{RawNode, add_bootargs, add_domains, add_nodes};
pub use error::{BlobError, ConfigError, Fault, PlatformError, PropertyError, TreeError};
pub use gic::{Gic, GicVersion};
pub use guest::{GuestDevice, GuestGic, GuestTree};
pub use host_options::{HostOptions, OptionError};
pub use interrupts::{Interrupt, Trigger};
pub use machine_facts::MachineFacts;
pub use placement::Placement;
pub use platform::{Conduit, Platform, Psci, PsciVersion, Timer, Uart, UartKind, VirtioMmio};
pub use uplink::{Uplink, add_uplink, uplink};
pub use vm_config::{
    BootModule, DiskConfig, DiskPart, DiskSource, NetConfig, VlanMode, VmConfig, vm_configs,
    vm_configs_on,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
