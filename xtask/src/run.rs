//! `cargo xtask qemu`: runs guests on the hypervisor in QEMU.

pub(crate) mod console;
pub(crate) mod dialogue;
pub(crate) mod disks;
mod domains;
pub(crate) mod exec;
pub(crate) mod instructions;
mod log;
pub(crate) mod modes;
pub(crate) mod monitor;
mod placement;
mod prepare;
mod qemu;
mod qmp;
pub(crate) mod repeatable;
pub(crate) mod session;
pub(crate) mod spec;
mod terminal;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cli::QemuOptions;
use crate::guest::Guests;
use crate::telemetry::chrome;
use crate::telemetry::tracer::Trace;
use crate::workspace::Workspace;
use exec::Execution;
use instructions::Counting;
use session::{Outcome, Session};
use spec::VmSpec;

pub(crate) use prepare::{Prepared, problem};

/// The log's name in `target/run`.
const CONSOLE_LOG: &str = "console.log";
/// What `timeout(1)` returns as well.
const TIMED_OUT: u8 = 124;
/// With a command of the guest, failures of this side stay apart from the
/// command's own statuses.
const EXEC_FAILED: u8 = 125;

/// Runs the guest that the options describe, with its console on this
/// terminal.
pub(crate) fn qemu_command(workspace: &Workspace, options: QemuOptions) -> Result<ExitCode> {
    let failure = if options.exec.is_some() {
        EXEC_FAILED
    } else {
        1
    };
    let status = run(workspace, options, failure).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        failure
    });
    Ok(ExitCode::from(status))
}

/// Returns the exit status, which is `failure` if the machine failed.
fn run(workspace: &Workspace, options: QemuOptions, failure: u8) -> Result<u8> {
    let timeout = options.timeout.map(Duration::from_secs);
    let verbose = options.verbose;
    let functions = options.count_instructions.unwrap_or(0);
    let trace = options.trace.clone();
    let execution = options.exec.as_deref().map(|_| Execution::new());
    let spec = modes::machine(&Guests::new(workspace), options, execution.as_ref())?;
    // Input that is no terminal waits for the shell, or the kernel drops it.
    // What is typed goes to the first virtual machine.
    let awaits_prompt = spec.vms.first().is_some_and(VmSpec::offers_shell);
    let prepared = Prepared::new(workspace, &spec, CONSOLE_LOG)?;
    if spec.gdb {
        let symbols = prepared.symbols().display();
        let attach = format!("gdb-multiarch {symbols} -ex 'target remote :1234'");
        eprintln!("xtask: waiting for a debugger: {attach}");
    }
    let mut session = Session::start(prepared, timeout)?;
    let (outcome, status, shown) = match execution {
        Some(execution) => {
            let (outcome, status) = execution.run(&mut session, verbose)?;
            (outcome, status, verbose)
        }
        None => (
            console::interact(&mut session, awaits_prompt)?,
            Some(0),
            true,
        ),
    };
    if let Some(counting) = session.counting() {
        report(counting, functions)?;
    }
    let traced = trace.zip(session.take_trace());
    let written = traced.map_or(Ok(()), |(file, trace)| write_trace(&trace?, &file));
    let problem = match (&outcome, status) {
        (Outcome::PoweredOff, Some(status)) => return written.map(|()| status),
        (Outcome::Left, _) => return written.map(|()| 0),
        (Outcome::PoweredOff, None) => "the guest powered off before the command ended".to_owned(),
        (outcome, _) => outcome.to_string(),
    };
    if !shown {
        eprintln!("{}", session.last_words());
    } else if !session.complaints().is_empty() {
        eprintln!("{}", session.complaints());
    }
    // Why the run failed matters more.
    if let Err(error) = written {
        eprintln!("xtask: {error:#}");
    }
    eprintln!(
        "error: {problem}; the whole console is in {}",
        session.log_path().display()
    );
    Ok(if outcome == Outcome::TimedOut {
        TIMED_OUT
    } else {
        failure
    })
}

/// Writes what was traced, and tells what is missing of it.
fn write_trace(trace: &Trace, path: &Path) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        chrome::write(trace, &mut file)?;
        file.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    let (events, lost) = (trace.events.len(), trace.lost.iter().sum::<u64>());
    eprintln!("xtask: {events} events are in {}", path.display());
    if lost > 0 {
        eprintln!("xtask: {lost} events came too fast and are lost");
    }
    Ok(())
}

/// Tells how many instructions were the hypervisor's, and which of its
/// functions executed most of them.
fn report(counting: &Counting, functions: usize) -> Result<()> {
    eprintln!("xtask: {}", counting.counts()?);
    if functions > 0 {
        for (name, count) in counting.functions()?.iter().take(functions) {
            eprintln!("{count:>15}  {name}");
        }
    }
    Ok(())
}
