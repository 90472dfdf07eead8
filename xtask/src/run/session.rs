//! One run of QEMU: its console, its control channel and how it ends.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use super::instructions::Counting;
use super::log::Log;
use super::prepare::Prepared;
use super::qmp::{self, Report};
use crate::telemetry::tracer::{Trace, Tracer};
use crate::toolchain::QEMU;

/// How long QEMU may take to leave after the machine has stopped.
const LEAVING: Duration = Duration::from_secs(10);

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every guest powered off.
    PoweredOff,
    /// The hypervisor reset the machine: a panic or a VM's fault.
    HypervisorFailed,
    /// The guest's Linux kernel panicked.
    KernelPanicked,
    /// QEMU stopped for another reason.
    Died(String),
    /// The time was up.
    TimedOut,
    /// The user left with the escape.
    Left,
    /// A signal asked this program to stop.
    Interrupted(i32),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoweredOff => write!(f, "the guest powered off"),
            Self::HypervisorFailed => {
                write!(
                    f,
                    "the hypervisor reported a failure and stopped the machine"
                )
            }
            Self::KernelPanicked => write!(f, "the guest's Linux kernel panicked"),
            Self::Died(reason) => write!(f, "QEMU stopped: {reason}"),
            Self::TimedOut => write!(f, "the time is up"),
            Self::Left => write!(f, "the user left"),
            Self::Interrupted(signal) => write!(f, "stopped by signal {signal}"),
        }
    }
}

/// What happens next in a run.
#[derive(Debug)]
pub(crate) enum Step {
    /// The console printed this.
    Console(Vec<u8>),
    /// The run is over; nothing follows.
    Ended(Outcome),
}

enum Event {
    Console(Vec<u8>),
    ConsoleClosed,
    Report(Report),
    ControlClosed,
    Complaint(String),
    Leave,
    Signal(i32),
}

/// Types on the guest's console, from any thread.
#[derive(Clone)]
pub(crate) struct Keyboard {
    keys: Sender<Vec<u8>>,
    events: Sender<Event>,
}

impl Keyboard {
    /// Types these bytes; the guest takes them when it can.
    pub(crate) fn send(&self, bytes: &[u8]) {
        // A guest that is gone types nothing: its end is told elsewhere.
        let _ = self.keys.send(bytes.to_vec());
    }

    /// Ends the run as the user's wish.
    pub(crate) fn leave(&self) {
        let _ = self.events.send(Event::Leave);
    }
}

/// A running QEMU. Dropping it stops the machine.
pub(crate) struct Session {
    child: Child,
    events: Receiver<Event>,
    keyboard: Keyboard,
    signals: Handle,
    log: Log,
    complaints: String,
    deadline: Option<Instant>,
    heeds_panics: bool,
    panicked: bool,
    open_channels: u32,
    stopped: Option<String>,
    tracer: Option<Tracer>,
    /// What QEMU reads lives as long as QEMU does.
    prepared: Prepared,
}

