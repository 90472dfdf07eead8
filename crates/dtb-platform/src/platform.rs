//! A machine as its device tree describes it.

use alloc::string::String;
use alloc::vec::Vec;

use vm_contract::{HostPhysAddrRange, IntId};

use crate::blob::Blob;
use crate::cpu::Cpu;
use crate::gic::Gic;
use crate::interrupts::{self, Interrupt};
use crate::tree::{Node, Tree};
use crate::{PlatformError, PropertyError, cells};

/// A machine: everything that a hypervisor wants to know before it can look at
/// the hardware itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The RAM, in ascending order; ranges that touch are joined.
    pub memory: Vec<HostPhysAddrRange>,
    /// What of the memory is in use by firmware and devices, from the memory
    /// reservation block and from `/reserved-memory`; in ascending order, and
    /// ranges that touch are joined. The device tree itself, the initial
    /// ramdisk and the modules of VMs are not in here unless the tree says so.
    pub reserved: Vec<HostPhysAddrRange>,
    /// The CPUs in the order of the tree, also those that are not enabled.
    pub cpus: Vec<Cpu>,
    /// The interrupt controller.
    pub gic: Gic,
    /// The console, or else the first UART of a known kind.
    pub uart: Option<Uart>,
    /// The interrupts of the CPUs' timers.
    pub timer: Timer,
    /// How firmware is asked to start and stop CPUs.
    pub psci: Option<Psci>,
    /// The places of virtio devices behind the MMIO transport, in ascending order.
    /// Which of them are empty only the registers there tell.
    pub virtio_mmio: Vec<VirtioMmio>,
    /// The registers of the PL031 real-time clock.
    pub rtc: Option<HostPhysAddrRange>,
    /// The initial ramdisk, where the boot loader put it.
    pub initrd: Option<HostPhysAddrRange>,
    /// The command line.
    pub bootargs: Option<String>,
}

/// A UART that can serve as console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uart {
    /// What kind of UART it is.
    pub kind: UartKind,
    /// Its registers.
    pub range: HostPhysAddrRange,
    /// Its interrupt, if it raises one at the GIC.
    pub interrupt: Option<Interrupt>,
    /// The frequency of the clock that its baud rate is derived from.
    pub clock_hz: Option<u64>,
}

/// The kinds of UART that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UartKind {
    /// Arm PrimeCell PL011.
    Pl011,
}

/// The interrupts of the Generic Timer, all private to their CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The secure physical timer.
    pub secure_phys: Option<IntId>,
    /// The non-secure EL1 physical timer, CNTP.
    pub phys: IntId,
    /// The EL1 virtual timer, CNTV.
    pub virt: IntId,
    /// The non-secure EL2 physical timer, CNTHP.
    pub hyp: IntId,
    /// The non-secure EL2 virtual timer, CNTHV.
    pub hyp_virt: Option<IntId>,
}

/// The firmware interface for power (Arm DEN 0022).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Psci {
    /// The instruction that calls it.
    pub conduit: Conduit,
    /// The newest version that the tree promises.
    pub version: PsciVersion,
}

/// The instruction that calls firmware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Conduit {
    /// `HVC`.
    #[default]
    Hvc,
    /// `SMC`.
    Smc,
}

impl Conduit {
    /// Returns the word that stands for it in a device tree.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Hvc => "hvc",
            Self::Smc => "smc",
        }
    }
}

/// Versions of PSCI as a device tree tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PsciVersion {
    /// 0.1, whose function numbers are of the firmware's choosing.
    V0_1,
    /// 0.2, with standard function numbers.
    V0_2,
    /// 1.0 or newer; the firmware itself says which.
    V1_0,
}

/// A place where a virtio device may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioMmio {
    /// Its registers.
    pub range: HostPhysAddrRange,
    /// Its interrupt.
    pub interrupt: Interrupt,
    /// Whether it sees memory as the CPUs do, through their caches.
    pub dma_coherent: bool,
}

