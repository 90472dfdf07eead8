//! Where things lie in this repository, and what cargo knows about it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The target that everything below the hypervisor's own EL2 code is built for.
pub(crate) const EL2_TARGET: &str = "aarch64-unknown-none-softfloat";

/// The package whose programs are the bare-metal guests.
pub(crate) const GUESTS: &str = "test-guests";

/// This repository as cargo describes it.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) metadata: Metadata,
}

/// The part of `cargo metadata` that is used here.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_root: PathBuf,
    pub(crate) target_directory: PathBuf,
}

/// One package of the workspace.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) rust_version: Option<String>,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) targets: Vec<Target>,
}

/// One dependency of a package.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
}

/// One thing that a package builds.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
}

impl Package {
    /// Returns the directory of the package.
    pub(crate) fn directory(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new(""))
    }

    /// Returns the names of the programs that the package builds.
    pub(crate) fn binaries(&self) -> impl Iterator<Item = &str> {
        self.targets
            .iter()
            .filter(|target| target.kind.iter().any(|kind| kind == "bin"))
            .map(|target| target.name.as_str())
    }
}

impl Workspace {
    /// Asks cargo about the workspace that this program belongs to.
    pub(crate) fn find() -> Result<Self> {
        let output = cargo()
            .args([
                "metadata",
                "--format-version",
                "1",
                "--no-deps",
                "--manifest-path",
            ])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!(
                "cargo metadata failed:\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let metadata =
            serde_json::from_slice(&output.stdout).context("cannot read cargo's metadata")?;
        Ok(Self { metadata })
    }

    /// Returns the directory of the repository.
    pub(crate) fn root(&self) -> &Path {
        &self.metadata.workspace_root
    }

    /// Returns cargo's target directory.
    pub(crate) fn target(&self) -> &Path {
        &self.metadata.target_directory
    }

    /// Returns a cargo command that runs at the root of the repository.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(self.root());
        command
    }

    /// Returns the package with this name, if the workspace has it.
    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.metadata
            .packages
            .iter()
            .find(|package| package.name == name)
    }

    /// Builds programs of `package` for EL2 and the guests, in the release
    /// profile, and returns the directory where they lie.
    pub(crate) fn build_for_target(&self, package: &str, what: &[&str]) -> Result<PathBuf> {
        let status = self
            .cargo()
            .args([
                "build",
                "--quiet",
                "--release",
                "--target",
                EL2_TARGET,
                "-p",
                package,
            ])
            .args(what)
            .status()
            .context("cannot start cargo")?;
        if !status.success() {
            bail!("{package} does not build for {EL2_TARGET}; the compiler's messages are above");
        }
        Ok(self.target().join(EL2_TARGET).join("release"))
    }

    /// Builds one of the bare-metal guests and returns its file.
    pub(crate) fn build_guest(&self, name: &str) -> Result<PathBuf> {
        let directory = self.build_for_target(GUESTS, &["--bin", name])?;
        Ok(directory.join(name))
    }

    /// Builds `package` for this host, in the release profile, and returns the
    /// directory where what it builds lies.
    pub(crate) fn build_for_host(&self, package: &str) -> Result<PathBuf> {
        let status = self
            .cargo()
            .args(["build", "--quiet", "--release", "-p", package])
            .status()
            .context("cannot start cargo")?;
        if !status.success() {
            bail!("{package} does not build; the compiler's messages are above");
        }
        Ok(self.target().join("release"))
    }
}

/// Returns the cargo that runs this program, so that its toolchain is kept.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}
