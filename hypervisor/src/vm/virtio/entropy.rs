//! Entropy for a VM, from the machine and from nowhere else.

use virtio_devices::{EntropySource, Rng};

/// Fills a buffer from its start with bytes that nobody can predict, and returns how many
/// those are.
pub type FillEntropy = fn(&mut [u8]) -> usize;

/// The machine's source of entropy.
pub(super) struct HostEntropy {
    fill: FillEntropy,
}

impl HostEntropy {
    /// Makes the virtio device that hands it out.
    pub(super) fn device(fill: FillEntropy) -> Rng<Self> {
        Rng::new(Self { fill })
    }
}

impl EntropySource for HostEntropy {
    fn fill(&mut self, bytes: &mut [u8]) -> usize {
        (self.fill)(bytes)
    }
}
