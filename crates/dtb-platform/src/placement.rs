//! Which physical CPUs run the vCPUs of a VM.

use alloc::vec::Vec;

use crate::PropertyError;
use crate::tree::{Node, has_repeats};
use crate::vm_config::{allowed, property};

/// Which physical CPUs run the vCPUs of a VM. CPU 0 is the one that booted; the
/// others follow in the order of the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// The hypervisor chooses. If the machine has enough CPUs that no other VM
    /// names, each vCPU of every such VM gets one of these for itself; else all
    /// of them float over all CPUs.
    #[default]
    Automatic,
    /// For each vCPU the number of the only CPU that runs it.
    Pinned(Vec<u32>),
    /// Any of these CPUs runs any of the vCPUs: not empty, none twice.
    Within(Vec<u32>),
}

impl Placement {
    /// Returns the numbers of the CPUs that it names.
    #[must_use]
    pub fn named(&self) -> &[u32] {
        match self {
            Self::Automatic => &[],
            Self::Pinned(cpus) | Self::Within(cpus) => cpus,
        }
    }

    /// Returns the property that says so, unless nothing does.
    pub(crate) fn property(&self) -> Option<&'static str> {
        match self {
            Self::Automatic => None,
            Self::Pinned(_) => Some(property::AFFINITY),
            Self::Within(_) => Some(property::CPU_SET),
        }
    }

    /// Reads the placement that a domain node asks for.
    pub(crate) fn read(domain: Node<'_, '_>) -> Result<Self, PropertyError> {
        let pinned = domain.words(property::AFFINITY, allowed::AFFINITY)?;
        let within = domain.words(property::CPU_SET, allowed::CPU_SET)?;
        match (pinned, within) {
            (None, None) => Ok(Self::Automatic),
            (Some(cpus), None) => Ok(Self::Pinned(cpus)),
            (None, Some(cpus)) => Ok(Self::Within(cpus)),
            (Some(_), Some(_)) => Err(domain.invalid(property::CPU_SET, allowed::NO_CPU_SET)),
        }
    }

    /// Checks it for a VM with `vcpus` vCPUs. What is wrong is a property, and
    /// comes with what that may be.
    pub(crate) fn check(&self, vcpus: u32) -> Result<(), (&'static str, &'static str)> {
        match self {
            Self::Pinned(cpus) if cpus.len() != vcpus as usize => {
                Err((property::AFFINITY, allowed::AFFINITY))
            }
            Self::Within(cpus) if cpus.is_empty() || has_repeats(cpus) => {
                Err((property::CPU_SET, allowed::CPU_SET))
            }
            Self::Automatic | Self::Pinned(_) | Self::Within(_) => Ok(()),
        }
    }
}
