//! A VM's Interrupt Translation Service, between its registers, the guest's memory
//! and the interrupt controller.
//!
//! It has a lock of its own, which is taken before the interrupt controller's: that
//! one is held for one operation at a time, never while guest memory is read.

use arm_vgic_core::Kicks;
use arm_vgic_v3::its::{
    Its, ItsContext, LpiPort, PropertyTable, Redistributors, STEPS_PER_ACCESS, TableRequest,
};
use vm_contract::{AccessError, IntId, VcpuId, Width};

use super::Vm;
use super::vgic::Vgic;
use crate::lock::{RankedLock, rank};

/// How many LPIs a VM with an ITS has.
pub(super) const LPI_COUNT: u32 = 2048;

/// An ITS behind its own lock.
pub(super) type ItsLock = RankedLock<Its, { rank::ITS }>;

/// What there is still to do after an access of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// More than one access may do at a time: the guest is to repeat it.
    Work,
}

impl Vm {
    /// Reads a register of the ITS on behalf of `vcpu`.
    ///
    /// # Errors
    /// Those of the ITS: the guest is to blame.
    pub fn its_read(&self, vcpu: VcpuId, offset: u64, width: Width) -> Result<u64, AccessError> {
        self.with_its(Some(vcpu), |its, context| its.read(context, offset, width))
            .unwrap_or(Err(AccessError::NoDevice))
    }

    /// Writes a register of the ITS on behalf of `vcpu`. Repeating the access does
    /// no harm.
    ///
    /// # Errors
    /// As for [`its_read`](Self::its_read).
    pub fn its_write(
        &self,
        vcpu: VcpuId,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Left, AccessError> {
        self.with_its(Some(vcpu), |its, context| {
            its.write(context, offset, width, value)?;
            Ok(if its.has_work() {
                Left::Work
            } else {
                Left::Nothing
            })
        })
        .unwrap_or(Err(AccessError::NoDevice))
    }

    /// Signals event `event` of device `device` to the ITS, as the device's write of
    /// GITS_TRANSLATER would. `current` is the vCPU on whose behalf this CPU acts.
    /// Tells whether the guest has mapped the event.
    pub fn its_signal(&self, current: Option<VcpuId>, device: u32, event: u32) -> bool {
        self.with_its(current, |its, context| its.signal(context, device, event))
            .flatten()
            .is_some()
    }

    /// Reads or writes the tables that redistributors have asked for, after `vcpu`
    /// had access to GICR_CTLR of one.
    #[cold]
    pub fn serve_lpi_tables(&self, vcpu: VcpuId) -> Left {
        if self.its.is_none() || !self.wants_tables() {
            return Left::Nothing;
        }
        self.with_its(Some(vcpu), |its, context| {
            its.run(context, STEPS_PER_ACCESS)
        });
        if self.wants_tables() {
            Left::Work
        } else {
            Left::Nothing
        }
    }

    /// Returns the ITS to its reset state, if there is one.
    pub(super) fn reset_its(&self) {
        if let Some(its) = &self.its {
            its.lock().reset();
        }
    }

    fn wants_tables(&self) -> bool {
        matches!(&*self.vgic.lock(), Vgic::V3(vgic) if vgic.has_table_request())
    }

    /// Works on the ITS, if there is one, on behalf of `current`.
    fn with_its<R>(
        &self,
        current: Option<VcpuId>,
        work: impl FnOnce(&mut Its, &mut ItsContext<'_>) -> R,
    ) -> Option<R> {
        let its = self.its.as_ref()?;
        let mut port = Port { vm: self, current };
        let mut context = ItsContext {
            memory: self.ram(),
            redistributors: &mut port,
        };
        Some(work(&mut its.lock(), &mut context))
    }
}

/// The redistributors of a VM, whose lock is taken for each operation.
struct Port<'a> {
    vm: &'a Vm,
    current: Option<VcpuId>,
}

impl Port<'_> {
    fn with<R>(&self, work: impl FnOnce(&mut LpiPort<'_>) -> R) -> Option<R> {
        self.vm.with_vgic(self.current, |vgic| match vgic {
            Vgic::V2(_) => (None, Kicks::NONE),
            Vgic::V3(vgic) => {
                let mut port = LpiPort::new(vgic);
                let result = work(&mut port);
                (Some(result), port.kicks())
            }
        })
    }
}

impl Redistributors for Port<'_> {
    fn vcpu_count(&self) -> usize {
        self.vm.vcpu_count()
    }

    fn lpi_count(&self) -> u32 {
        LPI_COUNT
    }

    fn property_table(&self, vcpu: VcpuId) -> Option<PropertyTable> {
        self.with(|port| port.property_table(vcpu)).flatten()
    }

    fn set_pending(&mut self, vcpu: VcpuId, lpi: IntId) {
        self.with(|port| port.set_pending(vcpu, lpi));
    }

    fn clear_pending(&mut self, vcpu: VcpuId, lpi: IntId) {
        self.with(|port| port.clear_pending(vcpu, lpi));
    }

    fn move_pending(&mut self, first: IntId, mask: u32, from: VcpuId, to: VcpuId) {
        self.with(|port| port.move_pending(first, mask, from, to));
    }

    fn configure(&mut self, first: IntId, properties: &[u8]) {
        self.with(|port| port.configure(first, properties));
    }

    fn table_request(&self) -> Option<TableRequest> {
        self.with(|port| port.table_request()).flatten()
    }

    fn load_pending(&mut self, vcpu: VcpuId, first: IntId, mask: u32) {
        self.with(|port| port.load_pending(vcpu, first, mask));
    }

    fn unload_pending(&mut self, vcpu: VcpuId, first: IntId) -> u32 {
        self.with(|port| port.unload_pending(vcpu, first))
            .unwrap_or_default()
    }

    fn request_done(&mut self, vcpu: VcpuId) {
        self.with(|port| port.request_done(vcpu));
    }
}
