//! The file behind `--vms`: a machine and its virtual machines, in TOML.
//!
//! Everything that can be known before QEMU starts is checked here, and each
//! error says file, line, key and what is allowed. The keys are described in
//! `docs/vm-configuration.md`.

mod devices;
mod entry;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use dtb_platform::{GicVersion, HostOptions, NetConfig, Placement, VlanMode, VmConfig, layout};
use serde::Deserialize;
use toml::{Spanned, Value};

use devices::{DiskTable, NetTable, UplinkTable};
use entry::{Entry, Source, Table};

use crate::run::disks::DiskSpec;

/// How many virtual or physical CPUs there may be.
const CPUS: RangeInclusive<u32> = 1..=layout::MAX_VCPUS as u32;
/// How much memory a virtual machine may have, in MiB.
const MEMORY_MIB: RangeInclusive<u64> = 8..=65536;
/// What a virtual machine has that does not say.
const USUAL_VCPUS: u32 = 1;
const USUAL_MEMORY_MIB: u64 = 512;

/// What the keys may be.
mod allowed {
    pub(super) const CPU: &str = "a CPU model as QEMU names it, such as \"cortex-a53\"";
    pub(super) const MEMORY: &str =
        "8 to 65536 MiB, as an integer of MiB or as \"512 MiB\" or \"2 GiB\"";
    pub(super) const NAME: &str = "a letter, then letters, digits or ,._+- and at most 31 in all";
    pub(super) const BOOTARGS: &str = "a string without control characters";
    pub(super) const CPU_SET: &str =
        "a list of numbers of physical CPUs, at least one and none twice";
    pub(super) const EXEC: &str = "a shell command that is not empty";
    pub(super) const GIC: &str = "2 or 3, the version of the interrupt controller";
}

/// What the command line says, whatever the file does.
#[derive(Clone, Copy, Default)]
pub(crate) struct Flags {
    pub(crate) pcpus: Option<u32>,
    pub(crate) gic: Option<GicVersion>,
}

/// What a file describes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) pcpus: u32,
    /// The CPU model, if the file names one.
    pub(crate) cpu: Option<String>,
    pub(crate) gic: GicVersion,
    /// The length of slices in milliseconds, if the file says it.
    pub(crate) slice_ms: Option<u32>,
    /// The VLANs of the network card that the switch is joined to, if there is one.
    pub(crate) uplink: Option<VlanMode>,
    pub(crate) vms: Vec<Vm>,
}

/// One virtual machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Vm {
    pub(crate) name: String,
    pub(crate) start: Start,
    /// A RAM disk of its own.
    pub(crate) initrd: Option<PathBuf>,
    pub(crate) bootargs: Option<String>,
    pub(crate) vcpus: u32,
    pub(crate) memory_mib: u64,
    pub(crate) placement: Placement,
    pub(crate) weight: u32,
    pub(crate) priority: u8,
    pub(crate) its: bool,
    pub(crate) disks: Vec<DiskSpec>,
    pub(crate) nets: Vec<NetConfig>,
}

/// What a virtual machine starts with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Debian's kernel; it runs this command, or offers a shell.
    Linux { exec: Option<String> },
    /// Debian's U-Boot.
    UBoot,
    /// A kernel from a file.
    Kernel(PathBuf),
    /// Firmware from a file.
    Firmware(PathBuf),
}

/// The file as it is written. Values are looked at one by one, so that every
/// complaint has the same form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MachineTable {
    pcpus: Option<Spanned<Value>>,
    cpu: Option<Spanned<Value>>,
    gic: Option<Spanned<Value>>,
    slice: Option<Spanned<Value>>,
    uplink: Option<Spanned<UplinkTable>>,
    #[serde(default)]
    vm: Vec<Spanned<VmTable>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a [[vm]] table")]
