//! Disks of Linux guests, whose contents are in files of the host.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use dtb_platform::{DiskPart, NetConfig};

use super::suite::{Run, Test, Verdict};
use crate::guest::initramfs::Purpose;
use crate::run::disks::{DiskSpec, Home, Image};
use crate::run::spec::{Boot, MachineSpec, VmSpec};

/// How much is written to a file system, in MB, and how large the disk is.
const DATA_MB: u32 = 200;
const DISK_BYTES: u64 = 512 << 20;

/// How many files have been flushed when the machine is killed.
const FLUSHED_FILES: usize = 12;

const MIB: usize = 1 << 20;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("a_read_only_disk_cannot_be_written", read_only),
        Test::on_hypervisor("each_vm_has_its_part_of_a_disk_alone", parts),
        Test::on_hypervisor("a_hostile_driver_hurts_only_itself", hostile).within_minutes(5),
        Test::new("what_is_flushed_outlives_a_killed_machine", killed).within_minutes(6),
        Test::new("a_file_system_outlives_the_machine", outlives).within_minutes(10),
    ]
}

/// Makes an image of zeros for a test.
fn image(run: &Run<'_>, name: &str, bytes: u64) -> Result<PathBuf> {
    let path = run.directory()?.join(format!("{name}.img"));
    File::create(&path)?.set_len(bytes)?;
    Ok(path)
}

/// Runs a command, which must succeed, in Linux with this disk and the means to make
/// and check file systems, and returns what it prints.
fn with_disk(run: &Run<'_>, disk: &DiskSpec, command: &str) -> Result<String> {
    let tools = run.context.guests.file_system_tools()?;
    run.output(command, |machine| {
        for vm in &mut machine.vms {
            vm.disks.push(disk.clone());
            vm.unpack(&tools);
        }
    })
}

/// A file system is made, filled and found again by the next machine, which sees
/// nothing but the image.
fn outlives(run: &Run<'_>) -> Result<Verdict> {
    let disk = DiskSpec::whole(Image::File(image(run, "outlives", DISK_BYTES)?));
    let write = format!(
        "set -e
         mkfs.ext4 -q /dev/vda
         mount /dev/vda /mnt
         dd if=/dev/urandom of=/mnt/data bs=1M count={DATA_MB} 2> /dev/null
         md5sum < /mnt/data
         sync
         umount /mnt"
    );
    let written = with_disk(run, &disk, &write)?;
    ensure!(written.lines().count() == 1, "no sum:\n{written}");
    // What Linux has kept in memory is gone now.
    let check = "fsck.ext4 -f -n /dev/vda || exit 1
         mount -o ro /dev/vda /mnt || exit 2
         wc -c < /mnt/data; echo sum
         md5sum < /mnt/data";
    let found = with_disk(run, &disk, check)?;
    let (report, sum) = found.split_once("sum\n").context("no report")?;
    ensure!(
        report.contains(&format!("{}\n", u64::from(DATA_MB) << 20)),
        "the file is not as long as it was:\n{report}"
    );
    ensure!(sum == written, "{sum} is read and {written} was written");
    Ok(Verdict::Passed)
}

