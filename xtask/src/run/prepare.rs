//! Makes everything that a run needs: the hypervisor's image, the device tree
//! that names the guests, and a directory for what is made for this run only.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use super::disks::{self, DiskSpec};
use super::domains;
use super::instructions::Counting;
use super::placement::{IMAGE_START, Placement};
use super::qemu::{self, Loaded, Payload};
use super::spec::{Initrd, MachineSpec, Mode, VmSpec};
use crate::image;
use crate::telemetry::tracer::Tracer;
use crate::telemetry::{self, top};
use crate::toolchain::{self, QEMU};
use crate::workspace::Workspace;

/// The hypervisor's package and its program.
const HYPERVISOR: (&str, &str) = ("hypervisor", "armature");

/// How long the path of a socket may be. Where it would be longer there is none, and
/// `cargo xtask top` does not find the run.
const LONGEST_SOCKET: usize = 107;

/// A machine that is ready to start.
pub(crate) struct Prepared {
    pub(crate) spec: MachineSpec,
    pub(crate) log: PathBuf,
    ram_mib: u64,
    payload: Payload,
    symbols: PathBuf,
    counting: Option<Counting>,
    /// Where the hypervisor says where its counters are.
    anchor: Option<u64>,
    /// Removed with everything in it when the run is over.
    directory: RunDirectory,
}

impl Prepared {
    /// Builds and fetches what is missing and writes what QEMU will load. The
    /// console will be logged to a file called `log` in `target/run`.
    pub(crate) fn new(workspace: &Workspace, spec: &MachineSpec, log: &str) -> Result<Self> {
        let mut spec = spec.clone();
        disks::make_images(&mut spec.vms, &workspace.target().join("disks"))?;
        disks::check(&spec)?;
        for file in spec.vms.iter().flat_map(VmSpec::files) {
            if let Some(problem) = problem(file) {
                bail!("{} {problem}", file.display());
            }
        }
        toolchain::ensure_qemu()?;
        let runs = workspace.target().join("run");
        let directory = RunDirectory::create(&runs)?;
        let log = runs.join(log);
        let (ram_mib, payload, symbols) = match spec.mode {
            Mode::Hypervisor => hypervisor(workspace, &spec, &directory)?,
            Mode::Bare => bare(&spec, &directory)?,
        };
        let counting = match (&payload, spec.count_instructions) {
            (_, false) => None,
            (Payload::Hypervisor { image, .. }, true) => Some(Some((image.as_path(), &*symbols))),
            (Payload::Bare { .. }, true) => Some(None),
        };
        let anchor = match spec.mode {
            Mode::Hypervisor => Some(IMAGE_START + telemetry::anchor(&symbols)?),
            Mode::Bare => None,
        };
        if let Some(anchor) = anchor {
            let file = directory.file(top::ANCHOR);
            fs::write(&file, anchor.to_string())
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        let counting = counting.map(|program| {
            let counters = directory.file("instructions");
            Counting::new(workspace, &spec, program, counters)
        });
        Ok(Self {
            spec,
            log,
            ram_mib,
            payload,
            symbols,
            counting: counting.transpose()?,
            anchor,
            directory,
        })
    }

    /// Returns QEMU's arguments, given the number of the control socket and, if the
    /// run is traced, that of the tracer's.
    pub(crate) fn arguments(&self, control_fd: i32, tracer_fd: Option<i32>) -> Vec<String> {
        let mut arguments =
            qemu::run_arguments(&self.spec, self.ram_mib, &self.payload, control_fd);
        arguments.extend(self.counting.iter().flat_map(Counting::arguments));
        let socket = self.directory.file(top::SOCKET);
        if self.anchor.is_some() && socket.as_os_str().len() <= LONGEST_SOCKET {
            arguments.extend(qemu::open_control_arguments(&socket));
        }
        arguments.extend(tracer_fd.into_iter().flat_map(qemu::tracer_arguments));
        arguments
    }

    /// Returns the directory for what was made for this run only.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory.0
    }

    /// Begins to trace the machine whose control channel is at the other end of
    /// `stream`.
    pub(crate) fn trace(&self, stream: UnixStream) -> Option<Tracer> {
        let file = self.directory.file("trace");
        Some(Tracer::start(stream, self.anchor?, file))
    }

    /// Returns what counts the machine's instructions, if they are counted.
    pub(crate) fn counting(&self) -> Option<&Counting> {
        self.counting.as_ref()
    }

