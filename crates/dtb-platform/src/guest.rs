//! The device tree that a guest is given.

use alloc::format;
use alloc::vec::Vec;

use vm_contract::{GuestPhysAddrRange, IntId};
use vm_fdt::FdtWriter;

use crate::cpu::AFFINITY_MASK;
use crate::{Conduit, Timer, TreeError, interrupts, layout};

/// The handles by which nodes refer to others.
mod phandle {
    pub(super) const GIC: u32 = 1;
    pub(super) const CLOCK: u32 = 2;
    pub(super) const ITS: u32 = 3;
}

/// The frequency of the clock behind the PrimeCell devices, as QEMU has it.
const PRIMECELL_CLOCK_HZ: u32 = 24_000_000;

/// What is in a guest's machine.
///
/// [`virt`](Self::virt) fills it in for the standard machine; change what is
/// to be different before [`to_blob`](Self::to_blob).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestTree<'a> {
    /// The affinity fields of each vCPU's MPIDR_EL1, first that which boots.
    pub vcpu_affinities: &'a [u64],
    /// The ranges of RAM. They must end where the memory behind them ends.
    pub memory: &'a [GuestPhysAddrRange],
    /// The command line.
    pub bootargs: Option<&'a str>,
    /// Where the initial ramdisk is.
    pub initrd: Option<GuestPhysAddrRange>,
    /// How the guest calls PSCI.
    pub psci: Conduit,
    /// The interrupt controller.
    pub gic: GuestGic<'a>,
    /// The PL011, which is the console.
    pub uart: Option<GuestDevice>,
    /// The PL031 real-time clock.
    pub rtc: Option<GuestDevice>,
    /// The places where virtio devices are, or will not be.
    pub virtio_mmio: &'a [GuestDevice],
    /// The interrupts of the timers.
    pub timer: Timer,
    /// Entropy for the guest's random number generator.
    pub rng_seed: Option<[u8; 32]>,
    /// Entropy for the address that the guest's kernel chooses for itself.
    pub kaslr_seed: Option<u64>,
}

/// The interrupt controller of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuestGic<'a> {
    /// GICv3 with system registers, without virtualization of its own.
    V3 {
        /// The distributor.
        distributor: GuestPhysAddrRange,
        /// The regions of the redistributors.
        redistributors: &'a [GuestPhysAddrRange],
        /// The interrupt translation service.
        its: Option<GuestPhysAddrRange>,
    },
    /// GICv2, without virtualization of its own.
    V2 {
        /// The distributor.
        distributor: GuestPhysAddrRange,
        /// The CPU interface.
        cpu: GuestPhysAddrRange,
    },
}

/// A device of a guest: where its registers are and what it raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestDevice {
    /// The registers.
    pub range: GuestPhysAddrRange,
    /// The interrupt, an SPI. Its line is level-sensitive, active while high.
    pub interrupt: IntId,
}

impl<'a> GuestTree<'a> {
    /// Describes the machine of [`layout`] with a UART and a clock, and with no
    /// virtio devices yet. PSCI is called by `HVC`.
    #[must_use]
    pub const fn virt(
        vcpu_affinities: &'a [u64],
        memory: &'a [GuestPhysAddrRange],
        gic: GuestGic<'a>,
    ) -> Self {
        Self {
            vcpu_affinities,
            memory,
            bootargs: None,
            initrd: None,
            psci: Conduit::Hvc,
            gic,
            uart: Some(layout::UART),
            rtc: Some(layout::RTC),
            virtio_mmio: &[],
            timer: layout::TIMER,
            rng_seed: None,
            kaslr_seed: None,
        }
    }

    /// Writes the tree as a blob.
    ///
    /// # Errors
    /// Whoever described the VM is to blame: there is no vCPU, no memory or no
    /// redistributor, something is outside where it must be, or a text holds a
    /// NUL.
    pub fn to_blob(&self) -> Result<Vec<u8>, TreeError> {
        self.check()?;
        let mut fdt = FdtWriter::new()?;
        let root = fdt.begin_node("")?;
        fdt.property_string("compatible", "linux,dummy-virt")?;
        fdt.property_string("model", "linux,dummy-virt")?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        fdt.property_u32("interrupt-parent", phandle::GIC)?;
        self.write_chosen(&mut fdt)?;
        self.write_aliases(&mut fdt)?;
        self.write_memory(&mut fdt)?;
        self.write_cpus(&mut fdt)?;
        self.write_psci(&mut fdt)?;
        self.write_timer(&mut fdt)?;
        self.write_gic(&mut fdt)?;
        self.write_clock(&mut fdt)?;
        if let Some(uart) = &self.uart {
            uart.write_primecell(&mut fdt, "pl011", &["uartclk", "apb_pclk"])?;
        }
        if let Some(rtc) = &self.rtc {
            rtc.write_primecell(&mut fdt, "pl031", &["apb_pclk"])?;
        }
        for device in self.virtio_mmio {
            device.write_virtio(&mut fdt)?;
        }
        fdt.end_node(root)?;
        Ok(fdt.finish()?)
    }

