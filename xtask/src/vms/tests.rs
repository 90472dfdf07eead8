//! What is accepted, and one clear error for each thing that is not.

use std::fs;
use std::path::{Path, PathBuf};

use dtb_platform::DiskPart;

use super::*;
use crate::run::disks::{Home, Image};

/// A file of its own for one test, with a kernel beside it.
struct Written(PathBuf);

impl Written {
    fn new(text: &str) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("armature-vms-{}-{count}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("kernel"), "a kernel").unwrap();
        fs::write(directory.join("vms.toml"), text).unwrap();
        Self(directory)
    }

    fn read(&self) -> Result<Description> {
        Description::read(&self.0.join("vms.toml"), Flags::default())
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // What stays behind is small and lies where such things do.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Checks that the file is refused with this message at this line, and nothing
/// else is said.
#[track_caller]
fn refused(text: &str, line: u32, message: &str) {
    let written = Written::new(text);
    let error = format!("{:#}", written.read().unwrap_err());
    let directory = written.0.display();
    let expected = format!("{directory}/vms.toml:{line}: {message}");
    let expected = expected.replace("DIR", &directory.to_string());
    assert_eq!(error, expected);
    assert_eq!(error.lines().count(), 1, "{error}");
}

/// Checks one line, the last of these, in a virtual machine that is right
/// otherwise; the first of them is line 4.
#[track_caller]
fn line_refused(lines: &str, message: &str) {
    let text = format!("[[vm]]\nname = 'a'\nlinux = true\n{lines}\n");
    refused(&text, 4 + u32::from(lines.contains('\n')), message);
}

#[test]
fn a_file_says_what_it_means() {
    let written = Written::new(
        "pcpus = 3\ncpu = 'cortex-a53'\nslice = 1000\n\
         [[vm]]\nname = 'web-1'\nlinux = true\nbootargs = 'quiet'\nexec = 'uname\nid'\n"
            .replace("'uname\nid'", "'''uname\nid'''")
            .as_str(),
    );
    let description = written.read().unwrap();
    assert_eq!(description.pcpus, 3);
    assert_eq!(description.cpu.as_deref(), Some("cortex-a53"));
    assert_eq!(description.slice_ms, Some(1000));
    assert_eq!(
        description.vms,
        [Vm {
            name: "web-1".into(),
            start: Start::Linux {
                exec: Some("uname\nid".into())
            },
            initrd: None,
            bootargs: Some("quiet".into()),
            vcpus: USUAL_VCPUS,
            memory_mib: USUAL_MEMORY_MIB,
            placement: Placement::Automatic,
            weight: 100,
            priority: 0,
            its: false,
            disks: vec![],
            nets: vec![],
        }]
    );
}

#[test]
fn files_are_sought_beside_the_file_that_names_them() {
    let written = Written::new(
        "[[vm]]\nname = 'a'\nkernel = 'kernel'\ninitrd = 'kernel'\nvcpus = 2\naffinity = [1, 0]\n\
         [[vm]]\nname = 'b'\nfirmware = 'kernel'\nmemory = '1 GiB'\ncpu-set = [1]\n\
         weight = 10000\npriority = 7\n",
    );
    let description = written.read().unwrap();
    assert_eq!(description.slice_ms, None);
    let Description { pcpus, vms, .. } = description;
    let file = written.0.join("kernel");
    assert_eq!(pcpus, 2, "as many as the largest virtual machine has");
    let [a, b] = vms.as_slice() else {
        panic!("two were asked for: {vms:?}");
    };
    assert_eq!(a.start, Start::Kernel(file.clone()));
    assert_eq!(a.initrd.as_ref(), Some(&file));
    assert_eq!(a.placement, Placement::Pinned(vec![1, 0]));
    assert_eq!(b.start, Start::Firmware(file));
    assert_eq!(b.memory_mib, 1024);
    assert_eq!(b.placement, Placement::Within(vec![1]));
    assert_eq!((b.weight, b.priority), (10_000, 7));
}

#[test]
fn the_interrupt_controller_is_a_gicv3_unless_it_is_a_gicv2() {
    let of = |text: &str, flag| {
        let written = Written::new(text);
        let flags = Flags {
            pcpus: None,
            gic: flag,
        };
        Description::read(&written.0.join("vms.toml"), flags)
    };
    let vm = "[[vm]]\nname = 'a'\nlinux = true\n";
    assert_eq!(of(vm, None).unwrap().gic, GicVersion::V3);
    let two = format!("gic = 2\n{vm}vcpus = 8\nits = false\n");
    assert_eq!(of(&two, None).unwrap().gic, GicVersion::V2);
    let three = of(&two.replace("false", "true"), Some(GicVersion::V3)).unwrap();
    assert!(three.gic == GicVersion::V3 && three.vms[0].its);

    refused(
        "gic = 4\n",
        1,
        "gic = 4; allowed is 2 or 3, the version of the interrupt controller",
    );
    for (line, message) in [
        (
            "vcpus = 9",
            "vcpus = 9; allowed is an integer from 1 to 8, which a GICv2 serves",
        ),
        ("its = true", "its: not allowed with a GICv2"),
        ("its = 1", "its = 1; allowed is true or false"),
    ] {
        refused(&format!("gic = 2\n{vm}{line}\n"), 5, message);
    }
    refused(
        &format!("gic = 2\npcpus = 9\n{vm}"),
        2,
        "pcpus = 9; allowed is an integer from 1 to 8, which a GICv2 serves",
    );
}

#[test]
fn the_flags_numbers_of_cpus_win_and_have_to_suit_the_files_gic() {
    let of = |pcpus| {
        let written = Written::new("gic = 2\npcpus = 9\n[[vm]]\nname = 'a'\nlinux = true\n");
        let flags = Flags {
            pcpus: Some(pcpus),
            gic: None,
        };
        Description::read(&written.0.join("vms.toml"), flags)
    };
    assert_eq!(of(8).unwrap().pcpus, 8);
    let error = of(9).unwrap_err().to_string();
    let message = "vms.toml: a GICv2 serves at most 8 CPUs, not the 9 of --pcpus";
    assert!(error.ends_with(message), "{error}");
}

#[test]
fn memory_is_a_number_of_mib_or_has_a_unit() {
    let mib = |text: &str| memory_mib(&Value::from(text));
    assert_eq!(memory_mib(&Value::from(64)), Some(64));
    assert_eq!(mib("512 MiB"), Some(512));
    assert_eq!(mib("512MiB"), Some(512));
    assert_eq!(mib("2 GiB"), Some(2048));
    for wrong in [
        "512",
        "MiB",
        "",
        "1.5 GiB",
        "-1 MiB",
        "1 TB",
        "18446744073709551615 GiB",
    ] {
        assert_eq!(mib(wrong), None, "{wrong:?}");
    }
    assert_eq!(memory_mib(&Value::from(-1)), None);
    assert_eq!(memory_mib(&Value::from(1.5)), None);
}

#[test]
fn the_command_line_has_the_last_word_on_physical_cpus() {
    let written = Written::new("pcpus = 2\n[[vm]]\nname = 'a'\nlinux = true\naffinity = [1]\n");
    let file = written.0.join("vms.toml");
    let pcpus = |count| Flags {
        pcpus: Some(count),
        gic: None,
    };
    assert_eq!(Description::read(&file, pcpus(4)).unwrap().pcpus, 4);
    let error = Description::read(&file, pcpus(1)).unwrap_err().to_string();
    assert!(
        error.contains("vms.toml:5: affinity = [1]; allowed is"),
        "{error}"
    );
}

#[test]
fn every_example_can_be_read() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/vms");
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        let description = Description::read(&path, Flags::default());
        let description = description.unwrap_or_else(|error| panic!("{error:#}"));
        assert!(description.vms.len() > 1, "{}", path.display());
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(
        names,
        [
            "disks-and-networks.toml",
            "eight-small.toml",
            "firmware-beside-linux.toml",
            "shares.toml",
            "two-linux.toml"
        ]
    );
}

#[test]
fn the_page_that_lists_the_keys_shows_a_file_that_has_no_others() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vm-configuration.md");
    let text = fs::read_to_string(&page).unwrap();
    let (_, block) = text.split_once("```toml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let table: MachineTable = Source::new(&page, block).deserialize().unwrap();
    assert_eq!(table.vm.len(), 2);
}

#[test]
fn eight_small_is_eight_machines_of_two_on_four_that_end_by_themselves() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/vms/eight-small.toml");
    let description = Description::read(&file, Flags::default()).unwrap();
    assert_eq!((description.pcpus, description.vms.len()), (4, 8));
    for vm in description.vms {
        assert_eq!(vm.vcpus, 2);
        assert!(matches!(vm.start, Start::Linux { exec: Some(_) }));
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Description::read(Path::new("no/such.toml"), Flags::default()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read no/such.toml");
}

#[test]
fn text_that_is_no_toml_is_refused_at_its_line() {
    refused(
        "pcpus = 1\n[[vm]\n",
        2,
        "unclosed array table, expected `]`, in the line `[[vm]`",
    );
    refused(
        "pcpus = 1\npcpus = 2\n",
        2,
        "duplicate key, in the line `pcpus = 2`",
    );
}

#[test]
fn unknown_keys_are_refused_with_those_that_are_allowed() {
    refused(
        "pcpu = 1\n",
        1,
        "unknown key `pcpu`, expected one of `pcpus`, `cpu`, `gic`, `slice`, `uplink`, `vm`, in the line `pcpu = 1`",
    );
    line_refused(
        "ram = 64",
        "unknown key `ram`, expected one of `name`, `linux`, `u-boot`, `kernel`, `firmware`, \
         `initrd`, `bootargs`, `exec`, `vcpus`, `memory`, `affinity`, `cpu-set`, `weight`, \
         `priority`, `its`, `disk`, `net`, in the line `ram = 64`",
    );
}

#[test]
fn a_machine_without_virtual_machines_is_refused() {
    let written = Written::new("pcpus = 1\n");
    let error = written.read().unwrap_err().to_string();
    assert!(
        error.ends_with("vms.toml: no virtual machine; allowed is one [[vm]] table or more"),
        "{error}"
    );
    refused(
        "vm = 3\n",
        1,
        "invalid type: integer `3`, expected tables in double brackets, in the line `vm = 3`",
    );
    refused(
        "[vm]\nname = 'a'\n",
        1,
        "invalid type: map, expected tables in double brackets, in the line `[vm]`",
    );
    refused(
        "vm = [3]\n",
        1,
        "invalid type: integer `3`, expected a [[vm]] table, in the line `vm = [3]`",
    );
}

#[test]
fn physical_cpus_are_1_to_256_and_of_a_model() {
    refused(
        "pcpus = 0\n",
        1,
        "pcpus = 0; allowed is an integer from 1 to 256",
    );
    refused(
        "\npcpus = 257\n",
        2,
        "pcpus = 257; allowed is an integer from 1 to 256",
    );
    refused(
        "pcpus = 'two'\n",
        1,
        "pcpus = \"two\"; allowed is an integer from 1 to 256",
    );
    refused(
        "cpu = ''\n",
        1,
        "cpu = \"\"; allowed is a CPU model as QEMU names it, such as \"cortex-a53\"",
    );
}

#[test]
fn names_are_there_and_fit_a_device_tree() {
    let allowed = "a letter, then letters, digits or ,._+- and at most 31 in all";
    refused(
        "pcpus = 1\n[[vm]]\nlinux = true\n",
        2,
        &format!("[[vm]] has no name; allowed is {allowed}"),
    );
    for wrong in ["1st", "a b", "", "a/b", "abcdefghijklmnopqrstuvwxyz012345"] {
        refused(
            &format!("[[vm]]\nname = \"{wrong}\"\nlinux = true\n"),
            2,
            &format!("name = \"{wrong}\"; allowed is {allowed}"),
        );
    }
}

#[test]
fn a_name_used_twice_is_refused_the_second_time() {
    refused(
        "[[vm]]\nname = 'a'\nlinux = true\n\n[[vm]]\nname = 'a'\nlinux = true\n",
        6,
        "name = \"a\"; allowed is a name that no other [[vm]] has",
    );
}

#[test]
fn exactly_one_thing_is_booted() {
    refused(
        "[[vm]]\nname = 'a'\nlinux = false\n",
        1,
        "[[vm]] has nothing to boot; allowed is one of linux = true, u-boot = true, kernel and \
         firmware",
    );
    let one = "allowed is one of linux, u-boot, kernel and firmware; there is also";
    refused(
        "[[vm]]\nname = 'a'\nkernel = 'kernel'\nfirmware = 'kernel'\n",
        4,
        &format!("firmware: {one} kernel"),
    );
    line_refused("u-boot = true", &format!("u-boot: {one} linux"));
    refused(
        "[[vm]]\nname = 'a'\nlinux = 1\n",
        3,
        "linux = 1; allowed is true or false",
    );
}

#[test]
fn missing_files_are_named() {
    let missing = "allowed is the path of a file, relative to this one; DIR/none does not exist \
                   or is no file";
    for key in ["kernel", "firmware"] {
        refused(
            &format!("[[vm]]\nname = 'a'\n{key} = 'none'\n"),
            3,
            &format!("{key} = \"none\"; {missing}"),
        );
    }
    line_refused("initrd = 'none'", &format!("initrd = \"none\"; {missing}"));
    line_refused(
        "initrd = 1",
        "initrd = 1; allowed is the path of a file, relative to this one",
    );
}

#[test]
fn empty_files_are_no_kernels() {
    let written = Written::new("[[vm]]\nname = 'a'\nkernel = 'empty'\n");
    let empty = written.0.join("empty");
    fs::write(&empty, "").unwrap();
    let error = written.read().unwrap_err().to_string();
    let message = format!(
        "vms.toml:3: kernel = \"empty\"; allowed is the path of a file, relative to this one; {} \
         is empty",
        empty.display()
    );
    assert!(error.ends_with(&message), "{error}");
}

/// What the hypervisor would refuse as well is refused before anything starts.
/// Modules cannot overlap here: files are placed by `xtask` itself.
#[test]
fn each_machine_that_cannot_be_has_its_one_error() {
    let set = "a list of numbers of physical CPUs, at least one and none twice";
    let cpus = "numbers below 1, which is how many physical CPUs there are";
    for (line, allowed) in [
        ("vcpus = 257", "an integer from 1 to 256"),
        ("affinity = [1]", cpus),
        ("cpu-set = [0, 1]", cpus),
        ("cpu-set = [4294967295]", cpus),
        ("cpu-set = [4294967296]", set),
        ("cpu-set = []", set),
        ("cpu-set = [0, 0]", set),
        ("cpu-set = 0", set),
        ("cpu-set = [-1]", set),
        ("cpu-set = [\"0\"]", set),
        ("weight = 0", "an integer from 1 to 10000"),
        ("weight = 10001", "an integer from 1 to 10000"),
        ("weight = 1.5", "an integer from 1 to 10000"),
        ("priority = 8", "an integer from 0 to 7"),
        ("priority = -1", "an integer from 0 to 7"),
        ("priority = \"high\"", "an integer from 0 to 7"),
    ] {
        line_refused(line, &format!("{line}; allowed is {allowed}"));
    }
    for slice in ["0", "1001", "\"10 ms\""] {
        refused(
            &format!("slice = {slice}\n"),
            1,
            &format!("slice = {slice}; allowed is an integer of milliseconds from 1 to 1000"),
        );
    }
    line_refused(
        "affinity = [0]\ncpu-set = [0]",
        "cpu-set: not allowed beside affinity",
    );
}

#[test]
fn virtual_cpus_are_1_to_256() {
    for wrong in ["0", "257", "-1", "1.0", "\"1\"", "9223372036854775807"] {
        line_refused(
            &format!("vcpus = {wrong}"),
            &format!("vcpus = {wrong}; allowed is an integer from 1 to 256"),
        );
    }
}

#[test]
fn memory_has_bounds_and_units() {
    let allowed = "8 to 65536 MiB, as an integer of MiB or as \"512 MiB\" or \"2 GiB\"";
    for wrong in ["7", "65537", "\"65 GiB\"", "\"512\"", "\"512 MB\"", "true"] {
        line_refused(
            &format!("memory = {wrong}"),
            &format!("memory = {wrong}; allowed is {allowed}"),
        );
    }
}

#[test]
fn affinity_names_a_cpu_of_the_machine_for_each_virtual_one() {
    let list = "allowed is a list with the number of a physical CPU for each virtual one, of \
                which there are 1";
    for wrong in ["0", "[]", "[0, 0]", "[-1]", "[\"0\"]"] {
        line_refused(
            &format!("affinity = {wrong}"),
            &format!("affinity = {wrong}; {list}"),
        );
    }
    line_refused(
        "affinity = [1]",
        "affinity = [1]; allowed is numbers below 1, which is how many physical CPUs there are",
    );
}

#[test]
fn commands_and_command_lines_are_texts() {
    line_refused(
        "bootargs = \"a\\u0000b\"",
        "bootargs = \"a\\u0000b\"; allowed is a string without control characters",
    );
    line_refused(
        "exec = ' '",
        "exec = \" \"; allowed is a shell command that is not empty",
    );
}

#[test]
fn keys_that_would_do_nothing_are_refused() {
    let beside = |start: &str, key: &str, what: &str| {
        refused(
            &format!("[[vm]]\nname = 'a'\n{start}\n{key} = 'kernel'\n"),
            4 + u32::try_from(start.matches('\n').count()).unwrap(),
            &format!("{key}: not allowed beside {what}"),
        );
    };
    beside("linux = true\nexec = 'true'", "initrd", "exec");
    beside("kernel = 'kernel'", "exec", "kernel");
    for key in ["exec", "initrd", "bootargs"] {
        beside("firmware = 'kernel'", key, "firmware");
        beside("u-boot = true", key, "u-boot");
    }
}

#[test]
fn disks_and_network_cards_are_what_they_say() {
    let written = Written::new(
        "[uplink]\nvlan = 5\n[[vm]]\nname = 'a'\nlinux = true\n\
         [[vm.disk]]\nfile = 'kernel'\nread-only = true\npartition = 2\n\
         [[vm.disk]]\nnew = '2 GiB'\nsectors = [8, 16]\n\
         [[vm.disk]]\nfile = 'kernel'\nmemory = true\n\
         [[vm.net]]\n[[vm.net]]\nmac = '52:54:00:00:00:0a'\nvlan = 4094\n\
         [[vm.net]]\ntrunk = [2, 1]\nnative-vlan = 3\nany-source = true\n",
    );
    let description = written.read().unwrap();
    assert_eq!(description.uplink, Some(VlanMode::Access(5)));
    let file = Image::File(written.0.join("kernel"));
    let disk = |image, home, read_only| DiskSpec {
        image,
        home,
        read_only,
    };
    let sectors = DiskPart::Sectors {
        first: 8,
        count: 16,
    };
    assert_eq!(
        description.vms[0].disks,
        [
            disk(file.clone(), Home::Disk(DiskPart::Partition(2)), true),
            disk(Image::Kept(2 << 30), Home::Disk(sectors), false),
            disk(file, Home::Memory, false),
        ]
    );
    let net = |mac, vlan, anti_spoofing| NetConfig {
        mac,
        vlan,
        anti_spoofing,
    };
    let trunk = VlanMode::Trunk {
        tagged: vec![2, 1],
        native: Some(3),
    };
    assert_eq!(
        description.vms[0].nets,
        [
            net(None, VlanMode::Access(1), true),
            net(
                Some([0x52, 0x54, 0, 0, 0, 0xa]),
                VlanMode::Access(4094),
                true
            ),
            net(None, trunk, false),
        ]
    );
}

#[test]
fn each_device_that_cannot_be_has_its_one_error() {
    let trunk = "a list of integers from 1 to 4094, at least one and none twice";
    let vlan = "an integer from 1 to 4094";
    let mac = "six bytes such as \"52:54:00:00:00:01\", neither a group's address nor one that \
               begins with 02:61:72";
    let sectors =
        "a list of two integers: the first sector of 512 bytes, and how many, at least one";
    let size = "a size such as \"64 MiB\" or \"2 GiB\"";
    let native = "an integer from 1 to 4094 that is not in trunk";
    for (table, line, allowed) in [
        ("disk", "new = 64", size),
        ("disk", "new = \"64 kB\"", size),
        ("disk]]\nnew='1G", "sectors = [1]", sectors),
        ("disk]]\nnew='1G", "sectors = [0, 0]", sectors),
        ("disk]]\nnew='1G", "sectors = [-1, 1]", sectors),
        (
            "disk]]\nnew='1G",
            "partition = 0",
            "an integer from 1 to 128",
        ),
        ("disk]]\nnew='1G", "memory = 1", "true or false"),
        ("disk]]\nnew='1G", "read-only = 1", "true or false"),
        ("net", "vlan = 0", vlan),
        ("net", "vlan = 4095", vlan),
        ("net", "trunk = []", trunk),
        ("net", "trunk = [1, 1]", trunk),
        ("net", "trunk = [4095]", trunk),
        ("net", "trunk = 1", trunk),
        ("net]]\ntrunk = [1]#", "native-vlan = 1", native),
        ("net]]\ntrunk = [1]#", "native-vlan = 0", native),
        ("net", "any-source = 1", "true or false"),
        ("net", "mac = \"52:54:00:00:00\"", mac),
        ("net", "mac = \"52:54:00:00:00:1\"", mac),
        ("net", "mac = \"52:54:00:00:00:+1\"", mac),
        ("net", "mac = \"01:00:00:00:00:00\"", mac),
        ("net", "mac = \"02:61:72:00:00:00\"", mac),
        ("net", "mac = 1", mac),
    ] {
        let end = match table.split_once("]]") {
            None => "]]",
            Some((_, more)) if more.ends_with('#') => "",
            Some(_) => "'",
        };
        let text = format!("[[vm]]\nname = 'a'\nlinux = true\n[[vm.{table}{end}\n{line}\n");
        let number = 5 + u32::from(end != "]]");
        refused(&text, number, &format!("{line}; allowed is {allowed}"));
    }
}

#[test]
fn devices_that_do_not_fit_are_refused() {
    let vm = "[[vm]]\nname = 'a'\nlinux = true\n";
    for (lines, line, message) in [
        (
            "[[vm.disk]]\n".to_owned(),
            4,
            "[[vm.disk]] has no image; allowed is one of file and new",
        ),
        (
            "[[vm.disk]]\nfile = 'kernel'\nnew = '1G'\n".to_owned(),
            6,
            "new: not allowed beside file",
        ),
        (
            "[[vm.disk]]\nnew = '1G'\npartition = 1\nsectors = [0, 1]\n".to_owned(),
            7,
            "sectors: not allowed beside partition",
        ),
        (
            "[[vm.disk]]\nnew = '1G'\nmemory = true\nsectors = [0, 1]\n".to_owned(),
            7,
            "sectors: not allowed beside memory",
        ),
        (
            "[[vm.net]]\nvlan = 1\ntrunk = [1]\n".to_owned(),
            5,
            "vlan: not allowed beside trunk",
        ),
        (
            "[[vm.net]]\nnative-vlan = 1\n".to_owned(),
            5,
            "native-vlan: not allowed without trunk",
        ),
        (
            "[[vm.net]]\nmac = '52:54:00:00:00:aa'\n[[vm.net]]\nmac = '52:54:00:00:00:AA'\n"
                .to_owned(),
            7,
            "mac = \"52:54:00:00:00:AA\"; allowed is an address that no other network card has",
        ),
        (
            "[[vm.disk]]\nnew = '1G'\n".repeat(17),
            36,
            "too many; allowed are at most 16 [[vm.disk]]",
        ),
        (
            "[[vm.net]]\n".repeat(9),
            12,
            "too many; allowed are at most 8 [[vm.net]]",
        ),
    ] {
        refused(&format!("{vm}{lines}"), line, message);
    }
}
