//! The disks of virtual machines, and the image files behind them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dtb_platform::{DiskConfig, DiskPart};

use super::spec::{MachineSpec, VmSpec};

const SECTOR_BYTES: u64 = DiskConfig::SECTOR_BYTES as u64;

/// How many places for virtio devices the machine has.
const PLACES: usize = dtb_platform::layout::VIRTIO_MMIO_SLOTS;

/// A disk of a virtual machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskSpec {
    pub(crate) image: Image,
    pub(crate) home: Home,
    pub(crate) read_only: bool,
}

/// The file behind a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// This one, which exists.
    File(PathBuf),
    /// One of this many bytes that is made if there is none, and kept for the next
    /// run.
    Kept(u64),
}

/// What the file is to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// A disk, of which the virtual machine has this part.
    Disk(DiskPart),
    /// Contents of memory, which nobody writes back.
    Memory,
}

/// A disk of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostDisk<'a> {
    pub(crate) file: &'a Path,
    pub(crate) read_only: bool,
}

impl DiskSpec {
    /// Describes a whole disk of the machine.
    pub(crate) fn whole(image: Image) -> Self {
        Self {
            image,
            home: Home::Disk(DiskPart::Whole),
            read_only: false,
        }
    }

    /// Returns the image's file, once it is there.
    pub(crate) fn file(&self) -> Option<&PathBuf> {
        match &self.image {
            Image::File(file) => Some(file),
            Image::Kept(_) => None,
        }
    }

    /// Returns the file that is to be loaded into memory, if the disk is there.
    pub(crate) fn loaded_file(&self) -> Option<&PathBuf> {
        self.file().filter(|_| self.home == Home::Memory)
    }

    /// Returns the file of the machine's disk, and the part of that.
    fn on_host(&self) -> Option<(&Path, DiskPart)> {
        match self.home {
            Home::Disk(part) => Some((self.file()?, part)),
            Home::Memory => None,
        }
    }
}

/// Returns the machine's own disks: each file once, in the order in which virtual
/// machines name them.
pub(crate) fn of_machine(vms: &[VmSpec]) -> Vec<HostDisk<'_>> {
    let mut disks: Vec<HostDisk<'_>> = Vec::new();
    for disk in vms.iter().flat_map(|vm| &vm.disks) {
        let Some((file, _)) = disk.on_host() else {
            continue;
        };
        match disks.iter_mut().find(|known| known.file == file) {
            Some(known) => known.read_only &= disk.read_only,
            None => disks.push(HostDisk {
                file,
                read_only: disk.read_only,
            }),
        }
    }
    disks
}

