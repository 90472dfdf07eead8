//! A virtual GICv3: distributor, redistributors and list-register handling.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod affinity;
mod claims;
mod cpu_interface;
mod delivery;
mod distributor;
#[cfg(any(test, feature = "fakes"))]
mod fakes;
mod flush;
mod fold;
mod ich;
mod irq;
mod irq_access;
mod kicks;
mod lines;
mod list_register;
mod overflow;
mod redistributor;
mod regs;
mod sgi;
mod spi;
mod vgic;

#[cfg(any(test, feature = "fakes"))]
pub use fakes::{FakeIch, Group};
pub use fold::Folded;
#[cfg(target_os = "none")]
pub use ich::El2Ich;
pub use ich::IchRegs;
pub use kicks::{Kicks, KicksIter, MAX_VCPUS};
pub use list_register::ListRegister;
pub use sgi::SgiRegister;
pub use vgic::{Frame, MAX_SPIS, Vgic, VgicConfig, VgicError};
