//! Collects the events of a machine while it runs.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::event::Event;
use super::machine::Machine;
use super::memory::QemuMemory;
use super::qmp::{Client, News};
use super::ring::Ring;

/// How often the rings are read.
const INTERVAL: Duration = Duration::from_millis(100);

/// Everything that was traced.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) machine: Machine,
    pub(crate) events: Vec<Event>,
    /// How many events of each CPU were overwritten before they were read.
    pub(crate) lost: Vec<u64>,
}

/// Reads the rings in a thread of its own, until the machine stops.
pub(crate) struct Tracer(JoinHandle<Result<Trace>>);

impl Tracer {
    /// Begins to read. The machine's control channel is at the other end of `stream`;
    /// the hypervisor's header is announced at `anchor`; `file` is for what is read.
    pub(crate) fn start(stream: UnixStream, anchor: u64, file: PathBuf) -> Self {
        Self(thread::spawn(move || {
            let mut memory = QemuMemory::new(Client::new(stream)?, file);
            collect(&mut memory, anchor)
        }))
    }

    /// Waits until the machine has stopped, and returns what was read.
    pub(crate) fn finish(self) -> Result<Trace> {
        let trace = self.0.join().map_err(|_| anyhow!("the reader panicked"))?;
        trace.context("cannot read the trace")
    }
}

fn collect(memory: &mut QemuMemory, anchor: u64) -> Result<Trace> {
    let mut machine = None;
    let mut rings = Vec::new();
    let mut events = Vec::new();
    loop {
        let news = memory.wait(INTERVAL);
        if news == News::Gone {
            break;
        }
        let round = read(memory, anchor, &mut machine, &mut rings, &mut events);
        match news {
            // Its machine does not run any more, but its memory is there.
            News::Stopped => {
                round?;
                memory.quit()?;
                break;
            }
            // It may have been killed in the midst of that; the next look tells.
            _ if round.is_err() && memory.wait(INTERVAL) == News::Gone => break,
            _ => round?,
        }
    }
    let machine = machine.context("the machine ended before the hypervisor had started")?;
    Ok(Trace {
        machine,
        events,
        lost: rings.iter().map(Ring::lost).collect(),
    })
}

/// Reads what is new.
fn read(
    memory: &mut QemuMemory,
    anchor: u64,
    machine: &mut Option<Machine>,
    rings: &mut Vec<Ring>,
    events: &mut Vec<Event>,
) -> Result<()> {
    if machine.is_none() {
        *machine = Machine::find(memory, anchor)?;
    }
    let Some(machine) = machine else {
        return Ok(());
    };
    if rings.is_empty() {
        rings.extend(machine.rings(memory)?.into_iter().map(Ring::new));
    }
    for (cpu, ring) in (0..).zip(rings) {
        let words = ring.drain(memory)?;
        events.extend(
            words
                .into_iter()
                .filter_map(|words| Event::parse(cpu, words)),
        );
    }
    Ok(())
}
