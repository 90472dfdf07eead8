//! The CPUs in a host tree.

use alloc::string::String;
use alloc::vec::Vec;

use vm_contract::HostPhysAddr;

use crate::tree::{Node, Tree};
use crate::{PlatformError, PropertyError, cells};

/// The affinity fields of MPIDR_EL1: Aff3 in bits 39–32, Aff2–Aff0 in bits
/// 23–0 (Arm DDI 0487, "MPIDR_EL1").
pub(crate) const AFFINITY_MASK: u64 = 0xff_00ff_ffff;

/// A CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// The affinity fields of its MPIDR_EL1; all other bits are zero.
    pub mpidr: u64,
    /// How it is started.
    pub enable_method: EnableMethod,
    /// The model, as the most specific name that the tree gives it.
    pub compatible: Option<String>,
    /// Whether it can be used.
    pub status: CpuStatus,
}

/// How a CPU is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnableMethod {
    /// By PSCI.
    Psci,
    /// By writing an address to start at to memory that the CPU watches.
    SpinTable {
        /// Where to write.
        release_address: HostPhysAddr,
    },
    /// In no way that is known here; a machine's only CPU needs none.
    Other,
}

/// Whether a CPU can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuStatus {
    /// It can.
    Enabled,
    /// Not until something beyond its enable method has been done.
    Disabled,
    /// It is broken.
    Failed,
}

impl Cpu {
    /// Reads the children of `/cpus`.
    pub(crate) fn read_all(tree: &Tree<'_>) -> Result<Vec<Self>, PlatformError> {
        const NODE: &str = "CPU under `/cpus`";
        let parent = tree.find("/cpus").ok_or(PlatformError::Missing(NODE))?;
        let mut cpus: Vec<Self> = Vec::new();
        for node in parent.children() {
            let is_cpu = match node.string("device_type")? {
                Some(kind) => kind == "cpu",
                None => node.base_name() == "cpu",
            };
            if is_cpu {
                let cpu = Self::read(node)?;
                if cpus.iter().any(|other| other.mpidr == cpu.mpidr) {
                    return Err(node.invalid("reg", "that of no other CPU").into());
                }
                cpus.push(cpu);
            }
        }
        if cpus.iter().any(|cpu| cpu.status == CpuStatus::Enabled) {
            Ok(cpus)
        } else {
            Err(PlatformError::Missing(NODE))
        }
    }

    fn read(node: Node<'_, '_>) -> Result<Self, PropertyError> {
        const REG_ALLOWED: &str = "the affinity fields of MPIDR_EL1 in one or two cells";
        let mpidr = cells::identity(node, REG_ALLOWED)?;
        if mpidr & !AFFINITY_MASK != 0 {
            return Err(node.invalid("reg", REG_ALLOWED));
        }
        Ok(Self {
            mpidr,
            enable_method: enable_method(node)?,
            compatible: node.compatible().next().map(String::from),
            status: match node.string("status")? {
                None | Some("okay" | "ok") => CpuStatus::Enabled,
                Some(status) if status.starts_with("fail") => CpuStatus::Failed,
                Some(_) => CpuStatus::Disabled,
            },
        })
    }
}

fn enable_method(node: Node<'_, '_>) -> Result<EnableMethod, PropertyError> {
    const METHOD: &str = "enable-method";
    const RELEASE: &str = "cpu-release-addr";
    const RELEASE_ALLOWED: &str = "an address of one or two words";
    let method = match node.string(METHOD)? {
        Some(method) => Some(method),
        // What all CPUs have in common may stand above them.
        None => node.parent().map_or(Ok(None), |all| all.string(METHOD))?,
    };
    Ok(match method {
        Some("psci") => EnableMethod::Psci,
        Some("spin-table") => {
            let address = node
                .number(RELEASE, RELEASE_ALLOWED)?
                .ok_or_else(|| node.missing(RELEASE, RELEASE_ALLOWED))?;
            let address =
                usize::try_from(address).map_err(|_| node.invalid(RELEASE, RELEASE_ALLOWED))?;
            EnableMethod::SpinTable {
                release_address: HostPhysAddr::from(address),
            }
        }
        _ => EnableMethod::Other,
    })
}
