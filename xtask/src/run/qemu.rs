//! QEMU's command line.

use std::path::{Path, PathBuf};

use dtb_platform::GicVersion;

use super::disks;
use super::spec::{Boot, MachineSpec, Mode};

/// A file that QEMU puts into the machine's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) file: PathBuf,
    pub(crate) address: u64,
}

/// What QEMU starts.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// The hypervisor, with the device tree that names its guests.
    Hypervisor {
        image: PathBuf,
        tree: PathBuf,
        modules: Vec<Loaded>,
    },
    /// One guest, by QEMU's own loader.
    Bare {
        boot: Boot,
        initrd: Option<PathBuf>,
        bootargs: Option<String>,
    },
}

/// Returns the arguments that make the machine: these, and no others, shape
/// the device tree that QEMU describes it with.
pub(crate) fn machine_arguments(spec: &MachineSpec, ram_mib: u64) -> Vec<String> {
    let gic = spec.gic.number();
    let machine = match spec.mode {
        Mode::Hypervisor => format!("virt,virtualization=on,gic-version={gic}"),
        // A guest that is to have no ITS is given none.
        Mode::Bare if spec.gic == GicVersion::V3 && !spec.vms.iter().any(|vm| vm.its) => {
            format!("virt,gic-version={gic},its=off")
        }
        Mode::Bare => format!("virt,gic-version={gic}"),
    };
    let cpu = match spec.cpu.as_str() {
        // The architected algorithm costs an emulator dearly and adds nothing.
        "max" => "max,pauth-impdef=on",
        other => other,
    };
    let mut arguments = vec!["-nodefaults".to_owned()];
    let (pcpus, ram) = (spec.pcpus.to_string(), format!("{ram_mib}M"));
    for (option, value) in [
        ("-machine", machine.as_str()),
        ("-cpu", cpu),
        ("-smp", &pcpus),
        ("-m", &ram),
    ] {
        arguments.extend([option.to_owned(), value.to_owned()]);
    }
    arguments.extend(spec.qemu_args.iter().cloned());
    arguments
}

/// Returns the arguments that make QEMU write the machine's device tree to
/// `file` and leave.
pub(crate) fn dump_tree_arguments(spec: &MachineSpec, ram_mib: u64, file: &Path) -> Vec<String> {
    let mut arguments = machine_arguments(spec, ram_mib);
    arguments.extend(["-display".to_owned(), "none".to_owned()]);
    arguments.extend(["-machine".to_owned(), format!("dumpdtb={}", escaped(file))]);
    arguments
}

/// Returns the arguments that run the payload with the console on standard
/// input and output and the control channel on the inherited socket.
pub(crate) fn run_arguments(
    spec: &MachineSpec,
    ram_mib: u64,
    payload: &Payload,
    control_fd: i32,
) -> Vec<String> {
    let mut arguments = machine_arguments(spec, ram_mib);
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    add(&["-display", "none"]);
    add(&[
        "-chardev",
        "stdio,id=console,signal=off",
        "-serial",
        "chardev:console",
    ]);
    add(&["-chardev", &format!("socket,id=control,fd={control_fd}")]);
    add(&["-mon", "chardev=control,mode=control"]);
    // Nothing runs before someone listens to how it ends.
    add(&["-S"]);
    if spec.gdb {
        add(&["-gdb", "tcp:127.0.0.1:1234"]);
    }
    add_devices(&mut arguments, spec);
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    match payload {
        Payload::Hypervisor {
            image,
            tree,
            modules,
        } => {
            // The hypervisor restarts guests itself: a reset of the whole
            // machine is its way to say that it failed.
            add(&["-no-reboot"]);
            add(&[
                "-kernel",
                &image.to_string_lossy(),
                "-dtb",
                &tree.to_string_lossy(),
            ]);
            for Loaded { file, address } in modules {
                let file = escaped(file);
                add(&[
                    "-device",
                    &format!("loader,file={file},addr={address:#x},force-raw=on"),
                ]);
            }
        }
        Payload::Bare {
            boot,
            initrd,
            bootargs,
        } => {
            let option = match boot {
                Boot::Kernel(_) => "-kernel",
                Boot::Firmware(_) => "-bios",
            };
            add(&[option, &boot.file().to_string_lossy()]);
            if let Some(initrd) = initrd {
                add(&["-initrd", &initrd.to_string_lossy()]);
            }
            if let Some(bootargs) = bootargs {
                add(&["-append", bootargs]);
            }
        }
    }
    arguments
}

