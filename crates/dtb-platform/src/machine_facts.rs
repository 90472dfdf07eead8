//! What the configuration of a VM must agree with on this machine.

use vm_contract::HostPhysAddrRange;

use crate::vm_config::{allowed, property};
use crate::{ConfigError, Fault, GicVersion, Platform, PropertyError, VmConfig};

/// What is known of the machine that VMs are to be built on.
#[derive(Clone, Copy, Debug)]
pub struct MachineFacts<'a> {
    /// The RAM: ranges that touch are joined, as in [`Platform::memory`].
    pub memory: &'a [HostPhysAddrRange],
    /// What of it firmware and devices use.
    pub reserved: &'a [HostPhysAddrRange],
    /// How many CPUs there are to run vCPUs on.
    pub cpu_count: usize,
    /// Its interrupt controller: guests have one of the same version.
    pub gic: GicVersion,
    /// What else modules must keep clear of, such as the hypervisor's own image
    /// and the device tree, each with what to call it in a message.
    pub occupied: &'a [(HostPhysAddrRange, &'static str)],
}

impl<'a> MachineFacts<'a> {
    /// Takes the facts from `platform`, all of whose CPUs count.
    #[must_use]
    pub fn of(platform: &'a Platform, occupied: &'a [(HostPhysAddrRange, &'static str)]) -> Self {
        Self {
            memory: &platform.memory,
            reserved: &platform.reserved,
            cpu_count: platform.cpus.len(),
            gic: platform.gic.version(),
            occupied,
        }
    }

    /// Judges whether a VM can be built here, as far as that is known before it
    /// is tried.
    ///
    /// # Errors
    /// Whoever configured the VM is to blame: [`ConfigError::Property`] for what
    /// the machine's GIC cannot do, [`ConfigError::NoSuchCpu`],
    /// [`ConfigError::MoreThanAll`], [`ConfigError::ModuleOutside`] or
    /// [`ConfigError::ModuleInTheWay`].
    pub fn check(&self, config: &VmConfig) -> Result<(), ConfigError> {
        self.check_gic(config)?;
        self.check_cpus(config)?;
        let machine_bytes = self.memory.iter().map(|range| range.size() as u64).sum();
        if config.memory_bytes > machine_bytes {
            return Err(ConfigError::MoreThanAll {
                node: config.path(),
                memory_bytes: config.memory_bytes,
                machine_bytes,
            });
        }
        config
            .modules()
            .try_for_each(|module| self.check_module(config, module))
    }

    fn check_gic(&self, config: &VmConfig) -> Result<(), PropertyError> {
        let (property, allowed) = match self.gic {
            GicVersion::V2 if config.cpus > self.gic.max_cpus() => {
                (property::CPUS, allowed::CPUS_V2)
            }
            GicVersion::V2 if config.its => (property::ITS, allowed::NO_ITS),
            GicVersion::V2 | GicVersion::V3 => return Ok(()),
        };
        Err(PropertyError {
            node: config.path(),
            property,
            fault: Fault::Invalid,
            allowed,
        })
    }

    fn check_cpus(&self, config: &VmConfig) -> Result<(), ConfigError> {
        let exists = |cpu: &u32| usize::try_from(*cpu).is_ok_and(|cpu| cpu < self.cpu_count);
        let missing = config.placement.named().iter().find(|cpu| !exists(cpu));
        match (missing, config.placement.property()) {
            (Some(cpu), Some(property)) => Err(ConfigError::NoSuchCpu {
                node: config.path(),
                property,
                cpu: *cpu,
                cpu_count: self.cpu_count,
            }),
            _ => Ok(()),
        }
    }

    fn check_module(
        &self,
        config: &VmConfig,
        module: HostPhysAddrRange,
    ) -> Result<(), ConfigError> {
        if !self.memory.iter().any(|range| range.contains_range(module)) {
            return Err(ConfigError::ModuleOutside {
                node: config.path(),
                module,
            });
        }
        let reserved = self
            .reserved
            .iter()
            .map(|range| (*range, "reserved memory"));
        let mut places = reserved.chain(self.occupied.iter().copied());
        match places.find(|(place, _)| place.overlaps(module)) {
            None => Ok(()),
            Some((place, what)) => Err(ConfigError::ModuleInTheWay {
                node: config.path(),
                module,
                what,
                place,
            }),
        }
    }
}
