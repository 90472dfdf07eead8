//! The vCPU that every architecture has, as a hypervisor's generic part sees
//! it, and what can go wrong with one.

use thiserror::Error;
use vm_contract::{GuestPhysAddr, HostPhysAddr, VcpuId, VmId};

use crate::AxVCpuExitReason;

/// The caller used a vCPU, or a CPU, out of order. No guest can cause any of
/// these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VcpuError {
    /// The vCPU must be set up first.
    #[error("the vCPU has not been set up")]
    NotSetUp,
    /// The vCPU must be bound to this CPU first.
    #[error("the vCPU is not bound to a CPU")]
    NotBound,
    /// The vCPU must be unbound first.
    #[error("the vCPU is bound to a CPU")]
    Bound,
    /// No interrupt that a vCPU can be asked to inject has this number.
    #[error("no SGI, PPI or SPI has this number")]
    NoSuchInterrupt,
    /// The address is not one that the register for it can hold.
    #[error("the address is misaligned or too large")]
    InvalidAddress,
    /// The CPU is enabled already.
    #[error("the CPU is enabled already")]
    AlreadyEnabled,
    /// The CPU must be enabled first.
    #[error("the CPU is not enabled")]
    NotEnabled,
    /// A vector table lies at a multiple of 2 KiB.
    #[error("the vector table is not aligned to 2 KiB")]
    MisalignedVectors,
}

/// A virtual CPU of some architecture.
///
/// The order is `new`; `set_entry`, `set_ept_root` and `setup`; then `bind`,
/// any number of `run`, and `unbind`, as often as wished and each time on
/// whichever CPU.
pub trait AxArchVCpu: Sized {
    /// What creating a vCPU takes.
    type CreateConfig;
    /// What setting one up takes.
    type SetupConfig;

    /// Creates vCPU `vcpu` of `vm`.
    ///
    /// # Errors
    /// When `config` makes no sense.
    fn new(vm: VmId, vcpu: VcpuId, config: Self::CreateConfig) -> Result<Self, VcpuError>;

    /// Sets where the guest begins to execute.
    ///
    /// # Errors
    /// [`VcpuError::Bound`].
    fn set_entry(&mut self, entry: GuestPhysAddr) -> Result<(), VcpuError>;

    /// Sets the root of the second stage of translation (the name is that of
    /// another architecture's).
    ///
    /// # Errors
    /// [`VcpuError::Bound`], or [`VcpuError::InvalidAddress`] if no root can
    /// lie there.
    fn set_ept_root(&mut self, root: HostPhysAddr) -> Result<(), VcpuError>;

    /// Puts the vCPU into its state out of reset.
    ///
    /// # Errors
    /// [`VcpuError::Bound`].
    fn setup(&mut self, config: Self::SetupConfig) -> Result<(), VcpuError>;

    /// Runs the guest until something happens that the caller must know, and
    /// says what.
    ///
    /// # Errors
    /// [`VcpuError::NotBound`].
    fn run(&mut self) -> Result<AxVCpuExitReason, VcpuError>;

    /// Puts the vCPU's state into this CPU.
    ///
    /// # Errors
    /// [`VcpuError::NotSetUp`] or [`VcpuError::Bound`].
    fn bind(&mut self) -> Result<(), VcpuError>;

    /// Takes the vCPU's state out of this CPU.
    ///
    /// # Errors
    /// [`VcpuError::NotBound`].
    fn unbind(&mut self) -> Result<(), VcpuError>;

    /// Writes general register `reg`; writes to one that does not exist are
    /// discarded.
    fn set_gpr(&mut self, reg: usize, val: usize);

    /// Asks for an interrupt of the guest.
    ///
    /// # Errors
    /// [`VcpuError::NoSuchInterrupt`].
    fn inject_interrupt(&mut self, vector: usize) -> Result<(), VcpuError>;

    /// Writes the register in which a hypercall returns its result.
    fn set_return_value(&mut self, val: usize);
}
