//! A vGIC as its ITS sees it.

use arm_vgic_core::Kicks;
use vm_contract::{IntId, VcpuId};

use super::{PropertyTable, Redistributors, TableRequest};
use crate::vgic::Vgic;

/// The redistributors of a [`Vgic`], and the kicks that come of what an ITS does
/// to them.
///
/// A hypervisor whose vGIC lies behind a lock implements [`Redistributors`]
/// itself: each operation locks the vGIC, calls a port, and serves the kicks.
#[derive(Debug)]
pub struct LpiPort<'a> {
    vgic: &'a mut Vgic,
    kicks: Kicks,
}

impl<'a> LpiPort<'a> {
    /// Returns the port of a vGIC that has [LPIs](Vgic::with_lpis).
    pub fn new(vgic: &'a mut Vgic) -> Self {
        Self {
            vgic,
            kicks: Kicks::NONE,
        }
    }

    /// Returns who must take note of what was done.
    pub const fn kicks(&self) -> Kicks {
        self.kicks
    }

    /// Tells whether `lpi` can be pending at `vcpu`: its LPIs are enabled, and their
    /// tables describe this one.
    fn knows(&self, vcpu: VcpuId, lpi: IntId) -> bool {
        let table = self.vgic.property_table(vcpu);
        table.is_some_and(|table| table.covers(lpi))
    }
}

/// Returns the bit of an LPI in its bank.
fn bit(lpi: IntId) -> u32 {
    1 << (lpi.raw() % 32)
}

impl Redistributors for LpiPort<'_> {
    fn vcpu_count(&self) -> usize {
        self.vgic.vcpu_count()
    }

    fn lpi_count(&self) -> u32 {
        self.vgic.lpi_count()
    }

    fn property_table(&self, vcpu: VcpuId) -> Option<PropertyTable> {
        self.vgic.property_table(vcpu)
    }

    fn set_pending(&mut self, vcpu: VcpuId, lpi: IntId) {
        if self.knows(vcpu, lpi) {
            self.kicks.extend(self.vgic.pend_lpis(vcpu, lpi, bit(lpi)));
        }
    }

    fn clear_pending(&mut self, vcpu: VcpuId, lpi: IntId) {
        self.kicks.extend(self.vgic.clear_lpis(vcpu, lpi, bit(lpi)));
    }

    fn move_pending(&mut self, first: IntId, mask: u32, from: VcpuId, to: VcpuId) {
        self.kicks.extend(if self.knows(to, first) {
            self.vgic.move_lpis(first, mask, from, to)
        } else {
            self.vgic.clear_lpis(from, first, mask)
        });
    }

    fn configure(&mut self, first: IntId, properties: &[u8]) {
        self.kicks
            .extend(self.vgic.configure_lpis(first, properties));
    }

    fn table_request(&self) -> Option<TableRequest> {
        self.vgic.table_request()
    }

    fn load_pending(&mut self, vcpu: VcpuId, first: IntId, mask: u32) {
        self.kicks.extend(self.vgic.pend_lpis(vcpu, first, mask));
    }

    fn unload_pending(&mut self, vcpu: VcpuId, first: IntId) -> u32 {
        let pending = self.vgic.pending_lpis(vcpu, first);
        self.kicks
            .extend(self.vgic.clear_lpis(vcpu, first, pending));
        pending
    }

    fn request_done(&mut self, vcpu: VcpuId) {
        self.vgic.table_request_done(vcpu);
    }
}
