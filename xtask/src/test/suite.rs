//! What a test in QEMU is, and the runner.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::Tally;
use super::dialogue::{Dialogue, interrupted};
use crate::cli::{Cli, Command};
use crate::guest::Guests;
use crate::guest::initramfs::Purpose;
use crate::run::Prepared;
use crate::run::exec::Execution;
use crate::run::modes;
use crate::run::session::{Outcome, Session};
use crate::run::spec::{GuestLinux, MachineSpec, Mode, VmSpec};
use crate::workspace::Workspace;

/// What most tests may take. It only bounds a failure: tests wait for what
/// the guest says, never for time.
const TIMEOUT: Duration = Duration::from_secs(180);

/// What tests need to run a guest.
pub(super) struct Context<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) guests: Guests,
    pub(super) mode: Mode,
}

/// What a test does.
type Body = dyn Fn(&Run<'_>) -> Result<Verdict>;

/// One test.
pub(super) struct Test {
    pub(super) name: String,
    run: Box<Body>,
    timeout: Duration,
}

/// How a test that did not fail ended.
pub(super) enum Verdict {
    Passed,
    /// It cannot run here, for this reason.
    Skipped(String),
}

/// One execution of a test.
pub(super) struct Run<'a> {
    pub(super) context: &'a Context<'a>,
    name: &'a str,
    timeout: Duration,
}

impl Test {
    /// Names a test.
    pub(super) fn new(
        name: impl Into<String>,
        run: impl Fn(&Run<'_>) -> Result<Verdict> + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            run: Box::new(run),
            timeout: TIMEOUT,
        }
    }

    /// Names a test that means nothing without the hypervisor.
    pub(super) fn on_hypervisor(name: &str, body: fn(&Run<'_>) -> Result<()>) -> Self {
        Self::new(name, move |run| match run.context.mode {
            Mode::Bare => Ok(Verdict::Skipped("it is about the hypervisor".into())),
            Mode::Hypervisor => body(run).map(|()| Verdict::Passed),
        })
    }

    /// Allows the test more time.
    pub(super) fn within_minutes(self, minutes: u64) -> Self {
        Self {
            timeout: Duration::from_secs(60 * minutes),
            ..self
        }
    }
}

impl<'a> Context<'a> {
    /// Tells whether guests run directly on QEMU, without the hypervisor.
    pub(super) fn is_bare(&self) -> bool {
        self.mode == Mode::Bare
    }

    pub(super) fn new(workspace: &'a Workspace, mode: Mode) -> Self {
        Self {
            workspace,
            guests: Guests::new(workspace),
            mode,
        }
    }
}

impl Run<'_> {
    /// Starts a machine whose console is talked to.
    pub(super) fn talk(
        &self,
        vm: VmSpec,
        shape: impl FnOnce(&mut MachineSpec),
    ) -> Result<Dialogue> {
        Ok(Dialogue::new(self.start(vm, shape)?))
    }

    /// Starts Linux with a shell.
    pub(super) fn talk_to_shell(&self, shape: impl FnOnce(&mut MachineSpec)) -> Result<Dialogue> {
        let vm = self.linux(Purpose::Shell {
            rows: 24,
            columns: 1000,
        })?;
        self.talk(vm, shape)
    }

    /// Runs a command in Linux on this machine and returns what it prints and
    /// its status.
    pub(super) fn exec(
        &self,
        command: &str,
        shape: impl FnOnce(&mut MachineSpec),
    ) -> Result<(String, u8)> {
        let execution = Execution::new();
        let mark = execution.mark().to_owned();
        let vm = self.linux(Purpose::Exec {
            command: command.to_owned(),
            mark,
        })?;
        finish(execution, self.start(vm, shape)?)
    }

    /// Runs a command in Linux as `cargo xtask qemu` does with these flags and
    /// `--exec`, and returns what it prints and its status.
    pub(super) fn exec_by_flags(&self, flags: &[&str], command: &str) -> Result<(String, u8)> {
        let execution = Execution::new();
        let flags = [flags, &["--exec", command]].concat();
        let machine = self.machine(&flags, Some(&execution))?;
        finish(execution, self.start_machine(&machine)?)
    }

