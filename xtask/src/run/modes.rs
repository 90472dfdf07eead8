//! Turns the options of `cargo xtask qemu` into a machine. Every mode of the
//! command line is only a configuration.

use anyhow::{Context, Result};
use dtb_platform::{NetConfig, VlanMode};

use super::exec::Execution;
use super::spec::{Boot, GuestLinux, Initrd, MachineSpec, Mode, VmSpec};
use super::{console, disks};
use crate::cli::{NetFlag, QemuOptions};
use crate::guest::Guests;
use crate::guest::initramfs::Purpose;
use crate::vms::{Description, Flags, Start, Vm};

/// Virtual CPUs of a guest that nobody counts: of one that has the machine for
/// itself, and of one that shares it.
const VCPUS_ALONE: u32 = 4;
const VCPUS_SHARING: u32 = 1;

/// How many virtual machines `--multi-vm` runs.
const SHARING_VMS: u32 = 2;

/// Returns the machine that the options describe.
pub(crate) fn machine(
    guests: &Guests,
    options: QemuOptions,
    execution: Option<&Execution>,
) -> Result<MachineSpec> {
    let mut machine = match &options.vms {
        Some(file) => {
            let flags = Flags {
                pcpus: options.pcpus,
                gic: options.gic,
            };
            described(guests, Description::read(file, flags)?)?
        }
        None => chosen(guests, &options, execution)?,
    };
    machine.gic = options.gic.unwrap_or(machine.gic);
    if let Some(cpu) = options.cpu {
        machine.cpu = cpu;
    }
    machine.slice_ms = options.slice.or(machine.slice_ms);
    machine.qemu_args = options.qemu_arg;
    machine.gdb = options.gdb;
    machine.trace = options.trace.is_some();
    machine.count_instructions = options.count_instructions.is_some();
    if options.bare {
        machine.mode = Mode::Bare;
    }
    for vm in &mut machine.vms {
        vm.add_drivers(guests)?;
    }
    disks::check(&machine)?;
    Ok(machine)
}

/// Returns the machine of the virtual machines that flags choose.
fn chosen(
    guests: &Guests,
    options: &QemuOptions,
    execution: Option<&Execution>,
) -> Result<MachineSpec> {
    let vcpus = options.vcpus.unwrap_or(if options.multi_vm {
        VCPUS_SHARING
    } else {
        VCPUS_ALONE
    });
    let vms = if options.multi_vm { SHARING_VMS } else { 1 };
    // These two are about sharing a CPU.
    let shares = options.linux || options.multi_vm;
    let pcpus = options.pcpus.unwrap_or(if shares { 1 } else { vcpus });
    let vms = (0..vms)
        .map(|index| {
            let mut vm = boots(guests, options, execution)?;
            vm.name = format!("vm{index}");
            vm.vcpus = vcpus;
            vm.memory_mib = options.mem.unwrap_or(vm.memory_mib);
            vm.its = options.its;
            Ok(vm)
        })
        .collect::<Result<Vec<_>>>()?;
    let mut machine = MachineSpec::of(pcpus, vms);
    add_devices(&mut machine, options)?;
    Ok(machine)
}

/// Gives virtual machines the disks and network cards that flags choose.
fn add_devices(machine: &mut MachineSpec, options: &QemuOptions) -> Result<()> {
    for flag in &options.disk {
        let count = machine.vms.len();
        let vm = machine.vms.get_mut(flag.vm).with_context(|| {
            let number = flag.vm;
            format!("--disk has vm={number}; there are {count} virtual machines, counted from 0")
        })?;
        vm.disks.push(flag.disk.clone());
    }
    let net = options.net.unwrap_or_default();
    if net != NetFlag::None {
        for vm in &mut machine.vms {
            vm.nets.push(NetConfig::default());
        }
    }
    machine.uplink = (net == NetFlag::User).then(VlanMode::default);
    Ok(())
}

/// Returns a virtual machine of usual size that boots what flags choose.
fn boots(guests: &Guests, options: &QemuOptions, execution: Option<&Execution>) -> Result<VmSpec> {
    let purpose = match (&options.exec, execution) {
        (Some(command), Some(execution)) => Purpose::Exec {
            command: command.clone(),
            mark: execution.mark().to_owned(),
        },
        _ => console::shell_purpose(),
    };
    let mut vm = match (&options.kernel, &options.bios) {
        (_, Some(bios)) => VmSpec::new(Boot::Firmware(bios.clone())),
        // A kernel that takes a command is Linux, with the RAM disk built here.
        (Some(kernel), None) if options.exec.is_some() => GuestLinux {
            kernel: kernel.clone(),
            purpose,
        }
        .vm(guests)?,
        (Some(kernel), None) => VmSpec::new(Boot::Kernel(kernel.clone())),
        (None, None) => GuestLinux {
            kernel: guests.linux()?,
            purpose,
        }
        .vm(guests)?,
    };
    if let Some(initrd) = &options.initrd {
        vm.initrd = Some(Initrd::File(initrd.clone()));
    }
    if let Some(more) = &options.append {
        vm.append(more);
    }
    Ok(vm)
}

