//! What VMs must not both have.

use vm_contract::HostPhysAddrRange;

use super::{DiskConfig, NetConfig, VmConfig};
use crate::ConfigError;

/// Memory that the boot loader has filled for a VM.
#[derive(Clone, Copy)]
struct Claim {
    range: HostPhysAddrRange,
    /// Whether the VM writes there.
    written: bool,
}

impl Claim {
    /// Tells whether another VM cannot have `other`: only the very same memory can
    /// be shared, and only if nobody writes there.
    fn clashes(self, other: Self) -> bool {
        let shared = self.range == other.range && !self.written && !other.written;
        self.range.overlaps(other.range) && !shared
    }
}

/// Checks VMs each by itself and as neighbours.
pub(crate) fn check_all(configs: &[VmConfig]) -> Result<(), ConfigError> {
    for (index, config) in configs.iter().enumerate() {
        config.check()?;
        let earlier = configs.get(..index).unwrap_or_default();
        config.check_after(earlier.iter())?;
    }
    Ok(())
}

impl VmConfig {
    /// Returns where its modules are: all memory that the boot loader has filled
    /// for it.
    pub fn modules(&self) -> impl Iterator<Item = HostPhysAddrRange> {
        self.claims().map(|claim| claim.range)
    }

    fn claims(&self) -> impl Iterator<Item = Claim> {
        let boot = [self.boot.range()].into_iter().chain(self.ramdisk);
        let disks = self.disks.iter().filter_map(|disk| {
            let written = !disk.read_only;
            disk.module().map(|range| Claim { range, written })
        });
        let written = false;
        boot.map(move |range| Claim { range, written }).chain(disks)
    }

    /// Checks that the VM can be built beside the `earlier` ones.
    pub(super) fn check_after<'a>(
        &self,
        mut earlier: impl Iterator<Item = &'a Self> + Clone,
    ) -> Result<(), ConfigError> {
        let ports: usize = earlier.clone().map(|vm| vm.nets.len()).sum();
        if ports + self.nets.len() > Self::MAX_PORTS {
            return Err(ConfigError::TooManyPorts { node: self.path() });
        }
        earlier.try_for_each(|earlier| self.check_beside(earlier))
    }

    /// Checks that the VM can be built beside an earlier one.
    fn check_beside(&self, earlier: &Self) -> Result<(), ConfigError> {
        for (ours, theirs) in [(&self.name, &earlier.name), (&self.node, &earlier.node)] {
            if ours == theirs {
                return Err(ConfigError::DuplicateName {
                    node: self.path(),
                    name: ours.clone(),
                });
            }
        }
        let clashes = |ours: Claim| earlier.claims().any(|theirs| ours.clashes(theirs));
        if self.claims().any(clashes) {
            return Err(self.overlap(earlier));
        }
        for disk in &self.disks {
            self.check_disk(disk, &earlier.disks, earlier)?;
        }
        for net in &self.nets {
            self.check_net(net, &earlier.nets)?;
        }
        Ok(())
    }

    /// Checks that nothing that the VM has is in the way of something else of it.
    pub(super) fn check_alone(&self) -> Result<(), ConfigError> {
        for (index, ours) in self.modules().enumerate() {
            if self.modules().take(index).any(|other| ours.overlaps(other)) {
                return Err(self.overlap(self));
            }
        }
        for (index, disk) in self.disks.iter().enumerate() {
            self.check_disk(disk, self.disks.get(..index).unwrap_or_default(), self)?;
        }
        for (index, net) in self.nets.iter().enumerate() {
            self.check_net(net, self.nets.get(..index).unwrap_or_default())?;
        }
        Ok(())
    }

    fn overlap(&self, other: &Self) -> ConfigError {
        ConfigError::Overlap {
            node: self.path(),
            other: other.path(),
        }
    }

    /// Checks one of its disks beside `others`, which are those of `owner`.
    fn check_disk(
        &self,
        disk: &DiskConfig,
        others: &[DiskConfig],
        owner: &Self,
    ) -> Result<(), ConfigError> {
        match others.iter().find_map(|other| disk.clash(other)) {
            None => Ok(()),
            Some(disk) => Err(ConfigError::DiskClash {
                node: self.path(),
                other: owner.path(),
                disk,
            }),
        }
    }

    /// Checks one of its network cards beside others.
    fn check_net(&self, net: &NetConfig, others: &[NetConfig]) -> Result<(), ConfigError> {
        let taken = |mac: &[u8; 6]| others.iter().any(|other| other.mac.as_ref() == Some(mac));
        match net.mac.filter(taken) {
            None => Ok(()),
            Some(mac) => Err(ConfigError::DuplicateMac {
                node: self.path(),
                mac,
            }),
        }
    }
}