struct VmTable {
    name: Option<Spanned<Value>>,
    linux: Option<Spanned<Value>>,
    #[serde(rename = "u-boot")]
    u_boot: Option<Spanned<Value>>,
    kernel: Option<Spanned<Value>>,
    firmware: Option<Spanned<Value>>,
    initrd: Option<Spanned<Value>>,
    bootargs: Option<Spanned<Value>>,
    exec: Option<Spanned<Value>>,
    vcpus: Option<Spanned<Value>>,
    memory: Option<Spanned<Value>>,
    affinity: Option<Spanned<Value>>,
    #[serde(rename = "cpu-set")]
    cpu_set: Option<Spanned<Value>>,
    weight: Option<Spanned<Value>>,
    priority: Option<Spanned<Value>>,
    its: Option<Spanned<Value>>,
    #[serde(default)]
    disk: Vec<Spanned<DiskTable>>,
    #[serde(default)]
    net: Vec<Spanned<NetTable>>,
}

impl Description {
    /// Reads a file. Without a number of physical CPUs there are as many as the
    /// largest virtual machine has.
    ///
    /// # Errors
    /// The file's author is to blame.
    pub(crate) fn read(file: &Path, flags: Flags) -> Result<Self> {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let source = Source::new(file, &text);
        let table: MachineTable = source.deserialize()?;
        let cpu = source
            .entry("cpu", &table.cpu)
            .map(|entry| entry.text(allowed::CPU, |model| !model.is_empty()))
            .transpose()?;
        let slice_ms = source
            .entry("slice", &table.slice)
            .map(|entry| entry.number(&HostOptions::SLICES_MS, "of milliseconds "))
            .transpose()?;
        let gic = source.entry("gic", &table.gic);
        let gic = gic.map(|entry| gic_version(&entry)).transpose()?;
        let gic = flags.gic.or(gic).unwrap_or_default();
        let written = source
            .entry("pcpus", &table.pcpus)
            .map(|entry| match flags.pcpus {
                Some(_) => entry.number(&CPUS, ""),
                None => cpu_count(&entry, gic),
            })
            .transpose()?;
        let uplink = table.uplink.as_ref();
        let uplink = uplink.map(|table| devices::uplink(&source, table));
        if table.vm.is_empty() {
            return Err(anyhow!(
                "{}: no virtual machine; allowed is one [[vm]] table or more",
                file.display()
            ));
        }
        let vms = table
            .vm
            .iter()
            .map(|table| VmReader::new(&source, table).vm(gic))
            .collect::<Result<Vec<_>>>()?;
        let largest = vms.iter().map(|vm| vm.vcpus).max().unwrap_or(USUAL_VCPUS);
        // What the command line says has been held against its own `--gic` only.
        if let Some(pcpus) = flags.pcpus.filter(|pcpus| *pcpus > gic.max_cpus()) {
            bail!(
                "{}: a {gic} serves at most {} CPUs, not the {pcpus} of --pcpus",
                file.display(),
                gic.max_cpus()
            );
        }
        let pcpus = flags.pcpus.or(written).unwrap_or(largest);
        let nets = table.vm.iter().flat_map(|vm| &vm.get_ref().net);
        devices::check_macs(&source, nets)?;
        let mut names = BTreeSet::new();
        for (vm, table) in vms.iter().zip(&table.vm) {
            let reader = VmReader::new(&source, table);
            if let Some(entry) = reader.get("name")
                && !names.insert(&vm.name)
            {
                return Err(entry.refuse("a name that no other [[vm]] has"));
            }
            if let Some(entry) = reader.get("affinity").or(reader.get("cpu-set"))
                && vm.placement.named().iter().any(|cpu| *cpu >= pcpus)
            {
                return Err(entry.refuse(format_args!(
                    "numbers below {pcpus}, which is how many physical CPUs there are"
                )));
            }
        }
        Ok(Self {
            pcpus,
            cpu: cpu.map(str::to_owned),
            gic,
            slice_ms,
            uplink: uplink.transpose()?,
            vms,
        })
    }
}

/// Reads one `[[vm]]` table.
struct VmReader<'a> {
    source: &'a Source<'a>,
    table: Table<'a>,
    disks: &'a [Spanned<DiskTable>],
    nets: &'a [Spanned<NetTable>],
}

