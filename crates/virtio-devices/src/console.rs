//! The console (VirtIO 1.2, 5.3): one port.

use crate::{Chain, DeviceId, DriverFault, Queues, VirtioDevice, Work};

/// The queues of the port (5.3.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
const QUEUE_SIZES: [u16; 2] = [64, 64];

/// `VIRTIO_CONSOLE_F_SIZE`: the console has columns and rows.
pub const SIZE: u64 = 1 << 0;
/// `VIRTIO_CONSOLE_F_EMERG_WRITE`: a register takes characters without a queue.
pub const EMERG_WRITE: u64 = 1 << 2;

/// Where that register is (5.3.4).
const EMERGENCY_OFFSET: u64 = 8;

/// How much is copied at once.
const PIECE_BYTES: usize = 256;
/// How much one call moves in each direction; then others have their turn.
const MOST_BYTES: u64 = 64 * 1024;

/// Where a console's output goes and its input comes from. Neither waits.
pub trait ConsoleBackend: Send {
    /// Takes as many of the bytes as there is room for, from the first on, and returns
    /// how many. What is left is offered again by
    /// [`VirtioMmio::poll`](crate::VirtioMmio::poll).
    fn transmit(&mut self, bytes: &[u8]) -> usize;

    /// Writes input to the start of `bytes`, no more than there is room for, and returns
    /// how many bytes that was. Zero means that there is none now; when there is, call
    /// [`VirtioMmio::poll`](crate::VirtioMmio::poll).
    fn receive(&mut self, bytes: &mut [u8]) -> usize;
}

/// A console with one port.
///
/// It keeps no bytes of its own: output waits in the driver's buffers while the backend
/// has no room, and input waits in the backend while the driver has no buffer.
#[derive(Debug)]
pub struct Console<B> {
    backend: B,
    config: [u8; 12],
    input: Chain,
    output: Chain,
    /// How much of `output` the backend has taken, if it is under way.
    sent: Option<u64>,
}

impl<B: ConsoleBackend> Console<B> {
    /// Makes a console of this size in characters. Allocates.
    #[must_use]
    pub fn new(columns: u16, rows: u16, backend: B) -> Self {
        let [a, b] = columns.to_le_bytes();
        let [c, d] = rows.to_le_bytes();
        let [input, output] = QUEUE_SIZES.map(Chain::with_limit);
        Self {
            backend,
            // Columns, rows, number of ports, emergency register (5.3.4).
            config: [a, b, c, d, 1, 0, 0, 0, 0, 0, 0, 0],
            input,
            output,
            sent: None,
        }
    }

    /// Changes the size; within
    /// [`VirtioMmio::change_config`](crate::VirtioMmio::change_config), so that the driver
    /// is told.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        let size = u32::from(columns) | u32::from(rows) << 16;
        if let Some(place) = self.config.first_chunk_mut() {
            *place = size.to_le_bytes();
        }
    }

    /// Returns the backend.
    #[must_use]
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    /// Returns the backend.
    pub const fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Gives the backend what the driver wrote, as far as it has room.
    fn transmit(&mut self, queues: &mut Queues<'_>) -> Result<Work, DriverFault> {
        let mut budget = MOST_BYTES;
        loop {
            let sent = match self.sent {
                Some(sent) => sent,
                None if queues.pop(TRANSMIT, &mut self.output)? => 0,
                None => return Ok(Work::Done),
            };
            self.sent = Some(sent);
            let data = self.output.readable(queues.memory());
            let mut piece = [0; PIECE_BYTES];
            let left = (data.len() - sent).min(PIECE_BYTES as u64);
            let left = usize::try_from(left).unwrap_or(PIECE_BYTES);
            let bytes = piece.get_mut(..left).unwrap_or_default();
            data.read_at(sent, bytes)?;
            let taken = self.backend.transmit(bytes).min(left) as u64;
            self.sent = Some(sent + taken);
            if sent + taken == data.len() {
                self.sent = None;
                queues.push(TRANSMIT, self.output.head(), 0)?;
            } else if taken == 0 {
                return Ok(Work::Done);
            }
            budget = budget.saturating_sub(taken);
            if budget == 0 {
                return Ok(Work::Left);
            }
        }
    }

    /// Gives the driver the backend's input, as far as it has buffers.
    fn receive(&mut self, queues: &mut Queues<'_>) -> Result<Work, DriverFault> {
        let mut budget = MOST_BYTES;
        while budget > 0 {
            if !queues.pop(RECEIVE, &mut self.input)? {
                return Ok(Work::Done);
            }
            let written = self.fill(queues, budget)?;
            if written == 0 {
                queues.unpop(RECEIVE);
                return Ok(Work::Done);
            }
            budget -= written;
            let length = u32::try_from(written).unwrap_or(u32::MAX);
            queues.push(RECEIVE, self.input.head(), length)?;
        }
        Ok(Work::Left)
    }

    /// Writes input to the driver's buffer, and returns how many bytes.
    fn fill(&mut self, queues: &Queues<'_>, most: u64) -> Result<u64, DriverFault> {
        let target = self.input.writable(queues.memory());
        if target.is_empty() {
            return Err(DriverFault::Request);
        }
        Ok(target.fill(most, |bytes| self.backend.receive(bytes))?)
    }
}

impl<B: ConsoleBackend> VirtioDevice for Console<B> {
    fn device_id(&self) -> DeviceId {
        DeviceId::Console
    }

    fn features(&self) -> u64 {
        SIZE | EMERG_WRITE
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn write_config(&mut self, offset: u64, bytes: &[u8]) {
        // The lowest byte is the character, whatever the driver has agreed on: it may
        // write before it has agreed on anything (5.3.5).
        if offset == EMERGENCY_OFFSET
            && let Some(character) = bytes.get(..1)
        {
            // Best effort: nobody waits for room here.
            self.backend.transmit(character);
        }
    }

    fn start(&mut self, _features: u64) {}

    fn process(&mut self, queue: u16, queues: &mut Queues<'_>) -> Result<Work, DriverFault> {
        match queue {
            RECEIVE => self.receive(queues),
            TRANSMIT => self.transmit(queues),
            _ => Ok(Work::Done),
        }
    }

    fn reset_queue(&mut self, queue: u16) {
        if queue == TRANSMIT {
            self.sent = None;
        }
    }

    fn reset(&mut self) {
        self.sent = None;
    }
}