/// QEMU is killed while a guest writes: what had been flushed is there.
fn killed(run: &Run<'_>) -> Result<Verdict> {
    let disk = DiskSpec::whole(Image::File(image(run, "killed", DISK_BYTES)?));
    // Something is always on its way to the disk that nobody waits for.
    let write = "mkfs.ext4 -q /dev/vda && mount /dev/vda /mnt || exit 1
         while :; do dd if=/dev/zero of=/mnt/restless bs=64k count=512 2> /dev/null; done &
         n=1
         while :; do
             dd if=/dev/urandom of=/mnt/file$n bs=64k count=8 conv=fsync 2> /dev/null
             sync /mnt/file$n /mnt
             echo kept $(md5sum /mnt/file$n)
             n=$((n + 1))
         done";
    let command = write.to_owned();
    let mut vm = run.linux(Purpose::Run { command })?;
    vm.unpack(&run.context.guests.file_system_tools()?);
    vm.disks.push(disk.clone());
    let mut guest = run.talk(vm, |_| {})?;
    let mut sums = String::new();
    for _ in 0..FLUSHED_FILES {
        guest.expect("kept ")?;
        let line = guest.expect("\n")?;
        sums += &format!("{}\n", line.trim());
    }
    drop(guest);
    let check = format!(
        "mount /dev/vda /mnt || exit 1
         echo '{sums}' | while read -r sum file; do
             [ \"$(md5sum < $file)\" = \"$sum  -\" ] && echo \"$file is right\"
         done
         umount /mnt
         fsck.ext4 -f -n /dev/vda"
    );
    let found = with_disk(run, &disk, &check)?;
    let right = found.matches(" is right\n").count();
    ensure!(right == FLUSHED_FILES, "{right} files are right:\n{found}");
    Ok(Verdict::Passed)
}

fn read_only(run: &Run<'_>) -> Result<Verdict> {
    let path = image(run, "read-only", MIB as u64)?;
    fs::write(&path, vec![0x5a; MIB])?;
    let disk = DiskSpec {
        read_only: true,
        ..DiskSpec::whole(Image::File(path.clone()))
    };
    let command = "cat /sys/block/vda/ro
         dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync 2> /dev/null && exit 1
         tr -d Z < /dev/vda | wc -c";
    let output = with_disk(run, &disk, command)?;
    ensure!(output == "1\n0\n", "the guest says:\n{output}");
    let after = fs::read(&path)?;
    ensure!(after == vec![0x5a; MIB], "the image has changed");
    Ok(Verdict::Passed)
}

/// Two VMs have sectors of one disk each, and one has a disk in memory as well: they
/// fill what they have, to its end.
fn parts(run: &Run<'_>) -> Result<()> {
    const PART_SECTORS: u64 = 2048;
    let path = image(run, "parts", 4 * MIB as u64)?;
    let memory = image(run, "memory", MIB as u64)?;
    let part = |first| DiskSpec {
        home: Home::Disk(DiskPart::Sectors {
            first,
            count: PART_SECTORS,
        }),
        ..DiskSpec::whole(Image::File(path.clone()))
    };
    let vm = |name: &str, letter: char, disks| -> Result<VmSpec> {
        let command = format!(
            "for disk in /dev/vd?; do
                 tr '\\0' {letter} < /dev/zero | dd of=$disk bs=64k iflag=fullblock 2> /dev/null
                 sync
                 echo $disk $(tr -d {letter} < $disk | wc -c) of $(wc -c < $disk)
             done"
        );
        let mut vm = run.linux(Purpose::Run { command })?;
        (vm.name, vm.vcpus, vm.memory_mib) = (name.to_owned(), 1, 192);
        vm.disks = disks;
        vm.add_drivers(&run.context.guests)?;
        Ok(vm)
    };
    let in_memory = DiskSpec {
        home: Home::Memory,
        ..DiskSpec::whole(Image::File(memory.clone()))
    };
    let vms = vec![
        vm("a", 'A', vec![part(PART_SECTORS), in_memory])?,
        vm("b", 'B', vec![part(2 * PART_SECTORS)])?,
    ];
    let mut guest = run.talk_on(&MachineSpec::of(2, vms))?;
    guest.expect_all(&[
        "/dev/vda 0 of 1048576",
        "/dev/vdb 0 of 1048576",
        "b| /dev/vda 0 of 1048576",
    ])?;
    guest.power_off()?;
    let whole: Vec<u8> = [0, b'A', b'B', 0]
        .into_iter()
        .flat_map(|letter| std::iter::repeat_n(letter, MIB))
        .collect();
    ensure!(
        fs::read(&path)? == whole,
        "the parts are not where they should be"
    );
    ensure!(
        fs::read(&memory)? == vec![0; MIB],
        "a disk in memory has changed its file"
    );
    Ok(())
}

/// One VM's driver does everything wrong with a disk, a card and a source of entropy,
/// on two CPUs that another VM shares, which writes to the same disk of the machine and
/// reads back what it has written. The one whose checks fail says no more.
fn hostile(run: &Run<'_>) -> Result<()> {
    const SECTORS: u64 = 4096;
    let path = image(run, "hostile", 4 * MIB as u64)?;
    let part = |number| DiskSpec {
        home: Home::Disk(DiskPart::Sectors {
            first: number * SECTORS,
            count: SECTORS,
        }),
        ..DiskSpec::whole(Image::File(path.clone()))
    };
    let command = "n=0
         while :; do
             dd if=/dev/urandom of=/tmp/data bs=64k count=32 2> /dev/null
             dd if=/tmp/data of=/dev/vda bs=64k conv=fsync 2> /dev/null || break
             echo 3 > /proc/sys/vm/drop_caches
             cmp /tmp/data /dev/vda || break
             n=$((n + 1)); echo round $n is right
         done"
        .to_owned();
    let mut honest = run.linux(Purpose::Run { command })?;
    (honest.name, honest.vcpus, honest.memory_mib) = ("honest".to_owned(), 2, 192);
    honest.disks = vec![part(0)];
    honest.add_drivers(&run.context.guests)?;
    let guest = run.context.workspace.build_guest("hostile")?;
    let mut hostile = VmSpec::new(Boot::Kernel(guest));
    (hostile.name, hostile.vcpus, hostile.memory_mib) = ("hostile".to_owned(), 2, 64);
    hostile.append("virtio");
    hostile.disks = vec![part(1)];
    hostile.nets = vec![NetConfig::default()];
    let mut guest = run.talk_on(&MachineSpec::of(2, vec![honest, hostile]))?;
    for device in ["entropy", "block", "network"] {
        guest.expect(&format!("the {device} device has had every wrong driver"))?;
    }
    // Each goes on while the other does.
    guest.expect(" is right")?;
    for _ in 0..3 {
        guest.expect("of wrong drivers is over")?;
        guest.expect(" is right")?;
    }
    Ok(())
}