    fn check(&self) -> Result<(), TreeError> {
        if self.vcpu_affinities.is_empty() {
            return Err(TreeError::NoVcpu);
        }
        let mut affinities = self.vcpu_affinities.to_vec();
        affinities.sort_unstable();
        let twin = affinities.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some(*one),
            _ => None,
        });
        let wrong = affinities
            .iter()
            .copied()
            .find(|affinity| affinity & !AFFINITY_MASK != 0);
        if let Some(affinity) = twin.or(wrong) {
            return Err(TreeError::Affinity(affinity));
        }

        let mut memory = self.memory.to_vec();
        memory.sort_unstable_by_key(|range| range.start);
        let overlap = memory.windows(2).any(|pair| match pair {
            [one, next] => one.end > next.start,
            _ => false,
        });
        if memory.is_empty() || overlap || memory.iter().any(|range| range.start >= range.end) {
            return Err(TreeError::Memory);
        }
        if let Some(initrd) = self.initrd
            && !memory.iter().any(|range| range.contains_range(initrd))
        {
            return Err(TreeError::Initrd);
        }
        Ok(())
    }

    fn write_chosen(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        let chosen = fdt.begin_node("chosen")?;
        if let Some(bootargs) = self.bootargs {
            fdt.property_string("bootargs", bootargs)?;
        }
        if let Some(uart) = &self.uart {
            fdt.property_string(
                "stdout-path",
                &format!("/pl011@{:x}", uart.range.start.as_usize()),
            )?;
        }
        if let Some(initrd) = self.initrd {
            fdt.property_u64("linux,initrd-start", initrd.start.as_usize() as u64)?;
            fdt.property_u64("linux,initrd-end", initrd.end.as_usize() as u64)?;
        }
        if let Some(seed) = &self.rng_seed {
            fdt.property("rng-seed", seed)?;
        }
        if let Some(seed) = self.kaslr_seed {
            fdt.property_u64("kaslr-seed", seed)?;
        }
        Ok(fdt.end_node(chosen)?)
    }

    fn write_aliases(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        let aliases = fdt.begin_node("aliases")?;
        if let Some(uart) = &self.uart {
            fdt.property_string(
                "serial0",
                &format!("/pl011@{:x}", uart.range.start.as_usize()),
            )?;
        }
        Ok(fdt.end_node(aliases)?)
    }

    fn write_memory(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        for range in self.memory {
            let node = fdt.begin_node(&format!("memory@{:x}", range.start.as_usize()))?;
            fdt.property_string("device_type", "memory")?;
            write_reg(fdt, &[*range])?;
            fdt.end_node(node)?;
        }
        Ok(())
    }

    fn write_cpus(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        let cpus = fdt.begin_node("cpus")?;
        // Aff3 alone is in the upper word.
        let cells = if self
            .vcpu_affinities
            .iter()
            .all(|a| *a <= u64::from(u32::MAX))
        {
            1
        } else {
            2
        };
        fdt.property_u32("#address-cells", cells)?;
        fdt.property_u32("#size-cells", 0)?;
        for &affinity in self.vcpu_affinities {
            let cpu = fdt.begin_node(&format!("cpu@{affinity:x}"))?;
            fdt.property_string("device_type", "cpu")?;
            fdt.property_string("compatible", "arm,armv8")?;
            match u32::try_from(affinity) {
                Ok(affinity) if cells == 1 => fdt.property_u32("reg", affinity)?,
                _ => fdt.property_u64("reg", affinity)?,
            }
            fdt.property_string("enable-method", "psci")?;
            fdt.end_node(cpu)?;
        }
        Ok(fdt.end_node(cpus)?)
    }

    fn write_psci(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        let psci = fdt.begin_node("psci")?;
        write_strings(fdt, "compatible", &["arm,psci-1.0", "arm,psci-0.2"])?;
        fdt.property_string("method", self.psci.method())?;
        Ok(fdt.end_node(psci)?)
    }

    fn write_timer(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        let Timer {
            secure_phys,
            phys,
            virt,
            hyp,
            hyp_virt,
        } = self.timer;
        // A GICv2 wants to know which of its CPUs, at most 8, have the line.
        let cpus = match self.gic {
            GuestGic::V3 { .. } => 0,
            GuestGic::V2 { .. } => 0xff00 >> (8 - self.vcpu_affinities.len().min(8)) & 0xff00,
        };
        let mut interrupts = Vec::new();
        let mut names = Vec::new();
        for (name, id) in [
            ("sec-phys", secure_phys),
            ("phys", Some(phys)),
            ("virt", Some(virt)),
            ("hyp-phys", Some(hyp)),
            ("hyp-virt", hyp_virt),
        ] {
            let Some(id) = id else { continue };
            let [kind, number, flags] = interrupts::level_high(id)
                .filter(|_| id.is_ppi())
                .ok_or(TreeError::Interrupt(id))?;
            interrupts.extend([kind, number, flags | cpus]);
            names.push(name);
        }
        let timer = fdt.begin_node("timer")?;
        fdt.property_string("compatible", "arm,armv8-timer")?;
        fdt.property_array_u32("interrupts", &interrupts)?;
        if secure_phys.is_none() {
            // Without the first one, the others are not where readers that go
            // by position look for them.
            write_strings(fdt, "interrupt-names", &names)?;
        }
        fdt.property_null("always-on")?;
        Ok(fdt.end_node(timer)?)
    }

    fn write_gic(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        let (GuestGic::V3 { distributor, .. } | GuestGic::V2 { distributor, .. }) = self.gic;
        let gic = fdt.begin_node(&format!("intc@{:x}", distributor.start.as_usize()))?;
        fdt.property_null("interrupt-controller")?;
        fdt.property_u32("#interrupt-cells", 3)?;
        fdt.property_u32("#address-cells", 2)?;
        fdt.property_u32("#size-cells", 2)?;
        fdt.property_null("ranges")?;
        fdt.property_phandle(phandle::GIC)?;
        match self.gic {
            GuestGic::V3 {
                redistributors,
                its,
                ..
            } => {
                if redistributors.is_empty() {
                    return Err(TreeError::NoRedistributor);
                }
                let regions = u32::try_from(redistributors.len()).unwrap_or(u32::MAX);
                fdt.property_string("compatible", "arm,gic-v3")?;
                fdt.property_u32("#redistributor-regions", regions)?;
                write_reg(fdt, &[&[distributor], redistributors].concat())?;
                if let Some(its) = its {
                    write_its(fdt, its)?;
                }
            }
            GuestGic::V2 { cpu, .. } => {
                fdt.property_string("compatible", "arm,cortex-a15-gic")?;
                write_reg(fdt, &[distributor, cpu])?;
            }
        }
        Ok(fdt.end_node(gic)?)
    }

    fn write_clock(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        if self.uart.is_none() && self.rtc.is_none() {
            return Ok(());
        }
        let clock = fdt.begin_node("apb-pclk")?;
        fdt.property_string("compatible", "fixed-clock")?;
        fdt.property_u32("#clock-cells", 0)?;
        fdt.property_u32("clock-frequency", PRIMECELL_CLOCK_HZ)?;
        fdt.property_string("clock-output-names", "clk24mhz")?;
        fdt.property_phandle(phandle::CLOCK)?;
        Ok(fdt.end_node(clock)?)
    }
}

