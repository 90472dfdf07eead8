//! Interrupt lines from devices to the VM's interrupt controller.

use vm_contract::{IntId, IrqLine, VcpuId};

use crate::vm::Vm;

/// The wire of a shared interrupt, as the device at its other end holds it
/// during an access.
pub struct Line<'a> {
    vm: &'a Vm,
    intid: IntId,
    /// The vCPU on whose behalf this CPU acts.
    current: Option<VcpuId>,
}

impl<'a> Line<'a> {
    /// Connects interrupt `intid` of `vm`.
    #[must_use]
    pub const fn new(vm: &'a Vm, intid: IntId, current: Option<VcpuId>) -> Self {
        Self { vm, intid, current }
    }
}

impl IrqLine for Line<'_> {
    fn set_level(&self, asserted: bool) {
        self.vm.with_vgic(self.current, |vgic| {
            ((), vgic.set_spi_level(self.intid, asserted))
        });
    }

    fn pulse(&self) {
        self.vm
            .with_vgic(self.current, |vgic| ((), vgic.pulse_spi(self.intid)));
    }
}
