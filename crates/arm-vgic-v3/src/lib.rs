//! A virtual GICv3: distributor, redistributors and list-register handling
//! (Arm IHI 0069).
//!
//! One [`Vgic`] per VM. The guest's accesses to its two frames arrive at
//! [`Vgic::read`] and [`Vgic::write`], its SGIs at [`Vgic::send_sgi`]. All that
//! does not depend on the version of the GIC, a `Vgic` has from its
//! [`Controller`]: devices drive [`Controller::set_spi_level`], the CPU's timer
//! [`Controller::raise_linked`], the hypervisor itself
//! [`Controller::set_pending`], and a vCPU's state goes into a CPU by
//! [`Controller::load`] and comes out by [`Controller::save`]. Each change says by
//! [`Kicks`] whose list registers are no longer right. [`arm_vgic_core`] says
//! when which call is due. Interrupts that are messages need an [`its::Its`].
//!
//! The guest programs its CPU interface (ICC_PMR_EL1, ICC_IGRPEN1_EL1, …) by
//! itself; only ICC_SGI*R_EL1 trap, through HCR_EL2.IMO and FMO.
//!
//! The README has an example that runs on a host.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod affinity;
#[cfg(feature = "conformance")]
pub mod conformance;
mod distributor;
#[cfg(target_os = "none")]
mod el2;
pub mod its;
mod redistributor;
mod regs;
mod route;
mod sgi;
mod vgic;

pub use arm_vgic_core::{
    Controller, Folded, IchRegs, InterruptView, Kicks, KicksIter, ListRegister, MAX_SPIS,
    MAX_VCPUS, ShapeError, prepare,
};
#[cfg(feature = "fakes")]
pub use arm_vgic_core::{FakeIch, Group};
#[cfg(target_os = "none")]
pub use el2::El2Ich;
pub use sgi::SgiRegister;
pub use vgic::{Frame, Vgic, VgicConfig, VgicError};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