/// Returns the machine that a file describes.
fn described(guests: &Guests, description: Description) -> Result<MachineSpec> {
    let vms = description
        .vms
        .into_iter()
        .map(|vm| described_vm(guests, vm));
    let mut machine = MachineSpec::of(description.pcpus, vms.collect::<Result<_>>()?);
    if let Some(cpu) = description.cpu {
        machine.cpu = cpu;
    }
    machine.gic = description.gic;
    machine.slice_ms = description.slice_ms;
    machine.uplink = description.uplink;
    Ok(machine)
}

fn described_vm(guests: &Guests, described: Vm) -> Result<VmSpec> {
    let mut vm = match described.start {
        Start::Linux { exec } => GuestLinux {
            kernel: guests.linux()?,
            purpose: match exec {
                Some(command) => Purpose::Run { command },
                None => console::shell_purpose(),
            },
        }
        .vm(guests)?,
        Start::UBoot => VmSpec::new(Boot::Firmware(guests.u_boot()?)),
        Start::Kernel(file) => VmSpec::new(Boot::Kernel(file)),
        Start::Firmware(file) => VmSpec::new(Boot::Firmware(file)),
    };
    if let Some(file) = described.initrd {
        vm.initrd = Some(Initrd::File(file));
    }
    if let Some(more) = &described.bootargs {
        vm.append(more);
    }
    vm.name = described.name;
    vm.vcpus = described.vcpus;
    vm.memory_mib = described.memory_mib;
    vm.placement = described.placement;
    vm.weight = described.weight;
    vm.priority = described.priority;
    vm.its = described.its;
    vm.disks = described.disks;
    vm.nets = described.nets;
    Ok(vm)
}

#[cfg(test)]
mod tests {
    use super::super::disks::{DiskSpec, Image};
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::workspace::Workspace;
    use clap::Parser;
    use dtb_platform::{GicVersion, Placement};

    /// Fetches nothing unless Linux or U-Boot is asked for.
    fn guests() -> Guests {
        Guests::new(&Workspace::find().unwrap())
    }

    fn by_flags(line: &str) -> MachineSpec {
        let words = ["x", "qemu"].into_iter().chain(line.split(' '));
        match Cli::try_parse_from(words).unwrap().command {
            Command::Qemu(options) => machine(&guests(), *options, None).unwrap(),
            other => panic!("not for QEMU: {other:?}"),
        }
    }

    #[test]
    fn without_numbers_four_virtual_cpus_have_four_physical_ones() {
        let machine = by_flags("--bios b");
        let [vm] = machine.vms.as_slice() else {
            panic!("one was asked for: {machine:?}");
        };
        assert_eq!((machine.pcpus, vm.vcpus, vm.memory_mib), (4, 4, 512));
        assert_eq!(
            (machine.cpu.as_str(), machine.mode),
            ("max", Mode::Hypervisor)
        );
    }

    #[test]
    fn numbers_of_the_command_line_win() {
        let machine = by_flags("--kernel k --vcpus 3 --pcpus 2 --mem 64 --cpu a --append b --bare");
        let [vm] = machine.vms.as_slice() else {
            panic!("one was asked for: {machine:?}");
        };
        assert_eq!((machine.pcpus, vm.vcpus, vm.memory_mib), (2, 3, 64));
        assert_eq!((machine.cpu.as_str(), machine.mode), ("a", Mode::Bare));
        assert_eq!(vm.bootargs.as_deref(), Some("b"));
    }

    #[test]
    fn each_mode_is_only_a_number_of_cpus_and_machines() {
        for (flags, pcpus, vms, vcpus) in [
            ("--linux", 1, 1, 4),
            ("--linux-smp", 4, 1, 4),
            ("--multi-vm", 1, 2, 1),
            ("--linux-smp --vcpus 2", 2, 1, 2),
        ] {
            // A kernel of one's own stands in for Debian's, which is fetched.
            let words = ["x", "qemu"].into_iter().chain(flags.split(' '));
            let Command::Qemu(mut options) = Cli::try_parse_from(words).unwrap().command else {
                panic!("not for QEMU: {flags}");
            };
            options.kernel = Some("k".into());
            let machine = machine(&guests(), *options, None).unwrap();
            assert_eq!((machine.pcpus, machine.vms.len()), (pcpus, vms), "{flags}");
            for vm in &machine.vms {
                assert_eq!(vm.vcpus, vcpus, "{flags}");
                assert_eq!(vm.placement, Placement::Automatic, "{flags}");
            }
        }
    }

