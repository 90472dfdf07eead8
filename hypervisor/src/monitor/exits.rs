//! What the monitor tells about the exits of a VM's vCPUs.

use core::fmt;

use arm_vcpu::AxVCpuHal;
use vm_contract::{VcpuId, VmId};

use crate::console::Console;
use crate::machine::{Hypervisor, VmError};
use crate::telemetry::{Histogram, Reason};
use crate::vm::time::nanos;

/// Prints why the vCPUs of a VM left the guest, since the machine was started.
pub(super) fn print<H: AxVCpuHal>(hypervisor: &Hypervisor<H>, vm: VmId) -> Result<(), VmError> {
    hypervisor.slot(vm)?;
    let console = hypervisor.console();
    let frequency = hypervisor.machine().ticks_per_second();
    console.print(format_args!(
        "vCPU  reason              exits  mean ns   median ns      max ns"
    ));
    for (vcpu, counters) in hypervisor.telemetry().of_vm(vm) {
        for (reason, histogram) in counters.histograms() {
            row(console, vcpu, reason, &histogram, frequency);
        }
        let total = counters.total();
        console.print(format_args!("{vcpu:<5} {:<14} {total:>10}", "all"));
    }
    Ok(())
}

fn row(console: &Console, vcpu: VcpuId, reason: Reason, histogram: &Histogram, frequency: u64) {
    let mean = nanos(histogram.mean(), frequency);
    let below = |bucket| Below(bucket, frequency);
    console.print(format_args!(
        "{vcpu:<5} {reason:<14} {:>10}  {mean:>7}  {}  {}",
        histogram.count(),
        below(histogram.median()),
        below(histogram.max()),
    ));
}

/// The time below which all costs of a bucket are, at this frequency.
struct Below(Option<usize>, u64);

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bucket) = self.0 else {
            return write!(f, "{:>10}", "-");
        };
        write!(f, "< {:>8}", nanos(2 << bucket, self.1))
    }
}