/// Returns the number of the disk of the machine that is behind this one.
pub(crate) fn number_in(disks: &[HostDisk<'_>], disk: &DiskSpec) -> Option<u32> {
    let (file, _) = disk.on_host()?;
    let number = disks.iter().position(|known| known.file == file)?;
    u32::try_from(number).ok()
}

/// Checks that the machine can have these disks.
///
/// # Errors
/// Whoever chose the disks is to blame: one cannot be read or is no disk, or two
/// virtual machines would write the same.
pub(crate) fn check(machine: &MachineSpec) -> Result<()> {
    let vms = &machine.vms;
    for disk in vms.iter().flat_map(|vm| &vm.disks) {
        disk.file().map_or(Ok(()), |file| check_image(file))?;
    }
    let all: Vec<_> = vms
        .iter()
        .flat_map(|vm| vm.disks.iter().map(move |disk| (vm, disk)))
        .collect();
    for (index, (vm, disk)) in all.iter().enumerate() {
        let earlier = all.get(..index).unwrap_or_default();
        if let Some((other, _)) = earlier.iter().find(|(_, other)| clash(disk, other)) {
            let file = disk.file().map(|file| file.display());
            bail!(
                "{} is a disk of {} and of {}, and one of them writes what the other has: make \
                 both read-only, or give each an image or a part of its own",
                file.context("an image is missing")?,
                other.name,
                vm.name
            );
        }
    }
    let cards = usize::from(machine.uplink.is_some());
    let places = of_machine(vms).len() + cards;
    if places > PLACES {
        bail!("the machine has {PLACES} places for disks and network cards, not {places}");
    }
    Ok(())
}

/// Tells whether one disk has what another one writes.
fn clash(one: &DiskSpec, other: &DiskSpec) -> bool {
    let written = !(one.read_only && other.read_only);
    match (one.on_host(), other.on_host()) {
        (Some((file, part)), Some((other_file, other_part))) => {
            written && file == other_file && part.may_overlap(other_part)
        }
        _ => false,
    }
}

fn check_image(file: &Path) -> Result<()> {
    let bytes = fs::metadata(file)
        .with_context(|| format!("cannot use {} as a disk", file.display()))?
        .len();
    if bytes == 0 || !bytes.is_multiple_of(SECTOR_BYTES) {
        bail!(
            "{} is no disk: it has {bytes} bytes, not a whole number of sectors of \
             {SECTOR_BYTES}",
            file.display()
        );
    }
    Ok(())
}

/// Makes the images that are missing in `directory`, and says where each is.
///
/// # Errors
/// One cannot be made, or is there with another size.
pub(crate) fn make_images(vms: &mut [VmSpec], directory: &Path) -> Result<()> {
    let mut told = BTreeSet::new();
    for vm in vms {
        for (number, disk) in vm.disks.iter_mut().enumerate() {
            let Image::Kept(bytes) = disk.image else {
                continue;
            };
            let file = directory.join(format!("{}-{number}.img", vm.name));
            let state = match fs::metadata(&file) {
                Ok(data) if data.len() == bytes => "from an earlier run",
                Ok(data) => bail!(
                    "{} is there with {} bytes, not {bytes}: remove it to have a new disk, or ask \
                     for one of its size",
                    file.display(),
                    data.len()
                ),
                Err(_) => {
                    make_image(&file, bytes)
                        .with_context(|| format!("cannot make {}", file.display()))?;
                    "new"
                }
            };
            if told.insert(file.clone()) {
                let (vm, file) = (&vm.name, file.display());
                eprintln!("xtask: disk {number} of {vm} is {file}, {state}");
            }
            disk.image = Image::File(file);
        }
    }
    Ok(())
}

/// Makes an image of zeros, which takes no space as long as it is not written.
fn make_image(file: &Path, bytes: u64) -> Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    Ok(File::create_new(file)?.set_len(bytes)?)
}

