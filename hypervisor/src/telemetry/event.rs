//! What a trace consists of.

use vm_contract::{VcpuId, VmId};

use super::Reason;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// The vCPU left its guest at the time stamp, for a reason. Arguments: in the low
    /// half the ticks until it could be entered again, in the high half 0, or one
    /// more than the INTID of an interrupt that was put into a list register
    /// meanwhile; and the guest's program counter.
    Exit = 1,
    /// A pending interrupt was put into a list register, and no exit says so.
    /// Arguments: its INTID, and the list register.
    Injection = 2,
    /// The vCPU was loaded into the CPU.
    Load = 3,
    /// The vCPU left the CPU.
    Unload = 4,
}

/// A vCPU, as it is written into each of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(u64);

impl Owner {
    /// Returns vCPU `vcpu` of `vm`.
    #[must_use]
    pub const fn new(vm: VmId, vcpu: VcpuId) -> Self {
        Self((vm.raw() as u64) << 16 | (vcpu.raw() as u64) << 32)
    }
}

/// Something that happened to a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When: the system counter.
    pub ticks: u64,
    /// What.
    pub what: What,
    /// For an exit, why.
    pub reason: Reason,
    /// To whom.
    pub owner: Owner,
    /// What else is to be said, see [`What`].
    pub arguments: [u64; 2],
}

impl Event {
    /// Returns the event as it is kept: the time, then from the lowest bit on 8 bits
    /// what, 8 bits why, 16 bits VM, 16 bits vCPU, then the arguments.
    #[inline(always)]
    #[must_use]
    pub const fn words(&self) -> [u64; 4] {
        let [first, second] = self.arguments;
        let what = self.what as u64 | (self.reason as u64) << 8;
        [self.ticks, what | self.owner.0, first, second]
    }
}