    /// Starts a machine whose console is talked to.
    pub(super) fn talk_on(&self, machine: &MachineSpec) -> Result<Dialogue> {
        Ok(Dialogue::new(self.start_machine(machine)?))
    }

    /// Returns the machine that `cargo xtask qemu` runs with these flags.
    pub(super) fn machine(
        &self,
        flags: &[&str],
        execution: Option<&Execution>,
    ) -> Result<MachineSpec> {
        let words = ["cargo xtask", "qemu"].iter().chain(flags);
        match Cli::read(words)?.command {
            Command::Qemu(options) => modes::machine(&self.context.guests, *options, execution),
            command => bail!("these flags are not for QEMU: {command:?}"),
        }
    }

    /// Runs a command that must succeed and returns what it prints.
    pub(super) fn output(
        &self,
        command: &str,
        shape: impl FnOnce(&mut MachineSpec),
    ) -> Result<String> {
        let (output, status) = self.exec(command, shape)?;
        ensure!(
            status == 0,
            "the command's status is {status}; it printed:\n{output}"
        );
        Ok(output)
    }

    /// Returns a directory for files that a test makes.
    pub(super) fn directory(&self) -> Result<PathBuf> {
        let directory = self.context.workspace.target().join("run/tests");
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }

    /// Returns a virtual machine with Linux.
    pub(super) fn linux(&self, purpose: Purpose) -> Result<VmSpec> {
        let guests = &self.context.guests;
        GuestLinux {
            kernel: guests.linux()?,
            purpose,
        }
        .vm(guests)
    }

    fn start(&self, vm: VmSpec, shape: impl FnOnce(&mut MachineSpec)) -> Result<Session> {
        let mut spec = MachineSpec::new(vm);
        spec.mode = self.context.mode;
        shape(&mut spec);
        for vm in &mut spec.vms {
            vm.add_drivers(&self.context.guests)?;
        }
        self.start_machine(&spec)
    }

    fn start_machine(&self, spec: &MachineSpec) -> Result<Session> {
        let log = format!("test-{}.log", self.name);
        let prepared = Prepared::new(self.context.workspace, spec, &log)?;
        Session::start(prepared, Some(self.timeout))
    }
}

/// Lets a command in Linux come to its end, and returns what it prints and its
/// status.
fn finish(execution: Execution, mut session: Session) -> Result<(String, u8)> {
    let mut output = Vec::new();
    let (outcome, status) = execution.run_into(&mut session, |_, bytes| {
        output.extend_from_slice(bytes);
        Ok(())
    })?;
    match (outcome, status) {
        (Outcome::PoweredOff, Some(status)) => {
            Ok((String::from_utf8_lossy(&output).into_owned(), status))
        }
        (Outcome::Interrupted(signal), _) => interrupted(signal),
        (outcome, status) => {
            bail!(
                "{outcome}; status {status:?}; the console:\n{}",
                session.last_words()
            )
        }
    }
}

/// Runs the tests one after the other and reports each.
pub(super) fn run(context: &Context<'_>, tests: &[Test]) -> Result<Tally> {
    let mut tally = Tally::default();
    let logs = context.workspace.target().join("run");
    fs::create_dir_all(&logs)?;
    println!(
        "\nrunning {} tests in QEMU; their consoles are in {}",
        tests.len(),
        logs.display()
    );
    for test in tests {
        let start = Instant::now();
        let run = Run {
            context,
            name: &test.name,
            timeout: test.timeout,
        };
        let verdict = (test.run)(&run);
        let seconds = start.elapsed().as_secs_f64();
        let name = &test.name;
        match verdict {
            Ok(Verdict::Passed) => {
                tally.passed += 1;
                println!("test {name} ... ok ({seconds:.1} s)");
            }
            Ok(Verdict::Skipped(reason)) => println!("test {name} ... skipped: {reason}"),
            Err(error) => {
                tally.failed += 1;
                println!("test {name} ... FAILED ({seconds:.1} s)\n{error:#}\n");
            }
        }
    }
    Ok(tally)
}
