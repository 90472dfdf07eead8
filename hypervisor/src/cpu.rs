//! What the hypervisor needs of the machine and of each physical CPU.
//!
//! The EL2 image implements both with registers and firmware calls, the host
//! tests with plain values.

use core::fmt;

use arm_vcpu::AxVCpuHal;
use arm_vgic_core::IchRegs;
use vm_contract::{HostPhysAddrRange, IntId};

use crate::telemetry::Watched;

/// A physical CPU, numbered in the order of the device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PcpuId(u16);

impl PcpuId {
    /// Returns the identity of CPU number `index`.
    #[must_use]
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// Returns the number.
    #[must_use]
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// Returns the number as an index into per-CPU tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PcpuId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What any CPU may do to the machine as a whole.
pub trait Machine: Sync {
    /// Interrupts `cpu`, so that it leaves the guest or wakes up and looks at
    /// the mailboxes of its vCPUs.
    fn kick(&self, cpu: PcpuId);

    /// Returns the system counter (CNTPCT), in ticks.
    fn now_ticks(&self) -> u64;

    /// Returns how fast the system counter counts (CNTFRQ).
    fn ticks_per_second(&self) -> u64;

    /// Makes what was written to `range` visible to accesses that bypass the
    /// caches, and to instruction fetches: a guest starts with its MMU off.
    fn clean_to_coherency(&self, range: HostPhysAddrRange);

    /// Zeroes `range`, also for accesses that bypass the caches.
    ///
    /// # Safety
    /// It is memory that Rust knows nothing of and that the caller may overwrite.
    #[expect(
        unsafe_code,
        reason = "whole frames are cleared in the machine's own way"
    )]
    unsafe fn clear(&self, range: HostPhysAddrRange);

    /// Makes earlier writes to stage-2 tables visible to the table walkers.
    fn publish_tables(&self);

    /// Removes all that the TLBs of all CPUs hold of the guest that `vttbr`
    /// names, after [`publish_tables`](Self::publish_tables).
    fn forget_guest(&self, vttbr: u64);

    /// Returns how many bytes of the hypervisor's heap are in use.
    fn heap_used(&self) -> usize;
}

/// A physical interrupt, by what the hypervisor uses it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhysicalInterrupt {
    /// Another CPU called for attention.
    Kick,
    /// The hypervisor's own timer (CNTHP) has reached its deadline.
    Deadline,
    /// The timer of the guest that is loaded (CNTV).
    VirtualTimer,
    /// The virtual CPU interface wants its list registers serviced.
    Maintenance,
    /// The machine's UART.
    Console,
    /// One of the devices that VMs share.
    Device(IntId),
    /// Nothing that anybody asked for.
    Unexpected(IntId),
}

/// The physical CPU that executes. A value owned by its main loop.
pub trait Cpu {
    /// How guests run here.
    type Hal: AxVCpuHal;
    /// The list registers of this CPU.
    type Ich: IchRegs;

    /// Returns which CPU this is.
    fn id(&self) -> PcpuId;

    /// Returns the list registers.
    fn ich(&mut self) -> &mut Watched<Self::Ich>;

    /// Returns the system counter (CNTPCT), in ticks.
    fn now_ticks(&self) -> u64;

    /// Returns the system counter without waiting until what precedes this is
    /// done: for statistics, where that would cost more than it tells.
    fn glance_at_ticks(&self) -> u64 {
        self.now_ticks()
    }

    /// Arms the hypervisor's timer for a counter value, or disarms it.
    fn set_deadline(&mut self, deadline_ticks: Option<u64>);

    /// Acknowledges the most urgent physical interrupt and drops its priority.
    /// Except for the virtual timer, which stays active until the guest (or
    /// [`deactivate`](Self::deactivate)) deactivates it, the interrupt is over
    /// once [`finish`](Self::finish) has been called.
    fn acknowledge(&mut self) -> Option<PhysicalInterrupt>;

    /// Deactivates an interrupt other than the virtual timer's after it has
    /// been serviced.
    fn finish(&mut self, interrupt: PhysicalInterrupt);

    /// Deactivates a physical interrupt that had been passed to a guest.
    fn deactivate(&mut self, physical: IntId);

    /// Makes the private interrupt `physical` active, so that it is not
    /// signalled here while a guest that is loaded handles it.
    fn activate(&mut self, physical: IntId);

    /// Drops what this CPU's TLBs hold of the VM whose vCPU is loaded, before that runs.
    fn forget_translations(&mut self);

    /// Sleeps until a physical interrupt is pending.
    fn wait_for_interrupt(&mut self);
}
