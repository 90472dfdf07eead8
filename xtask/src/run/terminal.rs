//! The user's terminal: raw mode and the escape that ends it.

use std::io::{self, IsTerminal};

use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// Ctrl-A starts a command to this program.
const ESCAPE: u8 = 0x01;

/// The size that a console without a terminal claims: wide enough that the
/// guest's shell never wraps a line that is typed to it.
const PLAIN_SIZE: (u16, u16) = (24, 1000);

/// A terminal in raw mode. Dropping it restores the mode before.
pub(crate) struct RawTerminal {
    saved: Termios,
}

impl RawTerminal {
    /// Switches standard input to raw mode, if that is a terminal.
    pub(crate) fn enter() -> Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let saved = tcgetattr(&stdin).context("cannot read the terminal's mode")?;
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).context("cannot set the terminal's mode")?;
        Ok(Some(Self { saved }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.saved);
    }
}

/// Returns rows and columns of the terminal, or of the console without one.
pub(crate) fn size() -> (u16, u16) {
    let stdin = io::stdin();
    match tcgetwinsize(&stdin) {
        Ok(size) if stdin.is_terminal() && size.ws_col > 0 => (size.ws_row, size.ws_col),
        _ => PLAIN_SIZE,
    }
}

/// Takes the escapes out of what the user types.
#[derive(Default)]
pub(crate) struct Escapes {
    pending: bool,
}

impl Escapes {
    /// Returns what is meant for the guest, and whether the user leaves.
    pub(crate) fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut keys = Vec::with_capacity(typed.len());
        for key in typed {
            match (std::mem::take(&mut self.pending), *key) {
                (false, ESCAPE) => self.pending = true,
                (true, b'x' | b'X') => return (keys, true),
                // Twice is once for the guest.
                (true, ESCAPE) => keys.push(ESCAPE),
                (true, other) => keys.extend([ESCAPE, other]),
                (false, other) => keys.push(other),
            }
        }
        (keys, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_a_x_leaves_and_what_was_typed_before_arrives() {
        assert_eq!(
            Escapes::default().filter(b"ab\x01xcd"),
            (b"ab".to_vec(), true)
        );
        let mut escapes = Escapes::default();
        assert_eq!(escapes.filter(b"a\x01"), (b"a".to_vec(), false));
        assert_eq!(escapes.filter(b"x"), (vec![], true));
    }

    #[test]
    fn every_other_key_reaches_the_guest() {
        let mut escapes = Escapes::default();
        assert_eq!(
            escapes.filter(b"\x01\x01x\x03\x01e"),
            (b"\x01x\x03\x01e".to_vec(), false)
        );
    }
}
