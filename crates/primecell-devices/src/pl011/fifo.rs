//! A FIFO of characters, as deep as the UART's at most.

use heapless::Deque;

/// Characters in the order of their arrival. How many fit is the UART's
/// business, which has a FIFO of one character as well.
#[derive(Debug, Default)]
pub(super) struct Fifo(Deque<u8, { Fifo::DEPTH }>);

impl Fifo {
    /// The depth of the FIFOs of revision r1p5.
    pub(super) const DEPTH: usize = 32;

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends a character. The caller has checked that there is room.
    pub(super) fn push(&mut self, byte: u8) {
        let room = self.0.push_back(byte);
        debug_assert!(room.is_ok(), "the caller checks for room");
    }

    /// Takes out the oldest character.
    pub(super) fn pop(&mut self) -> Option<u8> {
        self.0.pop_front()
    }

    /// Returns the oldest characters, as many as lie together: at least one
    /// unless there are none.
    pub(super) fn contiguous(&self) -> &[u8] {
        self.0.as_slices().0
    }

    /// Drops the `count` oldest characters.
    pub(super) fn discard(&mut self, count: usize) {
        for _ in 0..count {
            self.0.pop_front();
        }
    }
}
