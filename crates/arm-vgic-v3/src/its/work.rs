//! The command queue, and work that takes more than one step.

use vm_contract::{IntId, VcpuId};

use super::command::{COMMAND_BYTES, Command};
use super::lpi_tables::guest_address;
use super::table::ATTRIBUTES;
use super::{CommandError, Its, ItsContext, PropertyTable, TableRequest};

/// GITS_CBASER, GITS_CWRITER and GITS_CREADR.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    pub(super) base: u64,
    pub(super) writer: u64,
    pub(super) reader: u64,
}

impl Queue {
    const VALID: u64 = 1 << 63;
    const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;
    const SIZE: u64 = 0xFF;
    const OFFSET: u64 = 0xF_FFE0;

    /// No queue.
    pub(super) const NONE: Self = Self {
        base: ATTRIBUTES,
        writer: 0,
        reader: 0,
    };

    /// Writes GITS_CBASER. Reading starts over.
    pub(super) fn set_base(&mut self, value: u64) {
        self.base = ATTRIBUTES | value & (Self::VALID | Self::ADDRESS | Self::SIZE);
        self.reader = 0;
    }

    /// Writes GITS_CWRITER. Its bit Retry has nothing to say: nothing stalls.
    pub(super) fn set_writer(&mut self, value: u64) {
        self.writer = value & Self::OFFSET;
    }

    fn bytes(&self) -> u64 {
        ((self.base & Self::SIZE) + 1) * 0x1000
    }

    /// Tells whether there are commands to read.
    fn has_command(&self) -> bool {
        self.base & Self::VALID != 0 && self.writer < self.bytes() && self.reader != self.writer
    }

    fn command_address(&self) -> u64 {
        (self.base & Self::ADDRESS) + self.reader
    }

    /// Goes on to the next command.
    fn advance(&mut self) {
        let next = self.reader + COMMAND_BYTES;
        self.reader = if next < self.bytes() { next } else { 0 };
    }
}

/// What is done for all LPIs, one word of 32 after the other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sweep {
    /// Reads their properties.
    Configure(PropertyTable),
    /// Moves those that are pending.
    Move { from: VcpuId, to: VcpuId },
    /// Does what a redistributor asked for.
    Serve(TableRequest),
}

/// A sweep that has come to the LPI with this index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    sweep: Sweep,
    next: u32,
}

impl Job {
    /// Returns the job of a command, which is done when the job is.
    pub(super) const fn of_command(sweep: Sweep) -> Self {
        Self { sweep, next: 0 }
    }

    /// Does one word. Returns the rest of the job.
    fn step(mut self, context: &mut ItsContext<'_>) -> Option<Self> {
        let count = context.redistributors.lpi_count();
        if self.next < count
            && let Some(first) = IntId::new(IntId::LPI_BASE + self.next)
        {
            self.sweep.word(first, context);
            self.next += 32;
        }
        if self.next < count {
            return Some(self);
        }
        if let Sweep::Serve(TableRequest::Load { vcpu, .. } | TableRequest::Store { vcpu, .. }) =
            self.sweep
        {
            context.redistributors.request_done(vcpu);
        }
        None
    }
}

impl Sweep {
    /// Does it for the 32 LPIs from `first`.
    fn word(&self, first: IntId, context: &mut ItsContext<'_>) {
        let (memory, redistributors) = (context.memory, &mut *context.redistributors);
        let mut configure = |table: PropertyTable| {
            let mut properties = [0; 32];
            table.read(memory, first, &mut properties);
            redistributors.configure(first, &properties);
        };
        match *self {
            Self::Configure(table) => configure(table),
            Self::Move { from, to } => redistributors.move_pending(first, u32::MAX, from, to),
            Self::Serve(TableRequest::Load {
                vcpu,
                properties,
                pending,
            }) => {
                configure(properties);
                if let Some(pending) = pending {
                    let mask = pending.read(memory, first);
                    redistributors.load_pending(vcpu, first, mask);
                }
            }
            Self::Serve(TableRequest::Store { vcpu, pending }) => {
                let mask = redistributors.unload_pending(vcpu, first);
                pending.write(memory, first, mask);
            }
        }
    }
}

impl Its {
    /// Does up to `steps` steps of what is to be done: requests of the
    /// redistributors and commands.
    pub fn run(&mut self, context: &mut ItsContext<'_>, steps: u32) {
        for _ in 0..steps {
            if !self.step(context) {
                break;
            }
        }
    }

    /// Tells whether [`run`](Self::run) would do something, apart from requests
    /// of the redistributors that it has not seen yet.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.job.is_some() || self.enabled && self.queue.has_command()
    }

    /// Tells whether nothing that was begun is unfinished: GITS_CTLR.Quiescent.
    pub(super) fn is_quiescent(&self) -> bool {
        !self.enabled && !self.in_command()
    }

    /// Tells whether a command is half done.
    fn in_command(&self) -> bool {
        self.job
            .is_some_and(|job| !matches!(job.sweep, Sweep::Serve(_)))
    }

    /// Does one step: a command, or a word of what takes longer, which begins with
    /// its first word. Tells whether there was anything to do.
    fn step(&mut self, context: &mut ItsContext<'_>) -> bool {
        if self.job.is_none() && !self.begin(context) {
            return false;
        }
        if let Some(job) = self.job {
            let in_command = self.in_command();
            self.job = job.step(context);
            if in_command && self.job.is_none() {
                self.queue.advance();
            }
        }
        true
    }

    /// Does the next command, or finds the next job. Tells whether there was either.
    fn begin(&mut self, context: &mut ItsContext<'_>) -> bool {
        if let Some(request) = context.redistributors.table_request() {
            self.job = Some(Job {
                sweep: Sweep::Serve(request),
                next: 0,
            });
            return true;
        }
        if !self.enabled || !self.queue.has_command() {
            return false;
        }
        match self.next_command(context) {
            Ok(Some(job)) => self.job = Some(job),
            Ok(None) => self.queue.advance(),
            Err(error) => {
                self.rejected = self.rejected.saturating_add(1);
                self.last_error = Some(error);
                self.queue.advance();
            }
        }
        true
    }

    /// Reads the next command and does it, or returns what it takes.
    fn next_command(&mut self, context: &mut ItsContext<'_>) -> Result<Option<Job>, CommandError> {
        let mut bytes = [0; 32];
        context
            .memory
            .read(guest_address(self.queue.command_address()), &mut bytes)
            .map_err(|_| CommandError::Unreachable)?;
        self.execute(Command::decode(&bytes)?, context)
    }
}
