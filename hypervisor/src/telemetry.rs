//! What the hypervisor counts and records about itself.
//!
//! Each exit of a vCPU has a [`Reason`] and a cost, the time from the exit to the
//! next entry. [`ExitCounters`] hold a histogram of the costs for each reason, always.
//! They belong to the slot of the VM: one that is built anew goes on counting.

mod counters;
mod reason;
mod recorder;

use alloc::sync::Arc;
use alloc::vec::Vec;

use vm_contract::{VcpuId, VmId};

pub use counters::{BUCKETS, ExitCounters, Histogram};
pub use reason::Reason;
pub use recorder::{Moment, Recorder};

/// The counters of all vCPUs of the machine.
#[derive(Debug)]
pub struct Telemetry {
    /// By VM and vCPU.
    counters: Vec<Vec<Arc<ExitCounters>>>,
}

impl Telemetry {
    /// Makes room for VMs with so many vCPUs each.
    #[must_use]
    pub fn new(vcpu_counts: impl IntoIterator<Item = usize>) -> Self {
        let of_vm = |vcpus| (0..vcpus).map(|_| Arc::default()).collect();
        Self {
            counters: vcpu_counts.into_iter().map(of_vm).collect(),
        }
    }

    /// Returns the counters of the vCPUs of a VM, in the order of their numbers.
    pub fn of_vm(&self, vm: VmId) -> impl Iterator<Item = (VcpuId, &ExitCounters)> {
        let counters = self.counters.get(usize::from(vm.raw()));
        let counters = counters.into_iter().flatten();
        let numbers = (0..).map(VcpuId::new);
        numbers.zip(counters.map(Arc::as_ref))
    }

    fn counters(&self, vm: VmId, vcpu: VcpuId) -> Option<&Arc<ExitCounters>> {
        self.counters.get(usize::from(vm.raw()))?.get(vcpu.index())
    }

    /// Returns what records the exits of a vCPU. One that the machine was not
    /// planned with is counted for nobody.
    #[must_use]
    pub fn recorder(&self, vm: VmId, vcpu: VcpuId) -> Recorder {
        let counters = self.counters(vm, vcpu).cloned().unwrap_or_default();
        Recorder::new(counters)
    }
}
