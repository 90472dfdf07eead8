//! One VM's side of the console: what it has printed and does not have the
//! terminal for, and what was typed and it has not read.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;

/// How much of a VM's output waits for the end of its line.
pub(super) const OUTPUT_BYTES: usize = 512;
/// How much input a VM may leave unread.
pub(super) const INPUT_BYTES: usize = 256;
/// How many characters of a VM's name its tag shows.
const NAME_CHARS: usize = 16;

/// The buffers of a VM. They are allocated once and never grow.
#[derive(Debug)]
pub(super) struct Port {
    name: Arc<str>,
    output: VecDeque<u8>,
    /// Line feeds in `output`.
    line_feeds: usize,
    input: VecDeque<u8>,
    /// Whether somebody may read the input.
    open: bool,
}

impl Port {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.chars().take(NAME_CHARS).collect::<String>().into(),
            output: VecDeque::with_capacity(OUTPUT_BYTES),
            line_feeds: 0,
            input: VecDeque::with_capacity(INPUT_BYTES),
            open: true,
        }
    }

    pub(super) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn has_output_room(&self) -> bool {
        self.output.len() < OUTPUT_BYTES
    }

    /// Adds a byte to the output, for which there is room.
    pub(super) fn print(&mut self, byte: u8) {
        self.output.push_back(byte);
        self.line_feeds += usize::from(byte == b'\n');
    }

    /// Ends the line that has been begun. A full buffer counts as a line anyway.
    pub(super) fn complete_line(&mut self) {
        let begun = self.output.back().is_some_and(|last| *last != b'\n');
        if begun && self.has_output_room() {
            self.print(b'\n');
        }
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Tells whether there is something to show: a whole line, or as much as the
    /// buffer holds.
    pub(super) fn has_line(&self) -> bool {
        self.line_feeds > 0 || !self.has_output_room()
    }

    /// Returns the length of the line to show next, with its line feed.
    pub(super) fn line_len(&self) -> usize {
        let end = self.output.iter().position(|byte| *byte == b'\n');
        end.map_or(self.output.len(), |end| end + 1)
    }

    /// Takes the next line without what ends it.
    pub(super) fn take_line(&mut self) -> impl Iterator<Item = u8> {
        let len = self.line_len();
        let at = |n: Option<usize>| n.and_then(|n| self.output.get(n).copied());
        let ended = at(len.checked_sub(1)) == Some(b'\n');
        let with_return = ended && at(len.checked_sub(2)) == Some(b'\r');
        self.line_feeds -= usize::from(ended);
        let text = len - usize::from(ended) - usize::from(with_return);
        self.output.drain(..len).take(text)
    }

    /// Takes all output, complete or not.
    pub(super) fn take_output(&mut self) -> impl Iterator<Item = u8> {
        self.line_feeds = 0;
        self.output.drain(..)
    }

    /// Tells whether another typed byte would find room.
    pub(super) fn has_input_room(&self) -> bool {
        !self.open || self.input.len() < INPUT_BYTES
    }

    /// Takes a typed byte. What is typed to a VM that is off is forgotten.
    pub(super) fn type_in(&mut self, byte: u8) {
        if self.open {
            self.input.push_back(byte);
        }
    }

    pub(super) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Returns the next typed byte.
    pub(super) fn take_input(&mut self) -> Option<u8> {
        self.input.pop_front()
    }

    /// Records whether the VM is on. One that is off will read no more.
    pub(super) fn set_open(&mut self, open: bool) {
        self.open = open;
        if !open {
            self.input.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(port: &mut Port, text: &str) {
        for byte in text.bytes() {
            port.print(byte);
        }
    }

    fn line(port: &mut Port) -> String {
        port.take_line().map(char::from).collect()
    }

    #[test]
    fn lines_come_out_one_by_one_without_their_ends() {
        let mut port = Port::new("a");
        print(&mut port, "one\r\ntwo\n\r\nrest");
        assert_eq!(line(&mut port), "one");
        assert_eq!(line(&mut port), "two");
        assert_eq!(line(&mut port), "");
        assert!(!port.has_line());
        port.complete_line();
        assert_eq!(line(&mut port), "rest");
        port.complete_line();
        assert!(!port.has_output());
    }

    #[test]
    fn a_full_buffer_is_a_line() {
        let mut port = Port::new("a");
        while port.has_output_room() {
            assert!(!port.has_line());
            port.print(b'x');
        }
        assert!(port.has_line());
        assert_eq!(line(&mut port).len(), OUTPUT_BYTES);
    }

    #[test]
    fn a_vm_that_is_off_has_no_input() {
        let mut port = Port::new("a");
        while port.has_input_room() {
            port.type_in(b'x');
        }
        port.set_open(false);
        assert!(port.has_input_room());
        port.type_in(b'y');
        assert_eq!(port.take_input(), None);
        port.set_open(true);
        port.type_in(b'z');
        assert_eq!(port.take_input(), Some(b'z'));
    }
}
