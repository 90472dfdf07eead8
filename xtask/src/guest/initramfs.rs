//! Builds the Linux guest's initial RAM disk: busybox and a few scripts.

use std::io::Write;

use anyhow::{Context, Result};
use cpio::newc::{self, Builder};

use super::landmark;

const INIT: &str = include_str!("initramfs/init.sh");
const PROFILE: &str = include_str!("initramfs/profile.sh");
const EXEC: &str = include_str!("initramfs/exec.sh");
const RUN: &str = include_str!("initramfs/run.sh");

/// File types of `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const REGULAR: u32 = 0o100_000;

/// Modes of files.
pub(super) const FILE: u32 = REGULAR | 0o644;
pub(super) const EXECUTABLE: u32 = REGULAR | 0o755;

/// What the guest does once it has booted.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// Offers a shell on a console of this size.
    Shell { rows: u16, columns: u16 },
    /// Runs a shell command between two marks, then powers off.
    Exec { command: String, mark: String },
    /// Runs a shell command that uses the console like any other program, then
    /// powers off.
    Run { command: String },
}

/// Returns the archive around the program `busybox`.
pub(crate) fn build(busybox: &[u8], purpose: &Purpose) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.directories(&["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"])?;
    // The kernel opens this one for init, before anything is mounted.
    archive.device("dev/console", 5, 1)?;
    archive.device("dev/null", 1, 3)?;
    archive.entry("bin/busybox", EXECUTABLE, busybox)?;
    archive.entry("bin/landmark", EXECUTABLE, &landmark::program())?;
    archive.entry("init", EXECUTABLE, INIT.as_bytes())?;
    archive.entry("etc/profile", FILE, PROFILE.as_bytes())?;
    archive.entry("etc/passwd", FILE, b"root::0:0:root:/root:/bin/sh\n")?;
    archive.entry("etc/group", FILE, b"root:x:0:\n")?;
    match purpose {
        Purpose::Shell { rows, columns } => {
            let size = format!("{rows} {columns}\n");
            archive.entry("etc/console-size", FILE, size.as_bytes())?;
        }
        Purpose::Exec { command, mark } => {
            archive.entry("etc/exec", EXECUTABLE, EXEC.as_bytes())?;
            archive.entry("etc/mark", FILE, mark.as_bytes())?;
            archive.entry("exec", EXECUTABLE, format!("{command}\n").as_bytes())?;
        }
        Purpose::Run { command } => {
            archive.entry("etc/exec", EXECUTABLE, RUN.as_bytes())?;
            archive.entry("exec", EXECUTABLE, format!("{command}\n").as_bytes())?;
        }
    }
    archive.finish()
}

/// Returns an archive with one program, to unpack beside that of [`build`].
pub(crate) fn program(name: &str, content: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.entry(&format!("bin/{name}"), EXECUTABLE, content)?;
    archive.finish()
}

/// A growing archive in the format that the kernel unpacks.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub(super) fn directories(&mut self, paths: &[&str]) -> Result<()> {
        let mut paths = paths.iter();
        paths.try_for_each(|path| self.entry(path, DIRECTORY | 0o755, &[]))
    }

    pub(super) fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.add(path, content, |builder| builder.mode(mode))
    }

    fn device(&mut self, path: &str, major: u32, minor: u32) -> Result<()> {
        self.add(path, &[], |builder| {
            builder
                .mode(CHARACTER_DEVICE | 0o600)
                .rdev_major(major)
                .rdev_minor(minor)
        })
    }

    fn add(
        &mut self,
        path: &str,
        content: &[u8],
        shape: impl FnOnce(Builder) -> Builder,
    ) -> Result<()> {
        self.entries += 1;
        let length = u32::try_from(content.len()).context("a file too large for the archive")?;
        let builder = shape(Builder::new(path).ino(self.entries).nlink(1));
        let mut writer = builder.write(&mut self.bytes, length);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        newc::trailer(&mut self.bytes)?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Read;

    /// Returns path, mode and content of every entry.
    pub(crate) fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut rest = archive;
        let mut entries = Vec::new();
        loop {
            let mut reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return entries;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut content = Vec::new();
            reader.read_to_end(&mut content).unwrap();
            entries.push((name, mode, content));
            rest = reader.finish().unwrap();
        }
    }

    fn built(purpose: &Purpose) -> Vec<(String, u32, Vec<u8>)> {
        entries(&build(b"a busybox", purpose).unwrap())
    }

    #[test]
    fn a_command_travels_verbatim_with_its_mark() {
        let command = "echo 'a  b' \"$HOME\"; exit 7".to_owned();
        let entries = built(&Purpose::Exec {
            command: command.clone(),
            mark: "m1".into(),
        });
        let content = |path: &str| {
            let entry = entries.iter().find(|(name, ..)| name == path);
            entry.map(|(_, _, content)| String::from_utf8(content.clone()).unwrap())
        };
        assert_eq!(content("exec"), Some(format!("{command}\n")));
        assert_eq!(content("etc/mark").as_deref(), Some("m1"));
        assert_eq!(content("bin/busybox").as_deref(), Some("a busybox"));
    }

    #[test]
    fn a_command_on_the_console_needs_no_mark() {
        let entries = built(&Purpose::Run {
            command: "echo here".into(),
        });
        let content = |path: &str| {
            let entry = entries.iter().find(|(name, ..)| name == path);
            entry.map(|(_, _, content)| content.as_slice())
        };
        assert_eq!(content("exec"), Some(b"echo here\n".as_slice()));
        assert_eq!(content("etc/exec"), Some(RUN.as_bytes()));
        assert_eq!(content("etc/mark"), None);
    }

    #[test]
    fn a_program_comes_in_an_archive_of_its_own() {
        let entries = entries(&program("storm", b"a program").unwrap());
        let expected = ("bin/storm".to_owned(), EXECUTABLE, b"a program".to_vec());
        assert_eq!(entries, [expected]);
    }

    #[test]
    fn a_shell_has_init_and_a_console_but_no_command() {
        let entries = built(&Purpose::Shell {
            rows: 24,
            columns: 80,
        });
        let mode = |path: &str| {
            entries
                .iter()
                .find(|(name, ..)| name == path)
                .map(|(_, mode, _)| *mode)
        };
        assert_eq!(mode("init"), Some(REGULAR | 0o755));
        assert_eq!(mode("dev/console"), Some(CHARACTER_DEVICE | 0o600));
        assert_eq!(mode("proc"), Some(DIRECTORY | 0o755));
        assert_eq!(mode("exec"), None);
    }
}
