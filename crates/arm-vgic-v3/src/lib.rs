//! A virtual GICv3: distributor, redistributors and list-register handling
//! (Arm IHI 0069).
//!
//! One [`Vgic`] per VM. The guest's accesses to its two frames arrive at
//! [`Vgic::read`] and [`Vgic::write`], its SGIs at [`Vgic::send_sgi`]; devices
//! drive [`Vgic::set_spi_level`], the CPU's timer [`Vgic::raise_hw_ppi`], the
//! hypervisor itself [`Vgic::set_pending`]. Each change says by [`Kicks`] whose
//! list registers are no longer right.
//!
//! A vCPU's state goes into a CPU by [`Vgic::load`] and comes out by
//! [`Vgic::save`]. In between its list registers stay in hardware from exit to
//! exit, and only these touch them:
//!
//! | when | call |
//! |---|---|
//! | the vCPU was kicked, or has a maintenance interrupt | [`Vgic::refresh`] |
//! | it reads or writes its own pending or active state ([`Vgic::needs_fold`]) | [`Vgic::fold`] before, [`Vgic::flush`] after |
//! | it waits ([`Vgic::deliverable`]) | [`Vgic::fold`] or [`Vgic::save`] before |
//!
//! The guest programs its CPU interface (ICC_PMR_EL1, ICC_IGRPEN1_EL1, …) by
//! itself; only ICC_SGI*R_EL1 trap, through HCR_EL2.IMO and FMO.
//!
//! The README has an example that runs on a host.
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
mod inspect;
mod irq;
mod irq_access;
pub mod its;
mod kicks;
mod lines;
mod list_register;
mod overflow;
mod redistributor;
mod refresh;
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
pub use inspect::InterruptView;
pub use kicks::{Kicks, KicksIter, MAX_VCPUS};
pub use list_register::ListRegister;
pub use sgi::SgiRegister;
pub use vgic::{Frame, MAX_SPIS, Vgic, VgicConfig, VgicError};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
