//! What a virtual GICv2 and a virtual GICv3 share: the state of interrupts,
//! which of them are due to a vCPU, and their traffic through its list registers
//! (Arm IHI 0069, Arm IHI 0048).
//!
//! One [`Controller`] per VM lies in `arm_vgic_v2::Vgic` or `arm_vgic_v3::Vgic`,
//! which add the registers that a guest sees. Devices drive
//! [`Controller::set_spi_level`], the CPU's timer [`Controller::raise_linked`],
//! the hypervisor itself [`Controller::set_pending`]. Each change says by
//! [`Kicks`] whose list registers are no longer right.
//!
//! A vCPU's state goes into a CPU by [`Controller::load`] and comes out by
//! [`Controller::save`]. In between its list registers stay in hardware from exit
//! to exit, and only these touch them:
//!
//! | when | call |
//! |---|---|
//! | the vCPU was kicked, or has a maintenance interrupt | [`Controller::refresh`] |
//! | it reads or writes its own pending or active state ([`IrqRegister::is_live_state`]) | [`Controller::fold`] before, [`Controller::flush`] after |
//! | it waits ([`Controller::deliverable`]) | [`Controller::fold`] or [`Controller::save`] before |
//!
//! The hardware is an [`IchRegs`]: the ICH_* system registers of GICv3, or the
//! GICH_* frame of GICv2 behind an adapter. `FakeIch` is one in software.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bank;
mod claims;
mod controller;
mod cpu_interface;
mod delivery;
#[cfg(any(test, feature = "fakes"))]
mod fakes;
mod flush;
mod fold;
mod ich;
mod inspect;
mod irq_register;
mod kicks;
mod lines;
mod linked;
mod list_register;
mod lpi;
mod overflow;
mod private;
mod refill;
mod refresh;
mod regs;
mod sgi;
mod shared;
mod spi;
mod spi_setup;

pub use bank::set_bits;
pub use controller::{Controller, MAX_SPIS, ShapeError};
pub use cpu_interface::prepare;
#[cfg(any(test, feature = "fakes"))]
pub use fakes::{FakeIch, Group};
pub use fold::Folded;
pub use ich::IchRegs;
pub use inspect::InterruptView;
pub use irq_register::{BitRegister, IrqRegister};
pub use kicks::{Kicks, KicksIter, MAX_VCPUS};
pub use list_register::ListRegister;
pub use lpi::MAX_LPIS;
pub use sgi::SgiFilter;
pub use spi_setup::SpiSetup;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
