//! A cable for a network card.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use vm_contract::AccessError;

use crate::net::{Checksum, NetBackend, ReceivedFrame, Take, TransmitFrame};

/// A frame on a [`FakeCable`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FakeFrame {
    /// The frame from its destination address on.
    pub bytes: Vec<u8>,
    /// What is said of its checksum.
    pub checksum: Checksum,
    /// Where the first of its two pieces ends, if both are to have bytes.
    pub cut: usize,
}

impl ReceivedFrame for FakeFrame {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn checksum(&self) -> Checksum {
        self.checksum
    }

    fn pieces(&self, take: Take<'_>) -> Result<(), AccessError> {
        let cut = self.cut.min(self.bytes.len());
        let (first, second) = self.bytes.split_at(cut);
        take(first)?;
        take(second)
    }
}

/// A cable whose other end is in the test's hand.
#[derive(Debug, Default)]
pub struct FakeCable {
    /// What the card has sent.
    pub sent: Vec<FakeFrame>,
    /// What it is to receive.
    pub coming: VecDeque<FakeFrame>,
}

impl NetBackend for FakeCable {
    type Received = FakeFrame;

    fn transmit(&mut self, frame: &TransmitFrame<'_>) -> Result<(), AccessError> {
        let data = frame.data();
        let mut bytes = vec![0; usize::try_from(data.len()).unwrap_or(0)];
        data.read_at(0, &mut bytes)?;
        self.sent.push(FakeFrame {
            bytes,
            checksum: frame.checksum(),
            cut: 0,
        });
        Ok(())
    }

    fn receive(&mut self) -> Option<FakeFrame> {
        self.coming.pop_front()
    }
}
