//! Fetches Debian packages for arm64 with a private apt configuration.
//!
//! Nothing of the machine's own package state is touched and no privilege is
//! needed; apt checks every signature with Debian's keys. A package that has
//! been unpacked once is never fetched again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use super::sources::Mirror;
use crate::toolchain::runs;

/// The release whose packages are used, whatever the machine itself runs, so
/// that everybody's guests are the same.
const RELEASE: &str = "bookworm";

/// What to fetch.
pub(crate) enum Wanted {
    /// The package with this name.
    Named(&'static str),
    /// The package with the greatest name among those with this ending and
    /// one of these beginnings, of which an earlier one is preferred.
    NewestOf {
        /// The name of the directory that keeps it.
        label: &'static str,
        prefixes: &'static [&'static str],
        suffix: &'static str,
    },
}

/// Unpacked packages, and apt's private state beside them.
pub(crate) struct Packages {
    directory: PathBuf,
}

impl Packages {
    /// Keeps everything below `directory`.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Returns the directory with the files of the package, fetching it first
    /// if need be.
    pub(crate) fn get(&self, wanted: &Wanted) -> Result<PathBuf> {
        let label = match wanted {
            Wanted::Named(name) => name,
            Wanted::NewestOf { label, .. } => label,
        };
        let unpacked = self.directory.join(label);
        if unpacked.is_dir() {
            return Ok(unpacked);
        }
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("cannot make {}", self.directory.display()))?;
        let lock = File::create(self.directory.join("lock"))?;
        lock.lock().context("cannot lock the package directory")?;
        // Another process may have fetched it while this one waited.
        if !unpacked.is_dir() {
            self.fetch(wanted, &unpacked)
                .with_context(|| format!("cannot fetch the guest's {label}"))?;
        }
        Ok(unpacked)
    }

    fn fetch(&self, wanted: &Wanted, unpacked: &Path) -> Result<()> {
        for program in ["apt-get", "dpkg"] {
            ensure!(
                runs(program),
                "{program} is needed to fetch the guest's packages; install it (most \
                 distributions package apt and dpkg), or put the package's files into {}",
                unpacked.display()
            );
        }
        let work = self.directory.join("fetching");
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        let files = work.join("files");
        fs::create_dir_all(&files)?;
        let known = self.lists().exists();
        self.update()?;
        let archive = match self.download(wanted, &work) {
            // Mirrors drop old versions: lists of long ago name lost files.
            Err(_) if known => {
                fs::remove_file(self.lists())?;
                self.update()?;
                self.download(wanted, &work)?
            }
            result => result?,
        };
        let status = Command::new("dpkg")
            .arg("-x")
            .args([&archive, &files])
            .status()?;
        ensure!(status.success(), "dpkg cannot unpack {}", archive.display());
        // The name appears only once its content is complete.
        fs::rename(&files, unpacked)?;
        fs::remove_dir_all(&work)?;
        Ok(())
    }

    /// Fetches the package lists, unless an earlier package did.
    fn update(&self) -> Result<()> {
        if self.lists().exists() {
            return Ok(());
        }
        let mirror = Mirror::find()?;
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(self.apt_directory().join(directory))?;
        }
        let options = mirror
            .signed_by
            .map(|keyring| format!("[signed-by={}] ", keyring.display()))
            .unwrap_or_default();
        let uri = mirror.uri;
        let sources = format!(
            "deb {options}{uri} {RELEASE} main\ndeb {options}{uri} {RELEASE}-backports main\n"
        );
        fs::write(self.apt_directory().join("sources.list"), sources)?;
        eprintln!("xtask: fetching Debian's package lists for arm64");
        let spinner = ProgressBar::new_spinner().with_message("apt-get update");
        spinner.enable_steady_tick(Duration::from_millis(120));
        let output = self.apt("apt-get").arg("update").output()?;
        spinner.finish_and_clear();
        succeed(&output, "apt-get update")?;
        File::create(self.lists())?;
        Ok(())
    }

    /// Returns the full name of the package.
    fn resolve(&self, wanted: &Wanted) -> Result<String> {
        let (prefixes, suffix) = match wanted {
            Wanted::Named(name) => return Ok((*name).to_owned()),
            Wanted::NewestOf {
                prefixes, suffix, ..
            } => (prefixes, suffix),
        };
        let output = self
            .apt("apt-cache")
            .args(["pkgnames", "linux-image-"])
            .output()?;
        succeed(&output, "apt-cache pkgnames")?;
        let names = String::from_utf8_lossy(&output.stdout);
        let newest = newest(names.lines(), prefixes, suffix);
        Ok(newest
            .with_context(|| format!("the mirror has no {prefixes:?}…{suffix}"))?
            .to_owned())
    }

    /// Downloads the package's archive into `work`, showing progress, and
    /// returns its path.
    fn download(&self, wanted: &Wanted, work: &Path) -> Result<PathBuf> {
        let name = self.resolve(wanted)?;
        let listing = self
            .apt("apt-get")
            .args(["download", "--print-uris", &name])
            .output()?;
        succeed(&listing, "apt-get download")?;
        let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
        // 'URI' FILE SIZE SHA256:…
        let mut words = listing.split_whitespace().skip(1);
        let file = words
            .next()
            .with_context(|| format!("apt knows no file of {name}"))?;
        let size: u64 = words.next().and_then(|size| size.parse().ok()).unwrap_or(0);
        eprintln!("xtask: fetching {name} ({} MB)", size.div_ceil(1_000_000));
        let archive = work.join(file);
        let bar = ProgressBar::new(size).with_style(ProgressStyle::with_template(
            "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        )?);
        let mut child = self
            .apt("apt-get")
            .args(["download", &name])
            .current_dir(work)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        while child.try_wait()?.is_none() {
            bar.set_position(fs::metadata(&archive).map_or(0, |metadata| metadata.len()));
            std::thread::sleep(Duration::from_millis(100));
        }
        bar.finish_and_clear();
        succeed(&child.wait_with_output()?, "apt-get download")?;
        ensure!(
            archive.is_file(),
            "apt-get did not write {}",
            archive.display()
        );
        Ok(archive)
    }

    /// Returns the file that exists once apt's lists are complete.
    fn lists(&self) -> PathBuf {
        self.apt_directory().join("updated")
    }

    fn apt_directory(&self) -> PathBuf {
        self.directory.join("apt")
    }

    /// Returns an apt command that knows only the private configuration.
    fn apt(&self, program: &str) -> Command {
        let directory = self.apt_directory();
        let mut command = Command::new(program);
        let paths = [
            ("Dir::State::Lists", "lists"),
            ("Dir::Cache", "cache"),
            ("Dir::Etc::SourceList", "sources.list"),
        ];
        for (option, path) in paths {
            command.arg(format!("-o{option}={}", directory.join(path).display()));
        }
        command.args([
            "-qq",
            "-oAPT::Architecture=arm64",
            "-oAPT::Architectures=arm64",
            "-oDir::State::status=/dev/null",
            "-oDir::Etc::SourceParts=/dev/null",
            // Root would otherwise fetch as a user who may not write here.
            "-oAPT::Sandbox::User=",
            // A mirror that cannot be reached is an error, not a warning.
            "-oAPT::Update::Error-Mode=any",
            // Only what resolves names is of use: no translations, no icons.
            "-oAcquire::Languages=none",
            "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        ]);
        command
    }
}

fn succeed(output: &std::process::Output, what: &str) -> Result<()> {
    if !output.status.success() {
        bail!(
            "{what} failed:\n{}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}

/// Returns the name with the greatest version among those that start with the
/// first prefix that any name has.
fn newest<'a>(
    names: impl Iterator<Item = &'a str> + Clone,
    prefixes: &[&str],
    suffix: &str,
) -> Option<&'a str> {
    prefixes.iter().find_map(|prefix| {
        names
            .clone()
            .filter(|name| name.starts_with(prefix) && name.ends_with(suffix))
            .max_by_key(|name| version_key(name.strip_suffix(suffix).unwrap_or(name)))
    })
}

/// Splits a name into runs of digits, compared as numbers, and what lies
/// between them.
fn version_key(name: &str) -> Vec<(String, u64)> {
    let mut key = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        key.push((text.to_owned(), number.parse().unwrap_or(0)));
        rest = tail;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_chosen_by_number_not_by_letter() {
        let names = [
            "linux-image-6.12.9+deb12-cloud-arm64",
            "linux-image-6.12.90+deb12-cloud-arm64",
            "linux-image-6.12.90+deb12.1-cloud-arm64",
            "linux-image-6.12.95+deb12-cloud-arm64-unsigned",
            "linux-image-6.12.99+deb12-rt-arm64",
            "linux-image-6.1.0-50-cloud-arm64",
        ];
        let prefixes = ["linux-image-6.12.", "linux-image-6.1."];
        assert_eq!(
            newest(names.into_iter(), &prefixes, "-cloud-arm64"),
            Some("linux-image-6.12.90+deb12.1-cloud-arm64")
        );
    }

    #[test]
    fn an_older_series_serves_only_where_the_newer_is_missing() {
        let names = [
            "linux-image-6.1.0-47-cloud-arm64",
            "linux-image-6.1.0-9-cloud-arm64",
        ];
        let prefixes = ["linux-image-6.12.", "linux-image-6.1."];
        assert_eq!(
            newest(names.into_iter(), &prefixes, "-cloud-arm64"),
            Some("linux-image-6.1.0-47-cloud-arm64")
        );
        assert_eq!(
            newest(names.into_iter(), &prefixes[..1], "-cloud-arm64"),
            None
        );
    }
}
