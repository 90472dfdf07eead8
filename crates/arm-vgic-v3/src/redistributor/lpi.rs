//! The registers of a redistributor that have to do with LPIs.
//!
//! The tables behind them lie in the guest's memory, which a [`Vgic`] does not
//! reach. A write of GICR_CTLR.EnableLPIs therefore takes effect at once for what
//! is forwarded, and leaves a [`TableRequest`] for the ITS: to read the tables, or
//! to write the pending states back. GICR_CTLR.RWP is set until that is done, and
//! EnableLPIs does not change meanwhile.

use arm_vgic_core::Kicks;
use vm_contract::{VcpuId, Width};

use crate::its::{PendingTable, PropertyTable, TableRequest};
use crate::regs::{self, gicr};
use crate::vgic::Vgic;

/// Inner write-back, read- and write-allocating, the outer attribute the same,
/// inner shareable: how the hypervisor accesses the guest's memory.
const ATTRIBUTES: u64 = 0b111 << 7 | 0b01 << 10;

const PROPBASER_WRITABLE: u64 = 0x000F_FFFF_FFFF_F01F;
const PENDBASER_WRITABLE: u64 = 0x000F_FFFF_FFFF_0000 | PENDBASER_PTZ;
/// The pending table is zero. Reads as zero.
const PENDBASER_PTZ: u64 = 1 << 62;

/// What is to be done in the guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// LPIs were enabled.
    Load,
    /// LPIs were disabled.
    Store,
}

/// What the frames of one vCPU say about LPIs.
#[derive(Clone, Debug)]
pub(crate) struct LpiRegisters {
    propbaser: u64,
    pendbaser: u64,
    request: Option<Request>,
}

impl LpiRegisters {
    /// Returns the registers at reset.
    pub(super) const fn new() -> Self {
        Self {
            propbaser: ATTRIBUTES,
            pendbaser: ATTRIBUTES,
            request: None,
        }
    }
}

impl Vgic {
    /// Gives the vGIC LPIs: at least so many, up to
    /// [`MAX_LPIS`](arm_vgic_core::MAX_LPIS), rounded up to a power of two from 32.
    /// An [`Its`](crate::its::Its) belongs to them. Without this there are none.
    #[must_use]
    pub fn with_lpis(mut self, count: u32) -> Self {
        self.core.add_lpis(count);
        self
    }

    /// Tells whether a redistributor waits for the ITS to read or write its
    /// tables, so that [`Its::run`](crate::its::Its::run) has something to do: to be
    /// asked after each access to the redistributors, before the guest goes on.
    #[must_use]
    #[inline]
    pub fn has_table_request(&self) -> bool {
        self.table_requests != 0
    }

    /// Returns the first request that can be served. One that is to write
    /// pending states back must wait until the vCPU has been folded.
    pub(crate) fn table_request(&self) -> Option<TableRequest> {
        if self.table_requests == 0 {
            return None;
        }
        let mut waiting = self.vcpus().zip(&self.redistributors);
        waiting.find_map(|(vcpu, one)| {
            let properties = PropertyTable::from_propbaser(one.lpi.propbaser);
            let pending = PendingTable::from_pendbaser(one.lpi.pendbaser, properties);
            match one.lpi.request? {
                Request::Load => Some(TableRequest::Load {
                    vcpu,
                    properties,
                    pending: (one.lpi.pendbaser & PENDBASER_PTZ == 0).then_some(pending),
                }),
                Request::Store => (!self.core.has_listed_lpis(vcpu))
                    .then_some(TableRequest::Store { vcpu, pending }),
            }
        })
    }

    /// Notes that the request of `vcpu` is done.
    pub(crate) fn table_request_done(&mut self, vcpu: VcpuId) {
        if let Some(one) = self.redistributors.get_mut(vcpu.index())
            && one.lpi.request.take().is_some()
        {
            self.table_requests -= 1;
        }
    }

    /// Returns where the properties of the LPIs of `vcpu` lie, if those are
    /// enabled.
    pub(crate) fn property_table(&self, vcpu: VcpuId) -> Option<PropertyTable> {
        let one = self.redistributors.get(vcpu.index())?;
        let table = PropertyTable::from_propbaser(one.lpi.propbaser);
        self.core.lpis_enabled(vcpu).then_some(table)
    }

    /// Reads GICR_CTLR.
    pub(super) fn lpi_control(&self, vcpu: VcpuId) -> u32 {
        if self.core.lpi_count() == 0 {
            return 0;
        }
        let one = self.redistributors.get(vcpu.index());
        let bit_if = |set, bit| if set { bit } else { 0 };
        gicr::CTLR_CES
            | bit_if(self.core.lpis_enabled(vcpu), gicr::CTLR_ENABLE_LPIS)
            | bit_if(
                one.is_some_and(|one| one.lpi.request.is_some()),
                gicr::CTLR_RWP,
            )
    }

    /// Writes GICR_CTLR.
    pub(super) fn set_lpi_control(&mut self, vcpu: VcpuId, value: u64) -> Kicks {
        let enable = value & u64::from(gicr::CTLR_ENABLE_LPIS) != 0;
        let Some(one) = self.redistributors.get_mut(vcpu.index()) else {
            return Kicks::NONE;
        };
        if self.core.lpi_count() == 0
            || one.lpi.request.is_some()
            || self.core.lpis_enabled(vcpu) == enable
        {
            return Kicks::NONE;
        }
        one.lpi.request = Some(if enable {
            Request::Load
        } else {
            // What the guest said of its table when it enabled LPIs is no longer
            // true once the pending states have been written back.
            one.lpi.pendbaser &= !PENDBASER_PTZ;
            Request::Store
        });
        self.table_requests += 1;
        self.core.enable_lpis(vcpu, enable)
    }

    /// Reads GICR_PROPBASER or GICR_PENDBASER, or a half of one.
    pub(super) fn read_lpi_table(&self, vcpu: VcpuId, offset: u64, width: Width) -> u64 {
        let one = self.redistributors.get(vcpu.index());
        let value = one.map_or(0, |one| match offset & !7 {
            gicr::PROPBASER => one.lpi.propbaser,
            _ => one.lpi.pendbaser & !PENDBASER_PTZ,
        });
        regs::part(value, offset, width)
    }

    /// Writes GICR_PROPBASER or GICR_PENDBASER, or a half of one. Both are
    /// read-only while LPIs are enabled.
    pub(super) fn write_lpi_table(&mut self, vcpu: VcpuId, offset: u64, width: Width, value: u64) {
        let Some(one) = self.redistributors.get_mut(vcpu.index()) else {
            return;
        };
        if self.core.lpis_enabled(vcpu) || one.lpi.request.is_some() {
            return;
        }
        let (register, writable) = match offset & !7 {
            gicr::PROPBASER => (&mut one.lpi.propbaser, PROPBASER_WRITABLE),
            _ => (&mut one.lpi.pendbaser, PENDBASER_WRITABLE),
        };
        let value = regs::merge(*register, offset, width, value);
        *register = *register & !writable | value & writable;
    }

    /// Returns the registers to their reset state.
    pub(crate) fn reset_lpi_registers(&mut self) {
        for one in &mut self.redistributors {
            one.lpi = LpiRegisters::new();
        }
        self.table_requests = 0;
    }
}
