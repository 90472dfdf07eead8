//! The programs that make and check file systems, for tests: an archive to unpack
//! beside the initial RAM disk.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::initramfs::{Archive, EXECUTABLE, FILE};
use super::packages::{Packages, Wanted};

/// The packages with the programs and everything that they load.
const PACKAGES: [&str; 6] = [
    "e2fsprogs",
    "libext2fs2",
    "libcom-err2",
    "libblkid1",
    "libuuid1",
    "libc6",
];

/// What is taken out of the packages: where it goes, and what it is called at its
/// origin, in whatever directory. A name that ends with a dot begins that of a
/// version.
const FILES: [(&str, &str); 11] = [
    ("bin/mkfs.ext4", "mke2fs"),
    ("bin/fsck.ext4", "e2fsck"),
    ("etc/mke2fs.conf", "mke2fs.conf"),
    ("lib/ld-linux-aarch64.so.1", "ld-linux-aarch64.so.1"),
    ("lib/libc.so.6", "libc.so.6"),
    ("lib/libext2fs.so.2", "libext2fs.so.2."),
    ("lib/libe2p.so.2", "libe2p.so.2."),
    ("lib/libcom_err.so.2", "libcom_err.so.2."),
    ("lib/libblkid.so.1", "libblkid.so.1."),
    ("lib/libuuid.so.1", "libuuid.so.1."),
    ("lib/libpthread.so.0", "libpthread.so.0"),
];

/// Returns the archive.
pub(super) fn archive(packages: &Packages) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.directories(&["bin", "etc", "lib"])?;
    let mut files = Vec::new();
    for package in PACKAGES {
        collect(&packages.get(&Wanted::Named(package))?, &mut files)?;
    }
    for (target, origin) in FILES {
        let is_origin = |file: &&PathBuf| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name == origin || origin.ends_with('.') && name.starts_with(origin)
        };
        let file = files.iter().find(is_origin);
        let file = file.with_context(|| format!("no package has {origin}"))?;
        let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mode = if target.starts_with("etc") {
            FILE
        } else {
            EXECUTABLE
        };
        archive.entry(target, mode, &content)?;
    }
    archive.finish()
}

/// Adds every regular file below `directory`.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            collect(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}