impl Platform {
    /// Reads the machine's device tree. Anything behind the end of the blob is
    /// ignored.
    ///
    /// # Errors
    /// The firmware or whoever else made the tree is to blame:
    /// [`PlatformError::Blob`] if it cannot be read at all,
    /// [`PlatformError::Property`] if something in it contradicts the binding
    /// of its node, and [`PlatformError::Missing`] if there is no memory, CPU,
    /// GIC or timer in it.
    pub fn from_fdt(blob: &[u8]) -> Result<Self, PlatformError> {
        let blob = Blob::check(blob)?;
        let tree = Tree::read(&blob)?;
        let chosen = tree.find("/chosen");
        Ok(Self {
            memory: memory(&tree)?,
            reserved: reserved(&tree)?,
            cpus: Cpu::read_all(&tree)?,
            gic: Gic::read(&tree)?,
            uart: uart(&tree)?,
            timer: timer(&tree)?,
            psci: psci(&tree)?,
            virtio_mmio: virtio_mmio(&tree)?,
            rtc: match tree.compatible(&["arm,pl031"]).next() {
                Some(rtc) => cells::reg(rtc)?.first().copied(),
                None => None,
            },
            initrd: chosen.map_or(Ok(None), initrd)?,
            bootargs: match chosen {
                Some(chosen) => chosen.string("bootargs")?.map(String::from),
                None => None,
            },
        })
    }
}

fn memory(tree: &Tree<'_>) -> Result<Vec<HostPhysAddrRange>, PlatformError> {
    let mut memory = Vec::new();
    for node in tree.nodes().filter(|node| node.is_available()) {
        if node.string("device_type")? == Some("memory") {
            memory.extend(cells::reg(node)?);
        }
    }
    let memory = joined(memory);
    if memory.is_empty() {
        Err(PlatformError::Missing("memory"))
    } else {
        Ok(memory)
    }
}

fn reserved(tree: &Tree<'_>) -> Result<Vec<HostPhysAddrRange>, PropertyError> {
    let block = tree.reservations().iter();
    // What leaves the address space reserves as much of it as there is.
    let mut reserved: Vec<_> = block
        .filter_map(|&(start, size)| cells::range(start, size.min(u64::MAX - start)))
        .collect();
    for node in tree
        .find("/reserved-memory")
        .iter()
        .flat_map(|all| all.children())
    {
        // Without `reg` the reservation is for the system to place.
        if node.is_available() && node.property("reg").is_some() {
            reserved.extend(cells::reg(node)?);
        }
    }
    Ok(joined(reserved))
}

/// Sorts ranges, drops the empty ones and joins those that touch or overlap.
fn joined(mut ranges: Vec<HostPhysAddrRange>) -> Vec<HostPhysAddrRange> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    ranges.dedup_by(|next, kept| {
        let touch = next.start <= kept.end;
        if touch {
            kept.end = kept.end.max(next.end);
        }
        touch
    });
    ranges
}

fn uart(tree: &Tree<'_>) -> Result<Option<Uart>, PropertyError> {
    const PL011: &[&str] = &["arm,pl011"];
    let console = match tree.find("/chosen") {
        Some(chosen) => chosen.string("stdout-path")?,
        None => None,
    };
    // Behind a colon come the line's settings.
    let console = console.and_then(|path| tree.resolve(path.split(':').next()?));
    let node = match console {
        // A console of another kind: then no UART is the right one.
        Some(node) if !node.is_compatible(PL011) => None,
        Some(node) => Some(node),
        None => tree.compatible(PL011).next(),
    };
    let Some(node) = node else { return Ok(None) };
    let Some(&range) = cells::reg(node)?.first() else {
        return Ok(None);
    };
    Ok(Some(Uart {
        kind: UartKind::Pl011,
        range,
        interrupt: first_interrupt(node)?,
        clock_hz: first_clock(node)?,
    }))
}

fn first_interrupt(node: Node<'_, '_>) -> Result<Option<Interrupt>, PropertyError> {
    Ok(interrupts::of(node)?.and_then(|interrupts| interrupts.first().copied()))
}