    #[test]
    fn the_slice_of_the_command_line_wins() {
        assert_eq!(by_flags("--bios b").slice_ms, None);
        assert_eq!(by_flags("--bios b --slice 20").slice_ms, Some(20));
    }

    #[test]
    fn every_guest_has_the_interrupt_controller_that_is_asked_for() {
        let machine = by_flags("--bios b");
        assert_eq!((machine.gic, machine.vms[0].its), (GicVersion::V3, false));
        let machine = by_flags("--bios b --gic 2");
        assert_eq!(machine.gic, GicVersion::V2);
        assert!(by_flags("--bios b --its").vms[0].its);
    }

    #[test]
    fn a_described_machine_is_the_one_that_runs() {
        let disk = DiskSpec::whole(Image::Kept(1 << 20));
        let description = Description {
            pcpus: 2,
            cpu: Some("cortex-a53".into()),
            gic: GicVersion::V3,
            slice_ms: Some(5),
            uplink: Some(VlanMode::Access(2)),
            vms: vec![Vm {
                name: "web".into(),
                start: Start::Kernel("k".into()),
                initrd: Some("i".into()),
                bootargs: Some("quiet".into()),
                vcpus: 2,
                memory_mib: 32,
                placement: Placement::Pinned(vec![1, 0]),
                weight: 200,
                priority: 3,
                its: true,
                disks: vec![disk.clone()],
                nets: vec![NetConfig::default()],
            }],
        };
        let machine = described(&guests(), description).unwrap();
        let [vm] = machine.vms.as_slice() else {
            panic!("one was described: {machine:?}");
        };
        assert_eq!((machine.pcpus, machine.cpu.as_str()), (2, "cortex-a53"));
        assert_eq!((vm.name.as_str(), vm.vcpus, vm.memory_mib), ("web", 2, 32));
        assert!(matches!(&vm.boot, Boot::Kernel(file) if file.as_os_str() == "k"));
        assert!(matches!(&vm.initrd, Some(Initrd::File(file)) if file.as_os_str() == "i"));
        assert!(!vm.offers_shell());
        assert_eq!(vm.bootargs.as_deref(), Some("quiet"));
        assert_eq!(vm.placement, Placement::Pinned(vec![1, 0]));
        assert_eq!((vm.weight, vm.priority, vm.its), (200, 3, true));
        assert_eq!(machine.gic, GicVersion::V3);
        assert_eq!(machine.slice_ms, Some(5));
        assert_eq!(machine.uplink, Some(VlanMode::Access(2)));
        assert_eq!((&vm.disks, vm.nets.len()), (&vec![disk], 1));
    }

    #[test]
    fn disks_go_to_the_virtual_machine_that_is_named() {
        let words = "x qemu --multi-vm --disk new:1M,vm=1 --disk new:2M --disk new:3M,vm=1,ro";
        let Command::Qemu(mut options) = Cli::try_parse_from(words.split(' ')).unwrap().command
        else {
            panic!("not for QEMU");
        };
        options.kernel = Some("k".into());
        let vms = machine(&guests(), *options.clone(), None).unwrap().vms;
        let sizes = |vm: &VmSpec| {
            let disks = vm.disks.iter();
            disks
                .map(|disk| (disk.image.clone(), disk.read_only))
                .collect::<Vec<_>>()
        };
        let kept = |mib: u64| Image::Kept(mib << 20);
        assert_eq!(sizes(&vms[0]), [(kept(2), false)]);
        assert_eq!(sizes(&vms[1]), [(kept(1), false), (kept(3), true)]);
        options.disk[0].vm = 2;
        let error = machine(&guests(), *options, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--disk has vm=2; there are 2 virtual machines, counted from 0"
        );
    }

    #[test]
    fn network_cards_reach_as_far_as_is_asked() {
        for (flags, cards, uplink) in [
            ("--bios b", 0, None),
            ("--bios b --net none", 0, None),
            ("--bios b --net switch", 1, None),
            ("--bios b --net user", 1, Some(VlanMode::Access(1))),
        ] {
            let machine = by_flags(flags);
            assert_eq!(
                (machine.vms[0].nets.len(), machine.uplink),
                (cards, uplink),
                "{flags}"
            );
        }
    }
}
