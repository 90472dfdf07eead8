//! The operations that are measured.

/// Something that a guest does, or that is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    /// What the guest and `benches/limits.toml` call it.
    pub(crate) name: &'static str,
    /// What people call it.
    pub(crate) title: &'static str,
}

const fn operation(name: &'static str, title: &'static str) -> Operation {
    Operation { name, title }
}

/// What one VM measures that has a physical CPU for each of its own, in the order
/// of tables.
pub(crate) const EXITS: [Operation; 14] = [
    operation("hypercall", "null hypercall"),
    operation("psci-version", "hypercall PSCI_VERSION"),
    operation("id-register", "ID register read"),
    operation("gicd-read", "GICD read"),
    operation("gicd-write", "GICD write"),
    operation("device-read", "device register read (PL031)"),
    operation("pl011-flags", "PL011 flag register read"),
    operation("sgi-self", "SGI to self, to handler"),
    operation("timer-now", "timer due now, to handler"),
    operation("sgi-running", "SGI to a running vCPU, to handler"),
    operation("sgi-waiting", "SGI to a vCPU in WFI, to handler"),
    operation("wfi-timer", "WFI until the timer, to handler"),
    operation("acknowledge-eoi", "acknowledge and EOI"),
    operation("first-touch", "first touch of a page"),
];

/// What such a VM measures besides, with devices that a machine without the hypervisor
/// has not.
pub(crate) const DEVICES: [Operation; 1] = [operation("virtio-kick", "virtio kick")];

/// What two vCPUs measure that share a physical CPU.
pub(crate) const SWITCHES: [Operation; 5] = [
    operation("vcpu-switch", "vCPU switch within a VM"),
    operation("vm-switch", "VM switch"),
    operation("vcpu-wake", "another vCPU wakes and sleeps, half"),
    operation("vm-wake", "another VM wakes and sleeps, half"),
    operation("vcpu-handover", "SGI, WFI and vCPU switch"),
];

/// Returns all of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Operation> {
    EXITS.iter().chain(&DEVICES).chain(&SWITCHES)
}
