//! What an ITS does to the redistributors.

use vm_contract::{IntId, VcpuId};

use super::{PendingTable, PropertyTable};

/// The redistributors of one vGIC, as its ITS sees them.
///
/// The ITS passes only LPIs below [`lpi_count`](Self::lpi_count) and vCPUs below
/// [`vcpu_count`](Self::vcpu_count); both must not change. Where a whole word of
/// LPIs is named by its first one, that is a multiple of 32, and bit `n` of a
/// mask stands for the LPI `first + n`.
///
/// An LPI of a redistributor whose LPIs are disabled, or whose tables do not
/// describe it, cannot become pending: [`set_pending`](Self::set_pending) has no
/// effect there, and what is moved there is lost.
pub trait Redistributors {
    /// Returns the number of vCPUs.
    fn vcpu_count(&self) -> usize;

    /// Returns the number of LPIs, from INTID 8192: a multiple of 32.
    fn lpi_count(&self) -> u32;

    /// Returns the table of LPI properties (GICR_PROPBASER) of `vcpu`, or `None`
    /// while its LPIs are disabled.
    fn property_table(&self, vcpu: VcpuId) -> Option<PropertyTable>;

    /// Makes `lpi` pending at `vcpu`, which gets it from now on.
    fn set_pending(&mut self, vcpu: VcpuId, lpi: IntId);

    /// Makes `lpi` not pending at `vcpu`.
    fn clear_pending(&mut self, vcpu: VcpuId, lpi: IntId);

    /// Moves those of the 32 LPIs from `first` that are in `mask` and pending
    /// at `from` to `to`.
    fn move_pending(&mut self, first: IntId, mask: u32, from: VcpuId, to: VcpuId);

    /// Takes over the properties of as many LPIs from `first`, one byte each:
    /// the priority in the highest six bits, whether it is enabled in the
    /// lowest.
    fn configure(&mut self, first: IntId, properties: &[u8]);

    /// Returns what a redistributor needs from the guest's memory, because
    /// GICR_CTLR.EnableLPIs changed. The same request comes again until it is
    /// done.
    fn table_request(&self) -> Option<TableRequest>;

    /// Makes those of the 32 LPIs from `first` that are in `mask` pending at
    /// `vcpu`, as its pending table says.
    fn load_pending(&mut self, vcpu: VcpuId, first: IntId, mask: u32);

    /// Takes out, for its pending table, which of the 32 LPIs from `first` are
    /// pending at `vcpu`. They are not pending afterwards.
    fn unload_pending(&mut self, vcpu: VcpuId, first: IntId) -> u32;

    /// Notes that the request of `vcpu` is done.
    fn request_done(&mut self, vcpu: VcpuId);
}

/// What a redistributor needs from the guest's memory, which it cannot reach
/// itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableRequest {
    /// LPIs were enabled: their properties and pending states must be read.
    Load {
        /// Whose LPIs.
        vcpu: VcpuId,
        /// Where their properties lie.
        properties: PropertyTable,
        /// Which are pending, or `None` if the guest says that none is
        /// (GICR_PENDBASER.PTZ).
        pending: Option<PendingTable>,
    },
    /// LPIs were disabled: their pending states must be written back.
    Store {
        /// Whose LPIs.
        vcpu: VcpuId,
        /// Where the states go.
        pending: PendingTable,
    },
}