impl<'a> VmReader<'a> {
    fn new(source: &'a Source<'a>, table: &'a Spanned<VmTable>) -> Self {
        let keys = table.get_ref();
        let entries = [
            ("name", &keys.name),
            ("linux", &keys.linux),
            ("u-boot", &keys.u_boot),
            ("kernel", &keys.kernel),
            ("firmware", &keys.firmware),
            ("initrd", &keys.initrd),
            ("bootargs", &keys.bootargs),
            ("exec", &keys.exec),
            ("vcpus", &keys.vcpus),
            ("memory", &keys.memory),
            ("affinity", &keys.affinity),
            ("cpu-set", &keys.cpu_set),
            ("weight", &keys.weight),
            ("priority", &keys.priority),
            ("its", &keys.its),
        ];
        Self {
            source,
            table: Table::new(source, table.span().start, entries),
            disks: &keys.disk,
            nets: &keys.net,
        }
    }

    fn get(&self, key: &str) -> Option<Entry<'a>> {
        self.table.get(key)
    }

    /// Returns the virtual machine, which gets a `gic`.
    fn vm(&self, gic: GicVersion) -> Result<Vm> {
        let name = self.get("name").ok_or_else(|| {
            let missing = format!("[[vm]] has no name; allowed is {}", allowed::NAME);
            self.table.error(missing)
        })?;
        let name = name.text(allowed::NAME, is_name)?;
        let vcpus = self.get("vcpus").map(|entry| cpu_count(&entry, gic));
        let vcpus = vcpus.transpose()?.unwrap_or(USUAL_VCPUS);
        let memory = self.get("memory").map(|entry| {
            memory_mib(entry.value())
                .filter(|mib| MEMORY_MIB.contains(mib))
                .ok_or_else(|| entry.refuse(allowed::MEMORY))
        });
        let start = self.start()?;
        let bootargs = self.get("bootargs").map(|entry| {
            let text = entry.text(allowed::BOOTARGS, |text| !text.contains(char::is_control));
            text.map(str::to_owned)
        });
        let initrd = self.get("initrd").map(|entry| entry.file()).transpose()?;
        let weight = self.get("weight");
        let weight = weight.map(|entry| entry.number(&VmConfig::WEIGHTS, ""));
        let priority = self.get("priority");
        let priority = priority.map(|entry| entry.number(&VmConfig::PRIORITIES, ""));
        let its = self.get("its").map(|entry| {
            let its = entry.flag()?;
            if its && gic == GicVersion::V2 {
                return Err(entry.misplaced(format_args!("not allowed with a {gic}")));
            }
            Ok(its)
        });
        Ok(Vm {
            name: name.to_owned(),
            start,
            initrd,
            bootargs: bootargs.transpose()?,
            vcpus,
            memory_mib: memory.transpose()?.unwrap_or(USUAL_MEMORY_MIB),
            placement: self.placement(vcpus)?,
            weight: weight.transpose()?.unwrap_or(VmConfig::USUAL_WEIGHT),
            priority: priority.transpose()?.unwrap_or(VmConfig::USUAL_PRIORITY),
            its: its.transpose()?.unwrap_or(false),
            disks: devices::disks(self.source, self.disks)?,
            nets: devices::nets(self.source, self.nets)?,
        })
    }

    /// Finds out what to boot, and that nothing stands beside it that it
    /// cannot use.
    fn start(&self) -> Result<Start> {
        let mut choice: Option<(Entry<'a>, Start)> = None;
        for key in ["linux", "u-boot", "kernel", "firmware"] {
            let Some(entry) = self.get(key) else {
                continue;
            };
            let start = match key {
                "kernel" => Start::Kernel(entry.file()?),
                "firmware" => Start::Firmware(entry.file()?),
                _ if !entry.flag()? => continue,
                "linux" => Start::Linux { exec: self.exec()? },
                _ => Start::UBoot,
            };
            if let Some((earlier, _)) = &choice {
                let why = "allowed is one of linux, u-boot, kernel and firmware; there is also";
                return Err(entry.misplaced(format_args!("{why} {}", earlier.key())));
            }
            choice = Some((entry, start));
        }
        let (chosen, start) = choice.ok_or_else(|| {
            let missing = "[[vm]] has nothing to boot; allowed is one of linux = true, \
                           u-boot = true, kernel and firmware";
            self.table.error(missing)
        })?;
        let useless: &[&str] = match start {
            Start::Linux { exec: None } => &[],
            // The command is in the RAM disk that is built for it.
            Start::Linux { exec: Some(_) } => &["initrd"],
            Start::Kernel(_) => &["exec"],
            Start::UBoot | Start::Firmware(_) => &["exec", "initrd", "bootargs"],
        };
        match useless.iter().find_map(|key| self.get(key)) {
            None => Ok(start),
            Some(entry) => {
                let beside = match start {
                    Start::Linux { .. } => "exec",
                    _ => chosen.key(),
                };
                Err(entry.misplaced(format_args!("not allowed beside {beside}")))
            }
        }
    }

    fn exec(&self) -> Result<Option<String>> {
        let command = self.get("exec").map(|entry| {
            let fits = |text: &str| !text.trim().is_empty() && !text.contains('\0');
            entry.text(allowed::EXEC, fits).map(str::to_owned)
        });
        command.transpose()
    }

    /// Returns which CPUs, which may not exist, run the virtual ones.
    fn placement(&self, vcpus: u32) -> Result<Placement> {
        match (self.get("affinity"), self.get("cpu-set")) {
            (None, None) => Ok(Placement::Automatic),
            (Some(entry), None) => cpu_numbers(entry.value())
                .filter(|cpus| cpus.len() == vcpus as usize)
                .map(Placement::Pinned)
                .ok_or_else(|| {
                    let allowed = "a list with the number of a physical CPU for each virtual one";
                    entry.refuse(format_args!("{allowed}, of which there are {vcpus}"))
                }),
            (None, Some(entry)) => cpu_numbers(entry.value())
                .filter(|cpus| !cpus.is_empty() && BTreeSet::from_iter(cpus).len() == cpus.len())
                .map(Placement::Within)
                .ok_or_else(|| entry.refuse(allowed::CPU_SET)),
            (Some(_), Some(entry)) => Err(entry.misplaced("not allowed beside affinity")),
        }
    }
}

