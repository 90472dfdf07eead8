//! Makes the machine ready: the Rust target and QEMU.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::EL2_TARGET;

/// The emulator that runs everything.
pub(crate) const QEMU: &str = "qemu-system-aarch64";

/// Makes sure that the compiler can build for EL2, adding the target if it is
/// missing.
pub(crate) fn ensure_rust_target() -> Result<()> {
    let how = format!("add the target by hand: rustup target add {EL2_TARGET}");
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", EL2_TARGET])
        .output()
        .context("cannot start rustc; install Rust with rustup first")?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && libraries.is_dir() {
        return Ok(());
    }
    eprintln!("xtask: adding the Rust target {EL2_TARGET} with rustup");
    let added = Command::new("rustup")
        .args(["target", "add", EL2_TARGET])
        .status();
    match added {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => bail!("rustup could not add {EL2_TARGET}; is the network reachable? {how}"),
        Err(error) => bail!(
            "the Rust target {EL2_TARGET} is missing and rustup cannot be started ({error}); \
             install rustup or your distribution's package of that target"
        ),
    }
}

/// Returns cargo of the nightly toolchain, of which Miri is a part.
pub(crate) fn nightly_cargo() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]);
    command
}

/// Makes sure that Miri is there, adding it to the nightly toolchain if that is.
pub(crate) fn ensure_miri() -> Result<()> {
    let has_miri = || {
        let mut version = nightly_cargo();
        version.args(["miri", "--version"]);
        succeeds(&mut version)
    };
    if has_miri() {
        return Ok(());
    }
    let toolchain = ["run", "nightly", "rustc", "--version"];
    if !quietly("rustup", &toolchain) {
        bail!("there is no nightly toolchain; rustup toolchain install nightly adds one");
    }
    let add = [
        "component",
        "add",
        "miri",
        "rust-src",
        "--toolchain",
        "nightly",
    ];
    eprintln!("xtask: Miri is missing; running: rustup {}", add.join(" "));
    if quietly("rustup", &add) && has_miri() {
        return Ok(());
    }
    bail!("rustup could not add Miri to the nightly toolchain")
}

/// Makes sure that QEMU is there, installing the distribution's package on
/// Debian and its kin.
pub(crate) fn ensure_qemu() -> Result<()> {
    if runs(QEMU) {
        return Ok(());
    }
    if !runs("apt-get") {
        bail!(
            "{QEMU} is not installed, and only Debian's way to install it is known here; \
             on Fedora: dnf install qemu-system-aarch64-core; on Arch: pacman -S \
             qemu-system-aarch64; on macOS: brew install qemu"
        );
    }
    let mut prefix = Vec::new();
    if !rustix::process::geteuid().is_root() {
        if !runs("sudo") {
            bail!(
                "{QEMU} is not installed; as root run: \
                 apt-get install --no-install-recommends qemu-system-arm"
            );
        }
        prefix.push("sudo");
    }
    let apt = |arguments: &[&str]| -> Result<bool> {
        let words: Vec<&str> = prefix
            .iter()
            .copied()
            .chain(["apt-get"])
            .chain(arguments.iter().copied())
            .collect();
        eprintln!("xtask: {QEMU} is missing; running: {}", words.join(" "));
        let (program, rest) = words.split_first().context("an empty command")?;
        let status = Command::new(program)
            .args(rest)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::inherit())
            .stdout(std::io::stderr())
            .status()
            .with_context(|| format!("cannot start {program}"))?;
        Ok(status.success())
    };
    let install = [
        "install",
        "--yes",
        "--no-install-recommends",
        "qemu-system-arm",
    ];
    // A new machine has no package lists yet: a failed first try is no error.
    if (apt(&install)? || (apt(&["update"])? && apt(&install)?)) && runs(QEMU) {
        return Ok(());
    }
    bail!("apt-get could not install qemu-system-arm; its messages are above")
}

/// Tells whether the emulator's `virt` machine has this CPU model, by having it
/// describe such a machine.
pub(crate) fn qemu_has_cpu(model: &str) -> bool {
    let tree = std::env::temp_dir().join(format!("armature-cpu-{}.dtb", std::process::id()));
    let machine = format!("virt,gic-version=3,dumpdtb={}", tree.display());
    let has = quietly(
        QEMU,
        &[
            "-M",
            &machine,
            "-cpu",
            model,
            "-display",
            "none",
            "-nodefaults",
        ],
    );
    // Without the model there is no file either.
    let _ = std::fs::remove_file(tree);
    has
}

/// Tells whether this program is installed.
pub(crate) fn runs(program: &str) -> bool {
    quietly(program, &["--version"])
}

fn quietly(program: &str, arguments: &[&str]) -> bool {
    succeeds(Command::new(program).args(arguments))
}

/// Runs a command and does not show what it says.
fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
