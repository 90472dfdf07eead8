//! What Debian's kernel has as modules and a guest with devices needs: an archive to
//! unpack beside the initial RAM disk.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::initramfs::{Archive, EXECUTABLE, FILE};

const UDHCPC: &str = include_str!("initramfs/udhcpc.sh");

/// The modules, each after those that it uses, below the kernel's own directory.
const TRANSPORT: [&str; 1] = ["drivers/virtio/virtio_mmio"];
const DISKS: [&str; 1] = ["drivers/block/virtio_blk"];
const NETS: [&str; 3] = [
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
];

/// Returns the archive with the drivers for disks and for network cards out of the
/// kernel's unpacked package. Init loads them.
pub(super) fn archive(package: &Path, disks: bool, nets: bool) -> Result<Vec<u8>> {
    let directory = modules(package)?;
    let mut archive = Archive::default();
    archive.directories(&["lib", "lib/drivers", "etc"])?;
    if disks {
        archive.directories(&["mnt"])?;
    }
    let mut list = String::new();
    let wanted = [
        (TRANSPORT.as_slice(), disks || nets),
        (&DISKS, disks),
        (&NETS, nets),
    ];
    let wanted = wanted.iter().filter(|(_, wanted)| *wanted);
    for name in wanted.flat_map(|(names, _)| *names) {
        let path = directory.join(format!("{name}.ko.xz"));
        let module = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = name.rsplit('/').next().unwrap_or(name);
        let path = format!("lib/drivers/{name}.ko.xz");
        archive.entry(&path, FILE, &module)?;
        list += &format!("/{path}\n");
    }
    archive.entry("etc/drivers", FILE, list.as_bytes())?;
    if nets {
        archive.directories(&["etc/udhcpc"])?;
        archive.entry("etc/udhcpc/default.script", EXECUTABLE, UDHCPC.as_bytes())?;
    }
    archive.finish()
}

/// Returns the directory of the kernel's modules.
fn modules(package: &Path) -> Result<std::path::PathBuf> {
    let versions = ["lib/modules", "usr/lib/modules"];
    let mut found = versions.iter().filter_map(|versions| {
        let mut entries = fs::read_dir(package.join(versions)).ok()?;
        Some(entries.next()?.ok()?.path().join("kernel"))
    });
    let found = found.next();
    found.with_context(|| format!("{} has no modules", package.display()))
}

#[cfg(test)]
mod tests {
    use super::super::initramfs::tests::entries;
    use super::*;

    #[test]
    fn a_guest_gets_the_drivers_of_its_devices_and_no_others() {
        let name = format!("armature-drivers-{}", std::process::id());
        let package = std::env::temp_dir().join(name);
        let kernel = package.join("lib/modules/6.12/kernel");
        for name in [TRANSPORT.as_slice(), &DISKS, &NETS].concat() {
            let file = kernel.join(format!("{name}.ko.xz"));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, name).unwrap();
        }
        let list = |disks, nets| {
            let entries = entries(&archive(&package, disks, nets).unwrap());
            let list = entries.iter().find(|(name, ..)| name == "etc/drivers");
            let list = String::from_utf8(list.unwrap().2.clone()).unwrap();
            for driver in list.lines() {
                assert!(
                    entries
                        .iter()
                        .any(|(name, ..)| format!("/{name}") == driver)
                );
            }
            let drivers = list
                .lines()
                .map(|driver| driver.rsplit('/').next().unwrap());
            let drivers: Vec<_> = drivers.map(|name| name.replace(".ko.xz", "")).collect();
            drivers.join(" ")
        };
        assert_eq!(list(true, false), "virtio_mmio virtio_blk");
        let nets = "virtio_mmio failover net_failover virtio_net";
        assert_eq!(list(false, true), nets);
        assert_eq!(
            list(true, true),
            nets.replace("failover net_", "virtio_blk failover net_")
        );
        fs::remove_dir_all(&package).unwrap();
        assert!(archive(&package, true, true).is_err());
    }
}
