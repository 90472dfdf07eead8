//! What the hypervisor counts and records about itself.
//!
//! Each exit of a vCPU has a [`Reason`] and a cost, the time from the exit to the
//! next entry. [`ExitCounters`] hold a histogram of the costs for each reason, always.
//! They belong to the slot of the VM: one that is built anew goes on counting.
//!
//! While tracing is on, each CPU also writes [`Event`]s into a [`Ring`] of its own.
//! The [`Header`] says where all this lies, for a reader outside the machine.

mod counters;
mod event;
mod header;
mod reason;
mod recorder;
mod ring;
mod watched;

use alloc::collections::TryReserveError;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;
use vm_contract::{VcpuId, VmId};

pub use counters::{BUCKETS, ExitCounters, Histogram};
pub use event::{Event, Owner, What};
pub use header::{Header, Table};
pub use reason::Reason;
pub use recorder::{Moment, Recorder};
pub use ring::{Ring, capacity};
pub use watched::{CpuTrace, Watched};

use crate::cpu::PcpuId;
use header::Tables;
use ring::Rings;

/// The counters of all vCPUs of the machine, and the events of its CPUs.
#[derive(Debug)]
pub struct Telemetry {
    /// By VM and vCPU.
    counters: Vec<Vec<Arc<ExitCounters>>>,
    is_tracing: AtomicBool,
    /// One for each CPU, made when tracing is first switched on: a machine that is
    /// never traced pays nothing.
    rings: Once<Rings>,
    cpu_count: u16,
    tables: Tables,
}

impl Telemetry {
    /// Makes room for VMs with these names and so many vCPUs each, on a machine with
    /// so many CPUs.
    #[must_use]
    pub fn new(vms: Vec<(String, usize)>, cpu_count: u16, ticks_per_second: u64) -> Self {
        let of_vm = |(_, vcpus): &(String, usize)| (0..*vcpus).map(|_| Arc::default()).collect();
        let counters: Vec<Vec<_>> = vms.iter().map(of_vm).collect();
        let names = vms.into_iter().map(|(name, _)| name).collect();
        Self {
            tables: Tables::new(names, &counters, ticks_per_second),
            counters,
            is_tracing: AtomicBool::new(false),
            rings: Once::new(),
            cpu_count,
        }
    }

    /// Returns where everything is.
    #[must_use]
    pub const fn header(&self) -> &Header {
        self.tables.header()
    }

    /// Returns the counters of the vCPUs of a VM, in the order of their numbers.
    pub fn of_vm(&self, vm: VmId) -> impl Iterator<Item = (VcpuId, &ExitCounters)> {
        let counters = self.counters.get(usize::from(vm.raw()));
        let counters = counters.into_iter().flatten();
        let numbers = (0..).map(VcpuId::new);
        numbers.zip(counters.map(Arc::as_ref))
    }

    /// Returns what records the exits of a vCPU. One that the machine was not
    /// planned with is counted for nobody.
    #[must_use]
    pub fn recorder(self: &Arc<Self>, vm: VmId, vcpu: VcpuId) -> Recorder {
        let counters = self.counters.get(usize::from(vm.raw()));
        let counters = counters.and_then(|counters| counters.get(vcpu.index()));
        Recorder::new(vm, vcpu, counters.cloned().unwrap_or_default(), self)
    }

    /// Switches tracing on or off. What has been recorded stays.
    ///
    /// # Errors
    /// There is no memory for the rings.
    pub fn set_tracing(&self, on: bool) -> Result<(), TryReserveError> {
        if on {
            let rings = self.rings.try_call_once(|| Rings::new(self.cpu_count))?;
            self.tables.header().announce(rings.addresses());
        }
        self.is_tracing.store(on, Ordering::Relaxed);
        // Each CPU looks at the vCPU that it has at hand anyway.
        for counters in self.counters.iter().flatten() {
            counters.set_tracing(on);
        }
        Ok(())
    }

    /// Tells whether tracing is on.
    #[must_use]
    pub fn is_tracing(&self) -> bool {
        self.is_tracing.load(Ordering::Relaxed)
    }

    /// Returns the ring of a CPU, if tracing has ever been on.
    #[inline]
    #[must_use]
    pub fn ring(&self, cpu: PcpuId) -> Option<&Arc<Ring>> {
        self.rings.get()?.of_cpu(cpu)
    }
}

#[cfg(test)]
mod tests;
