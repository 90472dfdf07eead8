//! The interrupt controller in a host tree.

use alloc::vec::Vec;

use core::fmt;

use vm_contract::{HostPhysAddrRange, IntId};

use crate::tree::{Node, Tree};
use crate::{PlatformError, cells, interrupts, layout};

const GIC_V3: &[&str] = &["arm,gic-v3"];
const GIC_V2: &[&str] = &[
    "arm,gic-400",
    "arm,cortex-a15-gic",
    "arm,cortex-a7-gic",
    "arm,cortex-a9-gic",
];
const ITS: &[&str] = &["arm,gic-v3-its"];

/// The versions of the GIC architecture that are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GicVersion {
    /// Version 2.
    V2,
    /// Version 3, or 4, which adds nothing that is used here.
    #[default]
    V3,
}

impl GicVersion {
    /// Returns the version with this number, or `None` if it is not told apart.
    ///
    /// ```
    /// use dtb_platform::GicVersion;
    ///
    /// assert_eq!(GicVersion::from_number(2), Some(GicVersion::V2));
    /// assert_eq!(GicVersion::from_number(4), None);
    /// ```
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        match number {
            2 => Some(Self::V2),
            3 => Some(Self::V3),
            _ => None,
        }
    }

    /// Returns the number of the version.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }

    /// Returns the most CPUs that a machine, or a guest, with such a controller
    /// can have.
    #[must_use]
    pub const fn max_cpus(self) -> u32 {
        match self {
            Self::V2 => 8,
            Self::V3 => layout::MAX_VCPUS as u32,
        }
    }
}

impl fmt::Display for GicVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GICv{}", self.number())
    }
}

/// The interrupt controller: where its registers are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gic {
    /// Version 3 or 4 (Arm IHI 0069), with system registers for the CPUs.
    V3 {
        /// The distributor.
        distributor: HostPhysAddrRange,
        /// The regions that hold the redistributors, at least one.
        redistributors: Vec<HostPhysAddrRange>,
        /// The distance from one redistributor to the next in bytes, where it
        /// is not what the redistributor itself says.
        stride: Option<u64>,
        /// The interrupt translation services.
        its: Vec<HostPhysAddrRange>,
        /// The interrupt by which the virtual interface asks for maintenance.
        maintenance: Option<IntId>,
    },
    /// Version 2 (Arm IHI 0048).
    V2 {
        /// The distributor.
        distributor: HostPhysAddrRange,
        /// The CPU interface, GICC.
        cpu: HostPhysAddrRange,
        /// The virtual interface control, GICH.
        hyp: Option<HostPhysAddrRange>,
        /// The virtual CPU interface, GICV.
        vcpu: Option<HostPhysAddrRange>,
        /// The interrupt by which the virtual interface asks for maintenance.
        maintenance: Option<IntId>,
    },
}

/// Tells whether interrupt specifiers for `node` are those of a GIC.
pub(crate) fn is_gic(node: Node<'_, '_>) -> bool {
    node.is_compatible(GIC_V3) || node.is_compatible(GIC_V2)
}

impl Gic {
    /// Returns the version.
    #[must_use]
    pub const fn version(&self) -> GicVersion {
        match self {
            Self::V2 { .. } => GicVersion::V2,
            Self::V3 { .. } => GicVersion::V3,
        }
    }

    /// Reads the first enabled GIC of a tree.
    pub(crate) fn read(tree: &Tree<'_>) -> Result<Self, PlatformError> {
        let node = tree
            .nodes()
            .find(|node| is_gic(*node) && node.is_available())
            .ok_or(PlatformError::Missing(
                "interrupt controller compatible with `arm,gic-v3` or a GICv2",
            ))?;
        let maintenance = interrupts::of(node)?
            .and_then(|interrupts| interrupts.first().map(|interrupt| interrupt.id));
        if node.is_compatible(GIC_V3) {
            v3(node, maintenance)
        } else {
            v2(node, maintenance)
        }
    }
}

fn v3(node: Node<'_, '_>, maintenance: Option<IntId>) -> Result<Gic, PlatformError> {
    const REGIONS: &str = "#redistributor-regions";
    let regions = node.word(REGIONS, "one word")?.unwrap_or(1) as usize;
    let reg = cells::reg(node)?;
    let (Some(&distributor), Some(redistributors)) =
        (reg.first(), reg.get(1..regions.saturating_add(1)))
    else {
        let allowed = "the distributor and as many redistributor regions as \
                       `#redistributor-regions` says";
        return Err(node.invalid("reg", allowed).into());
    };
    if redistributors.is_empty() {
        return Err(node.invalid(REGIONS, "at least 1").into());
    }

    const STRIDE: &str = "redistributor-stride";
    const STRIDE_ALLOWED: &str = "a multiple of 64 KiB, not zero";
    let stride = node.number(STRIDE, STRIDE_ALLOWED)?;
    if stride.is_some_and(|stride| stride == 0 || stride % 0x1_0000 != 0) {
        return Err(node.invalid(STRIDE, STRIDE_ALLOWED).into());
    }

    let mut its = Vec::new();
    for service in node
        .children()
        .filter(|child| child.is_compatible(ITS) && child.is_available())
    {
        its.extend(cells::reg(service)?.first());
    }
    Ok(Gic::V3 {
        distributor,
        redistributors: redistributors.to_vec(),
        stride,
        its,
        maintenance,
    })
}

fn v2(node: Node<'_, '_>, maintenance: Option<IntId>) -> Result<Gic, PlatformError> {
    let reg = cells::reg(node)?;
    let [distributor, cpu, virtualization @ ..] = reg.as_slice() else {
        return Err(node
            .invalid("reg", "at least the distributor and the CPU interface")
            .into());
    };
    Ok(Gic::V2 {
        distributor: *distributor,
        cpu: *cpu,
        hyp: virtualization.first().copied(),
        vcpu: virtualization.get(1).copied(),
        maintenance,
    })
}