/// Reads a number of CPUs, virtual or physical, of a machine with a `gic`.
fn cpu_count(entry: &Entry<'_>, gic: GicVersion) -> Result<u32> {
    let count = entry.number(&CPUS, "")?;
    let most = gic.max_cpus();
    if count > most {
        let allowed = format_args!("an integer from 1 to {most}, which a {gic} serves");
        return Err(entry.refuse(allowed));
    }
    Ok(count)
}

fn gic_version(entry: &Entry<'_>) -> Result<GicVersion> {
    let number = entry.value().as_integer();
    number
        .and_then(|number| u32::try_from(number).ok())
        .and_then(GicVersion::from_number)
        .ok_or_else(|| entry.refuse(allowed::GIC))
}

/// Reads a list of numbers of CPUs.
fn cpu_numbers(value: &Value) -> Option<Vec<u32>> {
    let number = |value: &Value| u32::try_from(value.as_integer()?).ok();
    value.as_array()?.iter().map(number).collect()
}

/// Reads an amount of memory: an integer of MiB, or a text with a unit.
fn memory_mib(value: &Value) -> Option<u64> {
    if let Some(number) = value.as_integer() {
        return u64::try_from(number).ok();
    }
    let text = value.as_str()?;
    let digits = text.trim_end_matches(|end: char| !end.is_ascii_digit());
    let unit = text.strip_prefix(digits)?.trim_start();
    let scale = match unit {
        "MiB" => 1,
        "GiB" => 1024,
        _ => return None,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(scale)
}

/// Tells whether this can be the name of a node in a device tree.
fn is_name(name: &str) -> bool {
    (1..=31).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b",._+-".contains(&byte))
}