/// Reads a size such as `64M`, `64 MiB` or `2G`, of at least a MiB.
pub(crate) fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|end: char| !end.is_ascii_digit());
    let scale = match text.strip_prefix(digits)?.trim_start() {
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return None,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    // What a file can have and no more.
    count
        .checked_mul(1 << scale)
        .filter(|bytes| (1 << 20..=1 << 43).contains(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::spec::Boot;
    use super::*;

    /// A directory for images, which goes away.
    struct Images(PathBuf);

    impl Images {
        fn new(name: &str) -> Self {
            let name = format!("armature-disks-{}-{name}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            fs::create_dir(&directory).unwrap();
            Self(directory)
        }

        fn file(&self, name: &str, bytes: usize) -> Image {
            let file = self.0.join(name);
            fs::write(&file, vec![0; bytes]).unwrap();
            Image::File(file)
        }
    }

    impl Drop for Images {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn vm(name: &str, disks: Vec<DiskSpec>) -> VmSpec {
        let mut vm = VmSpec::new(Boot::Kernel("k".into()));
        vm.name = name.to_owned();
        vm.disks = disks;
        vm
    }

    fn part(image: &Image, part: DiskPart) -> DiskSpec {
        DiskSpec {
            home: Home::Disk(part),
            ..DiskSpec::whole(image.clone())
        }
    }

    #[test]
    fn an_image_is_made_once_and_kept() {
        let images = Images::new("kept");
        let file = images.0.join("disks/a-1.img");
        let disks = vec![
            DiskSpec::whole(images.file("i", 512)),
            DiskSpec::whole(Image::Kept(1 << 20)),
        ];
        let mut vms = [vm("a", disks)];
        make_images(&mut vms, &images.0.join("disks")).unwrap();
        assert_eq!(vms[0].disks[1].image, Image::File(file.clone()));
        assert_eq!(fs::metadata(&file).unwrap().len(), 1 << 20);
        fs::write(&file, vec![7; 1 << 20]).unwrap();
        vms[0].disks[1].image = Image::Kept(1 << 20);
        make_images(&mut vms, &images.0.join("disks")).unwrap();
        assert_eq!(fs::read(&file).unwrap()[0], 7);
        vms[0].disks[1].image = Image::Kept(2 << 20);
        let error = make_images(&mut vms, &images.0.join("disks")).unwrap_err();
        let message = format!(
            "{} is there with 1048576 bytes, not 2097152: remove it to have a new disk, or ask for \
             one of its size",
            file.display()
        );
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn each_file_is_one_disk_of_the_machine() {
        let [a, b] = ["a", "b"].map(|file| Image::File(file.into()));
        let reader = DiskSpec {
            read_only: true,
            ..part(&a, DiskPart::Partition(1))
        };
        let memory = DiskSpec {
            home: Home::Memory,
            ..DiskSpec::whole(b.clone())
        };
        let vms = [
            vm("x", vec![reader.clone(), memory]),
            vm(
                "y",
                vec![DiskSpec::whole(b), part(&a, DiskPart::Partition(2))],
            ),
        ];
        let disks = of_machine(&vms);
        let known: Vec<_> = disks
            .iter()
            .map(|disk| (disk.file, disk.read_only))
            .collect();
        assert_eq!(known, [(Path::new("a"), false), (Path::new("b"), false)]);
        let numbers = vms.iter().flat_map(|vm| &vm.disks);
        let numbers: Vec<_> = numbers.map(|disk| number_in(&disks, disk)).collect();
        assert_eq!(numbers, [Some(0), None, Some(1), Some(0)]);
        assert!(of_machine(&[vm("z", vec![reader])])[0].read_only);
    }

    #[test]
    fn disks_that_cannot_be_are_refused() {
        let images = Images::new("refused");
        let good = images.file("good", 4096);
        let refused = |vms: Vec<VmSpec>| {
            let error = check(&MachineSpec::of(1, vms)).err();
            error.map(|error| error.to_string()).unwrap_or_default()
        };
        let whole = || DiskSpec::whole(good.clone());
        assert_eq!(refused(vec![vm("a", vec![whole()])]), "");
        assert!(refused(vec![vm("a", vec![whole()]), vm("b", vec![whole()])]).contains(
            "good is a disk of a and of b, and one of them writes what the other has: make both \
             read-only, or give each an image or a part of its own"
        ));
        let parts = [1, 2].map(|number| part(&good, DiskPart::Partition(number)));
        assert_eq!(refused(vec![vm("a", parts.to_vec())]), "");
        let memory = DiskSpec {
            home: Home::Memory,
            ..whole()
        };
        assert_eq!(refused(vec![vm("a", vec![whole(), memory])]), "");
        let odd = DiskSpec::whole(images.file("odd", 513));
        assert!(
            refused(vec![vm("a", vec![odd])]).ends_with(
                "odd is no disk: it has 513 bytes, not a whole number of sectors of 512"
            )
        );
        let none = DiskSpec::whole(Image::File(images.0.join("none")));
        assert!(refused(vec![vm("a", vec![none])]).starts_with("cannot use"));
        let many = (0..33).map(|number| DiskSpec::whole(images.file(&number.to_string(), 512)));
        assert_eq!(
            refused(vec![vm("a", many.collect())]),
            "the machine has 32 places for disks and network cards, not 33"
        );
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("64M"), Some(64 << 20));
        assert_eq!(size("1 GiB"), Some(1 << 30));
        for wrong in [
            "",
            "64",
            "M",
            "0M",
            "-1M",
            "1K",
            "1.5G",
            "9000G",
            "99999999999999999999M",
        ] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }
}
