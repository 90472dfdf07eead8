//! A terminal for a console.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::ConsoleBackend;

/// A terminal that may be full.
#[derive(Debug, Default)]
pub struct FakeTerminal {
    /// What was written to it.
    pub shown: Vec<u8>,
    /// How many more bytes it takes.
    pub room: usize,
    /// What is typed and not yet read.
    pub typed: VecDeque<u8>,
}

impl ConsoleBackend for FakeTerminal {
    fn transmit(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        self.shown.extend(bytes.iter().take(taken));
        taken
    }

    fn receive(&mut self, bytes: &mut [u8]) -> usize {
        let count = bytes.len().min(self.typed.len());
        let typed = self.typed.drain(..count);
        bytes
            .iter_mut()
            .zip(typed)
            .for_each(|(place, byte)| *place = byte);
        count
    }
}