    /// Returns the file with the debugger's symbols.
    pub(crate) fn symbols(&self) -> &Path {
        &self.symbols
    }
}

/// Says what keeps a file from being given to a guest.
pub(crate) fn problem(file: &Path) -> Option<&'static str> {
    match fs::metadata(file) {
        Ok(data) if data.is_file() && data.len() == 0 => Some("is empty"),
        Ok(data) if data.is_file() => None,
        Ok(_) | Err(_) => Some("does not exist or is no file"),
    }
}

/// Prepares the hypervisor and its guests.
fn hypervisor(
    workspace: &Workspace,
    spec: &MachineSpec,
    directory: &RunDirectory,
) -> Result<(u64, Payload, PathBuf)> {
    toolchain::ensure_rust_target()?;
    let (package, program) = HYPERVISOR;
    let elf = workspace
        .build_for_target(package, &["--bin", program])?
        .join(program);
    let image = elf.with_extension("img");
    image::flatten(&elf, &image)?;

    let mut files = Vec::new();
    for (index, vm) in spec.vms.iter().enumerate() {
        files.push(vm.boot.file().clone());
        files.extend(initrd_file(vm, index, directory)?);
        files.extend(vm.disks.iter().filter_map(DiskSpec::loaded_file).cloned());
    }
    let sizes = files
        .iter()
        .map(|file| Ok(fs::metadata(file)?.len()))
        .collect::<std::io::Result<Vec<u64>>>()
        .context("cannot read a guest's file")?;
    let guest_mib = spec
        .vms
        .iter()
        .try_fold(0_u64, |sum, vm| sum.checked_add(vm.memory_mib));
    let placement = Placement::new(guest_mib.context("too much memory")?, &sizes)?;

    let dump = directory.file("machine.dtb");
    dump_tree(spec, placement.ram_mib, &dump)?;
    let mut places = placement.addresses.iter().copied().zip(sizes);
    let host_disks = disks::of_machine(&spec.vms);
    let domains = spec
        .vms
        .iter()
        .map(|vm| domains::describe(vm, &host_disks, &mut places))
        .collect::<Result<Vec<_>>>()?;
    let tree = directory.file("hypervisor.dtb");
    fs::write(&tree, domains::add(&fs::read(&dump)?, spec, &domains)?)?;

    let modules = files
        .into_iter()
        .zip(placement.addresses)
        .map(|(file, address)| Loaded { file, address })
        .collect();
    Ok((
        placement.ram_mib,
        Payload::Hypervisor {
            image,
            tree,
            modules,
        },
        elf,
    ))
}

/// Prepares one guest for QEMU's own loader.
fn bare(spec: &MachineSpec, directory: &RunDirectory) -> Result<(u64, Payload, PathBuf)> {
    let [vm] = spec.vms.as_slice() else {
        bail!("without the hypervisor there is exactly one guest");
    };
    let payload = Payload::Bare {
        boot: vm.boot.clone(),
        initrd: initrd_file(vm, 0, directory)?,
        bootargs: vm.bootargs.clone(),
    };
    Ok((vm.memory_mib, payload, vm.boot.file().clone()))
}

/// Returns the file that holds the guest's RAM disk, writing it if it was
/// built for this run.
fn initrd_file(vm: &VmSpec, index: usize, directory: &RunDirectory) -> Result<Option<PathBuf>> {
    Ok(match &vm.initrd {
        None => None,
        Some(Initrd::File(file)) => Some(file.clone()),
        Some(Initrd::Built { archive, .. }) => {
            let file = directory.file(&format!("initramfs{index}.cpio"));
            fs::write(&file, archive)
                .with_context(|| format!("cannot write {}", file.display()))?;
            Some(file)
        }
    })
}

/// Has QEMU write the device tree of the machine to `file`.
fn dump_tree(spec: &MachineSpec, ram_mib: u64, file: &Path) -> Result<()> {
    let output = Command::new(QEMU)
        .args(qemu::dump_tree_arguments(spec, ram_mib, file))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {QEMU}"))?;
    if !output.status.success() || !file.is_file() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("QEMU cannot make this machine: {}", complaint.trim_end());
    }
    Ok(())
}

/// A directory for the files of one run.
struct RunDirectory(PathBuf);

impl RunDirectory {
    fn create(runs: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = runs.join(format!("{}-{count}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        // What stays behind is small and lies in `target`.
        let _ = fs::remove_dir_all(&self.0);
    }
}
