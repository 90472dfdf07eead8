//! A virtual GICv2 (Arm IHI 0048): the distributor, SGIs by sender, and list
//! registers in the GICH frame.
//!
//! One [`Vgic`] per VM, for 1 to 8 vCPUs. The guest's accesses to the distributor
//! arrive at [`Vgic::read`] and [`Vgic::write`]. All that does not depend on the
//! version of the GIC, a `Vgic` has from its [`Controller`]: devices drive
//! [`Controller::set_spi_level`], the CPU's timer [`Controller::raise_linked`],
//! and a vCPU's state goes into a CPU by [`Controller::load`] and comes out by
//! [`Controller::save`]. Each change says by [`Kicks`] whose list registers are no
//! longer right. [`arm_vgic_core`] says when which call is due.
//!
//! The guest's CPU interface (GICC) is the machine's GICV frame, mapped by
//! stage 2, but for the page at 0x1000 with GICC_DIR: that stays unmapped, and the
//! writes that it traps go to [`Vgic::write_cpu_interface`], because no list register
//! need hold what they deactivate.
//!
//! The hardware is a [`VirtualInterface`] over [`GichRegs`]. The README has an
//! example that runs on a host.
#![no_std]

extern crate alloc;

mod distributor;
#[cfg(target_os = "none")]
mod el2;
#[cfg(any(test, feature = "fakes"))]
mod fakes;
mod gich;
mod regs;
mod sgi;
mod target;
mod vgic;

pub use arm_vgic_core::{
    Controller, Folded, IchRegs, InterruptView, Kicks, KicksIter, ListRegister, MAX_SPIS,
    ShapeError, prepare,
};
#[cfg(target_os = "none")]
pub use el2::El2Gich;
#[cfg(any(test, feature = "fakes"))]
pub use fakes::FakeGich;
pub use gich::{GichRegs, VirtualInterface};
pub use vgic::{FRAME_BYTES, MAX_VCPUS, Vgic, VgicConfig, VgicError};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