impl GuestDevice {
    /// Writes a PrimeCell device with the clocks that its driver knows by
    /// `clocks`; all are the same one.
    fn write_primecell(
        &self,
        fdt: &mut FdtWriter,
        name: &str,
        clocks: &[&str],
    ) -> Result<(), TreeError> {
        let node = fdt.begin_node(&format!("{name}@{:x}", self.range.start.as_usize()))?;
        write_strings(
            fdt,
            "compatible",
            &[&format!("arm,{name}"), "arm,primecell"],
        )?;
        self.write_resources(fdt)?;
        fdt.property_array_u32("clocks", &alloc::vec![phandle::CLOCK; clocks.len()])?;
        write_strings(fdt, "clock-names", clocks)?;
        Ok(fdt.end_node(node)?)
    }

    fn write_virtio(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        let node = fdt.begin_node(&format!("virtio_mmio@{:x}", self.range.start.as_usize()))?;
        fdt.property_string("compatible", "virtio,mmio")?;
        self.write_resources(fdt)?;
        fdt.property_null("dma-coherent")?;
        Ok(fdt.end_node(node)?)
    }

    fn write_resources(&self, fdt: &mut FdtWriter) -> Result<(), TreeError> {
        let specifier = interrupts::level_high(self.interrupt)
            .filter(|_| self.interrupt.is_spi())
            .ok_or(TreeError::Interrupt(self.interrupt))?;
        write_reg(fdt, &[self.range])?;
        Ok(fdt.property_array_u32("interrupts", &specifier)?)
    }
}

fn write_its(fdt: &mut FdtWriter, range: GuestPhysAddrRange) -> Result<(), TreeError> {
    let its = fdt.begin_node(&format!("its@{:x}", range.start.as_usize()))?;
    fdt.property_string("compatible", "arm,gic-v3-its")?;
    fdt.property_null("msi-controller")?;
    fdt.property_u32("#msi-cells", 1)?;
    write_reg(fdt, &[range])?;
    fdt.property_phandle(phandle::ITS)?;
    Ok(fdt.end_node(its)?)
}

/// Writes ranges with two cells for each address and each size.
fn write_reg(fdt: &mut FdtWriter, ranges: &[GuestPhysAddrRange]) -> Result<(), TreeError> {
    let cells: Vec<u64> = ranges
        .iter()
        .flat_map(|range| [range.start.as_usize() as u64, range.size() as u64])
        .collect();
    Ok(fdt.property_array_u64("reg", &cells)?)
}

fn write_strings(fdt: &mut FdtWriter, name: &str, strings: &[&str]) -> Result<(), TreeError> {
    let strings = strings.iter().map(|string| (*string).into()).collect();
    Ok(fdt.property_string_list(name, strings)?)
}
