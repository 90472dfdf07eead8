//! What is booted, and on what.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

use crate::guest::Guests;
use crate::guest::initramfs::Purpose;
use crate::run::Prepared;
use crate::run::repeatable::BOOTARGS;
use crate::run::session::{Outcome, Session, Step};
use crate::run::spec::{GuestLinux, MachineSpec, Mode, VmSpec};
use crate::workspace::Workspace;

/// A machine for the same Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Setup {
    /// Whether the hypervisor runs it.
    pub(super) hypervisor: bool,
    /// How many CPUs Linux has.
    pub(super) vcpus: u32,
    /// How many CPUs the machine has.
    pub(super) pcpus: u32,
}

/// All of them, each after its yardstick.
pub(super) const SETUPS: [Setup; 5] = [
    Setup::bare(1),
    Setup::on_hypervisor(1, 1),
    Setup::bare(4),
    Setup::on_hypervisor(4, 4),
    Setup::on_hypervisor(4, 1),
];

impl Setup {
    pub(super) const fn bare(cpus: u32) -> Self {
        Self {
            hypervisor: false,
            vcpus: cpus,
            pcpus: cpus,
        }
    }

    pub(super) const fn on_hypervisor(vcpus: u32, pcpus: u32) -> Self {
        Self {
            hypervisor: true,
            vcpus,
            pcpus,
        }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vcpus, pcpus, .. } = self;
        if self.hypervisor {
            f.pad(&format!("{vcpus} on {pcpus}"))
        } else {
            f.pad(&format!("bare, {pcpus}"))
        }
    }
}

/// What Linux says in its shell. It is said by the command, never by the kernel,
/// which shows its command line.
const AT_SHELL: &str = "at the shell";

/// How long a boot may take before it is a failure.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Prepares and runs boots.
pub(super) struct Bench<'a> {
    workspace: &'a Workspace,
    guests: Guests,
    kernel: PathBuf,
}

impl<'a> Bench<'a> {
    /// Fetches what is booted.
    pub(super) fn new(workspace: &'a Workspace) -> Result<Self> {
        let guests = Guests::new(workspace);
        let kernel = guests.linux()?;
        Ok(Self {
            workspace,
            guests,
            kernel,
        })
    }

    /// Returns the kernel's name.
    pub(super) fn kernel(&self) -> String {
        let name = self.kernel.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Returns the machine of a setup.
    pub(super) fn machine(&self, setup: Setup) -> Result<MachineSpec> {
        let mut machine = MachineSpec::of(setup.pcpus, vec![self.linux(setup.vcpus)?]);
        if !setup.hypervisor {
            machine.mode = Mode::Bare;
        }
        Ok(machine)
    }

    fn linux(&self, vcpus: u32) -> Result<VmSpec> {
        let purpose = Purpose::Run {
            command: format!("landmark && echo '{AT_SHELL}'"),
        };
        let kernel = self.kernel.clone();
        let mut vm = GuestLinux { kernel, purpose }.vm(&self.guests)?;
        vm.append(BOOTARGS);
        vm.vcpus = vcpus;
        Ok(vm)
    }

    /// Runs a machine to its end. Returns what is left of it, and how long
    /// Linux took to its shell.
    pub(super) fn boot(&self, machine: &MachineSpec) -> Result<(Session, Duration)> {
        let prepared = Prepared::new(self.workspace, machine, "bench-boot.log")?;
        let start = Instant::now();
        let mut session = Session::start(prepared, Some(TIMEOUT))?;
        session.heed_kernel_panics();
        let (mut printed, mut at_shell) = (Vec::new(), None);
        loop {
            match session.next()? {
                Step::Console(bytes) => {
                    printed.extend(bytes);
                    if at_shell.is_none() && says(&printed, AT_SHELL) {
                        at_shell = Some(start.elapsed());
                    }
                }
                Step::Ended(Outcome::PoweredOff) => break,
                Step::Ended(Outcome::Interrupted(signal)) => {
                    eprintln!("stopped by signal {signal}");
                    std::process::exit(128 + signal);
                }
                Step::Ended(outcome) => {
                    let tail = session.last_words();
                    bail!("Linux was to power off, but {outcome}; the console:\n{tail}");
                }
            }
        }
        match at_shell {
            Some(time) => Ok((session, time)),
            None => {
                let tail = session.last_words();
                bail!("Linux powered off before it came to its shell; the console:\n{tail}")
            }
        }
    }
}

fn says(printed: &[u8], text: &str) -> bool {
    printed
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
