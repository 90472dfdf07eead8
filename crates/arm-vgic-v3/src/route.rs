//! `GICD_IROUTER<n>`: where shared interrupts go.

use arm_vgic_core::Kicks;
use vm_contract::{AccessError, IntId, VcpuId, Width};

use crate::affinity::Affinity;
use crate::regs::{self, gicd};
use crate::vgic::Vgic;

impl Vgic {
    /// Reads the half or the whole of `GICD_IROUTER<n>` at `offset`.
    pub(crate) fn read_router(
        &self,
        intid: IntId,
        offset: u64,
        width: Width,
    ) -> Result<u64, AccessError> {
        let value = self.routes.get(index(intid)).copied().unwrap_or_default();
        check_width(width).map(|()| regs::part(value, offset, width))
    }

    /// Writes the half or the whole of `GICD_IROUTER<n>` at `offset`.
    pub(crate) fn write_router(
        &mut self,
        intid: IntId,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Kicks, AccessError> {
        check_width(width)?;
        let Some(route) = self.routes.get_mut(index(intid)) else {
            return Ok(Kicks::NONE);
        };
        *route = regs::merge(*route, offset, width, value) & gicd::IROUTER_MASK;
        Ok(self.resolve(intid))
    }

    /// Returns the vCPU that gets the SPIs that may go to any: the first that is
    /// awake, else the first of all.
    pub(crate) fn any_vcpu(&self) -> VcpuId {
        let awake = self.vcpus().find(|&vcpu| self.core.is_awake(vcpu));
        awake.unwrap_or(VcpuId::new(0))
    }

    /// Lets the SPIs that may go to any vCPU go to this one.
    pub(crate) fn route_any_vcpu_spis(&mut self, target: VcpuId, kicks: &mut Kicks) {
        for (number, route) in self.routes.iter().enumerate() {
            if route & gicd::IROUTER_IRM != 0
                && let Some(intid) = spi(number)
            {
                kicks.extend(self.core.route(intid, Some(target)));
            }
        }
    }

    /// Returns all routes to their reset state.
    pub(crate) fn reset_routes(&mut self) {
        for number in 0..self.routes.len() {
            if let (Some(route), Some(intid)) = (self.routes.get_mut(number), spi(number)) {
                *route = 0;
                // Nobody is awake yet.
                let _ = self.resolve(intid);
            }
        }
    }

    /// Looks up the target of an SPI.
    fn resolve(&mut self, intid: IntId) -> Kicks {
        let route = self.routes.get(index(intid)).copied().unwrap_or_default();
        let target = if route & gicd::IROUTER_IRM == 0 {
            let found = self.affinities.find(Affinity::from_mpidr(route));
            found.map(VcpuId::new)
        } else {
            Some(self.any_vcpu())
        };
        self.core.route(intid, target)
    }
}

/// Checks the width of an access to a router.
fn check_width(width: Width) -> Result<(), AccessError> {
    matches!(width, Width::Word | Width::Dword)
        .then_some(())
        .ok_or(AccessError::InvalidWidth)
}

/// Returns the place of an SPI among the routes.
fn index(intid: IntId) -> usize {
    (intid.raw() as usize).wrapping_sub(IntId::SPI_BASE as usize)
}

/// Returns the SPI at this place.
fn spi(index: usize) -> Option<IntId> {
    IntId::spi(u32::try_from(index).ok()?)
}