/// Adds the machine's own disks and network cards, in this order by ascending
/// address. QEMU by itself would begin at the highest. A machine without the
/// hypervisor has a card for each of the guest's.
fn add_devices(arguments: &mut Vec<String>, spec: &MachineSpec) {
    let disks = disks::of_machine(&spec.vms);
    let cards = match (&spec.uplink, spec.mode) {
        (None, _) => 0,
        (Some(_), Mode::Hypervisor) => 1,
        (Some(_), Mode::Bare) => spec.vms.iter().map(|vm| vm.nets.len()).sum(),
    };
    if disks.is_empty() && cards == 0 {
        return;
    }
    let mut add = |words: [&str; 2]| arguments.extend(words.map(str::to_owned));
    // Devices of before VirtIO 1.0 are of no use to anybody here.
    add(["-global", "virtio-mmio.force-legacy=false"]);
    for (number, disk) in disks.iter().enumerate() {
        let file = escaped(disk.file);
        let access = if disk.read_only { ",readonly=on" } else { "" };
        add([
            "-drive",
            &format!("if=none,id=disk{number},format=raw,file={file}{access}"),
        ]);
        let device = format!("virtio-blk-device,drive=disk{number},bus=virtio-mmio-bus.{number}");
        add(["-device", &device]);
    }
    for number in 0..cards {
        add(["-netdev", &format!("user,id=net{number}")]);
        let bus = disks.len() + number;
        let device = format!("virtio-net-device,netdev=net{number},bus=virtio-mmio-bus.{bus}");
        add(["-device", &device]);
    }
}

/// Returns the arguments that open a control channel to whoever connects to
/// `socket`.
pub(super) fn open_control_arguments(socket: &Path) -> [String; 2] {
    let address = format!("unix:{},server=on,wait=off", escaped(socket));
    ["-qmp".to_owned(), address]
}

/// Returns the arguments that open the tracer's control channel on the inherited
/// socket. QEMU stays when the machine stops, until the tracer has read the rest.
pub(super) fn tracer_arguments(fd: i32) -> [String; 5] {
    [
        "-chardev",
        &format!("socket,id=tracer,fd={fd}"),
        "-mon",
        "chardev=tracer,mode=control",
        "-no-shutdown",
    ]
    .map(str::to_owned)
}

