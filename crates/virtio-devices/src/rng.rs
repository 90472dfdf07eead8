//! The entropy device (VirtIO 1.2, 5.4).

use crate::{Chain, DeviceId, DriverFault, Queues, VirtioDevice, Work};

/// The one queue.
const REQUESTS: u16 = 0;
const QUEUE_SIZE: u16 = 64;
/// How much one request gets at most; a driver asks again.
const MOST_BYTES: u64 = 1024;

/// Where random bytes come from.
pub trait EntropySource: Send {
    /// Fills `bytes` from the start with bytes that nobody can predict, and
    /// returns how many. Fewer than asked means that there are no more now:
    /// bytes after them are not used.
    fn fill(&mut self, bytes: &mut [u8]) -> usize;
}

/// A source of entropy for a guest.
///
/// A request gets up to 1 KiB, and waits while the source has nothing at all:
/// then [`VirtioMmio::poll`](crate::VirtioMmio::poll) is to be called once it has.
#[derive(Debug)]
pub struct Rng<S> {
    source: S,
    chain: Chain,
}

impl<S: EntropySource> Rng<S> {
    /// Makes a device that hands out the bytes of `source`. Allocates.
    #[must_use]
    pub fn new(source: S) -> Self {
        Self {
            source,
            chain: Chain::with_limit(QUEUE_SIZE),
        }
    }

    /// Returns the source.
    pub const fn source_mut(&mut self) -> &mut S {
        &mut self.source
    }

    /// Answers the request in `chain`, and returns how many bytes it got.
    fn answer(&mut self, queues: &Queues<'_>) -> Result<u32, DriverFault> {
        let target = self.chain.writable(queues.memory());
        if target.is_empty() {
            return Err(DriverFault::Request);
        }
        let written = target.fill(MOST_BYTES, |bytes| self.source.fill(bytes))?;
        Ok(u32::try_from(written).unwrap_or(u32::MAX))
    }
}

impl<S: EntropySource> VirtioDevice for Rng<S> {
    fn device_id(&self) -> DeviceId {
        DeviceId::Entropy
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn start(&mut self, _features: u64) {}

    fn process(&mut self, _queue: u16, queues: &mut Queues<'_>) -> Result<Work, DriverFault> {
        while queues.pop(REQUESTS, &mut self.chain)? {
            let written = self.answer(queues)?;
            if written == 0 {
                queues.unpop(REQUESTS);
                break;
            }
            queues.push(REQUESTS, self.chain.head(), written)?;
        }
        Ok(Work::Done)
    }

    fn reset_queue(&mut self, _queue: u16) {}

    fn reset(&mut self) {}
}