impl Session {
    /// Starts the machine, to be stopped after `timeout`.
    pub(crate) fn start(prepared: Prepared, timeout: Option<Duration>) -> Result<Self> {
        let log = Log::create(prepared.log.clone())?;
        let (control, inherited) = UnixStream::pair().context("cannot make a socket")?;
        fcntl_setfd(&inherited, FdFlags::empty()).context("cannot hand on a socket")?;
        let tracing = prepared.spec.trace.then(UnixStream::pair).transpose();
        let tracing = tracing.context("cannot make a socket")?;
        if let Some((_, inherited)) = &tracing {
            fcntl_setfd(inherited, FdFlags::empty()).context("cannot hand on a socket")?;
        }
        let tracer_fd = tracing.as_ref().map(|(_, inherited)| inherited.as_raw_fd());
        let mut child = Command::new(QEMU)
            .args(prepared.arguments(inherited.as_raw_fd(), tracer_fd))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {QEMU}"))?;
        drop(inherited);
        let tracer = tracing.and_then(|(own, _)| prepared.trace(own));
        // QEMU may have refused its arguments already; its complaint says so.
        let _ = qmp::open(&control, !prepared.spec.gdb);

        let (sender, events) = mpsc::channel();
        let (keys, typed) = mpsc::channel::<Vec<u8>>();
        if let Some(mut stdin) = child.stdin.take() {
            thread::spawn(move || {
                for bytes in typed {
                    if stdin
                        .write_all(&bytes)
                        .and_then(|()| stdin.flush())
                        .is_err()
                    {
                        break;
                    }
                }
            });
        }
        if let Some(stdout) = child.stdout.take() {
            let sender = sender.clone();
            thread::spawn(move || read_console(stdout, &sender));
        }
        if let Some(stderr) = child.stderr.take() {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let _ = sender.send(Event::Complaint(line));
                }
            });
        }
        let reports = sender.clone();
        thread::spawn(move || {
            qmp::listen(control, |report| drop(reports.send(Event::Report(report))));
            let _ = reports.send(Event::ControlClosed);
        });
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let handle = signals.handle();
        let interrupts = sender.clone();
        thread::spawn(move || {
            for signal in signals.forever() {
                let _ = interrupts.send(Event::Signal(signal));
            }
        });
        Ok(Self {
            child,
            events,
            keyboard: Keyboard {
                keys,
                events: sender,
            },
            signals: handle,
            log,
            complaints: String::new(),
            deadline: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            heeds_panics: false,
            panicked: false,
            open_channels: 2,
            stopped: None,
            tracer,
            prepared,
        })
    }

    /// Makes the run end when the guest's Linux kernel panics.
    pub(crate) fn heed_kernel_panics(&mut self) {
        self.heeds_panics = true;
    }

    /// Returns what types on the console.
    pub(crate) fn keyboard(&self) -> &Keyboard {
        &self.keyboard
    }

    /// Returns the last lines of the console and what QEMU itself said.
    pub(crate) fn last_words(&self) -> String {
        format!("{}\n{}", self.log.tail(), self.complaints)
            .trim()
            .to_owned()
    }

    /// Returns what QEMU itself said.
    pub(crate) fn complaints(&self) -> &str {
        self.complaints.trim_end()
    }

    /// Returns where the console is logged.
    pub(crate) fn log_path(&self) -> &Path {
        self.log.path()
    }

    /// Returns what counts the machine's instructions, if they are counted.
    pub(crate) fn counting(&self) -> Option<&Counting> {
        self.prepared.counting()
    }

    /// Returns the directory of the run.
    pub(crate) fn directory(&self) -> &Path {
        self.prepared.directory()
    }

    /// Returns what was traced, once: the run is over.
    pub(crate) fn take_trace(&mut self) -> Option<Result<Trace>> {
        self.tracer.take().map(Tracer::finish)
    }

    /// Waits for what happens next.
    pub(crate) fn next(&mut self) -> Result<Step> {
        loop {
            if self.panicked && self.heeds_panics {
                return Ok(Step::Ended(self.stop(Outcome::KernelPanicked)));
            }
            if self.open_channels == 0 {
                return Ok(Step::Ended(self.ended()?));
            }
            let event = match self.deadline {
                None => self.events.recv().map_err(RecvTimeoutError::from),
                Some(deadline) => self
                    .events
                    .recv_timeout(deadline.saturating_duration_since(Instant::now())),
            };
            match event {
                Ok(Event::Console(bytes)) => {
                    self.panicked |= self.log.add(&bytes)?;
                    return Ok(Step::Console(bytes));
                }
                Ok(Event::ConsoleClosed | Event::ControlClosed) => self.open_channels -= 1,
                Ok(Event::Report(Report::Shutdown(reason))) => {
                    // The first one counts: that QEMU leaves may be told as well.
                    self.stopped.get_or_insert(reason);
                    self.deadline = Instant::now().checked_add(LEAVING);
                }
                Ok(Event::Report(Report::Refused(reason))) => {
                    return Ok(Step::Ended(self.stop(Outcome::Died(reason))));
                }
                Ok(Event::Complaint(line)) => self.complaints.extend([line.as_str(), "\n"]),
                Ok(Event::Leave) => return Ok(Step::Ended(self.stop(Outcome::Left))),
                Ok(Event::Signal(signal)) => {
                    return Ok(Step::Ended(self.stop(Outcome::Interrupted(signal))));
                }
                Err(RecvTimeoutError::Timeout) => {
                    let outcome = match &self.stopped {
                        Some(reason) => judged(reason),
                        None => Outcome::TimedOut,
                    };
                    return Ok(Step::Ended(self.stop(outcome)));
                }
                // Cannot be: this session holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => self.open_channels = 0,
            }
        }
    }

    /// Kills QEMU.
    fn stop(&mut self, outcome: Outcome) -> Outcome {
        // Both fail only if QEMU is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        outcome
    }

    /// Judges how a QEMU that has closed its channels ended.
    fn ended(&mut self) -> Result<Outcome> {
        let status = self.child.wait().context("cannot wait for QEMU")?;
        Ok(match &self.stopped {
            Some(reason) => judged(reason),
            None => {
                // Its last words may still be on their way.
                while let Ok(event) = self.events.recv_timeout(Duration::from_millis(100)) {
                    if let Event::Complaint(line) = event {
                        self.complaints.extend([line.as_str(), "\n"]);
                    }
                }
                Outcome::Died(status.to_string())
            }
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.signals.close();
        self.stop(Outcome::Left);
    }
}

/// Tells what QEMU's reason for a shutdown means. Only QEMU writes it: no
/// text on a guest's console can pass for an outcome.
fn judged(reason: &str) -> Outcome {
    match reason {
        "guest-shutdown" => Outcome::PoweredOff,
        "guest-reset" => Outcome::HypervisorFailed,
        other => Outcome::Died(other.to_owned()),
    }
}

fn read_console(mut stdout: impl Read, sender: &Sender<Event>) {
    let mut buffer = [0; 4096];
    while let Ok(length) = stdout.read(&mut buffer) {
        let bytes = buffer.get(..length).unwrap_or_default();
        if bytes.is_empty() || sender.send(Event::Console(bytes.to_vec())).is_err() {
            break;
        }
    }
    let _ = sender.send(Event::ConsoleClosed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_power_off_is_a_success() {
        assert_eq!(judged("guest-shutdown"), Outcome::PoweredOff);
        assert_eq!(judged("guest-reset"), Outcome::HypervisorFailed);
        assert_eq!(judged("host-signal"), Outcome::Died("host-signal".into()));
    }
}