/// Returns the frequency of a node's first clock, if that is a fixed one.
fn first_clock(node: Node<'_, '_>) -> Result<Option<u64>, PropertyError> {
    let clocks = node.property("clocks").unwrap_or_default();
    let clock = cells::Cells::new(clocks)
        .word()
        .and_then(|phandle| node.tree().phandle(phandle));
    match clock {
        Some(clock) if clock.is_compatible(&["fixed-clock"]) => {
            clock.number("clock-frequency", "a frequency of one or two words")
        }
        _ => Ok(None),
    }
}

fn timer(tree: &Tree<'_>) -> Result<Timer, PlatformError> {
    const NODE: &str = "timer compatible with `arm,armv8-timer`";
    const ALLOWED: &str = "the private interrupts of the secure physical, physical, virtual and \
                           hypervisor timers at the GIC, in this order or as named";
    /// The order where no names are given.
    const NAMES: [&str; 5] = ["sec-phys", "phys", "virt", "hyp-phys", "hyp-virt"];

    let node = tree
        .compatible(&["arm,armv8-timer"])
        .next()
        .ok_or(PlatformError::Missing(NODE))?;
    let interrupts = interrupts::of(node)?.ok_or_else(|| node.missing("interrupts", ALLOWED))?;
    let names = node.property("interrupt-names");
    let interrupt = |name: &str| {
        let position = match names {
            Some(names) => names
                .split(|&byte| byte == 0)
                .position(|n| n == name.as_bytes()),
            None => NAMES.iter().position(|n| *n == name),
        };
        interrupts
            .get(position?)
            .map(|interrupt| interrupt.id)
            .filter(|id| id.is_ppi())
    };
    let needed = |name| interrupt(name).ok_or_else(|| node.invalid("interrupts", ALLOWED));
    Ok(Timer {
        secure_phys: interrupt("sec-phys"),
        phys: needed("phys")?,
        virt: needed("virt")?,
        hyp: needed("hyp-phys")?,
        hyp_virt: interrupt("hyp-virt"),
    })
}

fn psci(tree: &Tree<'_>) -> Result<Option<Psci>, PropertyError> {
    const VERSIONS: [(&str, PsciVersion); 3] = [
        ("arm,psci-1.0", PsciVersion::V1_0),
        ("arm,psci-0.2", PsciVersion::V0_2),
        ("arm,psci", PsciVersion::V0_1),
    ];
    const METHOD: &str = "method";
    const ALLOWED: &str = "`hvc` or `smc`";
    let found = VERSIONS.iter().find_map(|(name, version)| {
        let node = tree
            .nodes()
            .find(|n| n.is_available() && n.is_compatible(&[*name]))?;
        Some((node, *version))
    });
    let Some((node, version)) = found else {
        return Ok(None);
    };
    let conduit = match node.string(METHOD)? {
        Some("hvc") => Conduit::Hvc,
        Some("smc") => Conduit::Smc,
        Some(_) => return Err(node.invalid(METHOD, ALLOWED)),
        None => return Err(node.missing(METHOD, ALLOWED)),
    };
    Ok(Some(Psci { conduit, version }))
}

fn virtio_mmio(tree: &Tree<'_>) -> Result<Vec<VirtioMmio>, PropertyError> {
    let mut devices = Vec::new();
    for node in tree.compatible(&["virtio,mmio"]) {
        // Without an interrupt at the GIC a device is of no use.
        if let (Some(&range), Some(interrupt)) = (cells::reg(node)?.first(), first_interrupt(node)?)
        {
            devices.push(VirtioMmio {
                range,
                interrupt,
                dma_coherent: node.flag("dma-coherent")?,
            });
        }
    }
    devices.sort_unstable_by_key(|device| device.range.start);
    Ok(devices)
}

fn initrd(chosen: Node<'_, '_>) -> Result<Option<HostPhysAddrRange>, PropertyError> {
    const START: &str = "linux,initrd-start";
    const END: &str = "linux,initrd-end";
    const ALLOWED: &str = "an address of one or two words, the end not below the start";
    let (Some(start), Some(end)) = (chosen.number(START, ALLOWED)?, chosen.number(END, ALLOWED)?)
    else {
        return Ok(None);
    };
    let range = end
        .checked_sub(start)
        .and_then(|size| cells::range(start, size));
    range.map(Some).ok_or_else(|| chosen.invalid(END, ALLOWED))
}
