//! `GICD_IROUTER<n>`: where shared interrupts go.

use arm_vgic_core::Kicks;
use vm_contract::{AccessError, IntId, VcpuId, Width};

use crate::affinity::Affinity;
use crate::regs::gicd;
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
        match width {
            Width::Dword => Ok(value),
            Width::Word => Ok(value >> (8 * (offset & 4)) & 0xFFFF_FFFF),
            _ => Err(AccessError::InvalidWidth),
        }
    }

    /// Writes the half or the whole of `GICD_IROUTER<n>` at `offset`.
    pub(crate) fn write_router(
        &mut self,
        intid: IntId,
        offset: u64,
        width: Width,
        value: u64,
    ) -> Result<Kicks, AccessError> {
        if !matches!(width, Width::Word | Width::Dword) {
            return Err(AccessError::InvalidWidth);
        }
        let Some(route) = self.routes.get_mut(index(intid)) else {
            return Ok(Kicks::NONE);
        };
        let value = match (width, offset & 4) {
            (Width::Dword, _) => value,
            (_, 0) => *route & !0xFFFF_FFFF | value & 0xFFFF_FFFF,
            _ => *route & 0xFFFF_FFFF | value << 32,
        };
        *route = value & gicd::IROUTER_MASK;
        Ok(self.resolve(intid))
    }

    /// Finds new targets for the SPIs that go to any vCPU, after one of the
    /// vCPUs woke up or went to sleep.
    pub(crate) fn resolve_any_vcpu_routes(&mut self, kicks: &mut Kicks) {
        for number in 0..self.routes.len() {
            if self
                .routes
                .get(number)
                .is_some_and(|route| route & gicd::IROUTER_IRM != 0)
                && let Some(intid) = spi(number)
            {
                kicks.extend(self.resolve(intid));
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
            self.affinities.find(Affinity::from_mpidr(route))
        } else {
            // Any one will do: the first that is awake, else the first of all.
            let vcpus = 0..u16::try_from(self.core.vcpu_count()).unwrap_or_default();
            let awake = vcpus
                .into_iter()
                .find(|&vcpu| self.core.is_awake(VcpuId::new(vcpu)));
            Some(awake.unwrap_or(0))
        };
        self.core.route(intid, target.map(VcpuId::new))
    }
}

/// Returns the place of an SPI among the routes.
fn index(intid: IntId) -> usize {
    (intid.raw() as usize).wrapping_sub(IntId::SPI_BASE as usize)
}

/// Returns the SPI at this place.
fn spi(index: usize) -> Option<IntId> {
    IntId::spi(u32::try_from(index).ok()?)
}