/// Writes a path as the value of an option, where a comma is doubled.
pub(super) fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use dtb_platform::{NetConfig, VlanMode};

    use super::super::disks::{DiskSpec, Image};
    use super::super::spec::VmSpec;
    use super::*;

    fn spec() -> MachineSpec {
        MachineSpec::new(VmSpec::new(Boot::Kernel("k".into())))
    }

    fn has(arguments: &[String], words: &[&str]) -> bool {
        arguments.windows(words.len()).any(|window| window == words)
    }

    #[test]
    fn the_hypervisor_gets_its_modules_at_their_addresses() {
        let payload = Payload::Hypervisor {
            image: "a.img".into(),
            tree: "a.dtb".into(),
            modules: vec![Loaded {
                file: "dir,1/k".into(),
                address: 0x7000_0000,
            }],
        };
        let arguments = run_arguments(&spec(), 1024, &payload, 5);
        let machine = "virt,virtualization=on,gic-version=3";
        assert!(has(
            &arguments,
            &["-machine", machine, "-cpu", "max,pauth-impdef=on"]
        ));
        assert!(has(&arguments, &["-smp", "4", "-m", "1024M"]));
        assert!(has(&arguments, &["-kernel", "a.img", "-dtb", "a.dtb"]));
        let loader = "loader,file=dir,,1/k,addr=0x70000000,force-raw=on";
        assert!(has(&arguments, &["-device", loader]));
        assert!(has(&arguments, &["-no-reboot"]));
        assert!(has(&arguments, &["-chardev", "socket,id=control,fd=5"]));
    }

    #[test]
    fn a_bare_guest_has_no_el2_and_may_reboot() {
        let payload = Payload::Bare {
            boot: Boot::Firmware("u-boot.bin".into()),
            initrd: None,
            bootargs: None,
        };
        let spec = MachineSpec {
            mode: Mode::Bare,
            cpu: "cortex-a53".into(),
            ..spec()
        };
        let arguments = run_arguments(&spec, 512, &payload, 5);
        assert!(has(
            &arguments,
            &[
                "-machine",
                "virt,gic-version=3,its=off",
                "-cpu",
                "cortex-a53"
            ]
        ));
        assert!(has(&arguments, &["-bios", "u-boot.bin"]));
        assert!(!has(&arguments, &["-no-reboot"]));
    }

    #[test]
    fn the_machine_has_the_interrupt_controller_that_its_guests_get() {
        let machine = |mode, gic, its| {
            let mut spec = MachineSpec {
                mode,
                gic,
                ..spec()
            };
            spec.vms.iter_mut().for_each(|vm| vm.its = its);
            machine_arguments(&spec, 512)
        };
        for (mode, gic, its, expected) in [
            (
                Mode::Hypervisor,
                GicVersion::V2,
                false,
                "virt,virtualization=on,gic-version=2",
            ),
            (
                Mode::Hypervisor,
                GicVersion::V3,
                true,
                "virt,virtualization=on,gic-version=3",
            ),
            (Mode::Bare, GicVersion::V2, false, "virt,gic-version=2"),
            (Mode::Bare, GicVersion::V3, true, "virt,gic-version=3"),
        ] {
            let arguments = machine(mode, gic, its);
            assert!(has(&arguments, &["-machine", expected]), "{arguments:?}");
        }
    }

    #[test]
    fn disks_come_before_network_cards_and_files_are_escaped() {
        let mut machine = spec();
        let payload = Payload::Hypervisor {
            image: "a.img".into(),
            tree: "a.dtb".into(),
            modules: vec![],
        };
        let arguments = |machine: &MachineSpec| run_arguments(machine, 512, &payload, 5);
        let legacy = ["-global", "virtio-mmio.force-legacy=false"];
        assert!(!has(&arguments(&machine), &legacy));
        let disk = |file: &str, read_only| DiskSpec {
            read_only,
            ..DiskSpec::whole(Image::File(file.into()))
        };
        machine.vms[0].disks = vec![disk("a,b", false), disk("c", true)];
        machine.vms[0].nets = vec![NetConfig::default(); 2];
        machine.uplink = Some(VlanMode::default());
        let all = arguments(&machine);
        for words in [
            legacy,
            ["-drive", "if=none,id=disk0,format=raw,file=a,,b"],
            [
                "-device",
                "virtio-blk-device,drive=disk0,bus=virtio-mmio-bus.0",
            ],
            ["-drive", "if=none,id=disk1,format=raw,file=c,readonly=on"],
            [
                "-device",
                "virtio-blk-device,drive=disk1,bus=virtio-mmio-bus.1",
            ],
            ["-netdev", "user,id=net0"],
            [
                "-device",
                "virtio-net-device,netdev=net0,bus=virtio-mmio-bus.2",
            ],
        ] {
            assert!(has(&all, &words), "{words:?}");
        }
        // The switch has one card, a bare guest its own.
        let second = ["-netdev", "user,id=net1"];
        assert!(!has(&all, &second));
        machine.mode = Mode::Bare;
        assert!(has(&arguments(&machine), &second));
    }

    #[test]
    fn the_dumped_tree_is_of_the_machine_that_runs() {
        let spec = MachineSpec {
            qemu_args: vec!["-global".into(), "a.b=c".into()],
            ..spec()
        };
        let dump = dump_tree_arguments(&spec, 640, Path::new("t.dtb"));
        assert!(dump.starts_with(&machine_arguments(&spec, 640)));
        assert!(has(&dump, &["-machine", "dumpdtb=t.dtb"]));
        assert!(has(&dump, &["-global", "a.b=c"]));
    }
}
