//! What guests are made of: kernels, firmware and initial RAM disks, fetched
//! and built into `target/guest`.

mod drivers;
mod file_systems;
pub(crate) mod initramfs;
pub(crate) mod landmark;
mod packages;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace::Workspace;
use packages::{Packages, Wanted};

/// Fetches what guests run, once.
pub(crate) struct Guests {
    packages: Packages,
}

impl Guests {
    /// Keeps what is fetched under the workspace's target directory.
    pub(crate) fn new(workspace: &Workspace) -> Self {
        Self {
            packages: Packages::new(workspace.target().join("guest")),
        }
    }

    /// Returns Debian's kernel: an uncompressed arm64 `Image`.
    pub(crate) fn linux(&self) -> Result<PathBuf> {
        let package = self.linux_package()?;
        let boot = package.join("boot");
        let entries = fs::read_dir(&boot)
            .with_context(|| format!("the kernel package has no {}", boot.display()))?;
        entries
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"))
            .map(|entry| entry.path())
            .with_context(|| format!("no vmlinuz-* in {}", boot.display()))
    }

    fn linux_package(&self) -> Result<PathBuf> {
        self.packages.get(&Wanted::NewestOf {
            label: "linux",
            // The newest series that the pinned suites carry, then the older.
            prefixes: &["linux-image-6.12.", "linux-image-6.1."],
            suffix: "-cloud-arm64",
        })
    }

    /// Returns an archive with the drivers of Debian's kernel for disks and for
    /// network cards.
    pub(crate) fn drivers(&self, disks: bool, nets: bool) -> Result<Vec<u8>> {
        drivers::archive(&self.linux_package()?, disks, nets)
    }

    /// Returns an archive with the programs that make and check file systems.
    pub(crate) fn file_system_tools(&self) -> Result<Vec<u8>> {
        file_systems::archive(&self.packages)
    }

    /// Returns the statically linked busybox.
    pub(crate) fn busybox(&self) -> Result<PathBuf> {
        let package = self.packages.get(&Wanted::Named("busybox-static"))?;
        // Where it lies depends on whether the suite has merged /bin into /usr.
        first_file(&package, &["bin/busybox", "usr/bin/busybox"])
    }

    /// Returns U-Boot for the `virt` machine.
    pub(crate) fn u_boot(&self) -> Result<PathBuf> {
        let package = self.packages.get(&Wanted::Named("u-boot-qemu"))?;
        first_file(&package, &["usr/lib/u-boot/qemu_arm64/u-boot.bin"])
    }
}

fn first_file(package: &Path, candidates: &[&str]) -> Result<PathBuf> {
    candidates
        .iter()
        .map(|candidate| package.join(candidate))
        .find(|path| path.is_file())
        .with_context(|| format!("{} has none of {candidates:?}", package.display()))
}
